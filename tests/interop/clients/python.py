"""The Python SDK, `mcp` 2.x: modern by default, and legacy when told to.

It owns how that SDK connects, calls and ends; what is checked is in `py_checks.py`.
"""

import mcp_types as types
import py_checks
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client


class Sdk:
    session_id = None

    async def connect(self, stack, mount, variant, hooks):
        async def sample(_context, params):
            content = types.TextContent(type="text", text=hooks.sampled(params.messages[0].content.text))
            return types.CreateMessageResult(role="assistant", model="interop", content=content)

        async def elicit(_context, _params):
            return types.ElicitResult(action="accept", content=hooks.elicited)

        async def roots(_context):
            return types.ListRootsResult(roots=[types.Root(uri="file:///interop", name=hooks.root)])

        client = Client(
            await self.transport(stack, mount),
            mode=variant,
            read_timeout_seconds=60,
            sampling_callback=sample,
            elicitation_callback=elicit,
            list_roots_callback=roots,
        )
        self.client = await stack.enter_async_context(client)
        self.version = self.client.protocol_version
        return self

    async def transport(self, stack, mount):
        if "sse" in mount:
            return sse_client(mount["sse"])
        if "stdio" in mount:
            # The SDK would let the server's log through to our standard error; nobody reads it there.
            log = stack.enter_context(open("/dev/null", "w"))
            return stdio_client(StdioServerParameters(**mount["stdio"]), errlog=log)
        http = await stack.enter_async_context(create_mcp_http_client())
        http.event_hooks = {"response": [self.note_session]}
        return streamable_http_client(mount["url"], http_client=http)

    async def note_session(self, response):
        self.session_id = response.headers.get("mcp-session-id", self.session_id)

    async def tools(self):
        names, cursor = [], None
        while True:
            page = await self.client.list_tools(cursor=cursor)
            names += [tool.name for tool in page.tools]
            cursor = page.next_cursor
            if cursor is None:
                return names

    async def call(self, name, arguments, on_progress):
        return await self.client.call_tool(name, arguments, progress_callback=on_progress)

    async def read(self, uri):
        return (await self.client.read_resource(uri)).contents[0].text

    async def prompt(self, name, arguments):
        return (await self.client.get_prompt(name, arguments)).messages[0].content.text

    @staticmethod
    def code_of(error):
        return error.code if isinstance(error, MCPError) else None


if __name__ == "__main__":
    py_checks.run(Sdk)
