//! The checks that every TypeScript client makes, whatever the SDK's generation. It owns what is asked of a
//! server and what must come back; connecting, and each SDK's own calling conventions, are the adapter's.
//! It must never pass a check that it did not make: a step that throws is reported as failed, by name.
//!
//! An adapter is `{connect(mount, hooks), call(client, name, args, options), version(client), end(connection)}`.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

const INTERLEAVED_CALLS = 20;
const LONG_CALL = { duration: 1.2, steps: 4 };
const LONG_CALL_STREAMED_MS_MIN = 300;

export async function main(adapter) {
  const plan = JSON.parse(readFileSync(process.argv[2], 'utf8'));
  for (const pair of plan.pairs) await checkPair(adapter, plan, pair);
  if (plan.unknown) {
    await check('unknown mount is refused', async () => {
      await assert.rejects(adapter.connect(plan.unknown, plan.variant, hooks(plan)));
    });
  }
  print({ done: true });
  process.exit(0);
}

// === two connections, open and busy at the same time ===

async function checkPair(adapter, plan, pair) {
  const title = pair.join(' + ');
  const sides = pair.map((name, index) => ({
    name,
    label: `${title}: ${name}${pair[0] === pair[1] ? `#${index + 1}` : ''}`,
    mount: plan.mounts[name],
  }));

  await Promise.all(sides.map(async side => {
    await check(`${side.label}: connect`, async () => {
      side.connection = await adapter.connect(side.mount, plan.variant, hooks(plan));
      side.client = side.connection.client;
      assert.equal(adapter.version(side.client), side.mount.version);
    });
  }));
  if (sides.some(side => side.client === undefined)) return;

  await Promise.all(sides.map(side => CHECKS[side.mount.kind](adapter, plan, side)));

  await check(`${title}: calls on both at once`, async () => {
    const calls = sides.flatMap((side, index) =>
      Array.from({ length: INTERLEAVED_CALLS }, (_, n) => PROBES[side.mount.kind](adapter, plan, side, n, index)));
    await Promise.all(calls);
  });

  await Promise.all(sides.map(async side => {
    await check(`${side.label}: end`, async () => {
      const session = side.connection.sessionId();
      await adapter.end(side.connection);
      if (side.mount.url === undefined || side.mount.version > '2025-11-25') return;
      assert.ok(session, 'a legacy session has an id');
      const status = await statusOfEndedSession(side.mount, session);
      assert.equal(status, plan.ended_session_status ?? status);
    });
  }));
}

async function statusOfEndedSession(mount, session) {
  const response = await fetch(mount.url, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'mcp-session-id': session,
      'mcp-protocol-version': mount.version,
    },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list', params: {} }),
  });
  await response.text();
  return response.status;
}

// === what each server must answer ===

const CHECKS = {
  async everything(adapter, plan, side) {
    const { client, label } = side;
    // Whether the server can ask this of the client, through whatever is between them.
    const asks = what => side.mount.asks.includes(what);
    await check(`${label}: list tools`, async () => {
      const samples = asks('sampling') ? ['trigger-sampling-request'] : [];
      await assertTools(plan, side, ['echo', 'get-sum', 'trigger-long-running-operation', ...samples]);
    });
    await check(`${label}: echo`, async () => {
      const message = `${plan.tag} ünï→ "quoted" \\ \u2028 end`;
      assert.equal(text(await call(adapter, side, 'echo', { message })), `Echo: ${message}`);
    });
    await check(`${label}: get-sum`, async () => {
      assert.equal(text(await call(adapter, side, 'get-sum', { a: 40, b: 2.5 })), 'The sum of 40 and 2.5 is 42.5.');
    });
    await check(`${label}: progress as it happens`, async () => {
      const seen = [];
      const onprogress = progress => seen.push({ at: performance.now(), ...progress });
      const result = await call(adapter, side, 'trigger-long-running-operation', LONG_CALL, { onprogress });
      assert.match(text(result), /completed\. Duration: 1\.2 seconds, Steps: 4/);
      assert.ok(seen.length >= heard(side.mount, 3), `${seen.length} of 4 came`);
      assert.deepEqual(seen.map(p => [p.progress, p.total]), [1, 2, 3, 4].slice(0, seen.length).map(n => [n, 4]));
      assert.ok(performance.now() - seen[0].at >= LONG_CALL_STREAMED_MS_MIN, 'progress came with the result, not before it');
    });
    await check(`${label}: tool error`, async () => {
      const result = await call(adapter, side, 'get-sum', { a: 'not a number', b: 1 });
      assert.equal(result.isError, true);
      assert.match(text(result), /-32602/);
    });
    await check(`${label}: protocol error`, async () => {
      const refused = await client.readResource({ uri: uriOf(side, 'demo://no/such/thing') }).then(() => undefined, error => error);
      assert.equal(refused?.code, -32602, String(refused));
      assert.match(refused.message, /demo:\/\/no\/such\/thing/);
    });
    await check(`${label}: read resource`, async () => {
      const { contents } = await client.readResource({ uri: uriOf(side, 'demo://resource/dynamic/text/7') });
      assert.match(contents[0].text, /^Resource 7: This is a plaintext resource/);
    });
    await check(`${label}: get prompt`, async () => {
      const { messages } = await client.getPrompt({ name: named(side, 'args-prompt'), arguments: { city: 'Ulm', state: 'BW' } });
      assert.equal(messages[0].content.text, "What's weather in Ulm, BW?");
    });
    if (asks('sampling')) await check(`${label}: server asks the client: sampling`, async () => {
      const result = await call(adapter, side, 'trigger-sampling-request', { prompt: plan.tag, maxTokens: 5 });
      assert.match(text(result), new RegExp(`sampled for: .*${plan.tag}`));
    });
    if (asks('elicitation')) await check(`${label}: server asks the client: elicitation`, async () => {
      const result = await call(adapter, side, 'trigger-elicitation-request', {});
      assert.ok(result.content.some(part => part.text?.includes(`elicited ${plan.tag}`)), JSON.stringify(result.content));
    });
    if (asks('roots')) await check(`${label}: server asks the client: roots`, async () => {
      const result = await call(adapter, side, 'get-roots-list', {});
      assert.match(text(result), new RegExp(`root of ${plan.tag}`));
    });
  },

  async kit(adapter, plan, side) {
    const { client, label } = side;
    await check(`${label}: list tools`, () => assertTools(plan, side, ['echo', 'count', 'ask']));
    await check(`${label}: echo`, async () => {
      const message = `${plan.tag} ünï→ "quoted" \\ \u2028 end`;
      assert.equal(text(await call(adapter, side, 'echo', { message })), `Echo: ${message}`);
    });
    await check(`${label}: progress as it happens`, async () => {
      const seen = [];
      const onprogress = progress => seen.push([progress.progress, progress.total]);
      assert.equal(text(await call(adapter, side, 'count', { to: 3 }, { onprogress })), 'counted to 3');
      assert.ok(seen.length >= heard(side.mount, 2), `${seen.length} of 3 came`);
      assert.deepEqual(seen, [[1, 3], [2, 3], [3, 3]].slice(0, seen.length));
    });
    await check(`${label}: tool error`, async () => {
      const result = await call(adapter, side, 'count', { to: -1 });
      assert.equal(result.isError, true);
      assert.match(text(result), /cannot count to -1/);
    });
    await check(`${label}: read resource`, async () => {
      const { contents } = await client.readResource({ uri: uriOf(side, 'kit://greeting/Ulm') });
      assert.equal(contents[0].text, 'Grüß Gott, Ulm');
    });
    await check(`${label}: get prompt`, async () => {
      const { messages } = await client.getPrompt({ name: named(side, 'greet'), arguments: { name: 'Ulm' } });
      assert.equal(messages[0].content.text, 'Say hello to Ulm.');
    });
    if (side.mount.asks.includes('elicitation')) await check(`${label}: server asks the client: elicitation`, async () => {
      assert.equal(text(await call(adapter, side, 'ask', {})), `answered elicited ${plan.tag}`);
    });
  },

  async files(adapter, plan, side) {
    const { client, label } = side;
    await check(`${label}: list tools`, () => assertTools(plan, side, ['list_directory', 'read_text_file']));
    await check(`${label}: list_directory`, async () => {
      const listing = text(await call(adapter, side, 'list_directory', { path: plan.files.dir }));
      for (const name of plan.files.names) assert.ok(listing.includes(`[FILE] ${name}`), listing);
    });
    await check(`${label}: read_text_file`, () => PROBES.files(adapter, plan, side, 0));
    await check(`${label}: large read_text_file`, async () => {
      const content = text(await call(adapter, side, 'read_text_file', { path: plan.files.large }));
      assert.equal(createHash('sha256').update(content).digest('hex'), plan.files.large_sha256);
    });
    await check(`${label}: tool error`, async () => {
      const result = await call(adapter, side, 'read_text_file', { path: plan.files.outside });
      assert.equal(result.isError, true);
      assert.match(text(result), /Access denied/);
    });
  },

  async memory(adapter, plan, side) {
    const { client, label } = side;
    const entity = { name: `${plan.tag} mare`, entityType: 'horse', observations: ['likes oats'] };
    await check(`${label}: list tools`, () => assertTools(plan, side, ['create_entities', 'read_graph']));
    await check(`${label}: create_entities`, async () => {
      await call(adapter, side, 'create_entities', { entities: [entity] });
    });
    await check(`${label}: read_graph`, async () => {
      const { entities } = JSON.parse(text(await call(adapter, side, 'read_graph', {})));
      assert.deepEqual(entities.filter(e => e.name === entity.name).map(e => e.observations), [entity.observations]);
    });
  },

  async time(adapter, plan, side) {
    const { client, label } = side;
    await check(`${label}: list tools`, () => assertTools(plan, side, ['get_current_time', 'convert_time']));
    await check(`${label}: get_current_time`, async () => {
      const now = JSON.parse(text(await call(adapter, side, 'get_current_time', { timezone: 'Asia/Tokyo' })));
      assert.equal(now.timezone, 'Asia/Tokyo');
      assert.ok(Math.abs(Date.parse(now.datetime) - Date.now()) < 60_000, now.datetime);
    });
    await check(`${label}: tool error`, async () => {
      const result = await call(adapter, side, 'get_current_time', { timezone: 'Atlantis/Capital' });
      assert.equal(result.isError, true);
      assert.match(text(result), /Atlantis/);
    });
    await check(`${label}: protocol error`, async () => {
      const refused = await call(adapter, side, 'no_such_tool', {}).then(() => undefined, error => error);
      assert.equal(refused?.code, -32602, String(refused));
    });
  },
};

/**
 * How many of the messages of progress must be heard. The SDKs hear a response before the notifications that they have read
 * in the same piece, and no progress after it: the last one is sent right before the result, and over HTTP+SSE, where all
 * events of a piece are handled at once, a client that was kept waiting for its core loses whatever came meanwhile.
 */
function heard(mount, most) {
  return mount.sse ? 1 : most;
}

/** Calls whose answer depends on `n`, so that an answer that went to another call or session is noticed. */
const PROBES = {
  async everything(adapter, plan, side, n, index) {
    const message = `${plan.tag}/${index}/${n}`;
    assert.equal(text(await call(adapter, side, 'echo', { message })), `Echo: ${message}`);
  },
  async kit(adapter, plan, side, n, index) {
    await PROBES.everything(adapter, plan, side, n, index);
  },
  async files(adapter, plan, side, n) {
    const name = plan.files.names[n % plan.files.names.length];
    const path = `${plan.files.dir}/${name}`;
    assert.equal(text(await call(adapter, side, 'read_text_file', { path })), `content of ${name}\n`);
  },
  async memory(adapter, plan, side, n) {
    const name = n % 2 ? `${plan.tag} mare` : `${plan.tag} nobody ${n}`;
    const { entities } = JSON.parse(text(await call(adapter, side, 'open_nodes', { names: [name] })));
    assert.equal(entities.length, n % 2);
  },
  async time(adapter, plan, side, n, index) {
    const minute = String(n + 30 * index).padStart(2, '0');
    const result = await call(adapter, side, 'convert_time',
      { source_timezone: 'UTC', time: `12:${minute}`, target_timezone: 'Asia/Tokyo' });
    assert.match(JSON.parse(text(result)).target.datetime, new RegExp(`T21:${minute}:00`));
  },
};

/** What the client answers when a server asks it something. */
function hooks(plan) {
  return {
    capabilities: { sampling: {}, elicitation: { form: {} }, roots: {} },
    sample: params => ({
      model: 'interop', role: 'assistant', stopReason: 'endTurn',
      content: { type: 'text', text: `sampled for: ${params.messages[0].content.text}` },
    }),
    elicit: () => ({ action: 'accept', content: { name: `elicited ${plan.tag}`, check: true } }),
    roots: () => ({ roots: [{ uri: 'file:///interop', name: `root of ${plan.tag}` }] }),
  };
}

async function assertTools(plan, side, wanted) {
  const names = await toolsOf(side.client);
  for (const name of wanted.map(name => named(side, name))) assert.ok(names.includes(name), `${name} is not among ${names}`);
  if (plan.listed !== null) assert.deepEqual(names.sort(), plan.listed);
}

/** Of all pages: one generation of the SDK reads them by itself, the other as it is told. */
async function toolsOf(client) {
  const names = [];
  let cursor;
  do {
    const page = await client.listTools(cursor === undefined ? undefined : { cursor });
    names.push(...page.tools.map(tool => tool.name));
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  return names;
}

function call(adapter, side, name, args, options) {
  return adapter.call(side.client, named(side, name), args, options);
}

/** What a tool or prompt of the server is called here. */
function named(side, name) {
  return side.mount.member === null ? name : `${side.mount.member}__${name}`;
}

function uriOf(side, uri) {
  return side.mount.member === null ? uri : uri.replace('://', `://${side.mount.member}/`);
}

function text(result) {
  return result.content.map(part => part.text ?? '').join('');
}

// === report ===

async function check(name, body) {
  try {
    await body();
    print({ check: name, ok: true });
  } catch (error) {
    print({ check: name, ok: false, detail: `${error?.name}: ${error?.message}`.slice(0, 2000) });
  }
}

function print(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}
