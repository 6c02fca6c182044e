"""The checks that every Python client makes, whatever its library. It owns what is asked of a server and what must come
back, check for check what `ts_checks.mjs` asks; connecting, and each library's own calling conventions, are the adapter's.
It must never pass a check that it did not make: a step that raises is reported as failed, by name.

An adapter is a class with `async connect(stack, mount, variant, hooks)`, which returns itself connected, `version`,
`session_id` (of a legacy session over HTTP) and the coroutines `tools()`, `call(name, arguments, on_progress)`, `read(uri)`
and `prompt(name, arguments)`; `code_of(error)` is the code of a protocol error that it raised, or None.
"""

import asyncio
import hashlib
import json
import sys
import time
import urllib.error
import urllib.request
from contextlib import AsyncExitStack
from datetime import datetime, timezone
from pathlib import Path

INTERLEAVED_CALLS = 20
LONG_CALL = {"duration": 1.2, "steps": 4}
LONG_CALL_STREAMED_S_MIN = 0.3


def run(adapter):
    asyncio.run(main(adapter, json.loads(Path(sys.argv[1]).read_text())))
    show({"done": True})


class Hooks:
    """What the client answers when a server asks it something."""

    def __init__(self, tag):
        self.elicited = {"name": f"elicited {tag}", "check": True}
        self.root = f"root of {tag}"

    @staticmethod
    def sampled(asked):
        return f"sampled for: {asked}"


async def main(adapter, plan):
    for pair in plan["pairs"]:
        await check_pair(adapter, plan, pair)
    if plan["unknown"]:
        async with Check("unknown mount is refused"):
            try:
                async with AsyncExitStack() as stack:
                    await Side(adapter, plan, "unknown", plan["unknown"]).connect(stack)
            except (Exception, BaseExceptionGroup):
                return
            raise AssertionError("a client could connect to a mount that does not exist")


# === two connections, open and busy at the same time ===


async def check_pair(adapter, plan, pair):
    title = " + ".join(pair)
    sides = []
    for index, name in enumerate(pair):
        suffix = f"#{index + 1}" if pair[0] == pair[1] else ""
        sides.append(Side(adapter, plan, f"{title}: {name}{suffix}", plan["mounts"][name], index))

    # Libraries tie a connection to the task that opened it, so this task opens and ends them all.
    stacks = [AsyncExitStack() for _ in sides]
    for side, stack in zip(sides, stacks):
        async with Check(f"{side.label}: connect"):
            await side.connect(stack)
            equal(side.client.version, side.mount["version"])

    if all(side.client for side in sides):
        await asyncio.gather(*(CHECKS[side.mount["kind"]](side) for side in sides))
        async with Check(f"{title}: calls on both at once"):
            await asyncio.gather(
                *(PROBES[side.mount["kind"]](side, n) for side in sides for n in range(INTERLEAVED_CALLS))
            )

    for side, stack in reversed(list(zip(sides, stacks))):
        async with Check(f"{side.label}: end"):
            session = side.client and side.client.session_id
            await stack.aclose()
            if "url" in side.mount and side.mount["version"] <= "2025-11-25":
                assert session, "a legacy session has an id"
                status = await asyncio.to_thread(status_of_ended, side.mount, session)
                equal(status, plan["ended_session_status"] or status)


class Side:
    """One connection of a pair."""

    def __init__(self, adapter, plan, label, mount, index=0):
        self.adapter, self.plan, self.label, self.mount, self.index = adapter, plan, label, mount, index
        self.client = None

    async def connect(self, stack):
        self.client = await self.adapter().connect(stack, self.mount, self.plan["variant"], Hooks(self.plan["tag"]))

    def asks(self, what):
        """Whether the server can ask this of the client, through whatever is between them."""
        return what in self.mount["asks"]

    async def call(self, name, arguments, on_progress=None):
        return await self.client.call(self.named(name), arguments, on_progress)

    async def read(self, uri):
        member = self.mount["member"]
        scheme, rest = uri.split("://")
        return await self.client.read(f"{scheme}://{member}/{rest}" if member else uri)

    async def prompt(self, name, arguments):
        return await self.client.prompt(self.named(name), arguments)

    def named(self, name):
        """What a tool or prompt of the server is called here."""
        member = self.mount["member"]
        return f"{member}__{name}" if member else name

    async def refused(self, awaitable):
        """The code and the text of the protocol error that this raises."""
        try:
            result = await awaitable
        except Exception as error:
            code = self.client.code_of(error)
            if code is None:
                raise
            return code, str(error)
        raise AssertionError(f"a protocol error was due, not {result!r}"[:500])

    async def assert_tools(self, *wanted):
        names = await self.client.tools()
        for name in map(self.named, wanted):
            assert name in names, f"{name} is not among {names}"
        if self.plan["listed"] is not None:
            equal(sorted(names), self.plan["listed"])


def status_of_ended(mount, session):
    request = urllib.request.Request(
        mount["url"],
        data=json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}).encode(),
        headers={
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-session-id": session,
            "mcp-protocol-version": mount["version"],
        },
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


# === what each server must answer ===


async def everything(side):
    tag = side.plan["tag"]
    async with Check(f"{side.label}: list tools"):
        samples = ["trigger-sampling-request"] if side.asks("sampling") else []
        await side.assert_tools("echo", "get-sum", "trigger-long-running-operation", *samples)
    async with Check(f"{side.label}: echo"):
        message = f'{tag} ünï→ "quoted" \\ \u2028 end'
        equal(text(await side.call("echo", {"message": message})), f"Echo: {message}")
    async with Check(f"{side.label}: get-sum"):
        equal(text(await side.call("get-sum", {"a": 40, "b": 2.5})), "The sum of 40 and 2.5 is 42.5.")
    async with Check(f"{side.label}: progress as it happens"):
        seen = []

        async def on_progress(progress, total, _message=None):
            seen.append((time.monotonic(), progress, total))

        result = await side.call("trigger-long-running-operation", LONG_CALL, on_progress=on_progress)
        contains(text(result), "completed. Duration: 1.2 seconds, Steps: 4")
        # An SDK may drop the last one: it is sent right before the result, which ends the listening for progress.
        assert len(seen) >= 3, f"{len(seen)} of 4 came"
        equal([(progress, total) for _, progress, total in seen], [(n, 4) for n in (1, 2, 3, 4)][: len(seen)])
        early = time.monotonic() - seen[0][0] >= LONG_CALL_STREAMED_S_MIN
        assert early, "progress came with the result, not before it"
    async with Check(f"{side.label}: tool error"):
        result = await side.call("get-sum", {"a": "not a number", "b": 1})
        assert is_error(result)
        contains(text(result), "-32602")
    async with Check(f"{side.label}: protocol error"):
        code, message = await side.refused(side.read("demo://no/such/thing"))
        equal(code, -32602)
        contains(message, "demo://no/such/thing")
    async with Check(f"{side.label}: read resource"):
        contains(await side.read("demo://resource/dynamic/text/7"), "Resource 7: This is a plaintext resource")
    async with Check(f"{side.label}: get prompt"):
        prompt = await side.prompt("args-prompt", {"city": "Ulm", "state": "BW"})
        equal(prompt, "What's weather in Ulm, BW?")
    if side.asks("sampling"):
        async with Check(f"{side.label}: server asks the client: sampling"):
            result = await side.call("trigger-sampling-request", {"prompt": tag, "maxTokens": 5})
            contains(text(result), "sampled for: ")
            contains(text(result), tag)
    if side.asks("elicitation"):
        async with Check(f"{side.label}: server asks the client: elicitation"):
            contains(text(await side.call("trigger-elicitation-request", {})), f"elicited {tag}")
    if side.asks("roots"):
        async with Check(f"{side.label}: server asks the client: roots"):
            contains(text(await side.call("get-roots-list", {})), f"root of {tag}")


async def files(side):
    planned = side.plan["files"]
    async with Check(f"{side.label}: list tools"):
        await side.assert_tools("list_directory", "read_text_file")
    async with Check(f"{side.label}: list_directory"):
        listing = text(await side.call("list_directory", {"path": planned["dir"]}))
        for name in planned["names"]:
            contains(listing, f"[FILE] {name}")
    async with Check(f"{side.label}: read_text_file"):
        await probe_files(side, 0)
    async with Check(f"{side.label}: large read_text_file"):
        content = text(await side.call("read_text_file", {"path": planned["large"]}))
        equal(hashlib.sha256(content.encode()).hexdigest(), planned["large_sha256"])
    async with Check(f"{side.label}: tool error"):
        result = await side.call("read_text_file", {"path": planned["outside"]})
        assert is_error(result)
        contains(text(result), "Access denied")


async def memory(side):
    entity = {"name": f"{side.plan['tag']} mare", "entityType": "horse", "observations": ["likes oats"]}
    async with Check(f"{side.label}: list tools"):
        await side.assert_tools("create_entities", "read_graph")
    async with Check(f"{side.label}: create_entities"):
        await side.call("create_entities", {"entities": [entity]})
    async with Check(f"{side.label}: read_graph"):
        graph = json.loads(text(await side.call("read_graph", {})))
        found = [e["observations"] for e in graph["entities"] if e["name"] == entity["name"]]
        equal(found, [entity["observations"]])


async def time_server(side):
    async with Check(f"{side.label}: list tools"):
        await side.assert_tools("get_current_time", "convert_time")
    async with Check(f"{side.label}: get_current_time"):
        now = json.loads(text(await side.call("get_current_time", {"timezone": "Asia/Tokyo"})))
        equal(now["timezone"], "Asia/Tokyo")
        apart = datetime.fromisoformat(now["datetime"]) - datetime.now(timezone.utc)
        assert abs(apart.total_seconds()) < 60, now["datetime"]
    async with Check(f"{side.label}: tool error"):
        result = await side.call("get_current_time", {"timezone": "Atlantis/Capital"})
        assert is_error(result)
        contains(text(result), "Atlantis")
    async with Check(f"{side.label}: protocol error"):
        equal((await side.refused(side.call("no_such_tool", {})))[0], -32602)


async def kit(side):
    tag = side.plan["tag"]
    async with Check(f"{side.label}: list tools"):
        await side.assert_tools("echo", "count", "ask")
    async with Check(f"{side.label}: echo"):
        message = f'{tag} ünï→ "quoted" \\ \u2028 end'
        equal(text(await side.call("echo", {"message": message})), f"Echo: {message}")
    async with Check(f"{side.label}: progress as it happens"):
        seen = []

        async def on_progress(progress, total, _message=None):
            seen.append((progress, total))

        equal(text(await side.call("count", {"to": 3}, on_progress=on_progress)), "counted to 3")
        assert len(seen) >= 2, f"{len(seen)} of 3 came"
        equal(seen, [(n, 3) for n in (1, 2, 3)][: len(seen)])
    async with Check(f"{side.label}: tool error"):
        result = await side.call("count", {"to": -1})
        assert is_error(result)
        contains(text(result), "cannot count to -1")
    async with Check(f"{side.label}: read resource"):
        equal(await side.read("kit://greeting/Ulm"), "Grüß Gott, Ulm")
    async with Check(f"{side.label}: get prompt"):
        equal(await side.prompt("greet", {"name": "Ulm"}), "Say hello to Ulm.")
    if side.asks("elicitation"):
        async with Check(f"{side.label}: server asks the client: elicitation"):
            equal(text(await side.call("ask", {})), f"answered elicited {tag}")


CHECKS = {"kit": kit, "everything": everything, "files": files, "memory": memory, "time": time_server}


# Calls whose answer depends on `n`, so that an answer that went to another call or session is noticed.


async def probe_everything(side, n):
    message = f"{side.plan['tag']}/{side.index}/{n}"
    equal(text(await side.call("echo", {"message": message})), f"Echo: {message}")


async def probe_files(side, n):
    names = side.plan["files"]["names"]
    name = names[n % len(names)]
    path = f"{side.plan['files']['dir']}/{name}"
    equal(text(await side.call("read_text_file", {"path": path})), f"content of {name}\n")


async def probe_memory(side, n):
    name = f"{side.plan['tag']} mare" if n % 2 else f"{side.plan['tag']} nobody {n}"
    graph = json.loads(text(await side.call("open_nodes", {"names": [name]})))
    equal(len(graph["entities"]), n % 2)


async def probe_time(side, n):
    minute = f"{n + 30 * side.index:02}"
    arguments = {"source_timezone": "UTC", "time": f"12:{minute}", "target_timezone": "Asia/Tokyo"}
    result = json.loads(text(await side.call("convert_time", arguments)))
    contains(result["target"]["datetime"], f"T21:{minute}:00")


PROBES = {"kit": probe_everything, "everything": probe_everything, "files": probe_files, "memory": probe_memory, "time": probe_time}


def text(result):
    return "".join(getattr(part, "text", "") for part in result.content)


def is_error(result):
    """The second generation of the SDK spells its fields another way."""
    return result.is_error if hasattr(result, "is_error") else result.isError


# === report ===


class Check:
    """`async with Check(name)`: prints how the body ended, and goes on."""

    def __init__(self, name):
        self.name = name

    async def __aenter__(self):
        return self

    async def __aexit__(self, _kind, error, _trace):
        if error is None:
            show({"check": self.name, "ok": True})
        else:
            show({"check": self.name, "ok": False, "detail": describe(error)[:2000]})
        # A cancellation, an interrupt and an exit go on to whom they concern.
        return error is None or isinstance(error, (Exception, BaseExceptionGroup))


def equal(left, right):
    assert left == right, f"{left!r} is not {right!r}"


def contains(whole, part):
    assert part in whole, f"{part!r} is not in {whole[:500]!r}"


def describe(error):
    if isinstance(error, BaseExceptionGroup):
        return f"{type(error).__name__}: " + "; ".join(describe(inner) for inner in error.exceptions)
    return f"{type(error).__name__}: {error}"


def show(line):
    print(json.dumps(line), flush=True)
