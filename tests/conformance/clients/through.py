#!/usr/bin/env python3
"""Runs a client against a server with Ostler in between: `through.py OSTLER CLIENT... URL`.

The suite plays the server and adds its URL; the client is given that of the mount before it. The exit code is the
client's.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "harness"))

import dataplane
from processes import Processes

CLIENT_SECONDS_MAX = 60

binary, *client, url = sys.argv[1:]
with tempfile.TemporaryDirectory(prefix="ostler-conformance-client-") as name:
    folder = Path(name).resolve()
    config = folder / "ostler.yaml"
    config.write_text(dataplane.config_text({"suite": {"url": url}}))
    with Processes(folder) as processes:
        process, listeners = dataplane.standalone(processes, "dataplane", binary, config, folder / "state")
        code, out = processes.run("client", [*client, f"http://{listeners['mcp']}/mcp/suite"], CLIENT_SECONDS_MAX)
        sys.stdout.write(out.decode(errors="replace"))
        sys.stderr.write((folder / "client.log").read_text(errors="replace"))
        stopped = process.stop()
sys.exit(1 if code is None or stopped != 0 else code)
