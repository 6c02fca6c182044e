"""The ways to run Ostler that the clients are tried against, and the direct way without it.

Each set-up is a function `(world) -> [Door]`: it starts what it needs and returns the doors that clients go through.
It owns how the processes are started; what is asked through the doors is the clients' part.
"""

import json

import counterparts
import dataplane
from dataplane import ANY_PORT
from processes import Failed, http

META = "io.modelcontextprotocol"
# One endpoint for all mounts.
BUNDLE = "all"
APPLY_SECONDS_MAX = 60


class Door:
    """Where clients go in, and in which of the ways. `targets` maps each mount to what a client connects to: `{url}`, `{sse}`
    or `{stdio}`; `unknown` is the same of a mount that there is not.

    `mcp` is the base URL of Ostler's MCP listener, or None when the client's own transport leads elsewhere.
    """

    # Another of the same.
    is_second = False
    # Each mount is reached as a member of a bundle.
    is_bundle = False
    # All tools that a client is to be shown where one place shows those of all mounts, by what it can be asked.
    listed = None

    def __init__(self, place, way, targets, mcp=None, unknown=None):
        self.place, self.way, self.targets, self.mcp, self.unknown = place, way, targets, mcp, unknown
        self.label = f"{place} · {way}" if way else place

    @property
    def is_direct(self):
        return self.mcp is None


def doors_of(world, place, mcp):
    """The ways to a data plane: each of its mounts over both transports, and by `ostler connect` as a client's command."""
    base = f"http://{mcp}"
    return [
        Door(place, way, {mount: target(mount) for mount in world.upstreams}, base, target("no-such-mount"))
        for way, target in targets_at(world, base).items()
    ]


def bundle_doors_of(world, place, mcp):
    """The ways to all mounts of a data plane at once. What its members list by themselves is what it must list."""
    base = f"http://{mcp}"
    listed = {
        can: sorted(f"{mount}__{tool}" for mount in world.upstreams for tool in tools_of(base, mount, can))
        for can in {kind.can for kind in counterparts.clients()}
    }
    doors = []
    for way, target in targets_at(world, base).items():
        targets = {mount: {**target(BUNDLE), "member": mount} for mount in world.upstreams}
        door = Door(place, way, targets, base, target("no-such-mount"))
        door.is_bundle, door.listed = True, listed
        doors.append(door)
    return doors


def targets_at(world, base):
    """By each way, what a client connects to for a mount."""
    return {
        "http": lambda mount: {"url": f"{base}/mcp/{mount}"},
        "sse": lambda mount: {"sse": f"{base}/sse/{mount}"},
        "connect": lambda mount: {"stdio": connect(world, base, mount)},
    }


def tools_of(base, mount, can):
    """The tools that a mount lists for a client of these capabilities."""
    meta = {f"{META}/protocolVersion": counterparts.MODERN, f"{META}/clientCapabilities": json.loads(can)}
    names, params = [], {"_meta": meta}
    headers = {"mcp-protocol-version": counterparts.MODERN, "mcp-method": "tools/list"}
    while True:
        message = {"jsonrpc": "2.0", "id": "interop", "method": "tools/list", "params": params}
        _, body = http("POST", f"{base}/mcp/{mount}", message, headers)
        try:
            result = json.loads(body)["result"]
        except (ValueError, KeyError) as error:
            raise Failed(f"{mount} lists no tools: {body[:300]}") from error
        names += [tool["name"] for tool in result["tools"]]
        if "nextCursor" not in result:
            return names
        params["cursor"] = result["nextCursor"]


def direct(world):
    """No Ostler: shows that the harness itself, its clients and its upstreams are sound."""
    targets = {mount: spec if mount in world.addresses else {"stdio": spec} for mount, spec in world.upstreams.items()}
    return [Door("direct", "", targets)]


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
    return ready_doors(world, "up", process, process.listeners(state / "dataplane"))


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
    doors = [door for node, of_node, at in nodes for door in ready_doors(world, f"control, node {node}", of_node, at)]
    for door in doors:
        door.is_second = door.mcp != doors[0].mcp
    return doors


def standalone(world):
    """A data plane that watches a file, without control."""
    process, listeners = dataplane.standalone(
        world.processes, "standalone", world.ostler, world.config, world.folder / "standalone"
    )
    world.ostlers.append(process)
    return doors_of(world, "standalone", listeners["mcp"]) + bundle_doors_of(world, "standalone, bundle", listeners["mcp"])


def connect(world, base, mount):
    """The command that a client starts which can do nothing else."""
    return {"command": world.ostler, "args": ["connect", mount, "--url", base], "env": dict(world.processes.mark)}


SETUPS = {"direct": direct, "up": up, "control": control, "standalone": standalone}


def ready_doors(world, place, process, listeners):
    return doors_of(world, place, dataplane.ready(process, listeners)["mcp"])


def connected(world, operator, count):
    """True once `count` nodes are connected, by what `ostler nodes` says."""
    exit_code, out = world.processes.run("nodes", [world.ostler, "nodes", *operator, "-o", "json"], APPLY_SECONDS_MAX)
    if exit_code != 0:
        return None
    nodes = json.loads(out)["items"]
    return True if sum(node["connected"] for node in nodes) == count else None


def start_servers(world):
    """The servers over HTTP and HTTP+SSE: `{mount: {url}}` or `{mount: {sse}}`, what each is reached by."""
    started = {}
    for mount, (argv, env, path) in counterparts.over_network().items():
        started[mount] = path, world.processes.start(mount, argv, env)
    return {
        mount: {"sse" if path == "/sse" else "url": f"http://{process.says('interop-listening ')}{path}"}
        for mount, (path, process) in started.items()
    }
