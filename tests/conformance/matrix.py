"""docs/reference/conformance.md: what the suite says of each fixture, directly and through a mount."""

from pathlib import Path

from known import Authorization, Known

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "conformance.md"
HEAD = """# Conformance

Checks passed and failed in the official suite, `@modelcontextprotocol/conformance` {version}, with both of its sets of requirements,
scenarios that are not scored included. Written by `tests/conformance/run.py --bless`, compared by CI; how it is run is in
[tests/conformance](../../tests/conformance/README.md).

A server speaks both eras (*dual*), or is set to one. The suite asks it directly, then through one mount of a data plane with the
defaults, and the two are compared check by check. What fails directly is the SDK's own: only `rmcp` has the extension for tasks.

"""
SERVERS = """| server | speaks | set | direct | mount over HTTP | mount over stdio |
|---|---|---|---|---|---|
"""
CLIENTS = """
## Clients

The suite plays the server, and an SDK's client (TypeScript) calls it; all scenarios but those of authorization.

| set | direct | through a mount |
|---|---|---|
"""
AUTHORIZATION = """
The suite's server wants a token, which the data plane gets for itself; the client sends no credential: {own}.

| set | through a mount |
|---|---|
"""
EXCEPTIONS = """
Not run:

| scenarios | why |
|---|---|
"""
CROSS_ERA = """
## Across eras

The set of one era before a server that speaks the other alone. What is between them is in [eras](eras.md); what fails is below.

| server | speaks | set | mount over HTTP | mount over stdio |
|---|---|---|---|---|
"""
FAILURES = """
Nothing fails but what stands here.

| set | mount over | server | checks | why |
|---|---|---|---|---|
"""
DIFFERENCES = """
## What differs

Nothing but what stands here. A number above that is not that of the direct run comes from these.

| mount over | server | checks | why |
|---|---|---|---|
"""


class Page:
    def __init__(self, version):
        self.version = version
        self.servers, self.clients, self.own, self.crossed = {}, {}, {}, {}

    def server(self, fixture, era, requirements, way, outcome):
        self.servers.setdefault((fixture.sdk, era, requirements), {})[way] = outcome

    def client(self, requirements, way, outcome):
        self.clients.setdefault(requirements, {})[way] = outcome

    def authorized(self, requirements, outcome):
        self.own[requirements] = outcome

    def cross_era(self, fixture, era, requirements, way, outcome):
        self.crossed.setdefault((fixture.sdk, era, requirements), {})[way] = outcome

    def text(self):
        servers = [
            row(f"`{sdk}`", era, requirements, *(brief(ways.get(way)) for way in ("direct", "http", "stdio")))
            for (sdk, era, requirements), ways in self.servers.items()
        ]
        clients = [
            row(requirements, brief(ways.get("direct")), brief(ways.get("http")))
            for requirements, ways in self.clients.items()
        ]
        known = Authorization()
        authorization = [
            AUTHORIZATION.format(own=", ".join(f"`{scenario}`" for scenario in known.own)),
            *(row(requirements, brief(outcome)) for requirements, outcome in self.own.items()),
            EXCEPTIONS,
            *(
                row("<br>".join(f"`{scenario}`" for scenario in entry["scenarios"]), entry["reason"])
                for entry in known.exceptions
            ),
        ]
        differences = [
            row(
                entry["way"],
                ", ".join(entry.get("fixtures", ["all"])),
                "<br>".join(f"`{check}`" for check in entry["checks"]),
                entry["reason"],
            )
            for entry in Known("differences.toml", "difference").entries
        ]
        crossed = [
            row(f"`{sdk}`", era, requirements, *(brief(ways.get(way)) for way in ("http", "stdio")))
            for (sdk, era, requirements), ways in self.crossed.items()
        ]
        failures = [
            row(
                entry["requirements"],
                entry.get("way", "both"),
                ", ".join(entry.get("fixtures", ["all"])),
                "<br>".join(f"`{check}`" for check in entry["checks"]),
                entry["reason"],
            )
            for entry in Known("cross-era.toml", "failure").entries
        ]
        parts = [HEAD.format(version=self.version), SERVERS, *servers, CLIENTS, *clients, *authorization]
        parts += [DIFFERENCES, *differences]
        return "".join([*parts, CROSS_ERA, *crossed, FAILURES, *failures])


def row(*cells):
    return f"| {' | '.join(cells)} |\n"


def brief(outcome):
    return f"{outcome.passed} / {outcome.failed}" if outcome else "-"
