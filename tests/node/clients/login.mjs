// Uses an MCP server through an official client for TypeScript that has no credential, and so has its user log in; reports
// what came back, as JSON.
//
// Standard input holds {"client", "url", "cookie", "tool", "arguments"}: `sdk` (@modelcontextprotocol/sdk) or `client-auto`
// (@modelcontextprotocol/client, negotiating), and the cookie of the user's browser at the authorization server. Standard
// output gets {"protocol", "tools": [name], "results": [{"text"}]}. All of the login but the browser is the client's own:
// this keeps what it is given, and hands it what the browser brings back.

import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// the packages lie where they were installed, not beside this file
const require = createRequire(`${process.cwd()}/login.mjs`);
const load = (name) => import(pathToFileURL(require.resolve(name)));

const asked = JSON.parse(readFileSync(0, "utf8"));
const who = { name: "patchbay-tests", version: "0" };

// where the browser comes back to
const came = Promise.withResolvers();
const landing = createServer((request, response) => {
  response.end("you may close this page");
  came.resolve(new URL(request.url, "http://127.0.0.1").searchParams);
});
await new Promise((done) => landing.listen(0, "127.0.0.1", done));
const redirectUrl = `http://127.0.0.1:${landing.address().port}/callback`;

const state = randomUUID();
const kept = {};
const authProvider = {
  redirectUrl,
  clientMetadata: {
    client_name: "patchbay-tests",
    redirect_uris: [redirectUrl],
    grant_types: ["authorization_code"],
    response_types: ["code"],
    token_endpoint_auth_method: "none",
  },
  state: () => state,
  clientInformation: () => kept.client,
  saveClientInformation: (client) => void (kept.client = client),
  tokens: () => kept.tokens,
  saveTokens: (tokens) => void (kept.tokens = tokens),
  codeVerifier: () => kept.verifier,
  saveCodeVerifier: (verifier) => void (kept.verifier = verifier),
  discoveryState: () => kept.discovery,
  saveDiscoveryState: (discovery) => void (kept.discovery = discovery),
  async redirectToAuthorization(url) {
    const answer = await fetch(url, { headers: { cookie: asked.cookie }, redirect: "manual" });
    const back = answer.headers.get("location");
    if (!back) throw new Error(`the login answered ${answer.status}: ${await answer.text()}`);
    await (await fetch(back)).text();
  },
};

async function parts() {
  if (asked.client === "sdk") {
    const { Client } = await load("@modelcontextprotocol/sdk/client/index.js");
    const { StreamableHTTPClientTransport } = await load("@modelcontextprotocol/sdk/client/streamableHttp.js");
    const { UnauthorizedError } = await load("@modelcontextprotocol/sdk/client/auth.js");
    return { make: () => new Client(who), StreamableHTTPClientTransport, UnauthorizedError };
  }
  const { Client, StreamableHTTPClientTransport, UnauthorizedError } = await load("@modelcontextprotocol/client");
  const make = () => new Client(who, { versionNegotiation: { mode: "auto" } });
  return { make, StreamableHTTPClientTransport, UnauthorizedError };
}

const { make, StreamableHTTPClientTransport, UnauthorizedError } = await parts();
const transport = () => new StreamableHTTPClientTransport(new URL(asked.url), { authProvider });

const first = transport();
try {
  await make().connect(first);
  throw new Error("it was let in without a credential");
} catch (error) {
  if (!(error instanceof UnauthorizedError)) throw error;
}
const brought = await came.promise;
landing.close();
if (brought.get("state") !== state) throw new Error(`not the state of this login: ${brought}`);
// the newer one takes all that came back, and looks who it is from
await first.finishAuth(asked.client === "sdk" ? brought.get("code") : brought);

const client = make();
await client.connect(transport());
const tools = (await client.listTools()).tools.map((tool) => tool.name);
const { content } = await client.callTool({ name: asked.tool, arguments: asked.arguments });
const results = [{ text: content.map((part) => part.text ?? "").join("\n") }];
const protocol = client.getNegotiatedProtocolVersion?.() ?? client.transport?.protocolVersion ?? "";
await client.close();
process.stdout.write(JSON.stringify({ protocol, tools, results }), () => process.exit(0));
