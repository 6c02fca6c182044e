"""The command line of the MCP Inspector: a process for each call, in one of its three eras.

It owns which call is made of each server and what must come back; `inspector.py NODE PROGRAM PLAN`.
"""

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

CALL_SECONDS_MAX = 60


def main(command, plan):
    for name, mount in plan["mounts"].items():
        tool, arguments, judge = CALLS[mount["kind"]](plan)
        try:
            called = f"{mount['member']}__{tool}" if mount["member"] else tool
            judge(text(call(command, plan["variant"], mount, called, arguments)))
            report = {"ok": True}
        except Exception as error:
            report = {"ok": False, "detail": f"{type(error).__name__}: {error}"[:2000]}
        print(json.dumps({"check": f"{name}: {tool}", **report}), flush=True)
    print(json.dumps({"done": True}), flush=True)


def call(command, era, mount, tool, arguments):
    argv = [*command, "--protocol-era", era, "--method", "tools/call", "--tool-name", tool]
    for key, value in arguments.items():
        argv += ["--tool-arg", f"{key}={value}"]
    # It keeps a catalogue and tokens in its user's home folder, and this run has nothing to do with those.
    env = {**os.environ, "HOME": str(Path(sys.argv[-1]).parent)}
    if "stdio" in mount:
        env |= mount["stdio"]["env"]
        argv += ["--transport", "stdio", "--", mount["stdio"]["command"], *mount["stdio"]["args"]]
    else:
        way = "sse" if "sse" in mount else "http"
        argv += ["--transport", way, "--server-url", mount["sse" if way == "sse" else "url"]]
    done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=CALL_SECONDS_MAX)
    if done.returncode != 0:
        raise AssertionError(f"exit code {done.returncode}: {done.stderr.decode(errors='replace')[-1000:]}")
    return json.loads(done.stdout)


def text(result):
    return "".join(part.get("text", "") for part in result["content"])


# === which call, and what must come back ===


def echo(plan):
    message = f"{plan['tag']} ünï→"
    return "echo", {"message": message}, lambda said: equal(said, f"Echo: {message}")


def list_directory(plan):
    listed = "\n".join(f"[FILE] {name}" for name in ["large.txt", *plan["files"]["names"]])
    return "list_directory", {"path": plan["files"]["dir"]}, lambda said: equal("\n".join(sorted(said.split("\n"))), listed)


def read_graph(_plan):
    return "read_graph", {}, lambda said: equal("entities" in json.loads(said), True)


def get_current_time(_plan):
    def judge(said):
        equal(json.loads(said)["timezone"], "Asia/Tokyo")
        datetime.fromisoformat(json.loads(said)["datetime"])

    return "get_current_time", {"timezone": "Asia/Tokyo"}, judge


CALLS = {"everything": echo, "kit": echo, "files": list_directory, "memory": read_graph, "time": get_current_time}


def equal(left, right):
    assert left == right, f"{left!r} is not {right!r}"


if __name__ == "__main__":
    main(sys.argv[1:-1], json.loads(Path(sys.argv[-1]).read_text()))
