//! The client that the suite watches: the TypeScript SDK, doing what each scenario waits for and nothing else.
//!
//! `MCP_CONFORMANCE_SCENARIO=<scenario> node typescript.mjs URL`; the suite sets the variables and adds the URL.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

const scenario = process.env.MCP_CONFORMANCE_SCENARIO;
const modern = process.env.MCP_CONFORMANCE_PROTOCOL_VERSION === '2026-07-28';
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? '{}');
const url = process.argv.at(-1);

const call = (client, name, args = {}) => client.callTool({ name, arguments: args });

/** What is done once the client is connected and has listed the tools. */
const AFTERWARDS = {
  initialize: async () => {},
  'auth/client-credentials-basic': async () => {},
  tools_call: client => call(client, 'add_numbers', { a: 5, b: 3 }),
  'request-metadata': async () => {},
  'elicitation-sep1034-client-defaults': client => call(client, 'test_client_elicitation_defaults'),
  'sse-retry': client => call(client, 'test_reconnection'),
  'sep-2322-client-request-state': async client => {
    for (const name of ['test_mrtr_echo_state', 'test_mrtr_no_state', 'test_mrtr_unrelated']) await call(client, name);
    // The SDK may refuse this answer; what counts is that it does not ask again.
    await call(client, 'test_mrtr_no_result_type').catch(() => {});
  },
  'http-standard-headers': async (client, tools) => {
    await call(client, tools[0].name);
    const { resources } = await client.listResources();
    await client.readResource({ uri: resources[0].uri });
    const { prompts } = await client.listPrompts();
    await client.getPrompt({ name: prompts[0].name, arguments: {} });
  },
  'http-custom-headers': async client => {
    for (const { name, arguments: args } of context.toolCalls) await call(client, name, args);
  },
  'http-invalid-tool-headers': async (client, tools) => {
    for (const { name } of tools) await call(client, name, { region: 'us-west1' }).catch(() => {});
  },
  'json-schema-ref-no-deref': async () => {},
  'json-schema-2020-12-preservation': (client, tools) =>
    call(client, 'json_schema_echo', {
      schema: tools.find(tool => tool.name === 'json_schema_2020_12_tool').inputSchema,
    }),
};

/** What the client declares, and how it answers when it is asked. */
const ASKED = {
  'request-metadata': { capabilities: { roots: { listChanged: true }, sampling: {}, elicitation: {} } },
  'elicitation-sep1034-client-defaults': { capabilities: { elicitation: { form: { applyDefaults: true } } }, content: {} },
  'sep-2322-client-request-state': { capabilities: { elicitation: {} }, content: { confirmed: true } },
};

const { capabilities = {}, content } = ASKED[scenario] ?? {};
const client = new Client(
  { name: 'ostler-conformance-client', version: '1.0.0' },
  { capabilities, ...(modern && { versionNegotiation: { mode: 'auto' } }) },
);
if (content !== undefined) client.setRequestHandler('elicitation/create', () => ({ action: 'accept', content }));
await client.connect(new StreamableHTTPClientTransport(new URL(url)));
const { tools } = scenario === 'request-metadata' ? { tools: [] } : await client.listTools();
await AFTERWARDS[scenario](client, tools);
await client.close();
process.exit(0);
