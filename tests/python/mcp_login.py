"""Uses an MCP server through the official SDK without a credential, so that it has its user log in; reports as
`mcp_calls.py` does.

Standard input holds {"url", "ca", "cookie", "mode", "tool", "arguments"}: where, the certificates to trust, the cookie of
the user's browser at the authorization server, the era, and what to call. Standard output gets {"protocol", "tools":
[name], "results": [{"text"}]}. All of the login but the browser is the SDK's own. Runs in the environment `quilt`.
"""

import asyncio
import json
import ssl
import sys
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata


class Kept:
    """What the SDK learns, for as long as this runs."""

    tokens = None
    client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client):
        self.client = client


async def main():
    asked = json.load(sys.stdin)
    trusted = ssl.create_default_context(cadata=asked["ca"])
    came = asyncio.get_running_loop().create_future()

    async def land(reader, writer):
        request = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()
        came.set_result(parse_qs(urlsplit(request.split(b" ")[1].decode()).query))

    landing = await asyncio.start_server(land, "127.0.0.1", 0)
    redirect = f"http://127.0.0.1:{landing.sockets[0].getsockname()[1]}/callback"

    async def browse(url):
        assert not came.done(), "it logs in again: the token of the first login is not taken"
        headers = {"cookie": asked["cookie"]}
        async with httpx2.AsyncClient(verify=trusted) as browser:
            answer = await browser.get(url, headers=headers)
            assert answer.is_redirect, f"the login answered {answer.status_code}: {answer.text}"
            await browser.get(answer.headers["location"])

    async def brought():
        back = {name: values[0] for name, values in (await came).items()}
        return AuthorizationCodeResult(**back)

    login = OAuthClientProvider(
        asked["url"],
        OAuthClientMetadata(client_name="patchbay-tests", redirect_uris=[redirect]),
        Kept(),
        redirect_handler=browse,
        callback_handler=brought,
    )
    timeout = httpx2.Timeout(30.0, read=300.0)
    async with httpx2.AsyncClient(auth=login, verify=trusted, timeout=timeout) as http:
        transport = streamable_http_client(asked["url"], http_client=http)
        async with Client(transport, mode=asked["mode"]) as client:
            result = await client.call_tool(asked["tool"], asked["arguments"])
            report = {
                "protocol": client.protocol_version,
                "tools": [tool.name for tool in (await client.list_tools()).tools],
                "results": [{"text": "\n".join(part.text for part in result.content)}],
            }
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
