"""The servers that the suite is run against: how each is installed and started, and what it can be told.

One offer (`fixtures/offer.json`) on three SDKs, each in three eras, over HTTP and stdio.
"""

import os
import re
from pathlib import Path

from installed import Installed, quietly, tool

HERE = Path(__file__).resolve().parent
INSTALLED = Installed(HERE)
OFFER = HERE / "fixtures" / "offer.json"
RUST = HERE / "fixtures" / "rust"
RUST_TARGET = HERE / ".env" / "rust"

LEGACY = "2025-11-25"
MODERN = "2026-07-28"
# What each era of a fixture is asked by: the sets of requirements that it can be held to.
SETS = {"dual": (LEGACY, MODERN), "legacy": (LEGACY,), "modern": (MODERN,)}


class Fixture:
    def __init__(self, name, sdk, argv):
        self.name, self.sdk, self.argv = name, sdk, argv

    def start(self, processes, era):
        """Over HTTP: the URL of its MCP endpoint."""
        process = processes.start(f"{self.name}-{era}", [*self.argv, era, "http"], {"CONFORMANCE_OFFER": str(OFFER)})
        return f"http://{process.says('fixture-listening ')}/mcp"

    def stdio(self, era, mark):
        """What Ostler is told to run. `mark` is an environment variable by which the children are found again."""
        command, *args = self.argv
        return {"command": command, "args": [*args, era, "stdio"], "env": {**mark, "CONFORMANCE_OFFER": str(OFFER)}}


def install():
    INSTALLED.bring("fixtures", "clients")
    env = {**os.environ, "CARGO_TARGET_DIR": str(RUST_TARGET)}
    quietly([tool("cargo"), "build", "--locked", "--manifest-path", str(RUST / "Cargo.toml")], RUST, env)


def all_fixtures():
    return [
        Fixture("rust", f"rmcp {rust_version()}", [str(RUST_TARGET / "debug" / "conformance-fixture")]),
        Fixture(
            "typescript",
            f"@modelcontextprotocol/server {INSTALLED.version_of('@modelcontextprotocol/server')}",
            [node(), str(INSTALLED.node_env / "fixtures" / "typescript.mjs")],
        ),
        Fixture("python", f"mcp {python_version()}", [INSTALLED.python(), str(HERE / "fixtures" / "python_sdk.py")]),
    ]


def rust_version():
    return re.search(r'name = "rmcp"\nversion = "([^"]+)"', (RUST / "Cargo.lock").read_text())[1]


def python_version():
    return re.search(r"^mcp==(\S+)$", (HERE / "requirements.txt").read_text(), re.MULTILINE)[1]


def node():
    return INSTALLED.node()
