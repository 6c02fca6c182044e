"""The official suite: runs it, reads the checks that it wrote, and tells where two runs differ.

What the suite calls INFO is a note of what was on the wire, not a check, and is left out; SKIPPED and WARNING are kept.
"""

import json
import re
from collections import Counter, defaultdict

import fixtures
from processes import Failed

PACKAGE = "@modelcontextprotocol/conformance"
RUN_SECONDS_MAX = 180
SCENARIO_TIMEOUT_MS = 30_000
AUTH = "auth/"


class Check:
    def __init__(self, scenario, raw):
        self.scenario, self.id, self.status = scenario, raw["id"], raw["status"]
        # One id may stand for several checks, which only their names and descriptions tell apart.
        self.key = (scenario, raw["id"], raw.get("name"), raw.get("description"))
        self.message = raw.get("errorMessage") or ""

    def __str__(self):
        return f"{self.scenario}:{self.id} ({self.key[2]}) {self.status}" + (f": {self.message}" if self.message else "")


class Outcome:
    """The checks of one run."""

    def __init__(self, checks):
        self.checks = checks
        self.passed = sum(check.status == "SUCCESS" for check in checks)
        self.failed = sum(check.status == "FAILURE" for check in checks)

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed"

    def differences(self, other):
        """`(scenario:id, line)` of each check that has another status in `other`, or is in one of the two runs only."""
        mine, theirs = self.statuses(), other.statuses()
        for key in sorted({*mine, *theirs}, key=str):
            if mine[key] != theirs[key]:
                said = [str(check) for check in other.checks if check.key == key] or ["no such check"]
                name = f"{key[0]}:{key[1]}"
                yield name, f"{name} ({key[2]}) is {text(mine[key])}; through the mount: {'; '.join(said)}"

    def statuses(self):
        statuses = defaultdict(Counter)
        for check in self.checks:
            statuses[check.key][check.status] += 1
        return statuses


def text(statuses):
    return " and ".join(f"{count} x {status}" for status, count in sorted(statuses.items())) or "absent"


# === runs ===


def server(processes, label, url, requirements, folder):
    """All server scenarios of one set of requirements, those that are not scored too."""
    out = folder / label
    command = [*program(), "server", "--url", url, "--requirements", requirements, "-o", str(out)]
    run(processes, label, command)
    return Outcome(read(out, "server-"))


def client(processes, label, command, scenario, version, folder):
    """One client scenario. The suite adds the URL of the server that it plays to `command`."""
    name = f"{label}-{scenario.replace('/', '-')}"
    out = folder / name
    argv = [*program(), "client", "--command", command, "--scenario", scenario, "--spec-version", version]
    # Those of an extension are of no version, and run at each.
    argv += ["--force"] if scenario.startswith(AUTH) else []
    run(processes, name, [*argv, "--timeout", str(SCENARIO_TIMEOUT_MS), "-o", str(out)])
    return read(out, "", scenario)


def client_scenarios(processes, requirements):
    """The client scenarios of a set: those of authorization, and all others."""
    code, out = processes.run("list", [*program(), "list", "--requirements", requirements], RUN_SECONDS_MAX)
    if code != 0:
        raise Failed(f"the suite's list of {requirements} ended with exit code {code}")
    _, _, after = out.decode().partition("Client scenarios")
    scored, _, unscored = after.partition("Run and reported")
    names = re.findall(r"^ +- (\S+)$", scored, re.MULTILINE) + re.findall(r"^ +- (\S+) \[client\]$", unscored, re.MULTILINE)
    auth = [name for name in names if name.startswith(AUTH)]
    others = [name for name in names if not name.startswith(AUTH)]
    if not (auth and others):
        raise Failed(f"the suite lists no client scenarios for {requirements}")
    return auth, others


def run(processes, label, argv):
    """The exit code says whether everything passed, which is judged from the checks; only no end at all is an error."""
    code, _ = processes.run(f"suite-{label}", argv, RUN_SECONDS_MAX)
    if code not in (0, 1):
        raise Failed(f"suite-{label} " + ("took too long" if code is None else f"ended with exit code {code}"))


def read(out, prefix, scenario=None):
    checks = []
    for path in sorted(out.glob("**/checks.json")):
        folder = re.sub(r"-\d{4}-\d\d-\d\dT[\d-]+Z$", "", path.parent.name).removeprefix(prefix)
        for raw in json.loads(path.read_text()):
            if raw["status"] != "INFO":
                checks.append(Check(scenario or folder, raw))
    if not checks:
        raise Failed(f"the suite wrote no checks to {out.name}")
    return checks


def call(tool, capabilities):
    """The body and headers of a call without arguments in the newer era, as the suite's own are."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": fixtures.MODERN,
        "io.modelcontextprotocol/clientInfo": {"name": "conformance", "version": version()},
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    }
    params = {"name": tool, "arguments": {}, "_meta": meta}
    headers = {"mcp-protocol-version": fixtures.MODERN, "mcp-method": "tools/call", "mcp-name": tool}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, headers


def program():
    return [fixtures.node(), str(fixtures.INSTALLED.module(PACKAGE, "dist", "index.js"))]


def version():
    return fixtures.INSTALLED.version_of(PACKAGE)
