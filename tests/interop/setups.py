"""The ways to run Ostler that the clients are tried against, and the direct way without it.

Each set-up is a function `(world) -> [Door]`: it starts what it needs and returns the doors that clients go through.
It owns how the processes are started; what is asked through the doors is the clients' part.
"""

import json

import counterparts
import dataplane
from dataplane import ANY_PORT

APPLY_SECONDS_MAX = 60


class Door:
    """Where clients go in. `targets` maps each mount to what a client connects to: `{url}` or `{stdio}`.

    `mcp` is the base URL of Ostler's MCP listener, or None when the client's own transport leads elsewhere.
    """

    is_direct = False

    def __init__(self, label, targets, mcp=None):
        self.label, self.targets, self.mcp = label, targets, mcp

    @classmethod
    def of_ostler(cls, label, mcp):
        base = f"http://{mcp}"
        return cls(label, {mount: {"url": f"{base}/mcp/{mount}"} for mount in counterparts.MOUNTS}, base)


def direct(world):
    """No Ostler: shows that the harness itself, its clients and its upstreams are sound."""
    targets = {mount: {"stdio": spec} for mount, spec in world.stdio.items()}
    targets["everything-http"] = {"url": world.everything_url}
    door = Door("direct", targets)
    door.is_direct = True
    return [door]


def up(world):
    """`ostler up`: control and one data plane as processes of one command."""
    state = world.folder / "up"
    process = world.processes.start(
        "up",
        [world.ostler, "up", "--config", str(world.config), "--state-dir", str(state)]
        + ["--mcp-listen", ANY_PORT, "--admin-listen", ANY_PORT]
        + ["--control-listen", ANY_PORT, "--sync-listen", ANY_PORT],
    )
    world.ostlers.append(process)
    process.listeners(state / "control")
    return [ready_door("up", process, process.listeners(state / "dataplane"))]


def control(world):
    """A control process with two data planes; the config is pushed with `ostler apply`."""
    state = world.folder / "control"
    process = world.processes.start(
        "control",
        [world.ostler, "control", "--state-dir", str(state), "--listen", ANY_PORT, "--sync-listen", ANY_PORT],
    )
    world.ostlers.append(process)
    listeners = process.listeners(state)

    nodes = []
    for node in ("a", "b"):
        node_state = world.folder / f"dataplane-{node}"
        process_of_node = world.processes.start(
            f"dataplane-{node}",
            [world.ostler, "dataplane", "--control", f"http://{listeners['sync']}"]
            + ["--node-token-file", str(state / "node.token"), "--node", node, "--state-dir", str(node_state)]
            + ["--listen", ANY_PORT, "--admin-listen", ANY_PORT, "--allow-command", "*", "--allow-ref", "*"],
        )
        # Control is stopped last, as an operator would.
        world.ostlers.insert(0, process_of_node)
        nodes.append((node, process_of_node, process_of_node.listeners(node_state)))

    operator = ["--control", f"http://{listeners['api']}", "--token-file", str(state / "operator.token")]
    process.wait_for("both data planes connected", lambda: connected(world, operator, len(nodes)))
    exit_code, out = world.processes.run(
        "apply", [world.ostler, "apply", "-f", str(world.config), *operator, "--wait"], APPLY_SECONDS_MAX
    )
    world.report("control · apply --wait", exit_code == 0, f"exit code {exit_code}: {out.decode(errors='replace')[-500:]}")
    return [ready_door(f"control · node {node}", of_node, at) for node, of_node, at in nodes]


def standalone(world):
    """A data plane that watches a file, without control: over HTTP, and by `ostler connect` for each mount."""
    process, listeners = dataplane.standalone(
        world.processes, "standalone", world.ostler, world.config, world.folder / "standalone"
    )
    world.ostlers.append(process)
    door = Door.of_ostler("standalone", listeners["mcp"])
    return [door, Door("standalone · connect", {mount: {"stdio": connect(world, door, mount)} for mount in door.targets})]


def connect(world, door, mount):
    """The command that a client starts which can do nothing else."""
    return {"command": world.ostler, "args": ["connect", mount, "--url", door.mcp], "env": dict(world.processes.mark)}


SETUPS = {"direct": direct, "up": up, "control": control, "standalone": standalone}


def ready_door(label, process, listeners):
    return Door.of_ostler(label, dataplane.ready(process, listeners)["mcp"])


def connected(world, operator, count):
    """True once `count` nodes are connected, by what `ostler nodes` says."""
    exit_code, out = world.processes.run("nodes", [world.ostler, "nodes", *operator, "-o", "json"], APPLY_SECONDS_MAX)
    if exit_code != 0:
        return None
    nodes = json.loads(out)["items"]
    return True if sum(node["connected"] for node in nodes) == count else None


def start_everything_over_http(world):
    """server-everything over HTTP: the URL of its MCP endpoint."""
    argv, env = counterparts.everything_over_http()
    process = world.processes.start("everything-http", argv, env)
    return f"http://{process.says('interop-listening ')}/mcp"
