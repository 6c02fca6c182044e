"""The Python SDK's first generation, `mcp` 1.x: legacy only.

It owns how that SDK connects, calls and ends; what is checked is in `py_checks.py`.
"""

from datetime import timedelta

import py_checks
from mcp import ClientSession, McpError, StdioServerParameters, types
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from pydantic import AnyUrl


class Sdk:
    get_session_id = None

    async def connect(self, stack, mount, _variant, hooks):
        async def sample(_context, params):
            content = types.TextContent(type="text", text=hooks.sampled(params.messages[0].content.text))
            return types.CreateMessageResult(role="assistant", model="interop", content=content)

        async def elicit(_context, _params):
            return types.ElicitResult(action="accept", content=hooks.elicited)

        async def roots(_context):
            return types.ListRootsResult(roots=[types.Root(uri="file:///interop", name=hooks.root)])

        self.client = ClientSession(
            *await self.streams(stack, mount),
            read_timeout_seconds=timedelta(seconds=60),
            sampling_callback=sample,
            elicitation_callback=elicit,
            list_roots_callback=roots,
        )
        await stack.enter_async_context(self.client)
        self.version = (await self.client.initialize()).protocolVersion
        return self

    async def streams(self, stack, mount):
        if "sse" in mount:
            return await stack.enter_async_context(sse_client(mount["sse"]))
        if "stdio" in mount:
            # The SDK would let the server's log through to our standard error; nobody reads it there.
            log = stack.enter_context(open("/dev/null", "w"))
            return await stack.enter_async_context(stdio_client(StdioServerParameters(**mount["stdio"]), errlog=log))
        read, write, self.get_session_id = await stack.enter_async_context(streamable_http_client(mount["url"]))
        return read, write

    @property
    def session_id(self):
        return self.get_session_id and self.get_session_id()

    async def tools(self):
        names, cursor = [], None
        while True:
            page = await self.client.list_tools(params=types.PaginatedRequestParams(cursor=cursor))
            names += [tool.name for tool in page.tools]
            cursor = page.nextCursor
            if cursor is None:
                return names

    async def call(self, name, arguments, on_progress):
        return await self.client.call_tool(name, arguments, progress_callback=on_progress)

    async def read(self, uri):
        return (await self.client.read_resource(AnyUrl(uri))).contents[0].text

    async def prompt(self, name, arguments):
        return (await self.client.get_prompt(name, arguments)).messages[0].content.text

    @staticmethod
    def code_of(error):
        return error.error.code if isinstance(error, McpError) else None


if __name__ == "__main__":
    py_checks.run(Sdk)
