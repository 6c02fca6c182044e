#!/usr/bin/env python3
"""The same as `through.py` where the suite's server wants a token of the data plane's own: `own_token.py OSTLER CLIENT... URL`.

An operator reads in the server's documentation where tokens are had; here the server's metadata says it. The rest is
Ostler's: the client sends no credential.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "harness"))

import dataplane
from processes import Failed, Processes, http

CLIENT_SECONDS_MAX = 60


def main():
    binary, *client, url = sys.argv[1:]
    context = json.loads(os.environ["MCP_CONFORMANCE_CONTEXT"])
    with tempfile.TemporaryDirectory(prefix="ostler-conformance-client-") as name:
        folder = Path(name).resolve()
        config = folder / "ostler.yaml"
        (folder / "secret").write_text(context["client_secret"])
        oauth = {
            "url": token_endpoint(url),
            "client_id": context["client_id"],
            "client_secret": f"${{file:{folder / 'secret'}}}",
            "resource": url,
        }
        config.write_text(dataplane.config_text({"suite": {"url": url, "oauth": oauth}}))
        with Processes(folder) as processes:
            process, listeners = dataplane.standalone(processes, "dataplane", binary, config, folder / "state")
            metrics = f"http://{listeners['admin']}/metrics"
            process.wait_for("a token", lambda: fetched(http("GET", metrics)[1]))
            code, out = processes.run("client", [*client, f"http://{listeners['mcp']}/mcp/suite"], CLIENT_SECONDS_MAX)
            sys.stdout.write(out.decode(errors="replace"))
            sys.stderr.write((folder / "client.log").read_text(errors="replace"))
            stopped = process.stop()
    sys.exit(1 if code is None or stopped != 0 else code)


def fetched(metrics):
    return b'ostler_upstream_token_fetches_total{upstream="suite",result="ok"} 1' in metrics or None


def token_endpoint(url):
    """By the metadata of the server (RFC 9728) and of its authorization server (RFC 8414)."""
    parts = urlsplit(url)
    resource = document(f"{parts.scheme}://{parts.netloc}/.well-known/oauth-protected-resource{parts.path}")
    issuer = urlsplit(resource["authorization_servers"][0])
    path = issuer.path.rstrip("/")
    server = document(f"{issuer.scheme}://{issuer.netloc}/.well-known/oauth-authorization-server{path}")
    return server["token_endpoint"]


def document(url):
    status, body = http("GET", url)
    if status != 200:
        raise Failed(f"{url} is answered with {status}")
    return json.loads(body)


main()
