#!/usr/bin/env python3
"""Runs the official MCP conformance suite against servers directly and through Ostler; see README.md beside this file.

It owns the order of things: which fixture is asked what, by which way, and what must be the same. One line per run, the
checks that differ below it, and `N passed, N failed` alone on the last line.
"""

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

# What the suites share lies beside them.
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "harness"))

import dataplane
import fixtures
import matrix
import pages
import suite
from known import Authorization, Known
from processes import Failed, Processes, eventually, http, tail
from tally import Tally

# What is run when nothing else is said, and in CI.
PARTS = ("servers", "clients", "cross-era")


def main():
    args = arguments()
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    fixtures.install()
    tally, page = Tally(), matrix.Page(suite.version())
    chosen = [fixture for fixture in fixtures.all_fixtures() if not args.fixture or fixture.name in args.fixture]
    known = {"servers": Known("differences.toml", "difference"), "cross-era": Known("cross-era.toml", "failure")}
    for part in args.part or PARTS:
        for fixture in chosen if part != "clients" else [None]:
            run_part(part, fixture, args, known.get(part), tally, page)
        if part in known and not args.fixture:
            stale = known[part].stale()
            tally.report(f"{part} · every exception still holds", not stale, "\n      ".join(stale))
    if not (args.fixture or args.part):
        pages.settle(matrix.PAGE, page.text(), tally, args.bless)
    return tally.exit_code()


def arguments():
    parser = argparse.ArgumentParser(description="The official MCP conformance suite, through Ostler and directly.")
    parser.add_argument("--ostler", type=Path, help="the ostler binary")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this; may be given again")
    parser.add_argument("--fixture", action="append", choices=["rust", "typescript", "python"], help="only this")
    parser.add_argument("--bless", action="store_true", help=f"write {matrix.PAGE.name} instead of comparing with it")
    args = parser.parse_args()
    args.ostler = dataplane.binary_argument(parser, args, needed=True)
    return args


def run_part(part, fixture, args, known, tally, page):
    title = f"{part} · {fixture.name}" if fixture else part
    started = time.monotonic()
    print(f"# {title}", flush=True)
    with tempfile.TemporaryDirectory(prefix="ostler-conformance-") as name:
        folder = Path(name).resolve()
        logs = folder / "logs"
        logs.mkdir()
        with Processes(logs) as processes:
            try:
                RUNS[part](World(args.ostler, folder, processes, known, tally.report, page), fixture)
                for process in reversed(processes.running):
                    process.stop()
                gone = eventually(lambda: not processes.leftovers())
                tally.report(f"{title} · nothing is left behind", gone, "; ".join(processes.commands()))
            except Failed as failure:
                tally.report(title, False, str(failure))
                for log in sorted(logs.iterdir()):
                    if log.stat().st_size:
                        print(f"--- end of {log.name}\n{tail(log)}", flush=True)
    print(f"# {title}: {time.monotonic() - started:.1f} s", flush=True)


class World:
    """What a part works with."""

    def __init__(self, ostler, folder, processes, known, report, page):
        self.ostler, self.folder, self.processes = ostler, folder, processes
        self.known, self.report, self.page = known, report, page

    def mount(self, label, upstream):
        """A data plane with one mount before `upstream`, its Host and Origin checks on: the URL of the mount."""
        config = self.folder / f"{label}.yaml"
        config.write_text(dataplane.config_text({"fixture": upstream}))
        _, listeners = dataplane.standalone(self.processes, label, self.ostler, config, self.folder / f"{label}-state")
        return f"http://{listeners['mcp']}/mcp/fixture"

    def mounts(self, fixture, era, direct):
        """One mount for each transport that the fixture can be reached by."""
        return {
            "http": self.mount(f"{era}-http", {"url": direct}),
            "stdio": self.mount(f"{era}-stdio", fixture.stdio(era, self.processes.mark)),
        }


# === servers: the same checks through a mount as directly ===


def servers(world, fixture):
    for era, sets in fixtures.SETS.items():
        direct = fixture.start(world.processes, era)
        mounts = world.mounts(fixture, era, direct)
        for requirements in sets:
            label = f"{fixture.name}-{era}-{requirements}"
            expected = suite.server(world.processes, f"{label}-direct", direct, requirements, world.folder)
            world.page.server(fixture, era, requirements, "direct", expected)
            for way, url in mounts.items():
                seen = suite.server(world.processes, f"{label}-{way}", url, requirements, world.folder)
                world.page.server(fixture, era, requirements, way, seen)
                differences = [
                    line
                    for check, line in expected.differences(seen)
                    if not world.known.covers(fixture.name, "way", way, check)
                ]
                compared(world, f"{label} · mount over {way}", expected, seen, differences)


def compared(world, name, expected, seen, differences):
    world.report(f"{name} · {seen}", not differences, f"directly {expected}\n      " + "\n      ".join(differences))


# === clients: the suite plays the server ===


def authorization(world, known, listed, requirements, program):
    """Each scenario of authorization that the suite lists is run, with a token of the data plane's own, or excepted."""
    argv = [fixtures.INSTALLED.python(), str(HERE / "clients" / "own_token.py"), str(world.ostler), *program]
    checks = {}
    for scenario in known.own:
        label = f"client-{requirements}-own-token"
        seen = suite.client(world.processes, label, " ".join(argv), scenario, requirements, world.folder)
        # A token is checked with each request, and how often a mount is probed nobody has promised.
        checks |= {(check.key, check.status): check for check in seen}
    outcome = suite.Outcome(list(checks.values()))
    failing = [str(check) for check in outcome.checks if check.status == "FAILURE"]
    world.page.authorized(requirements, outcome)
    world.report(f"clients-{requirements} · token of the data plane's own · {outcome}", not failing, "\n      ".join(failing))
    unknown = known.unknown(listed)
    world.report(f"clients-{requirements} · every scenario of authorization is run or excepted", not unknown, unknown)


def clients(world, _):
    program = [fixtures.node(), str(fixtures.INSTALLED.node_env / "clients" / "typescript.mjs")]
    through = [fixtures.INSTALLED.python(), str(HERE / "clients" / "through.py"), str(world.ostler), *program]
    authorized = Authorization()
    for requirements in (fixtures.LEGACY, fixtures.MODERN):
        outcomes = {"direct": [], "http": []}
        auth, others = suite.client_scenarios(world.processes, requirements)
        authorization(world, authorized, auth, requirements, program)
        for scenario in others:
            for way, command in (("direct", program), ("http", through)):
                label = f"client-{requirements}-{way}"
                command = " ".join(command)
                outcomes[way] += suite.client(world.processes, label, command, scenario, requirements, world.folder)
        expected, seen = (suite.Outcome(outcomes[way]) for way in ("direct", "http"))
        world.page.client(requirements, "direct", expected)
        world.page.client(requirements, "http", seen)
        differences = [line for _, line in expected.differences(seen)]
        compared(world, f"clients-{requirements}", expected, seen, differences)
        failing = [str(check) for check in seen.checks if check.status == "FAILURE"]
        world.report(f"clients-{requirements} · nothing fails", not failing, "\n      ".join(failing))
    gone = authorized.gone()
    world.report("clients · every scenario that is excepted is there", not gone, gone)


# === cross-era: a mount before a server that speaks the other era alone ===


def cross_era(world, fixture):
    for era, requirements in (("modern", fixtures.LEGACY), ("legacy", fixtures.MODERN)):
        for way, url in world.mounts(fixture, era, fixture.start(world.processes, era)).items():
            label = f"{fixture.name}-{era}-{requirements}-{way}"
            if (requirements, way) == (fixtures.MODERN, "stdio"):
                start_child(url)
            seen = suite.server(world.processes, label, url, requirements, world.folder)
            world.page.cross_era(fixture, era, requirements, way, seen)
            failing = [
                str(check)
                for check in seen.checks
                if check.status == "FAILURE"
                and not world.known.covers(fixture.name, "requirements", requirements, f"{check.scenario}:{check.id}", way)
            ]
            world.report(f"{label} · {seen}", not failing, "\n      ".join(failing))


def start_child(url):
    """One call as a client that can be elicited, for which a mount starts a child of its own.

    The suite gives its first such call 600 ms, and how long a program takes to start is not what it asks.
    """
    body, headers = suite.call("test_simple_text", {"elicitation": {}})
    status, answer = http("POST", url, body, headers)
    if status != 200:
        raise Failed(f"a call before the suite's was answered {status}: {answer.decode(errors='replace')}")


RUNS = {"servers": servers, "clients": clients, "cross-era": cross_era}

if __name__ == "__main__":
    sys.exit(main())
