#!/usr/bin/env python3
"""Runs real MCP clients against real MCP servers through Ostler; see README.md beside this file.

It owns the order of things and the tally: one line per check, and `N passed, N failed` alone on the last line.
A check that was due and was not reported counts as failed, so a client that dies early cannot look green.
"""

import argparse
import collections
import hashlib
import json
import os
import queue
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# What the suites share lies beside them.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "harness"))

import apart
import counterparts
import dataplane
import matrix
import pages
import setups
from processes import Failed, Processes, eventually, http, tail
from tally import Tally

CLIENT_SECONDS_MAX = 300
MODES_THROUGH_OSTLER = ("up", "control", "standalone")
# Clients at work at once. Two with two sessions each of one mount, and the four children that a bundle is lent for one caller, are
# the eight children that a mount may have.
CLIENTS_AT_ONCE = 2

# Which two mounts each client has open at once: servers of both eras and over every transport beside each other. The last
# pair is two sessions of one mount: its children, and for modern clients one shared child, must keep them apart.
PAIRS = [
    ["everything-http", "files"],
    ["everything-stdio", "memory"],
    ["everything-sse", "fastmcp-http"],
    ["python-v1-http", "fastmcp-sse"],
    ["python-v1-sse", "ts-v2-http"],
    ["ts-v2-stdio", "ts-v2-http"],
    ["time", "time"],
]

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
    "kit": [
        "list tools",
        "echo",
        "progress as it happens",
        "tool error",
        "read resource",
        "get prompt",
        "server asks the client: elicitation",
    ],
    "files": ["list tools", "list_directory", "read_text_file", "large read_text_file", "tool error"],
    "memory": ["list tools", "create_entities", "read_graph"],
    "time": ["list tools", "get_current_time", "tool error", "protocol error"],
}

# The one call that the Inspector makes of a server of each kind.
CALLS = {
    "everything": "echo",
    "kit": "echo",
    "files": "list_directory",
    "memory": "read_graph",
    "time": "get_current_time",
}


def main():
    args = arguments()
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    counterparts.install()
    modes = MODES_THROUGH_OSTLER if args.mode == "all" else (args.mode,)
    kinds = [kind for kind in counterparts.clients() if not args.client or kind.name in args.client]
    tally, page = Tally(), matrix.Page()
    for mode in modes:
        run_mode(mode, args.ostler, kinds, tally, page)
    if args.mode == "all" and not args.client:
        pages.settle(matrix.PAGE, page.text(), tally, args.bless)
    return tally.exit_code()


def arguments():
    parser = argparse.ArgumentParser(description="Real MCP clients and servers through Ostler.")
    parser.add_argument("--ostler", type=Path, help="the ostler binary; not needed for --mode direct")
    parser.add_argument("--mode", choices=[*setups.SETUPS, "all"], default="all")
    parser.add_argument("--client", action="append", help="only this client, e.g. ts-v1; may be given again")
    parser.add_argument("--bless", action="store_true", help=f"write {matrix.PAGE.name} instead of comparing with it")
    args = parser.parse_args()
    args.ostler = dataplane.binary_argument(parser, args, needed=args.mode != "direct")
    known = [kind.name for kind in counterparts.clients()]
    for name in args.client or []:
        if name not in known:
            parser.error(f"there is no client {name}: {', '.join(known)}")
    return args


# === one set-up from start to clean end ===


class World:
    """What a set-up works with: the folder, the processes, the servers, the config, and where to report."""

    def __init__(self, ostler, folder, processes, tally, page):
        self.ostler, self.folder, self.processes = str(ostler), folder, processes
        self.ostlers = []
        # Sessions that clients do not end.
        self.left_open = 0
        self.report, self.page = tally.report, page
        self.files = make_files(folder)
        self.servers = counterparts.servers()
        memories = [folder / f"memory-{place}.jsonl" for place in range(CLIENTS_AT_ONCE)]
        self.stdio = counterparts.over_stdio(self.files["dir"], memories, processes.mark)
        self.addresses = setups.start_servers(self)
        self.upstreams = {**self.addresses, **self.stdio}
        self.config = folder / "ostler.yaml"
        self.config.write_text(dataplane.config_text(self.upstreams, setups.BUNDLE))


def run_mode(mode, ostler, kinds, tally, page):
    started = time.monotonic()
    print(f"# {mode}", flush=True)
    failed_before = tally.failed
    with tempfile.TemporaryDirectory(prefix="ostler-interop-") as name:
        folder = Path(name).resolve()
        logs = folder / "logs"
        logs.mkdir()
        with Processes(logs) as processes:
            try:
                world = World(ostler, folder, processes, tally, page)
                doors = setups.SETUPS[mode](world)
                for door in doors:
                    if not door.is_bundle:
                        check_refusals(world, door)
                run_clients(world, doors, kinds)
                if mode == "standalone":
                    apart.check(world)
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


def run_clients(world, doors, kinds):
    """Every client through every door, some at once; what they say is reported one client after the other."""
    asked = [(door, kind) for door in doors for kind in kinds if asked_through(door, kind)]
    world.left_open = sum(kind.one_call and kind.variant == "legacy" and door.way == "http" for door, kind in asked)
    places = queue.SimpleQueue()
    for place in range(CLIENTS_AT_ONCE):
        places.put(place)

    def run(door_and_kind):
        place = places.get()
        plan = planned(world, *door_and_kind, place)
        ended = run_client(world, plan)
        places.put(place)
        return plan, *ended

    with ThreadPoolExecutor(CLIENTS_AT_ONCE) as pool:
        for plan, exit_code, out in pool.map(run, asked):
            judge(world, plan, exit_code, out)


def asked_through(door, kind):
    """The Inspector is a process for each call, and tried where there is nothing beside the data plane. A second node is the
    same program with the same config, and asked by one way."""
    if kind.one_call:
        return door.place in ("standalone", "direct") or door.is_bundle
    return door.way == "http" or not door.is_second


class Plan:
    """What one client does through one door."""

    def __init__(self, door, kind, mounts, content):
        self.door, self.kind, self.mounts, self.content = door, kind, mounts, content


def planned(world, door, kind, place):
    tag = f"{door.label}-{kind.name}".replace(", ", "-").replace(" · ", "-").replace(" ", "-")
    mounts = {}
    for server in world.servers:
        version = kind.version_with(server) if door.is_direct else kind.version_through(door.way)
        if version is None:
            continue
        target = door.targets[counterparts.mount_of(server, place)]
        asks = asked_by(door, server, version)
        mounts[server.name] = {"member": None, **target, "kind": server.kind, "version": version, "asks": asks}
    content = {
        "variant": kind.variant,
        "tag": tag,
        "pairs": [pair for pair in PAIRS if all(mount in mounts for mount in pair)],
        "mounts": mounts,
        "files": world.files,
        "listed": door.listed and door.listed[kind.can],
        "unknown": door.unknown,
        # Ostler answers an ended session as the specification says; servers answer as they please.
        "ended_session_status": None if door.is_direct else 404,
    }
    return Plan(door, kind, mounts, content)


def asked_by(door, server, version):
    """What the server asks of a client that speaks this revision through that door. A bundle speaks the modern era to its members,
    whatever its client does."""
    if door.is_direct:
        return server.asks_by_itself(version)
    return server.asks_through(counterparts.MODERN if door.is_bundle else version)


def run_client(world, plan):
    tag = plan.content["tag"]
    path = world.folder / f"plan-{tag}.json"
    path.write_text(json.dumps(plan.content))
    return world.processes.run(f"client-{tag}", [*plan.kind.argv, str(path)], CLIENT_SECONDS_MAX)


def judge(world, plan, exit_code, out):
    title = f"{plan.door.label} · {plan.kind.name}"
    due, ended = due_checks(plan), False
    for line in out.decode(errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        ended = ended or entry.get("done", False)
        if "check" in entry:
            passed_for = due.pop(entry["check"], None)
            world.report(f"{title} · {entry['check']}", entry["ok"], entry.get("detail", ""))
            if passed_for and entry["ok"]:
                world.page.passed(plan, passed_for)
    for name in due:
        world.report(f"{title} · {name}", False, "the client did not come to it")
    if exit_code != 0 or not ended:
        how = f"took more than {CLIENT_SECONDS_MAX} s" if exit_code is None else f"ended with exit code {exit_code}"
        world.report(title, False, how)


def due_checks(plan):
    """`{check: the mount that it is about, if it is about one}`."""
    if plan.kind.one_call:
        return {f"{mount}: {CALLS[of['kind']]}": mount for mount, of in plan.mounts.items()}
    due = {}
    for pair in plan.content["pairs"]:
        title = " + ".join(pair)
        for index, mount in enumerate(pair):
            label = f"{title}: {mount}" + (f"#{index + 1}" if pair[0] == pair[1] else "")
            of_mount = ["connect", *checks_of(plan.mounts[mount]), "end"]
            due |= {f"{label}: {name}": mount for name in of_mount}
        due[f"{title}: calls on both at once"] = None
    if plan.content["unknown"]:
        due["unknown mount is refused"] = None
    return due


def checks_of(mount):
    asked = "server asks the client: "
    return [name for name in CHECKS[mount["kind"]] if not name.startswith(asked) or name.removeprefix(asked) in mount["asks"]]


# === what the harness asks by itself ===


def check_refusals(world, door):
    if door.way != "http":
        return
    ping = {"jsonrpc": "2.0", "id": "interop", "method": "ping"}
    for path in ("/mcp/no-such-mount", "/mcp", "/mcp/time/extra"):
        status, body = http("POST", door.mcp + path, ping)
        try:
            error = json.loads(body)["error"]
            seen = (status, error["code"], error["data"]["reason"], error["data"]["available_mounts"])
        except (ValueError, KeyError, TypeError):
            seen = (status, body[:300])
        due = (404, -31010, "unknown_mount", sorted([*world.upstreams, setups.BUNDLE]))
        world.report(f"{door.label} · {path} names the mounts there are", seen == due, f"{seen} is not {due}")


def check_children(world, mode, doors):
    """An ended session's child is gone. Six a mount and data plane may stay until they are idle for long: the one that was
    asked which era it speaks, which modern clients share if it speaks theirs, and if not the one that is held for those who can be
    asked nothing and the four that are lent to calls of the others; and those of sessions that their clients have left open."""
    if not os.path.isdir("/proc"):
        return
    nodes = len({door.mcp for door in doors if door.mcp})
    # Mounts of the same command cannot be told apart by it.
    mounts = collections.defaultdict(list)
    for mount, spec in world.stdio.items():
        mounts[" ".join(spec["args"])].append(mount)
    for wanted, of in mounts.items():
        allowed = 6 * len(of) * nodes + world.left_open
        ended = eventually(lambda: count_children(world, wanted) <= allowed)
        world.report(
            f"{mode} · children of ended sessions are gone: {', '.join(of)}",
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
    # The servers over the network are the suite's own, and end as the suite says.
    for process in world.processes.running:
        process.stop()
    gone = eventually(lambda: not world.processes.leftovers())
    world.report(f"{mode} · nothing is left behind", gone, "; ".join(world.processes.commands()))


if __name__ == "__main__":
    sys.exit(main())
