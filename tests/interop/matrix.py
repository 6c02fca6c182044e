"""docs/reference/interop.md: which client worked with which server, by which way and through which door."""

from pathlib import Path

import counterparts

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "interop.md"
HEAD = """# Who works with whom

Real clients and real servers with Ostler in between. Written by `tests/interop/run.py --bless`, compared by CI with what it finds; what is
asked, and how it is run, is in [tests/interop](../../tests/interop/README.md).

A cell names the era that the client speaks through the mount, *legacy* (2025-11-25) or *modern* (2026-07-28), and how many checks of that server
passed; none failed. A raised number says what could not be asked, and why. Beside these, forty calls at once on two mounts, a mount that does not
exist, and the end of every process are checked. How eras are bridged is in [eras](eras.md).

"""
DOORS = """## Doors

A data plane that `ostler up` started; two that got their config from control with `ostler apply`; and one that reads a file. A cell below is
of every door that its client went through by that way, and the same at each unless it names them.

"""

BUNDLE = """
## All mounts in one bundle

The same through `/mcp/all`, a bundle of all mounts, by which each client reaches every server: by the names that the bundle gives, `<mount>__<name>` and
URIs with the mount in them. What a client is shown of tools is compared whole with what each mount lists by itself. A bundle speaks the modern era to its
members, whatever its client does.
"""


class Page:
    def __init__(self):
        # whether by a bundle -> (way, client) -> server -> place -> (era, checks passed)
        self.cells = {False: {}, True: {}}
        # place -> way -> clients
        self.places = {}

    def passed(self, plan, mount):
        if plan.door.is_direct:
            return
        row = self.cells[plan.door.is_bundle].setdefault((plan.door.way, plan.kind.name), {})
        places = row.setdefault(mount, {})
        era = counterparts.era_of(plan.mounts[mount]["version"])
        places[plan.door.place] = era, places.get(plan.door.place, (era, 0))[1] + 1
        self.places.setdefault(plan.door.place, {}).setdefault(plan.door.way, set()).add(plan.kind.name)

    def text(self):
        servers, clients = counterparts.servers(), counterparts.clients()
        return "".join(
            [HEAD, self.doors(clients), about_servers(servers), about_clients(clients)]
            + [self.table(False, way, title, servers, clients) for way, title in counterparts.WAYS.items()]
            + [BUNDLE]
            + [self.table(True, way, f"{title}, by a bundle", servers, clients) for way, title in counterparts.WAYS.items()]
            + [notes()]
        )

    def doors(self, clients):
        def who(seen):
            return {len(clients): "all clients", 0: "-"}.get(len(seen), "all but the Inspector")

        lines = [row(place, *(who(ways.get(way, ())) for way in counterparts.WAYS)) for place, ways in self.places.items()]
        return "".join([DOORS, row("door", *counterparts.WAYS.values()), "|---" * 4 + "|\n", *lines])

    def table(self, is_bundle, way, title, servers, clients):
        head = [f"\n## {title}\n\n", row("client", *(f"`{server.name}`" for server in servers)), "|---" * (len(servers) + 1) + "|\n"]
        return "".join(head + [self.row(is_bundle, way, kind, servers) for kind in clients])

    def row(self, is_bundle, way, kind, servers):
        seen = self.cells[is_bundle].get((way, kind.name), {})
        return row(f"`{kind.name}`", *(cell(seen.get(server.name, {}), is_bundle, way, kind, server) for server in servers))


def cell(places, is_bundle, way, kind, server):
    """What was seen, once where it is the same at all doors, and the note that says what is missing."""
    version = kind.version_through(way)
    if version is None:
        return mark("era")
    outcomes = {f"{era} {passed}" for era, passed in places.values()}
    if len(outcomes) != 1:
        return "; ".join(f"{place}: {era} {passed}" for place, (era, passed) in places.items()) or "**none**"
    notes = "".join(mark(key) for key in missing(kind, server, counterparts.MODERN if is_bundle else version))
    return f"{outcomes.pop()}{notes}"


def missing(kind, server, version):
    """Why the server does not ask the client all that it can ask."""
    if kind.one_call or set(server.asks_through(version)) == set(server.asks):
        return []
    if "modern" in server.eras:
        return ["push"]
    return ["roots"]


NOTES = {
    "era": "HTTP+SSE is a transport of the legacy era. A client that accepts the modern one alone refuses it by itself; one that asks for "
    "both falls back.",
    "roots": "Not asked for roots: the server asks after the handshake, outside any call, which the modern era has no word for.",
    "push": "Asked nothing: the library's own `elicit` is a request to the client, which it makes in the legacy era alone.",
}


def mark(key):
    return "¹²³"[list(NOTES).index(key)]


def notes():
    return "\n" + "\n".join(f"{mark(key)} {text}  " for key, text in NOTES.items()).rstrip() + "\n"


def about_servers(servers):
    lines = [row(f"`{it.name}`", it.program, {"http": "Streamable HTTP", "sse": "HTTP+SSE"}.get(it.over, it.over), " and ".join(it.eras)) for it in servers]
    return "".join(["\n## Servers\n\n", row("mount", "program", "transport", "eras"), "|---|---|---|---|\n", *lines])


def about_clients(clients):
    asks = {"legacy": "legacy", "auto": "modern, else legacy", "modern": "modern alone"}
    lines = [row(f"`{kind.name}`", kind.library, asks[kind.variant]) for kind in clients]
    return "".join(["\n## Clients\n\n", row("client", "library", "asks for"), "|---|---|---|\n", *lines])


def row(*cells):
    return f"| {' | '.join(cells)} |\n"
