// Uses an MCP server through one of the official clients for TypeScript, and reports what came back, as JSON.
//
// Standard input holds {"client", "url", "headers", "calls": [{"tool", "arguments"}], "between", "endless",
// "announce"}; before each call but the first it gets the URL `between`, where one is told. The clients: `sdk`
// (@modelcontextprotocol/sdk), `client` and `client-auto` (@modelcontextprotocol/client with a session, and negotiating),
// `sdk-sse` and `client-sse` (the same two by the transport of 2024), and `mcp-remote` under a stdio client. Standard output gets {"protocol", "tools": [name], "results": [{"text"}],
// "progressed", "announced"}: whether a call of the tool `endless`, which never answers, told of its progress before it
// was given up, and whether what is said beside every answer, while the tool `announce` runs, came on the session's own
// stream.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// the packages lie where they were installed, not beside this file
const require = createRequire(`${process.cwd()}/calls.mjs`);
const load = (name) => import(pathToFileURL(require.resolve(name)));

const asked = JSON.parse(readFileSync(0, "utf8"));
const who = { name: "patchbay-tests", version: "0" };
const http = { requestInit: { headers: asked.headers } };

async function connected() {
  if (asked.client.startsWith("client")) {
    const { Client, SSEClientTransport, StreamableHTTPClientTransport } = await load("@modelcontextprotocol/client");
    const options = asked.client === "client-auto" ? { versionNegotiation: { mode: "auto" } } : {};
    const client = new Client(who, options);
    const Transport = asked.client === "client-sse" ? SSEClientTransport : StreamableHTTPClientTransport;
    await client.connect(new Transport(new URL(asked.url), http));
    return { client, call: (call, options) => client.callTool(call, options) };
  }
  const { Client } = await load("@modelcontextprotocol/sdk/client/index.js");
  const client = new Client(who);
  await client.connect(await transport());
  return { client, call: (call, options) => client.callTool(call, undefined, options) };
}

async function transport() {
  if (asked.client === "sdk") {
    const { StreamableHTTPClientTransport } = await load("@modelcontextprotocol/sdk/client/streamableHttp.js");
    return new StreamableHTTPClientTransport(new URL(asked.url), http);
  }
  if (asked.client === "sdk-sse") {
    const { SSEClientTransport } = await load("@modelcontextprotocol/sdk/client/sse.js");
    return new SSEClientTransport(new URL(asked.url), http);
  }
  const { StdioClientTransport } = await load("@modelcontextprotocol/sdk/client/stdio.js");
  const headers = Object.entries(asked.headers).flatMap(([name, value]) => ["--header", `${name}:${value}`]);
  const proxy = "node_modules/mcp-remote/dist/proxy.js";
  const args = [proxy, asked.url, "--allow-http", "--transport", "http-only", ...headers];
  return new StdioClientTransport({ command: process.execPath, args, env: { ...process.env } });
}

async function progresses(call) {
  const given = new AbortController();
  let progressed = false;
  const onprogress = () => {
    progressed = true;
    given.abort();
  };
  try {
    await call(asked.endless, { onprogress, signal: given.signal, timeout: 60_000 });
  } catch (error) {
    if (!progressed) throw error;
  }
  return progressed;
}

async function announces(client, call) {
  const given = new AbortController();
  let announced = false;
  client.fallbackNotificationHandler = async ({ method }) => {
    if (method === "notifications/tools/list_changed") {
      announced = true;
      given.abort();
    }
  };
  try {
    await call({ name: asked.announce, arguments: {} }, { signal: given.signal, timeout: 60_000 });
  } catch (error) {
    if (!announced) throw error;
  }
  return announced;
}

const { client, call } = await connected();
const results = [];
const tools = (await client.listTools()).tools.map((tool) => tool.name);
for (const one of asked.calls) {
  if (results.length > 0 && asked.between) await fetch(asked.between);
  const { content } = await call({ name: one.tool, arguments: one.arguments });
  results.push({ text: content.map((part) => part.text ?? "").join("\n") });
}
const progressed = asked.endless ? await progresses(call) : false;
const announced = asked.announce ? await announces(client, call) : false;
const protocol = client.getNegotiatedProtocolVersion?.() ?? client.transport?.protocolVersion ?? "";
// a program that it started does not outlive it
await client.close();
process.stdout.write(JSON.stringify({ protocol, tools, results, progressed, announced }), () => process.exit(0));
