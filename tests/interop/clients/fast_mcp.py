"""The client of `fastmcp`: modern by default, and legacy when told to.

It owns how that library connects, calls and ends; what is checked is in `py_checks.py`.
"""

from pathlib import Path

import mcp_types as types
import py_checks
from fastmcp import Client
from fastmcp.client.transports import SSETransport, StdioTransport, StreamableHttpTransport
from mcp import MCPError


class Library:
    async def connect(self, stack, mount, variant, hooks):
        async def sample(messages, _params, _context):
            return hooks.sampled(messages[0].content.text)

        async def elicit(_message, _response_type, _params, _context):
            return hooks.elicited

        async def roots(_context):
            return [types.Root(uri="file:///interop", name=hooks.root)]

        self.transport = transport(mount)
        client = Client(
            self.transport, mode=variant, timeout=60, sampling_handler=sample, elicitation_handler=elicit, roots=roots
        )
        self.client = await stack.enter_async_context(client)
        self.version = self.client.protocol_version
        return self

    @property
    def session_id(self):
        return self.transport.get_session_id()

    async def tools(self):
        return [tool.name for tool in await self.client.list_tools()]

    async def call(self, name, arguments, on_progress):
        return await self.client.call_tool_mcp(name, arguments, progress_handler=on_progress)

    async def read(self, uri):
        return (await self.client.read_resource(uri))[0].text

    async def prompt(self, name, arguments):
        return (await self.client.get_prompt(name, arguments)).messages[0].content.text

    @staticmethod
    def code_of(error):
        return error.code if isinstance(error, MCPError) else None


def transport(mount):
    if "sse" in mount:
        return SSETransport(mount["sse"])
    if "stdio" in mount:
        # It would let the server's log through to our standard error; nobody reads it there.
        return StdioTransport(**mount["stdio"], keep_alive=False, log_file=Path("/dev/null"))
    return StreamableHttpTransport(mount["url"])


if __name__ == "__main__":
    py_checks.run(Library)
