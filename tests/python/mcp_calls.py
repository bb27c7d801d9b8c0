"""Calls tools of an MCP server through the official SDK and reports what came back, as JSON.

Standard input holds {"url", "headers", "mode", "calls": [{"tool", "arguments"} or {"resource"}]}: where,
what to present, the era ("auto" prefers the stateless one, "legacy" initializes a session, "sse" does so by the transport
of 2024), and what to
call or read, in order, in one connection; before each but the first of them it gets "between", a URL, where one is told. Standard output gets {"protocol", "tools": [name], "resources":
[uri], "results": [...]}, a result being {"text", "isError"} or, where the SDK itself failed, {"exception"}.
With "endless", a call that never answers, it gets "progressed" too: whether that told of its progress before
it was given up; and with "announce", a tool, "announced": whether what is said beside every answer while that
runs came on the session's own stream. Runs in the environment `quilt`, whose resolver chose the SDK.
"""

import asyncio
import json
import sys

import httpx2
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client


async def main():
    asked = json.load(sys.stdin)
    timeout = httpx2.Timeout(30.0, read=300.0)
    async with httpx2.AsyncClient(headers=asked["headers"], timeout=timeout) as http:
        mode = asked["mode"]
        if mode == "sse":
            transport, mode = sse_client(asked["url"], headers=asked["headers"], timeout=30.0), "legacy"
        else:
            transport = streamable_http_client(asked["url"], http_client=http)
        heard = asyncio.Event()

        async def hear(message):
            if getattr(message, "method", "") == "notifications/tools/list_changed":
                heard.set()

        async with Client(transport, mode=mode, message_handler=hear) as client:
            report = {
                "protocol": client.protocol_version,
                "tools": [tool.name for tool in (await client.list_tools()).tools],
                "resources": await resources(client, asked["calls"]),
                "results": await calls(client, http, asked),
            }
            if "endless" in asked:
                report["progressed"] = await progresses(client, asked["endless"])
            if "announce" in asked:
                running = client.call_tool(asked["announce"], {})
                report["announced"] = await given_up_after(heard, running)
    json.dump(report, sys.stdout)


async def resources(client, calls):
    # not every server has some, so only whoever reads one asks for their list
    if not any("resource" in one for one in calls):
        return []
    return [str(resource.uri) for resource in (await client.list_resources()).resources]


async def calls(client, http, asked):
    results = []
    for one in asked["calls"]:
        if results and "between" in asked:
            (await http.get(asked["between"])).raise_for_status()
        results.append(await call(client, **one))
    return results


async def call(client, tool=None, arguments=None, resource=None):
    try:
        if resource is not None:
            read = await client.read_resource(resource)
            return {"text": "\n".join(part.text for part in read.contents), "isError": False}
        result = await client.call_tool(tool, arguments)
    except Exception as error:  # whatever it is, it is the answer
        return {"exception": f"{type(error).__name__}: {error}"}
    text = "\n".join(part.text for part in result.content if part.type == "text")
    return {"text": text, "isError": result.is_error}


async def progresses(client, endless):
    told = asyncio.Event()

    async def progress(*_):
        told.set()

    call = client.call_tool(endless["name"], endless["arguments"], progress_callback=progress)
    return await given_up_after(told, call)


async def given_up_after(event, call):
    running = asyncio.create_task(call)
    await asyncio.wait_for(event.wait(), 60)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return True


if __name__ == "__main__":
    asyncio.run(main())
