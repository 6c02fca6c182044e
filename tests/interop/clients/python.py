"""The Python SDK, `mcp` 2.x: modern by default, and legacy when told to.

It owns what is asked of a server through this SDK and what must come back, check for check what `ts_checks.mjs` asks.
It must never pass a check that it did not make: a step that raises is reported as failed, by name.
"""

import asyncio
import hashlib
import json
import sys
import time
from contextlib import AsyncExitStack
from datetime import datetime, timezone
from pathlib import Path

import httpx2
import mcp_types as types
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

INTERLEAVED_CALLS = 20
LONG_CALL = {"duration": 1.2, "steps": 4}
LONG_CALL_STREAMED_S_MIN = 0.3


async def main(plan):
    for pair in plan["pairs"]:
        await check_pair(plan, pair)
    if plan["unknown_url"]:
        async with Check("unknown mount is refused"):
            try:
                async with AsyncExitStack() as stack:
                    await Side(plan, "unknown", {"url": plan["unknown_url"]}).connect(stack)
            except (Exception, BaseExceptionGroup):
                return
            raise AssertionError("a client could connect to a mount that does not exist")


# === two connections, open and busy at the same time ===


async def check_pair(plan, pair):
    title = " + ".join(pair)
    sides = []
    for index, name in enumerate(pair):
        suffix = f"#{index + 1}" if pair[0] == pair[1] else ""
        sides.append(Side(plan, f"{title}: {name}{suffix}", plan["mounts"][name], index))

    # The SDK ties a connection to the task that opened it, so this task opens and ends them all.
    stacks = [AsyncExitStack() for _ in sides]
    for side, stack in zip(sides, stacks):
        async with Check(f"{side.label}: connect"):
            await side.connect(stack)
            equal(side.client.protocol_version, side.mount["version"])

    if all(side.client for side in sides):
        await asyncio.gather(*(CHECKS[side.mount["kind"]](side) for side in sides))
        async with Check(f"{title}: calls on both at once"):
            await asyncio.gather(
                *(PROBES[side.mount["kind"]](side, n) for side in sides for n in range(INTERLEAVED_CALLS))
            )

    for side, stack in reversed(list(zip(sides, stacks))):
        async with Check(f"{side.label}: end"):
            await stack.aclose()
            if "url" in side.mount and side.mount["version"] <= "2025-11-25":
                assert side.session_id, "a legacy session has an id"
                equal(await side.status_of_ended_session(), plan["ended_session_status"])


class Side:
    """One connection of a pair, and what the client answers when the server asks it something."""

    def __init__(self, plan, label, mount, index=0):
        self.plan, self.label, self.mount, self.index = plan, label, mount, index
        self.client = None
        self.session_id = None

    async def connect(self, stack):
        client = Client(
            await self.transport(stack),
            mode=self.plan["variant"],
            read_timeout_seconds=60,
            sampling_callback=self.sample,
            elicitation_callback=self.elicit,
            list_roots_callback=self.roots,
        )
        self.client = await stack.enter_async_context(client)

    async def transport(self, stack):
        if "url" not in self.mount:
            # The SDK would let the server's log through to our standard error; nobody reads it there.
            log = stack.enter_context(open("/dev/null", "w"))
            return stdio_client(StdioServerParameters(**self.mount["stdio"]), errlog=log)
        http = await stack.enter_async_context(create_mcp_http_client())
        http.event_hooks = {"response": [self.note_session]}
        return streamable_http_client(self.mount["url"], http_client=http)

    async def note_session(self, response):
        self.session_id = response.headers.get("mcp-session-id", self.session_id)

    async def status_of_ended_session(self):
        async with httpx2.AsyncClient() as http:
            response = await http.post(
                self.mount["url"],
                headers={
                    "accept": "application/json, text/event-stream",
                    "mcp-session-id": self.session_id,
                    "mcp-protocol-version": self.mount["version"],
                },
                json={"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}},
            )
            return response.status_code

    def asks(self, what):
        """Whether the server can ask this of the client, through whatever is between them."""
        return what in self.mount["asks"]

    async def call(self, name, arguments, **options):
        return await self.client.call_tool(name, arguments, **options)

    async def assert_tools(self, *wanted):
        names = [tool.name for tool in (await self.client.list_tools()).tools]
        for name in wanted:
            assert name in names, f"{name} is not among {names}"

    async def sample(self, _context, params):
        asked = params.messages[0].content.text
        return types.CreateMessageResult(
            role="assistant", model="interop", content=types.TextContent(type="text", text=f"sampled for: {asked}")
        )

    async def elicit(self, _context, _params):
        return types.ElicitResult(action="accept", content={"name": f"elicited {self.plan['tag']}", "check": True})

    async def roots(self, _context):
        return types.ListRootsResult(roots=[types.Root(uri="file:///interop", name=f"root of {self.plan['tag']}")])


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

        async def on_progress(progress, total, _message):
            seen.append((time.monotonic(), progress, total))

        result = await side.call("trigger-long-running-operation", LONG_CALL, progress_callback=on_progress)
        contains(text(result), "completed. Duration: 1.2 seconds, Steps: 4")
        # An SDK may drop the last one: it is sent right before the result, which ends the listening for progress.
        assert len(seen) >= 3, f"{len(seen)} of 4 came"
        equal([(progress, total) for _, progress, total in seen], [(n, 4) for n in (1, 2, 3, 4)][: len(seen)])
        early = time.monotonic() - seen[0][0] >= LONG_CALL_STREAMED_S_MIN
        assert early, "progress came with the result, not before it"
    async with Check(f"{side.label}: tool error"):
        result = await side.call("get-sum", {"a": "not a number", "b": 1})
        assert result.is_error
        contains(text(result), "-32602")
    async with Check(f"{side.label}: protocol error"):
        refused = await raised(side.client.read_resource("demo://no/such/thing"))
        equal(refused.code, -32602)
        contains(str(refused), "demo://no/such/thing")
    async with Check(f"{side.label}: read resource"):
        contents = (await side.client.read_resource("demo://resource/dynamic/text/7")).contents
        contains(contents[0].text, "Resource 7: This is a plaintext resource")
    async with Check(f"{side.label}: get prompt"):
        prompt = await side.client.get_prompt("args-prompt", {"city": "Ulm", "state": "BW"})
        equal(prompt.messages[0].content.text, "What's weather in Ulm, BW?")
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
        assert result.is_error
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
        assert result.is_error
        contains(text(result), "Atlantis")
    async with Check(f"{side.label}: protocol error"):
        equal((await raised(side.call("no_such_tool", {}))).code, -32602)


CHECKS = {"everything": everything, "files": files, "memory": memory, "time": time_server}


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


PROBES = {"everything": probe_everything, "files": probe_files, "memory": probe_memory, "time": probe_time}


def text(result):
    return "".join(getattr(part, "text", "") for part in result.content)


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


async def raised(awaitable):
    try:
        result = await awaitable
    except MCPError as error:
        return error
    raise AssertionError(f"a protocol error was due, not {result!r}"[:500])


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


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
    show({"done": True})
