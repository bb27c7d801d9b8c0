"""An MCP server by the official SDK that speaks the transport of 2024 alone: `GET /sse`, and the messages at the path that
this names. Runs in the environment `quilt`, whose resolver chose the SDK."""

import asyncio
import os

from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("of 2024")


@server.tool()
def echo(text: str) -> str:
    return text


@server.tool()
def drop(text: str) -> str:
    return f"dropped {text}"


@server.tool()
async def slow(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "in the end"


@server.tool()
async def progress(n: int, interval_ms: int, ctx: Context) -> str:
    for done in range(n):
        await ctx.report_progress(done, n)
        await asyncio.sleep(interval_ms / 1000)
    return "done"


server.run(transport="sse", port=int(os.environ["PORT"]))
