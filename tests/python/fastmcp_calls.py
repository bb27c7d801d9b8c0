"""Uses an MCP server through fastmcp's client, and reports as `mcp_calls.py` does.

Standard input holds {"url", "headers", "calls": [{"tool", "arguments"}], "between", "endless"}. Standard output gets
{"protocol", "tools": [name], "results": [{"text"}], "progressed"}: the last, whether a call of the tool
`endless`, which never answers, told of its progress before it was given up. Runs in the environment `quilt`.
"""

import asyncio
import json
import sys
import urllib.request

from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport


async def main():
    asked = json.load(sys.stdin)
    transport = StreamableHttpTransport(asked["url"], headers=asked["headers"])
    async with Client(transport) as client:
        report = {
            "protocol": client.protocol_version,
            "tools": [tool.name for tool in await client.list_tools()],
            "results": await calls(client, asked),
            "progressed": await progresses(client, asked.get("endless")),
        }
    json.dump(report, sys.stdout)


async def calls(client, asked):
    results = []
    for one in asked["calls"]:
        if results and "between" in asked:
            await asyncio.to_thread(urllib.request.urlopen, asked["between"])
        results.append(await call(client, **one))
    return results


async def call(client, tool, arguments):
    result = await client.call_tool(tool, arguments)
    return {"text": "\n".join(part.text for part in result.content if part.type == "text")}


async def progresses(client, endless):
    if endless is None:
        return False
    told = asyncio.Event()

    async def progress(*_):
        told.set()

    running = asyncio.create_task(
        client.call_tool(endless["name"], endless["arguments"], progress_handler=progress)
    )
    await asyncio.wait_for(told.wait(), 60)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return True


if __name__ == "__main__":
    asyncio.run(main())
