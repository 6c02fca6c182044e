"""Ostler as a suite runs it: what its `ostler.yaml` says, a data plane on its own, and when it is ready."""

import json
import os

from processes import http

ANY_PORT = "127.0.0.1:0"


def config_text(upstreams, bundle=None):
    """An ostler.yaml with one mount for each of `{name: {url}}`, `{name: {sse}}` and `{name: {command, args, env}}`, and with all of
    them in a bundle of this name, if there is one.

    Beside `url`, `oauth` is written as it is.

    Values are written as JSON strings, which YAML reads as they are.
    """
    lines = ["version: 1", "upstreams:"]
    for name, spec in upstreams.items():
        lines.append(f"  {name}:")
        if "url" in spec:
            lines.append(f"    http: {{ url: {literal(spec['url'])} }}")
            if "oauth" in spec:
                lines.append(f"    oauth: {json.dumps(spec['oauth'])}")
            continue
        if "sse" in spec:
            lines.append(f"    sse: {{ url: {literal(spec['sse'])} }}")
            continue
        lines += [
            "    stdio:",
            f"      command: {literal(spec['command'])}",
            f"      args: [{', '.join(map(literal, spec['args']))}]",
            "      env:",
            *(f"        {key}: {literal(value)}" for key, value in spec["env"].items()),
        ]
    if bundle:
        lines += ["bundles:", f"  {bundle}: {{ mounts: [{', '.join(upstreams)}] }}"]
    return "\n".join(lines) + "\n"


def literal(value):
    return json.dumps(value.replace("$", "$$"))


def standalone(processes, name, binary, config, state):
    """A data plane that watches a file, without control: `(process, addresses)`, once it is ready."""
    process = processes.start(
        name,
        [str(binary), "dataplane", "--config", str(config), "--state-dir", str(state)]
        + ["--listen", ANY_PORT, "--admin-listen", ANY_PORT],
    )
    return process, ready(process, process.listeners(state))


def ready(process, listeners):
    readyz = f"http://{listeners['admin']}/readyz"
    process.wait_for("ready state", lambda: True if http("GET", readyz)[0] == 200 else None)
    return listeners


def binary_argument(parser, args, needed):
    """The absolute path of `--ostler`, or a usage error that says what to do."""
    if not needed:
        return None
    if args.ostler is None:
        parser.error("--ostler PATH is needed")
    path = args.ostler.resolve()
    if not os.access(path, os.X_OK):
        parser.error(f"{path} is not an executable file: build it first")
    return path
