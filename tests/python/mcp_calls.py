"""Calls tools of an MCP server through the official SDK and reports what came back, as JSON.

Standard input holds {"url", "headers", "mode", "calls": [{"tool", "arguments"}]}: where, what to
present, the era ("auto" prefers the stateless one, "legacy" initializes a session), and what to call,
in order, in one connection. Standard output gets {"protocol", "tools": [name], "results": [...]}, a
result being {"text", "isError"} or, where the SDK itself failed, {"exception"}. Runs in the environment
`quilt`, whose resolver chose the SDK.
"""

import asyncio
import json
import sys

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client


async def main():
    asked = json.load(sys.stdin)
    timeout = httpx2.Timeout(30.0, read=300.0)
    async with httpx2.AsyncClient(headers=asked["headers"], timeout=timeout) as http:
        transport = streamable_http_client(asked["url"], http_client=http)
        async with Client(transport, mode=asked["mode"]) as client:
            report = {
                "protocol": client.protocol_version,
                "tools": [tool.name for tool in (await client.list_tools()).tools],
                "results": [await call(client, **one) for one in asked["calls"]],
            }
    json.dump(report, sys.stdout)


async def call(client, tool, arguments):
    try:
        result = await client.call_tool(tool, arguments)
    except Exception as error:  # whatever it is, it is the answer
        return {"exception": f"{type(error).__name__}: {error}"}
    text = "\n".join(part.text for part in result.content if part.type == "text")
    return {"text": text, "isError": result.is_error}


if __name__ == "__main__":
    asyncio.run(main())
