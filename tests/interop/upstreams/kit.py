"""A small server over HTTP or HTTP+SSE on the Python library that this interpreter has: `fastmcp`, or the first generation of
`mcp`. `kit.py (http|sse)`; it says its address as `interop-listening 127.0.0.1:N`.

It owns what the server offers; everything on the wire is the library's. `kit.mjs` offers the same.
"""

import asyncio
import socket
import sys

import uvicorn
from mcp.types import ToolAnnotations
from pydantic import BaseModel

try:
    from fastmcp import Context, FastMCP

    server = FastMCP("kit")
    APPS = {"http": lambda: server.http_app(transport="http"), "sse": lambda: server.http_app(transport="sse")}
except ImportError:
    from mcp.server.fastmcp import Context, FastMCP

    server = FastMCP("kit")
    APPS = {"http": server.streamable_http_app, "sse": server.sse_app}


class Answer(BaseModel):
    name: str
    check: bool


@server.tool()
def echo(message: str) -> str:
    return f"Echo: {message}"


@server.tool(annotations=ToolAnnotations(readOnlyHint=True))
async def count(to: int, ctx: Context) -> str:
    if to < 0:
        raise ValueError(f"cannot count to {to}")
    for n in range(1, to + 1):
        await ctx.report_progress(n, to)
        await asyncio.sleep(0.3)
    return f"counted to {to}"


@server.tool()
async def ask(ctx: Context) -> str:
    answer = await ctx.elicit("Who is there?", Answer)
    return f"answered {answer.data.name}"


@server.resource("kit://greeting/{name}")
def greeting(name: str) -> str:
    return f"Grüß Gott, {name}"


@server.prompt()
def greet(name: str) -> str:
    return f"Say hello to {name}."


def main(transport):
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"interop-listening 127.0.0.1:{listener.getsockname()[1]}", file=sys.stderr, flush=True)
    config = uvicorn.Config(APPS[transport](), log_level="warning", timeout_graceful_shutdown=1)
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


if __name__ == "__main__":
    main(sys.argv[1])
