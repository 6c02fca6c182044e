#!/usr/bin/env python3
"""Runs real MCP clients against real MCP servers through Ostler; see README.md beside this file.

It owns the order of things and the tally: one line per check, and `N passed, N failed` alone on the last line.
A check that was due and was not reported counts as failed, so a client that dies early cannot look green.
"""

import argparse
import hashlib
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

# What the suites share lies beside them.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "harness"))

import counterparts
import dataplane
import setups
from processes import Failed, Processes, eventually, http, tail
from tally import Tally

CLIENT_SECONDS_MAX = 180
MODES_THROUGH_OSTLER = ("up", "control", "standalone")

# Which two mounts each client has open at once. The last pair is two sessions of one mount: its children, and for
# modern clients one shared child, must keep them apart.
PAIRS = [["everything-http", "files"], ["everything-stdio", "memory"], ["time", "everything-http"], ["time", "time"]]

# What the clients report for a mount of each kind, besides `connect` and `end`.
CHECKS = {
    "everything": [
        "list tools",
        "echo",
        "get-sum",
        "progress as it happens",
        "tool error",
        "protocol error",
        "read resource",
        "get prompt",
        "server asks the client: sampling",
        "server asks the client: elicitation",
        "server asks the client: roots",
    ],
    "files": ["list tools", "list_directory", "read_text_file", "large read_text_file", "tool error"],
    "memory": ["list tools", "create_entities", "read_graph"],
    "time": ["list tools", "get_current_time", "tool error", "protocol error"],
}


def main():
    args = arguments()
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    counterparts.install()
    modes = MODES_THROUGH_OSTLER if args.mode == "all" else (args.mode,)
    kinds = [kind for kind in counterparts.clients() if not args.client or kind.name in args.client]
    tally = Tally()
    for mode in modes:
        run_mode(mode, args.ostler, kinds, tally)
    return tally.exit_code()


def arguments():
    parser = argparse.ArgumentParser(description="Real MCP clients and servers through Ostler.")
    parser.add_argument("--ostler", type=Path, help="the ostler binary; not needed for --mode direct")
    parser.add_argument("--mode", choices=[*setups.SETUPS, "all"], default="all")
    parser.add_argument("--client", action="append", help="only this client, e.g. ts-v1; may be given again")
    args = parser.parse_args()
    args.ostler = dataplane.binary_argument(parser, args, needed=args.mode != "direct")
    known = [kind.name for kind in counterparts.clients()]
    for name in args.client or []:
        if name not in known:
            parser.error(f"there is no client {name}: {', '.join(known)}")
    return args


# === one set-up from start to clean end ===


class World:
    """What a set-up works with: the folder, the processes, the upstreams, the config, and where to report."""

    def __init__(self, ostler, folder, processes, tally):
        self.ostler, self.folder, self.processes = str(ostler), folder, processes
        self.ostlers = []
        self.report = tally.report
        self.files = make_files(folder)
        self.stdio = counterparts.stdio_upstreams(self.files["dir"], folder / "memory.jsonl", processes.mark)
        self.everything_url = setups.start_everything_over_http(self)
        self.config = folder / "ostler.yaml"
        self.config.write_text(dataplane.config_text({"everything-http": {"url": self.everything_url}, **self.stdio}))


def run_mode(mode, ostler, kinds, tally):
    started = time.monotonic()
    print(f"# {mode}", flush=True)
    failed_before = tally.failed
    with tempfile.TemporaryDirectory(prefix="ostler-interop-") as name:
        folder = Path(name).resolve()
        logs = folder / "logs"
        logs.mkdir()
        with Processes(logs) as processes:
            try:
                world = World(ostler, folder, processes, tally)
                doors = setups.SETUPS[mode](world)
                for door in doors:
                    check_refusals(world, door)
                    for kind in kinds:
                        run_client(world, door, kind)
                check_children(world, mode, doors)
                check_stop(world, mode)
            except Failed as failure:
                tally.report(f"{mode} · set-up", False, str(failure))
        if tally.failed > failed_before:
            for log in sorted(logs.iterdir()):
                if log.stat().st_size:
                    print(f"--- end of {log.name}\n{tail(log)}", flush=True)
    print(f"# {mode}: {time.monotonic() - started:.1f} s", flush=True)


def make_files(folder):
    """What the filesystem server serves, and one file beside it that it must not."""
    files = folder / "files"
    files.mkdir()
    names = [f"note-{n}.txt" for n in range(5)]
    for name in names:
        (files / name).write_text(f"content of {name}\n")
    large = "".join(f"line {n}: oats, häy and water →\n" for n in range(10_000))
    (files / "large.txt").write_text(large)
    (folder / "outside.txt").write_text("not yours\n")
    return {
        "dir": str(files),
        "names": names,
        "large": str(files / "large.txt"),
        "large_sha256": hashlib.sha256(large.encode()).hexdigest(),
        "outside": str(folder / "outside.txt"),
    }


def run_client(world, door, kind):
    tag = f"{door.label}-{kind.name}".replace(" · ", "-").replace(" ", "-")
    plan = {
        "variant": kind.variant,
        "tag": tag,
        "pairs": PAIRS,
        "mounts": {mount: planned(door, kind, mount, of) for mount, of in counterparts.MOUNTS.items()},
        "files": world.files,
        "unknown_url": f"{door.mcp}/mcp/no-such-mount" if door.mcp else None,
        # Ostler answers an ended session as the specification says; server-everything itself answers 400.
        "ended_session_status": 404 if door.mcp else 400,
    }
    path = world.folder / f"plan-{tag}.json"
    path.write_text(json.dumps(plan))
    exit_code, out = world.processes.run(f"client-{tag}", [*kind.argv, str(path)], CLIENT_SECONDS_MAX)

    due = due_checks(plan)
    ended = False
    for line in out.decode(errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        ended = ended or entry.get("done", False)
        if "check" in entry:
            if entry["check"] in due:
                due.remove(entry["check"])
            world.report(f"{door.label} · {kind.name} · {entry['check']}", entry["ok"], entry.get("detail", ""))
    for name in due:
        world.report(f"{door.label} · {kind.name} · {name}", False, "the client did not come to it")
    if exit_code != 0 or not ended:
        how = f"took more than {CLIENT_SECONDS_MAX} s" if exit_code is None else f"ended with exit code {exit_code}"
        world.report(f"{door.label} · {kind.name}", False, how)


def planned(door, kind, mount, of):
    if door.is_direct:
        version, asks = kind.version_with(of), counterparts.ASKS
    else:
        version, asks = kind.through_ostler(of, mount)
    return {**door.targets[mount], "kind": of, "version": version, "asks": asks}


def checks_of(mount):
    asked = "server asks the client: "
    return [name for name in CHECKS[mount["kind"]] if not name.startswith(asked) or name.removeprefix(asked) in mount["asks"]]


def due_checks(plan):
    due = []
    for pair in plan["pairs"]:
        title = " + ".join(pair)
        for index, mount in enumerate(pair):
            label = f"{title}: {mount}" + (f"#{index + 1}" if pair[0] == pair[1] else "")
            due += [f"{label}: {name}" for name in ["connect", *checks_of(plan["mounts"][mount]), "end"]]
        due.append(f"{title}: calls on both at once")
    if plan["unknown_url"]:
        due.append("unknown mount is refused")
    return due


# === what the harness asks by itself ===


def check_refusals(world, door):
    if door.mcp is None:
        return
    ping = {"jsonrpc": "2.0", "id": "interop", "method": "ping"}
    for path in ("/mcp/no-such-mount", "/mcp", "/mcp/time/extra"):
        status, body = http("POST", door.mcp + path, ping)
        try:
            error = json.loads(body)["error"]
            seen = (status, error["code"], error["data"]["reason"], error["data"]["available_mounts"])
        except (ValueError, KeyError, TypeError):
            seen = (status, body[:300])
        due = (404, -31010, "unknown_mount", sorted(counterparts.MOUNTS))
        world.report(f"{door.label} · {path} names the mounts there are", seen == due, f"{seen} is not {due}")


def check_children(world, mode, doors):
    """An ended session's child is gone. Two a mount and data plane may stay until they are idle for long: the one that was
    asked which era it speaks, which modern clients share if it speaks theirs, and the one that is held for them if not."""
    if not os.path.isdir("/proc"):
        return
    for mount, spec in world.stdio.items():
        wanted = " ".join(spec["args"])
        allowed = 2 * sum(1 for door in doors if door.mcp)
        ended = eventually(lambda: count_children(world, wanted) <= allowed)
        world.report(
            f"{mode} · children of ended sessions are gone: {mount}",
            ended,
            f"{count_children(world, wanted)} still run, where {allowed} may",
        )


def count_children(world, wanted):
    return sum(wanted in command for command in world.processes.commands())


def check_stop(world, mode):
    for process in world.ostlers:
        by = signal.SIGINT if process.name == "up" else signal.SIGTERM
        exit_code = process.stop(by)
        how = "it had to be killed" if exit_code is None else f"exit code {exit_code}"
        world.report(f"{mode} · {process.name} ends on {by.name}", exit_code == 0, how)
    # The upstream over HTTP is the suite's own, and ends as the suite says.
    for process in world.processes.running:
        process.stop()
    gone = eventually(lambda: not world.processes.leftovers())
    world.report(f"{mode} · nothing is left behind", gone, "; ".join(world.processes.commands()))


if __name__ == "__main__":
    sys.exit(main())
