"""The programs that Ostler is run against: what they are, and how each is started."""

from pathlib import Path

from installed import Installed, tool

HERE = Path(__file__).resolve().parent
INSTALLED = Installed(HERE)

LEGACY = "2025-11-25"
MODERN = "2026-07-28"


def install():
    INSTALLED.bring("clients")


# === clients ===


# What a server may ask of its client.
ASKS = ["sampling", "elicitation", "roots"]


class ClientKind:
    """One client program in one of its ways to negotiate. `modern` says whether it asks for the newest era first."""

    def __init__(self, name, argv, variant, modern):
        self.name, self.argv, self.variant, self.modern = name, argv, variant, modern

    def version_with(self, kind):
        """The revision that this client and a server of `kind` must agree on by themselves."""
        return MODERN if self.modern and kind == "time" else LEGACY

    def through_ostler(self, kind, mount):
        """The same through a mount, and what the server can ask of the client there. A modern client is bridged to a
        legacy server, which can ask it only what belongs to one of its calls: see docs/reference/eras.md."""
        if not self.modern:
            return LEGACY, ASKS
        return MODERN, ["sampling", "elicitation"] if mount == "everything-http" else []


def clients():
    python_client = [python(), str(HERE / "clients" / "python.py")]
    ts_v1 = [node(), str(INSTALLED.node_env / "clients" / "ts_v1.mjs")]
    ts_v2 = [node(), str(INSTALLED.node_env / "clients" / "ts_v2.mjs")]
    return [
        ClientKind("python-auto", python_client, "auto", modern=True),
        ClientKind("python-legacy", python_client, "legacy", modern=False),
        ClientKind("ts-v1", ts_v1, "legacy", modern=False),
        ClientKind("ts-v2-default", ts_v2, "legacy", modern=False),
        ClientKind("ts-v2-auto", ts_v2, "auto", modern=True),
    ]


# === upstreams ===

# Each mount and the kind of server behind it; the kinds are those that the clients know how to check.
MOUNTS = {
    "everything-http": "everything",
    "everything-stdio": "everything",
    "files": "files",
    "memory": "memory",
    "time": "time",
}


def everything_over_http():
    """server-everything on a free loopback port, which it tells on its standard error (upstreams/loopback.mjs)."""
    loopback = (HERE / "upstreams" / "loopback.mjs").as_uri()
    return [node(), "--import", loopback, server("everything"), "streamableHttp"], {"PORT": "0"}


def stdio_upstreams(files_dir, memory_file, mark):
    """`{mount: {command, args, env}}`. `mark` is an environment variable by which the children are found again."""
    return {
        "everything-stdio": {"command": node(), "args": [server("everything"), "stdio"], "env": dict(mark)},
        "files": {"command": node(), "args": [server("filesystem"), str(files_dir)], "env": dict(mark)},
        "memory": {
            "command": node(),
            "args": [server("memory")],
            "env": {**mark, "MEMORY_FILE_PATH": str(memory_file)},
        },
        "time": {
            "command": python(),
            "args": ["-m", "mcp_server_time", "--local-timezone", "UTC"],
            "env": dict(mark),
        },
    }


def server(name):
    return str(INSTALLED.module("@modelcontextprotocol", f"server-{name}", "dist", "index.js"))


def node():
    return tool("node")


def python():
    return INSTALLED.python()
