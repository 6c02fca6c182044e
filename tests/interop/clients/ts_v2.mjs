//! The TypeScript SDK's second generation, `@modelcontextprotocol/client`: legacy as it comes, and both eras with
//! `versionNegotiation`. It owns how that SDK connects, calls and ends; what is checked is in `ts_checks.mjs`.
import { Client, SSEClientTransport, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { main } from './ts_checks.mjs';

await main({
  async connect(mount, variant, hooks) {
    const options = { capabilities: hooks.capabilities };
    if (variant === 'auto') options.versionNegotiation = { mode: 'auto' };
    const client = new Client({ name: 'interop-ts-v2', version: '1' }, options);
    client.setRequestHandler('sampling/createMessage', async request => hooks.sample(request.params));
    client.setRequestHandler('elicitation/create', async () => hooks.elicit());
    client.setRequestHandler('roots/list', async () => hooks.roots());
    const transport = transportTo(mount);
    await client.connect(transport);
    return { client, transport, sessionId: () => transport.sessionId };
  },
  call: (client, name, args, options) => client.callTool({ name, arguments: args }, options),
  version: client => client.getNegotiatedProtocolVersion(),
  async end({ client, transport }) {
    if (transport.sessionId !== undefined) await transport.terminateSession();
    await client.close();
  },
});

function transportTo(mount) {
  if (mount.sse) return new SSEClientTransport(new URL(mount.sse));
  if (mount.stdio) return new StdioClientTransport({ ...mount.stdio, stderr: 'ignore' });
  return new StreamableHTTPClientTransport(new URL(mount.url));
}
