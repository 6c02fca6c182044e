"""The programs that Ostler is run against: what they are, how they are installed, how each is started.

Everything comes from npm and PyPI in the exact versions of package-lock.json and requirements.txt, and lands in
`.env/`, which git ignores. Nothing is installed on the machine itself, and no registry is named here: whatever the
machine's npm and pip are set up with is used.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENV = HERE / ".env"
NODE_ENV = ENV / "node"
PYTHON_ENV = ENV / "python"
INSTALL_SECONDS_MAX = 900

LEGACY = "2025-11-25"
MODERN = "2026-07-28"


def install():
    """Installs what is missing or was installed for other versions. Raises CalledProcessError when npm or pip fail."""
    wanted = hashlib.sha256()
    for name in ("package.json", "package-lock.json", "requirements.txt"):
        wanted.update((HERE / name).read_bytes())
    wanted.update(f"{sys.version} {output([node(), '--version'])}".encode())
    stamp = ENV / "installed"
    if not (stamp.exists() and stamp.read_text() == wanted.hexdigest()):
        shutil.rmtree(ENV, ignore_errors=True)
        install_node()
        install_python()
        stamp.write_text(wanted.hexdigest())
    # Modules are found from where the importing file lies, so the clients run beside node_modules.
    shutil.rmtree(NODE_ENV / "clients", ignore_errors=True)
    shutil.copytree(HERE / "clients", NODE_ENV / "clients", ignore=shutil.ignore_patterns("*.py", "__pycache__"))


def install_node():
    NODE_ENV.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, NODE_ENV / name)
    # No package here needs its install script, and none gets to run one.
    quietly([tool("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"], NODE_ENV)


def install_python():
    venv.create(PYTHON_ENV, with_pip=True)
    pip = [python(), "-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "--quiet"]
    quietly([*pip, "-r", str(HERE / "requirements.txt")], PYTHON_ENV)


# === clients ===


class ClientKind:
    """One client program in one of its ways to negotiate. `modern` says whether it asks for the newest era first."""

    def __init__(self, name, argv, variant, modern):
        self.name, self.argv, self.variant, self.modern = name, argv, variant, modern

    def version_with(self, kind):
        """The revision that this client and a server of `kind` must agree on."""
        return MODERN if self.modern and kind == "time" else LEGACY


def clients():
    python_client = [python(), str(HERE / "clients" / "python.py")]
    ts_v1 = [node(), str(NODE_ENV / "clients" / "ts_v1.mjs")]
    ts_v2 = [node(), str(NODE_ENV / "clients" / "ts_v2.mjs")]
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
    return str(NODE_ENV / "node_modules" / "@modelcontextprotocol" / f"server-{name}" / "dist" / "index.js")


# === what Ostler is told ===


def config_text(everything_url, stdio):
    """The ostler.yaml of the suite. Values are written as JSON strings, which YAML reads as they are."""
    lines = ["version: 1", "upstreams:", "  everything-http:", f"    http: {{ url: {literal(everything_url)} }}"]
    for name, spec in stdio.items():
        lines += [
            f"  {name}:",
            "    stdio:",
            f"      command: {literal(spec['command'])}",
            f"      args: [{', '.join(map(literal, spec['args']))}]",
            "      env:",
            *(f"        {key}: {literal(value)}" for key, value in spec["env"].items()),
        ]
    return "\n".join(lines) + "\n"


def literal(value):
    return json.dumps(value.replace("$", "$$"))


# === tools of the machine ===


def node():
    return tool("node")


def python():
    return str(PYTHON_ENV / "bin" / "python")


def tool(name):
    path = shutil.which(name)
    if path is None:
        sys.exit(f"interop: {name} is needed and is not on the PATH: install Node.js 20 or newer, with npm")
    return path


def output(argv):
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout


def quietly(argv, cwd):
    """Runs an installer; what it printed is shown only when it fails."""
    done = subprocess.run(
        argv, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=INSTALL_SECONDS_MAX
    )
    if done.returncode != 0:
        sys.exit(f"interop: {' '.join(argv)} failed:\n{done.stdout}")
