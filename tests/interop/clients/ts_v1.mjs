//! The TypeScript SDK's first generation, `@modelcontextprotocol/sdk`: legacy only.
//! It owns how that SDK connects, calls and ends; what is checked is in `ts_checks.mjs`.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import {
  CreateMessageRequestSchema, ElicitRequestSchema, ListRootsRequestSchema,
} from '@modelcontextprotocol/sdk/types.js';
import { main } from './ts_checks.mjs';

await main({
  async connect(mount, _variant, hooks) {
    const client = new Client({ name: 'interop-ts-v1', version: '1' }, { capabilities: hooks.capabilities });
    client.setRequestHandler(CreateMessageRequestSchema, async request => hooks.sample(request.params));
    client.setRequestHandler(ElicitRequestSchema, async () => hooks.elicit());
    client.setRequestHandler(ListRootsRequestSchema, async () => hooks.roots());
    const transport = transportTo(mount);
    let version;
    const setProtocolVersion = transport.setProtocolVersion?.bind(transport);
    transport.setProtocolVersion = value => { version = value; setProtocolVersion?.(value); };
    await client.connect(transport);
    client.interopVersion = version;
    return { client, transport, sessionId: () => transport.sessionId };
  },
  call: (client, name, args, options) => client.callTool({ name, arguments: args }, undefined, options),
  version: client => client.interopVersion,
  async end({ client, transport }) {
    await transport.terminateSession?.();
    await client.close();
  },
});

function transportTo(mount) {
  if (mount.sse) return new SSEClientTransport(new URL(mount.sse));
  if (mount.stdio) return new StdioClientTransport({ ...mount.stdio, stderr: 'ignore' });
  return new StreamableHTTPClientTransport(new URL(mount.url));
}
