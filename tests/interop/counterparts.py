"""The programs that Ostler is run against: what they are, how each is started, and what can come about between any two."""

import json
from pathlib import Path

from installed import Installed, tool

HERE = Path(__file__).resolve().parent
INSTALLED = Installed(HERE)

LEGACY = "2025-11-25"
MODERN = "2026-07-28"

# How a client can reach a mount, and what the page calls it.
WAYS = {"http": "Streamable HTTP", "sse": "HTTP+SSE", "connect": "stdio, `ostler connect`"}


def install():
    INSTALLED.bring("clients", "upstreams")


# === clients ===


class ClientKind:
    """One client program in one of its ways to negotiate: `auto` asks for the newest era first, `legacy` for the older one,
    and `modern` accepts no other."""

    # The Inspector makes one call, and leaves its session over HTTP to whoever tires of it.
    one_call = False

    def __init__(self, name, library, argv, variant, elicits=("form", "url")):
        self.name, self.library, self.argv, self.variant = name, library, argv, variant
        # What it says that it can be asked, as JSON: servers list by that.
        self.can = json.dumps({"sampling": {}, "elicitation": {form: {} for form in elicits}, "roots": {}})

    def version_with(self, server):
        """The revision that this client and that server must agree on by themselves; None where they share none."""
        if self.variant == "legacy":
            return LEGACY if "legacy" in server.eras else None
        if (self.name, server.name) in BEYOND:
            return MODERN
        if "modern" in server.eras:
            return MODERN
        return None if self.variant == "modern" else LEGACY

    def version_through(self, way):
        """The same with any mount of Ostler's."""
        if way != "sse" and self.variant != "legacy":
            return MODERN
        return None if self.variant == "modern" else LEGACY


class Inspector(ClientKind):
    one_call = True


def clients():
    python, fastmcp = f"Python `mcp` {pypi('mcp')}", f"`fastmcp` {pypi('fastmcp')}"
    ts_v1, ts_v2 = (f"`{name}` {npm(name)}" for name in ("@modelcontextprotocol/sdk", "@modelcontextprotocol/client"))
    return [
        ClientKind("python-auto", python, on_python("python"), "auto"),
        ClientKind("python-legacy", python, on_python("python"), "legacy"),
        ClientKind("python-v1", f"Python `mcp` {pypi('mcp', 'v1')}", on_python("python_v1", "v1"), "legacy"),
        ClientKind("fastmcp-auto", fastmcp, on_python("fast_mcp"), "auto"),
        ClientKind("fastmcp-legacy", fastmcp, on_python("fast_mcp"), "legacy"),
        ClientKind("ts-v1", ts_v1, on_node("ts_v1"), "legacy", ["form"]),
        ClientKind("ts-v2-default", ts_v2, on_node("ts_v2"), "legacy", ["form"]),
        ClientKind("ts-v2-auto", ts_v2, on_node("ts_v2"), "auto", ["form"]),
        *(inspector(era) for era in ("legacy", "auto", "modern")),
    ]


def inspector(era):
    name = "@modelcontextprotocol/inspector"
    command = [INSTALLED.node(), str(INSTALLED.module(name, "clients", "cli", "build", "index.js"))]
    return Inspector(f"inspector-{era}", f"`{name}` {npm(name)}", [*on_python("inspector"), *command], era)


def on_python(program, environment=""):
    return [INSTALLED.python(environment), str(HERE / "clients" / f"{program}.py")]


def on_node(program):
    return [node(), str(INSTALLED.node_env / "clients" / f"{program}.mjs")]


# === servers ===


# The SDKs' second generations speak the modern era over HTTP+SSE with each other, which no specification has.
BEYOND = {("python-auto", "fastmcp-sse"), ("ts-v2-auto", "fastmcp-sse")}


class Server:
    """A server behind the mount of its name. `kind` is what the clients know how to check, `asks` what it asks of a client,
    in the eras `asks_in`."""

    def __init__(self, name, kind, program, over, eras, asks=(), asks_in=("legacy", "modern")):
        self.name, self.kind, self.program, self.over = name, kind, program, over
        self.eras, self.asks, self.asks_in = eras, asks, asks_in

    def asks_by_itself(self, version):
        """What it asks of a client that it speaks this revision with."""
        return list(self.asks) if era_of(version) in self.asks_in else []

    def asks_through(self, version):
        """The same through a mount, which bridges eras where it has to: see docs/reference/eras.md."""
        own = era_of(version) if era_of(version) in self.eras else self.eras[0]
        asks = list(self.asks) if own in self.asks_in else []
        if era_of(version) == own:
            return asks
        if own == "legacy":
            # Only what belongs to a call can be asked of a modern client.
            return [what for what in asks if what != "roots"]
        return asks


def era_of(version):
    return "modern" if version == MODERN else "legacy"


EVERYTHING = ("sampling", "elicitation", "roots")
LEGACY_ALONE, BOTH, MODERN_ALONE = ("legacy",), ("legacy", "modern"), ("modern",)


def servers():
    everything, files, memory = (f"@modelcontextprotocol/server-{name}" for name in ("everything", "filesystem", "memory"))
    ts = "@modelcontextprotocol/server"
    fastmcp, v1 = f"`fastmcp` {pypi('fastmcp')}", f"Python `mcp` {pypi('mcp', 'v1')}"
    time = f"`mcp-server-time` {pypi('mcp-server-time')}"
    return [
        Server("everything-http", "everything", published(everything), "http", LEGACY_ALONE, EVERYTHING),
        Server("everything-sse", "everything", published(everything), "sse", LEGACY_ALONE, EVERYTHING),
        Server("everything-stdio", "everything", published(everything), "stdio", LEGACY_ALONE, EVERYTHING),
        Server("files", "files", published(files), "stdio", LEGACY_ALONE),
        Server("memory", "memory", published(memory), "stdio", LEGACY_ALONE),
        Server("time", "time", time, "stdio", BOTH),
        # Its `elicit` is a request to the client, which the modern era does not have.
        Server("fastmcp-http", "kit", fastmcp, "http", BOTH, ["elicitation"], LEGACY_ALONE),
        Server("fastmcp-sse", "kit", fastmcp, "sse", LEGACY_ALONE, ["elicitation"], LEGACY_ALONE),
        Server("python-v1-http", "kit", v1, "http", LEGACY_ALONE, ["elicitation"]),
        Server("python-v1-sse", "kit", v1, "sse", LEGACY_ALONE, ["elicitation"]),
        Server("ts-v2-http", "kit", published(ts), "http", MODERN_ALONE, ["elicitation"]),
        Server("ts-v2-stdio", "kit", published(ts), "stdio", MODERN_ALONE, ["elicitation"]),
    ]


def published(package):
    return f"`{package}` {npm(package)}"


def over_network():
    """`{mount: (argv, environment, path)}` of the servers that say on their standard error on which loopback port they are."""
    loopback = (HERE / "upstreams" / "loopback.mjs").as_uri()

    def everything(transport):
        return [node(), "--import", loopback, installed("everything"), transport], {"PORT": "0"}

    def kit(environment, transport):
        return [INSTALLED.python(environment), str(HERE / "upstreams" / "kit.py"), transport], {}

    return {
        "everything-http": (*everything("streamableHttp"), "/mcp"),
        "everything-sse": (*everything("sse"), "/sse"),
        "fastmcp-http": (*kit("", "http"), "/mcp"),
        "fastmcp-sse": (*kit("", "sse"), "/sse"),
        "python-v1-http": (*kit("v1", "http"), "/mcp"),
        "python-v1-sse": (*kit("v1", "sse"), "/sse"),
        "ts-v2-http": ([node(), kit_on_node(), "http"], {}, "/mcp"),
    }


# server-memory writes its file whole and asks nobody: of two that write at once, one is forgotten. So each client that is at
# work at the same time has a mount of its own.
def mount_of(server, place):
    return f"{server.name}-{place}" if server.kind == "memory" else server.name


def over_stdio(files_dir, memory_files, mark):
    """`{mount: {command, args, env}}`. `mark` is an environment variable by which the children are found again."""
    memory = {
        f"memory-{place}": {
            "command": node(),
            "args": [installed("memory")],
            "env": {**mark, "MEMORY_FILE_PATH": str(file)},
        }
        for place, file in enumerate(memory_files)
    }
    return {
        **memory,
        "everything-stdio": {"command": node(), "args": [installed("everything"), "stdio"], "env": dict(mark)},
        "files": {"command": node(), "args": [installed("filesystem"), str(files_dir)], "env": dict(mark)},
        "time": {
            "command": INSTALLED.python(),
            "args": ["-m", "mcp_server_time", "--local-timezone", "UTC"],
            "env": dict(mark),
        },
        "ts-v2-stdio": {"command": node(), "args": [kit_on_node(), "stdio"], "env": dict(mark)},
    }


def kit_on_node():
    return str(INSTALLED.node_env / "upstreams" / "kit.mjs")


def installed(server):
    return str(INSTALLED.module("@modelcontextprotocol", f"server-{server}", "dist", "index.js"))


def node():
    return tool("node")


def npm(package):
    return INSTALLED.version_of(package)


def pypi(package, environment=""):
    return INSTALLED.version_of_python(package, environment)
