//! A small server on the TypeScript SDK's second generation, over HTTP or stdio, that speaks the modern era alone.
//! `kit.mjs (http|stdio)`; over HTTP it says its address as `interop-listening 127.0.0.1:N`.
//!
//! It owns what the server offers; everything on the wire is the SDK's. `kit.py` offers the same.
import { createServer } from 'node:http';
import { setTimeout as wait } from 'node:timers/promises';

import { toNodeHandler } from '@modelcontextprotocol/node';
import { McpServer, ResourceTemplate, createMcpHandler, fromJsonSchema, inputRequired } from '@modelcontextprotocol/server';
import { serveStdio } from '@modelcontextprotocol/server/stdio';

const object = (properties, required = Object.keys(properties)) => ({ type: 'object', properties, required });
const said = text => ({ content: [{ type: 'text', text }] });

function build() {
  const server = new McpServer({ name: 'kit', version: '1' });
  const tool = (name, properties, answer) =>
    server.registerTool(name, { inputSchema: fromJsonSchema(object(properties)) }, answer);
  tool('echo', { message: { type: 'string' } }, ({ message }) => said(`Echo: ${message}`));
  tool('count', { to: { type: 'integer' } }, async ({ to }, { mcpReq }) => {
    if (to < 0) throw new Error(`cannot count to ${to}`);
    const progressToken = mcpReq._meta?.progressToken;
    for (let progress = 1; progress <= to; progress++) {
      if (progressToken !== undefined) {
        await mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress, total: to } });
      }
      await wait(300);
    }
    return said(`counted to ${to}`);
  });
  tool('ask', {}, (_, { mcpReq }) => {
    const answer = mcpReq.inputResponses?.who;
    if (answer?.action === 'accept') return said(`answered ${answer.content.name}`);
    const requestedSchema = object({ name: { type: 'string' }, check: { type: 'boolean' } });
    const params = { mode: 'form', message: 'Who is there?', requestedSchema };
    return inputRequired({ inputRequests: { who: { method: 'elicitation/create', params } } });
  });
  server.registerResource('greeting', new ResourceTemplate('kit://greeting/{name}', { list: undefined }), {}, (uri, { name }) => ({
    contents: [{ uri: uri.href, mimeType: 'text/plain', text: `Grüß Gott, ${name}` }],
  }));
  const argsSchema = fromJsonSchema(object({ name: { type: 'string' } }));
  server.registerPrompt('greet', { argsSchema }, ({ name }) => ({
    messages: [{ role: 'user', content: { type: 'text', text: `Say hello to ${name}.` } }],
  }));
  return server;
}

if (process.argv[2] === 'stdio') {
  serveStdio(build, { legacy: 'reject' });
} else {
  const handler = createMcpHandler(build, { legacy: 'reject' });
  const listener = createServer(toNodeHandler(handler)).listen(0, '127.0.0.1', () => {
    process.stderr.write(`interop-listening 127.0.0.1:${listener.address().port}\n`);
  });
}
