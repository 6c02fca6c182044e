//! Every limit of the product, with its unit last in the name and the reason for its size. Nowhere else may a size,
//! count or time be invented.

use std::time::Duration;

// Config and distribution.

/// One config document. Ten thousand mounts take about 1.5 MiB; the rest is room for comments.
pub const CONFIG_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Nesting of a config document. The schema needs eight levels.
pub const CONFIG_DEPTH_MAX: usize = 64;
/// Values in a config document after aliases are expanded: what a full-size document can hold honestly.
pub const CONFIG_NODES_MAX: usize = 1_000_000;
/// Diagnostics kept for one candidate; a document of noise must not answer with a document of complaints.
pub const DIAGNOSTICS_MAX: usize = 200;
/// One message of the sync stream: a full config document plus its envelope.
pub const SYNC_MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Parts of one snapshot: 10 000 upstreams, as many explicit mounts, and room.
pub const SNAPSHOT_PARTS_MAX: usize = 32_768;
/// Around the content of one part: kind, name, checksum and lengths.
const PART_ENVELOPE_BYTES_MAX: usize = 256;
const _: () =
    assert!(CONFIG_BYTES_MAX + SNAPSHOT_PARTS_MAX * PART_ENVELOPE_BYTES_MAX < SYNC_MESSAGE_BYTES_MAX);

// Resources of a config document.

/// Entries of `upstreams`, and of `mounts`: what a fleet of the largest size that is planned for needs.
pub const CONFIG_RESOURCES_MAX: usize = 10_000;
/// Entries of `listeners`: each is a socket on every traffic worker, with connections of its own.
pub const CONFIG_LISTENERS_MAX: usize = 64;
/// Entries of `bundles`: each is read and judged with every version, and has sessions and a cache of lists.
pub const CONFIG_BUNDLES_MAX: usize = 256;
/// Mounts of one bundle: each is asked for its lists at once, on behalf of one client.
pub const BUNDLE_MOUNTS_MAX: usize = 256;
/// Rules of a policy. Each costs every call something, but for those of a literal name.
pub const POLICY_RULES_MAX: usize = 4_096;
/// Patterns, or names, that one key of a rule may list.
pub const POLICY_PATTERNS_MAX: usize = 256;
/// A pattern, a rule's name, the name of an environment. Longer than the names of any tools.
pub const POLICY_TEXT_BYTES_MAX: usize = 512;
/// The name of a tool or prompt, a URI, or a method that rules are asked about: longer than any that means something. Longer ones are denied.
pub const POLICY_TARGET_BYTES_MAX: usize = 8 * 1024;
/// Tools of one mount whose annotations are known. Others count as destructive.
pub const POLICY_TOOLS_MAX: usize = 10_000;
/// The first pause before a mount is asked again for its tools, and the longest.
pub const POLICY_TOOLS_RETRY_BASE: Duration = Duration::from_millis(250);
/// See [`POLICY_TOOLS_RETRY_BASE`].
pub const POLICY_TOOLS_RETRY_CAP: Duration = Duration::from_secs(30);
/// How long what a server's tools say of themselves is believed before it is asked again: not every server says when they change.
pub const POLICY_TOOLS_FRESH_MAX: Duration = Duration::from_secs(5 * 60);
/// Tests of fields that one rule may have.
pub const POLICY_FIELDS_MAX: usize = 64;
/// A compiled regular expression. Enough for long alternatives and classes of Unicode, too little for nested repetitions.
pub const POLICY_REGEX_BYTES_MAX: usize = 256 * 1024;
/// Text that a regular expression reads at all. What that may take is counted as steps, by [`POLICY_REGEX_TRIES_PER_STEP`]. Longer text denies.
pub const POLICY_MATCHED_BYTES_MAX: usize = 1024 * 1024;
/// An expression. Long enough for a dozen conditions.
pub const POLICY_EXPRESSION_BYTES_MAX: usize = 2 * 1024;
/// Levels of an expression, so that nothing that goes through it needs much stack.
pub const POLICY_EXPRESSION_DEPTH_MAX: usize = 32;
/// Comprehensions that stand in one another: each multiplies the cost.
pub const POLICY_EXPRESSION_FOLDS_MAX: usize = 2;
/// Steps of one evaluation: a few milliseconds in all, and some ten where a text is made to be hard for a regular expression. An expression that wants more denies.
pub const POLICY_EXPRESSION_STEPS_MAX: u32 = 20_000;
/// Text or JSON that is looked through at the price of one step.
pub const POLICY_EXPRESSION_BYTES_PER_STEP: usize = 256;
/// Places of a regular expression that are tried at the price of one step: all that its repetitions make of it may be tried at each byte, if a
/// text is made for that, for 5 to 20 ns each. `[ab]*a[ab]{2000}` would else take seconds for a megabyte.
pub const POLICY_REGEX_TRIES_PER_STEP: usize = 32;
/// Steps of all rules for one message: enough for fifty in each of as many rules as there may be, some ten milliseconds in all, and at worst
/// some hundred where a text is made to be hard for regular expressions. What wants more denies.
pub const POLICY_MESSAGE_STEPS_MAX: u32 = 200_000;
/// Items of a list that a rule looks through. A longer list denies.
pub const POLICY_ITEMS_MAX: usize = 20_000;
/// What a rule tells who is denied: a few sentences.
pub const POLICY_FEEDBACK_BYTES_MAX: usize = 2 * 1024;
/// `allowed_hosts` of one listener; each is compared with the `Host` of every request.
pub const CONFIG_HOSTS_MAX: usize = 64;
/// Entries of `auth.api_keys`: a key for each agent and harness of a large fleet; found by digest, whatever their number.
pub const CONFIG_API_KEYS_MAX: usize = 10_000;
/// Entries of `auth.issuers`: an organisation has few, and each is asked for its keys.
pub const CONFIG_ISSUERS_MAX: usize = 16;
/// Scopes of one key or mount, and audiences of one issuer: a token that names more does not fit into a header.
pub const CONFIG_SCOPES_MAX: usize = 64;
/// One scope: longer ones do not fit into a challenge.
pub const SCOPE_BYTES_MAX: usize = 256;
/// Entries of `identity.sources`: each is looked at for every request.
pub const CONFIG_IDENTITY_SOURCES_MAX: usize = 8;
/// The name of a caller, as rules, limits and audit records have it.
pub const IDENTITY_BYTES_MAX: usize = 256;
/// Headers of one upstream; servers commonly refuse more than a hundred altogether.
pub const CONFIG_HEADERS_MAX: usize = 64;
/// Arguments, and variables, of one stdio upstream.
pub const CONFIG_ARGS_MAX: usize = 256;
/// One text value of a document, such as a header value or an argument; servers commonly refuse larger headers.
pub const CONFIG_TEXT_BYTES_MAX: usize = 8 * 1024;
/// `limits.in_flight` at most.
pub const CONFIG_IN_FLIGHT_MAX: u32 = 65_535;
/// Any of `timeouts` at least; shorter is a mistaken unit.
pub const CONFIG_TIMEOUT_MIN: Duration = Duration::from_millis(1);
/// Any of `timeouts` at most; longer is a mistaken unit.
pub const CONFIG_TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// A file behind a `${file:…}` reference. Certificate chains are the largest secrets in use.
pub const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;
/// Text of a source line in a diagnostic, in characters around the place that is meant.
pub const SOURCE_LINE_CHARS_MAX: usize = 240;

// Callers.

/// Keys of one issuer: a rotation has a few, and each is tried for a token that names none.
pub const JWKS_KEYS_MAX: usize = 64;
/// An RSA key below 2048 bits is no longer safe (NIST SP 800-131A), and one beyond 8192 makes each verification cost a millisecond.
pub const RSA_MODULUS_BYTES_MIN: usize = 256;
/// See [`RSA_MODULUS_BYTES_MIN`].
pub const RSA_MODULUS_BYTES_MAX: usize = 1024;
/// A key set that is fetched.
pub const JWKS_BYTES_MAX: usize = 256 * 1024;
/// Key sets on disk: those of a whole config, and as many of configs that may come back.
pub const JWKS_FILES_MAX: usize = 2 * CONFIG_ISSUERS_MAX;
/// For one fetch of a key set, connection and all; nobody waits for it.
pub const JWKS_FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Between fetches of a key set: a key that its issuer took back is good for no longer.
pub const JWKS_REFRESH: Duration = Duration::from_secs(5 * 60);
/// Between fetches that unknown keys ask for: forged tokens must not make a flood of them.
pub const JWKS_REFETCH_MIN: Duration = Duration::from_secs(10);
/// After fetches that failed, growing from the one to the other.
pub const JWKS_RETRY_BASE: Duration = Duration::from_secs(1);
/// See [`JWKS_RETRY_BASE`].
pub const JWKS_RETRY_CAP: Duration = Duration::from_secs(60);
/// Tokens of one issuer whose signature need not be verified again; about 2 KiB each.
pub const TOKENS_VERIFIED_MAX: usize = 4096;
/// What clocks of issuers and data planes may differ.
pub const TOKEN_LEEWAY: Duration = Duration::from_secs(30);
/// How long a stream goes on at the most before its credential is judged again by the clock, which may have been set.
pub const STANDING_REVIEW: Duration = Duration::from_secs(60);
/// For how long a session waits for its principal to come with another token once the last one has expired.
pub const SESSION_TOKEN_GRACE: Duration = Duration::from_secs(60 * 60);
/// For one fetch of a token for an upstream, connection and all; nobody waits for it.
pub const OAUTH_FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// What an authorization server answers with a token.
pub const OAUTH_ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Of a token whose life its server does not say (RFC 6749 section 5.1 recommends it).
pub const OAUTH_LIFETIME_UNSAID: Duration = Duration::from_secs(5 * 60);
/// Between fetches of a token, however short its life and however often it is refused.
pub const OAUTH_REFETCH_MIN: Duration = Duration::from_secs(10);
/// After fetches that failed, growing from the one to the other.
pub const OAUTH_RETRY_BASE: Duration = Duration::from_secs(1);
/// See [`OAUTH_RETRY_BASE`].
pub const OAUTH_RETRY_CAP: Duration = Duration::from_secs(60);
/// What a probe waits for the first token; it has to leave time for itself.
pub const OAUTH_SETTLE: Duration = Duration::from_millis(1_000);

/// The value of an `Authorization` header: tokens with the groups of a large organisation have 8 KiB, and a head holds no more.
pub const CREDENTIAL_BYTES_MAX: usize = 16 * 1024;

// The sync stream.

/// How long control waits for `hello` on a new stream.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// HTTP/2 keepalive on the sync stream: ping and answer together find a half-open stream within 30 s.
pub const SYNC_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// See [`SYNC_KEEPALIVE_INTERVAL`].
pub const SYNC_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const _: () = assert!(SYNC_KEEPALIVE_INTERVAL.as_secs() + SYNC_KEEPALIVE_TIMEOUT.as_secs() <= 30);
/// How long a data plane waits for control to take its call once connected; a control that has hung is left.
pub const SYNC_OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long either end waits for the other to take a message that must not be lost; then the stream is left.
pub const SYNC_SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// One message of a data plane: the states of twice as many mounts as a document can name, or every diagnostic at length.
pub const NODE_MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Messages of one stream that either end takes at once; beyond it they are read at [`SYNC_MESSAGE_INTERVAL`]. A version that
/// is applied and the answer to it do not count: an operator's pushes are not slowed down, only talk that changes nothing.
pub const SYNC_MESSAGE_BURST_MAX: u32 = 64;
/// See [`SYNC_MESSAGE_BURST_MAX`]. An honest data plane says at most a handful a second.
pub const SYNC_MESSAGE_INTERVAL: Duration = Duration::from_millis(50);
/// Messages of a data plane that wait to be sent: status is dropped when there are so many, acks wait.
pub const SYNC_OUTBOX_MAX: usize = 32;
/// Snapshots of one stream whose nonces a data plane remembers: several times those that control still takes an answer to.
pub const SYNC_NONCES_MAX: usize = 16;
/// Snapshots of one stream whose answers control still takes: the one under way, and those a slow node was given before it.
pub const SYNC_ANSWERABLE_MAX: usize = 4;
/// How long a stream's last word may take to leave: whoever takes nothing any more must not hold it open.
pub const SYNC_LAST_WORD_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a control process that ends may take to send its nodes away before their connections are closed.
pub const SYNC_DRAIN_DEADLINE: Duration = Duration::from_secs(3);
const _: () = assert!(SYNC_LAST_WORD_TIMEOUT.as_secs() < SYNC_DRAIN_DEADLINE.as_secs());
/// A nonce: control counts streams and snapshots in it.
pub const NONCE_BYTES_MAX: usize = 128;
/// How often a data plane reports its status when nothing changes.
pub const STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// How soon a data plane reports that a mount's state has changed.
pub const STATUS_CHANGE_INTERVAL: Duration = Duration::from_millis(250);
/// Reconnect backoff of a data plane: first step.
pub const RECONNECT_BASE: Duration = Duration::from_secs(1);
/// Reconnect backoff of a data plane: cap.
pub const RECONNECT_CAP: Duration = Duration::from_secs(60);
/// A stream that lived this long with an applied config resets the reconnect backoff.
pub const RECONNECT_STABLE_AFTER: Duration = Duration::from_secs(60);
/// Nodes remembered per control process.
pub const NODES_MAX: usize = 10_000;
/// Text of a node's last refusal that control remembers: two hundred diagnostics of ordinary length.
pub const NODE_ERROR_BYTES_MAX: usize = 256 * 1024;
/// Labels of one node.
pub const NODE_LABELS_MAX: usize = 64;
/// Length of one label key or value.
pub const NODE_LABEL_BYTES_MAX: usize = 256;
/// Commands waiting for the store thread; beyond it callers wait.
pub const STORE_QUEUE_MAX: usize = 256;
/// Page cache of control's store: several full-size configs, far below the database's own default of 1 GiB.
pub const STORE_CACHE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Fleets of one store; each costs a history and a place in memory.
pub const FLEETS_MAX: u64 = 1_000;
/// Versions kept per fleet; the audit log still names older ones.
pub const VERSIONS_KEPT_MAX: u64 = 1_000;
/// Audit records kept: at 500 bytes each, half a gigabyte.
pub const AUDIT_RECORDS_MAX: u64 = 1_000_000;
/// The head line of an entry of a backup: a part's kind and name, the longest of which are below 1 KiB.
pub const BACKUP_HEAD_BYTES_MAX: u64 = 16 * 1024;
/// A version, an epoch or a place in the audit log that a backup names: whole numbers that every reader of JSON keeps, and
/// far below where counting on would run over.
pub const BACKUP_NUMBER_MAX: u64 = (1 << 53) - 1;
/// What a backup is sent in.
pub const BACKUP_CHUNK_BYTES: usize = 64 * 1024;
/// How long control waits for whoever takes a backup to take the next piece: meanwhile the store cannot reuse space.
pub const BACKUP_STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// What whoever takes a backup must take on average, but for that wait: a slow line's rate. So a backup of a gigabyte
/// keeps the store from reusing space for little more than an hour, whoever takes it.
pub const BACKUP_BYTES_PER_SECOND_MIN: u64 = 256 * 1024;
/// Closing the store: the commands that wait, then the last sync of its file.
pub const STORE_CLOSE_DEADLINE: Duration = Duration::from_secs(5);
/// Candidates judged at once by control; each may hold a core for a moment.
pub const JUDGING_MAX: usize = 2;
/// How long control waits for the answer to a snapshot before it sends that node a newer one.
pub const SNAPSHOT_ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A control process that ends spreads the return of its nodes over this time.
pub const RECONNECT_SPREAD: Duration = Duration::from_secs(5);
/// Versions one listing returns at most.
pub const LIST_PAGE_MAX: usize = 500;
/// Text of `--message`.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// Quiet time after a file event before the file is read.
pub const WATCH_DEBOUNCE: Duration = Duration::from_millis(250);
/// A file that never stops changing is read at the latest after this.
pub const WATCH_DEBOUNCE_MAX: Duration = Duration::from_secs(5);
/// Between two looks at a watched file, however many events there are: each reads it whole.
pub const WATCH_LOOK_PAUSE: Duration = Duration::from_millis(50);
/// Fallback for file systems without events.
pub const WATCH_POLL: Duration = Duration::from_secs(2);
/// Between the swap and `healthy`, unless `--settle` says otherwise.
pub const SETTLE: Duration = Duration::from_secs(2);
/// Generations of config kept on a data plane's disk.
pub const GENERATIONS_MAX: usize = 3;
/// Configs whose attempts a data plane remembers: more than anybody pushes in vain before looking.
pub const ATTEMPT_MARKS_MAX: usize = 64;
/// A generation from further ahead of the clock than this is reported: no clock is that wrong, and epochs are times.
pub const GENERATION_AHEAD_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// A generation with a higher version is reported: one a second for thirty thousand years.
pub const GENERATION_VERSION_MAX: u64 = 1_000_000_000_000;
/// How long an apply waits for the disk that notes its attempt, and an ack for the one that keeps it. A disk that takes
/// longer counts as failing, and what is served does not wait for it.
pub const DISK_PATIENCE: Duration = Duration::from_secs(5);
/// Warnings about a node's disk that control remembers: every file that can be there, and room.
pub const DISK_WARNINGS_MAX: usize = 16;
/// Between tries to write what a failing disk did not take: first step.
pub const PERSIST_RETRY_BASE: Duration = Duration::from_secs(1);
/// The same: cap.
pub const PERSIST_RETRY_CAP: Duration = Duration::from_secs(30);

// HTTP listeners.

/// Time for a TLS handshake.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time to receive a request's head.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(15);
/// Headers of one request.
pub const HEADERS_MAX: usize = 100;
/// Headers that a map may have room for which goes from an upstream's answer to a client's connection: that keeps it until it ends.
pub const HEADERS_KEPT_MAX: usize = 24;
/// Read buffer of a connection, which is also the largest head: beyond it 431.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Connections of one listener.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Connections of one listener that the system keeps until they are accepted: what a fleet of clients that come back
/// together opens while a traffic worker is busy for a moment.
pub const LISTEN_BACKLOG_MAX: u32 = 1_024;
/// How long a candidate waits for the socket of a listener that the config before it removed: as long as a busy traffic
/// worker may take to let go of it.
pub const LISTENER_CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Backoff of a listener of the last-known-good config whose port is taken: first step.
pub const BIND_RETRY_BASE: Duration = Duration::from_millis(250);
/// The same: cap. A port that becomes free is taken back within this.
pub const BIND_RETRY_CAP: Duration = Duration::from_secs(3);
/// Concurrent HTTP/2 streams of one connection.
pub const H2_STREAMS_MAX: u32 = 256;
/// HTTP/2 keepalive towards clients: long enough not to wake a laptop, short enough that a gone client frees its place.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// See [`KEEPALIVE_INTERVAL`].
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// A client that reads nothing of what is written to it for this long has its connection cut, or over HTTP/2 its stream: longer than a laptop's
/// nap on a train, short enough that it does not hold a mount's place for the whole of `timeouts.total`.
pub const CLIENT_STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// What an HTTP/2 client is handed of an answer at once, one DATA frame of the default size: one that takes less of a stream
/// in [`CLIENT_STALL_TIMEOUT`] leaves it unread.
pub const CLIENT_PIECE_BYTES_MAX: usize = 16 * 1024;
/// What is read of what a client says after it has asked for a stream without an end of its own over HTTP/1.1: a request or two that it sent
/// ahead, which nobody will answer. With who says more the connection ends.
pub const CLIENT_SAID_BYTES_MAX: usize = 16 * 1024;
/// What the HTTP library is handed to write to an HTTP/1.1 client before it has written what it was handed earlier, give or take one piece
/// of an answer.
pub const CLIENT_BACKLOG_BYTES_MAX: usize = 32 * 1024;
/// How long a draining process waits for requests in flight.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(10);
/// After it: time for the error that says so to be written.
pub const DRAIN_CUT_GRACE: Duration = Duration::from_secs(1);
/// A request that pinned the snapshot before a swap may need as long to be counted as one of the mount that the swap removed.
pub const DRAIN_LAST_ARRIVAL: Duration = Duration::from_millis(50);
/// How often a removed upstream is looked at while it finishes its calls: it is idle soon, or not for seconds.
pub const DRAIN_POLL: Duration = Duration::from_millis(50);
/// Between two looks whether what a process serves has changed, for the status line of its service manager.
pub const STATUS_LINE_INTERVAL: Duration = Duration::from_secs(2);
/// How long a thread that serves may take to run a task it is given: far beyond what any load explains, and within the
/// watchdog time of the shipped systemd units.
pub const LIVENESS_TIMEOUT: Duration = Duration::from_secs(5);

// The agent's port.

/// One MCP request body.
pub const MCP_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// All buffered MCP request bodies together, unless `--buffer-bytes` says otherwise.
pub const BUFFER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Parts that `--buffer-bytes` has: one mount's bodies may take one part, so that no single mount, nor three together,
/// leaves its neighbours nothing.
pub const BUFFER_PARTS: usize = 4;
/// Request bodies of one mount being read at once. Each holds a connection for up to [`BODY_READ_TIMEOUT`]; one mount's
/// slow senders must not take all [`CONNECTIONS_MAX`].
pub const BODIES_READ_PER_MOUNT_MAX: usize = 1_024;
/// Messages larger than this are scanned in steps, with everything else on the worker in between, and request bodies
/// also one at a time: a scan of this size takes well below a millisecond, one of the largest 10 to 50.
pub const MESSAGE_SCANNED_AT_ONCE_BYTES_MAX: usize = 128 * 1024;
/// What is scanned of a large message before others get on: a quarter to half of a millisecond at the worst.
pub const MESSAGE_SCAN_STEP_BYTES: usize = 64 * 1024;
/// Time for a client to send its body.
pub const BODY_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// What is read and dropped of a body that was refused for its size, so that its client gets the answer.
pub const BODY_DISCARD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// See [`BODY_DISCARD_BYTES_MAX`].
pub const BODY_DISCARD_TIMEOUT: Duration = Duration::from_secs(2);
/// Nesting of a JSON-RPC message.
pub const JSON_DEPTH_MAX: usize = 64;
/// Nesting of an upstream's answer, which is passed on and not judged: a bit each while it passes.
pub const ANSWER_DEPTH_MAX: usize = 1_024;
/// What is held of an answer before the first of it is passed on, so that a wrong one can still be replaced by an error
/// with the caller's id. Nearly all answers are smaller and are judged whole.
pub const ANSWER_HELD_BYTES_MAX: usize = 64 * 1024;
/// The same of one that announces more than that, and passes in any case: what is no JSON at all shows in it, and one read brings it.
pub const ANSWER_BEGINNING_BYTES_MAX: usize = 16 * 1024;
/// Read buffer of a connection to an upstream, which is also the largest head of an answer. It does not grow: a connection would keep what it grew
/// to, and the memory of the smaller ones before it stays with the process.
pub const ANSWER_READ_BYTES: usize = 32 * 1024;
/// Messages of one 2025-03-26 batch.
pub const BATCH_MESSAGES_MAX: usize = 100;
/// Messages of one batch that are sent up at once where each is sent by itself. The batch has one place among the upstream's
/// calls.
pub const BATCH_AT_ONCE_MAX: usize = 8;
/// A JSON-RPC id or progress token as JSON text; tables keep them while a request is in flight.
pub const MESSAGE_ID_BYTES_MAX: usize = 1024;
/// One SSE event.
pub const SSE_EVENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Session ids that clients hold (visible ASCII).
pub const SESSION_ID_BYTES_MAX: usize = 512;
/// Sessions of one mount.
pub const SESSIONS_PER_MOUNT_MAX: usize = 10_000;
/// Bytes of one body that are passed on at once, whatever else is there. What is larger takes turns with the other large
/// bodies of its worker.
pub const TURN_BYTES_MAX: usize = 128 * 1024;
/// Bytes of large bodies that a traffic worker passes on before everything else on it has a turn: some tenths of a
/// millisecond of a core. A small call waits for a few such rounds, however many large bodies there are.
pub const ROUND_BYTES_MAX: usize = 96 * 1024;
/// Calls that one bridged session may have under way: as many as an upstream takes from all of them by default.
pub const BRIDGED_CALLS_MAX: usize = 100;
/// Resources that one bridged session may be subscribed to. Each is named in every request that listens anew.
pub const BRIDGED_SUBSCRIPTIONS_MAX: usize = 1_000;
/// Times that an upstream may ask back before it answers one call of a legacy client; more is no conversation.
pub const BRIDGE_ROUNDS_MAX: usize = 32;
/// Questions that an upstream may have open in the middle of one call. Each is a request to the client, and a person reads it.
pub const BRIDGE_QUESTIONS_MAX: usize = 32;
/// What they may say together: as much as a client may answer.
pub const BRIDGE_QUESTIONS_BYTES_MAX: usize = MCP_BODY_BYTES_MAX;
/// Pages of an upstream's tools that are asked for to find what one of them wants in headers.
pub const BRIDGED_LIST_PAGES_MAX: usize = 100;
/// Tools of a mount whose wishes for headers are remembered.
pub const BRIDGED_TOOLS_MAX: usize = 10_000;
/// What is remembered of one tool: its name, and what of its arguments stands where. One that takes more is not remembered.
pub const BRIDGED_TOOL_BYTES_MAX: usize = 4 * 1024;
/// Calls of a mount that wait for what their server has asked of a modern client. Each holds a stream open.
pub const PARKED_CALLS_MAX: usize = 100;
/// The same of one caller, so that none takes the places of all others: more questions than a person answers at once. Callers
/// who show no credential are one. Beyond either, the one that has waited longest makes room.
pub const PARKED_CALLS_PER_CALLER_MAX: usize = 32;
/// Sessions that a mount holds at a legacy upstream for modern clients: one for each caller and set of capabilities in use.
/// There are 50 such sets, so that no caller takes all places alone, and each session costs the upstream what a client's does.
pub const POOLED_SESSIONS_MAX: usize = 256;
/// Children of a mount that are lent to calls of modern clients, one call each, so that it is known whom a server asks: all but
/// two of [`CHILDREN_PER_MOUNT_MAX`], which are for clients that can be asked nothing and for subscriptions.
pub const LENT_CHILDREN_MAX: usize = 6;
/// The same for one caller, so that calls that wait for a person leave others some.
pub const LENT_CHILDREN_PER_CALLER_MAX: usize = 4;
/// How long a call waits for such a session before it takes the one of the call that has waited longest for its client's answers.
/// Who declines to answer says so to nobody, and a call at work ends sooner.
pub const LENT_WAIT_MAX: Duration = Duration::from_secs(2);
/// Streams of an HTTP+SSE upstream that are lent so: each is a session there, and a connection.
pub const LENT_STREAMS_MAX: usize = 64;
/// The same for one caller.
pub const LENT_STREAMS_PER_CALLER_MAX: usize = 32;
/// A session that nobody used for this long is ended: callers come back within minutes or not at all, and its server may keep
/// something for it.
pub const POOLED_SESSION_IDLE: Duration = Duration::from_secs(30 * 60);
/// Before an upstream is listened to again that ended a subscription.
pub const LISTEN_RETRY: Duration = Duration::from_secs(1);
/// Events that wait to be written on one client's HTTP+SSE stream: a burst of progress. Whoever has more to say waits.
pub const CHANNEL_QUEUE_MAX: usize = 64;
/// The same in bytes: a large answer or many small ones. One event that is larger waits alone.
pub const CHANNEL_QUEUE_BYTES_MAX: u32 = 1024 * 1024;
/// Characters of a tool's or prompt's name in a bundle: models' interfaces take no longer ones.
pub const BUNDLE_NAME_CHARS_MAX: usize = 64;
/// How long a bundle's list waits for its slowest member. Clients wait for their first list before they do anything.
pub const BUNDLE_LIST_DEADLINE: Duration = Duration::from_secs(5);
/// How long a member may take for all pages of a list, whoever still waits for it: a child that is fetched and started first
/// takes a minute.
pub const BUNDLE_FETCH_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a member's list is used at least: clients that start together ask for it once.
pub const BUNDLE_LIST_FRESH_MIN: Duration = Duration::from_secs(1);
/// How long a member's list is used at most, whatever it says itself.
pub const BUNDLE_LIST_FRESH_MAX: Duration = Duration::from_secs(5 * 60);
/// Entries on one page of a bundle's list.
pub const BUNDLE_PAGE_ENTRIES_MAX: usize = 100;
/// Bytes of entries on one page, after which it ends.
pub const BUNDLE_PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Entries of one member's list; one that has more is taken for one that has no end.
pub const BUNDLE_MEMBER_ENTRIES_MAX: usize = 10_000;
/// Bytes of one member's list.
pub const BUNDLE_MEMBER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Pages of one member's list.
pub const BUNDLE_MEMBER_PAGES_MAX: usize = 1_000;
/// Lists of a bundle that are kept for those who have read their first pages.
pub const BUNDLE_READINGS_MAX: usize = 32;
/// Sets of client capabilities for which a bundle keeps its members' lists; there are few clients with others.
pub const BUNDLE_AUDIENCES_MAX: usize = 16;
/// Client capabilities that lists are kept for, as written.
pub const BUNDLE_AUDIENCE_BYTES_MAX: usize = 4 * 1024;
/// A session nobody used for this long is forgotten.
pub const SESSION_IDLE: Duration = Duration::from_secs(8 * 60 * 60);
/// A session is forgotten after this long however much it is used: an id that leaked is not good for ever, and a client
/// that is told 404 begins another at once.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// A client's `initialize` that is kept, to open its session again where the upstream or this process has lost it. What is for
/// show in a longer one (icons as `data:` URIs, mostly) is left out; a session for which that is not enough does not survive it.
pub const SESSION_INITIALIZE_BYTES_MAX: usize = 32 * 1024;
/// An upstream's answer to an `initialize` or a setting that is sent again; instructions may be long.
pub const INITIALIZE_ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// How long an upstream may take to accept a setting in a session that was opened again.
pub const SETTING_AGAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// What is kept of one session for the time after a restart, unsealed. Settings beyond it are left out.
pub const JOURNAL_RECORD_BYTES_MAX: usize = 64 * 1024;
/// What is kept of all sessions together, in memory and on disk: some twenty thousand. Beyond it the mount that has most
/// gives up those that were idle longest.
pub const JOURNAL_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What a session in the journal counts as beside its record.
pub const JOURNAL_ENTRY_BYTES: usize = 256;
/// A journal that is larger was not written by Ostler and is not read.
pub const JOURNAL_FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// What the journal's file may hold beyond twice what is alive before it is written anew.
pub const JOURNAL_SLACK_BYTES: usize = 1024 * 1024;
/// How long `initialize` waits for its record to be written. A disk that takes longer counts as failing.
pub const JOURNAL_PATIENCE: Duration = Duration::from_secs(1);
/// Records that are written within this time of each other are synced together.
pub const JOURNAL_SYNC_DELAY: Duration = Duration::from_millis(50);
/// Batches of records after which the journal is synced, however soon the next one follows.
pub const JOURNAL_BATCHES_UNSYNCED_MAX: u32 = 16;
/// Credentials that were withdrawn and of which the session journal knows: all API keys of a config at once, and as many again. Beyond that the
/// sessions end that one of them may have ended.
pub const JOURNAL_WITHDRAWN_MAX: usize = 2 * CONFIG_API_KEYS_MAX;
/// A session's time of use is written when it is this much later than the one on disk; little beside [`SESSION_IDLE`].
pub const JOURNAL_USED_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Mounts named in an `unknown_mount` error.
pub const AVAILABLE_MOUNTS_MAX: usize = 100;

// Upstreams.

/// Requests in flight to one upstream, unless its `limits.in_flight` says otherwise.
pub const UPSTREAM_IN_FLIGHT_MAX: u32 = 100;
/// Server-push streams open to one upstream. Each holds a client's connection or stream and an upstream connection, and
/// nothing but its client ends it; beside the calls, so that neither takes the places of the other.
pub const UPSTREAM_STREAMS_MAX: u32 = 1_024;
/// Names looked up at once in a process, each on a thread that blocks while its name server does not answer.
pub const LOOKUPS_MAX: usize = 128;
/// Idle connections kept per upstream and worker: as many as a thousand clients that call at once need. With fewer a crowd's calls
/// would open a connection each, which costs more than the call. What a lull leaves idle is closed after [`POOL_IDLE_TIMEOUT`].
pub const POOL_IDLE_MAX: usize = 1_024;
/// Idle time of a pooled connection; below the 5 s keep-alive that Node servers use by default.
pub const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// The shortest idle time that is learnt from an upstream which closes connections sooner: an upstream that restarts closes
/// all of them at once, however young.
pub const POOL_IDLE_MIN: Duration = Duration::from_millis(10);
/// How long it is remembered how soon an upstream closed an idle connection.
pub const POOL_LESSON: Duration = Duration::from_secs(60);
/// Consecutive failures that open an upstream's breaker.
pub const BREAKER_FAILURES: u32 = 5;
/// Probe backoff: first step.
pub const PROBE_BASE: Duration = Duration::from_millis(250);
/// Probe backoff: cap.
pub const PROBE_CAP: Duration = Duration::from_secs(3);
/// The longest wait that an upstream's `Retry-After` is granted before it is probed again: polite to a rate limit that is
/// counted by the minute, and no way to park a mount.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(5 * 60);
/// Time for a probe to be answered; with the longest pause after it less than the 5 s in which a mount is back.
pub const PROBE_TIMEOUT: Duration = Duration::from_millis(1_500);
/// A probe that was not answered in time is listened to for so long while others follow: a server that starts cold, or is
/// slow and well, answers it.
pub const PROBE_LATE: Duration = Duration::from_secs(20);
/// The longest pause between two looks at the era of an upstream whose answers keep raising a doubt of it.
pub const ERA_CHECK_CAP: Duration = Duration::from_secs(5 * 60);
/// Probes that do anything but wait at once in a process.
pub const PROBES_MAX: usize = 64;
/// After this long without an answer a probe only waits, and another may begin. So 64 places begin 640 probes a second, which
/// 2 000 servers that hang do not use up, and hold at most 1 280 connections until [`PROBE_TIMEOUT`]; a server that hangs
/// does not hold up the recovery of others.
pub const PROBE_PLACE: Duration = Duration::from_millis(100);
/// How long a probe that was answered with 404 or 405 waits for the first event of a stream, by which an HTTP+SSE server is told:
/// such servers say it at once, and the rest of [`PROBE_TIMEOUT`] is for the answer before it.
pub const PROBE_STREAM_TIMEOUT: Duration = Duration::from_millis(500);
/// What a probe reads of an answer before it hangs up.
pub const PROBE_BODY_BYTES_MAX: usize = 64 * 1024;

// stdio children.

/// Children of one mount, then `overloaded`.
pub const CHILDREN_PER_MOUNT_MAX: usize = 8;
/// A child nobody used for this long is ended.
pub const CHILD_IDLE: Duration = Duration::from_secs(5 * 60);
/// One line on a child's stdout.
pub const CHILD_LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A secret that is masked wherever a child writes it into the log: a shorter one would blot out ordinary words.
pub const SECRET_SHOWN_BYTES_MIN: usize = 8;
/// One line of a child's stderr that goes into the log; the rest of the line is dropped.
pub const CHILD_STDERR_LINE_BYTES_MAX: usize = 4 * 1024;
/// Messages waiting to be written to a child.
pub const CHILD_QUEUE_MAX: usize = 64;
/// Messages waiting for a client of a child.
pub const CHILD_CLIENT_QUEUE_MAX: usize = 256;
/// The same in bytes: two of the longest lines, beyond any one.
pub const CHILD_CLIENT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Messages of a child that wait until its client opens a stream: what a server says unasked before the first call.
pub const CHILD_MAILBOX_MAX: usize = 64;
/// Between closing stdin, SIGTERM and SIGKILL.
pub const CHILD_STOP_GRACE: Duration = Duration::from_secs(2);
/// Time for a child to answer `initialize` that the data plane sends itself.
pub const CHILD_START_TIMEOUT: Duration = Duration::from_secs(60);
/// Respawn backoff: first step.
pub const RESPAWN_BASE: Duration = Duration::from_millis(250);
/// Respawn backoff: cap. A child starts when somebody calls, so this is how long after its program's return a call may still
/// be refused: below the 5 s within which a mount is to be back, with room for the start itself.
pub const RESPAWN_CAP: Duration = Duration::from_secs(3);
/// A child that ran this long did not fail to start: its end begins a new backoff and costs no start.
pub const RESPAWN_STABLE_AFTER: Duration = Duration::from_secs(10);
/// Starts of one upstream in a row whose children did not prove themselves: one for each child that a mount may have.
pub const RESPAWNS_BURST_MAX: u32 = 8;
/// Beyond them, one such start in this time: a crash loop, whoever keeps asking for it, costs at most 60 processes a minute.
pub const RESPAWN_INTERVAL: Duration = Duration::from_secs(1);
/// How long a child that let a call time out, and said nothing meanwhile, may take to answer a ping before it is replaced;
/// to take a setting that its predecessor had; and to answer properly after an answer with a foreign id.
pub const CHILD_PING_TIMEOUT: Duration = Duration::from_secs(2);
/// A child's last words are in its pipe when its end is seen. Something else that holds the pipe open is not waited for any
/// longer than this silence.
pub const CHILD_LAST_WORDS_SILENCE: Duration = Duration::from_millis(100);
/// Messages a second that a child may write without being asked, that is, all but the answers to its requests: several
/// times what servers do that report progress for each token of a model, and about 2 % of a core.
pub const CHILD_UNASKED_MESSAGES_PER_SECOND: u32 = 2_000;
/// The same at once: a burst of log messages, or the updates of a large catalogue.
pub const CHILD_UNASKED_MESSAGES_BURST_MAX: u32 = 8_000;
/// The same in bytes a second: far more than servers have to say unasked.
pub const CHILD_UNASKED_BYTES_PER_SECOND: u32 = 4 * 1024 * 1024;
/// The same at once: one message of the largest size.
pub const CHILD_UNASKED_BYTES_BURST_MAX: u32 = 16 * 1024 * 1024;
/// Bytes a second of a child's stderr that are read, a thousand reads. A child that writes more
/// waits in its write, and is never blocked for good.
pub const CHILD_STDERR_BYTES_PER_SECOND: u32 = 16 * 1024 * 1024;
/// The same at once: what a server prints when it starts badly.
pub const CHILD_STDERR_BYTES_BURST_MAX: u32 = 4 * 1024 * 1024;
/// What a line of stderr counts as at least, in bytes: short lines cost more than their bytes.
pub const CHILD_STDERR_LINE_BYTES_MIN: usize = 256;
/// Lines of a child's stderr that go into the log in a second, so that its noise does not push out the lines of others.
pub const CHILD_STDERR_LINES_PER_SECOND: u32 = 50;
/// The same at once: a stack trace with its prelude.
pub const CHILD_STDERR_LINES_BURST_MAX: u32 = 500;
/// Messages that wait for all clients of one upstream's children together, in bytes: four clients at their own limit. Beyond
/// it the client that would take more loses its stream.
pub const CHILD_BUFFERED_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Messages waiting to be written to one child, in bytes: two of the largest bodies.
pub const CHILD_QUEUE_BYTES_MAX: u32 = 8 * 1024 * 1024;
/// The same of all children of one upstream: four at their own limit, so that a mount whose children do not read holds little
/// beside the part of `--buffer-bytes` that its calls have. Beyond it calls are refused until some child reads.
pub const CHILD_QUEUES_BYTES_MAX: u32 = 32 * 1024 * 1024;
/// Settings of clients (log level, subscriptions) that are told again to the child that follows another.
pub const CHILD_SETTINGS_MAX: usize = 1_024;
/// One of them; a longer one is not remembered.
pub const CHILD_SETTING_BYTES_MAX: usize = 8 * 1024;
/// Between two comments on a stream that has nothing to say: middleboxes cut silent connections after 60 s and more.
pub const SSE_KEEP_ALIVE: Duration = Duration::from_secs(15);

// Audit.

/// Names of secret fields that one config may list.
pub const AUDIT_SECRETS_MAX: usize = 256;
/// One of them.
pub const AUDIT_SECRET_NAME_BYTES_MAX: usize = 256;
/// The shortest time that records may be kept: long enough for control to be told of them after a day's outage.
pub const AUDIT_RETENTION_MIN: Duration = Duration::from_secs(24 * 60 * 60);
/// Arguments of a call, or its answer, that a record keeps, as JSON without their secrets.
pub const AUDIT_ARGUMENTS_BYTES_MAX: usize = 8 * 1024;
/// Arguments, or an answer, that are read to be kept, secrets included; of larger ones the record has digest and size.
pub const AUDIT_ARGUMENTS_READ_BYTES_MAX: usize = 64 * 1024;
/// Their nesting. Readers of JSON take 127 levels, and a record puts up to three around an answer.
pub const AUDIT_NESTING_MAX: usize = 120;
/// One record as it is written and sent: the kept arguments with all their characters escaped, and the other fields.
pub const AUDIT_RECORD_BYTES_MAX: usize = 64 * 1024;
/// Records that wait for the spool's thread: a second of calls on one node; beyond it durable calls are denied, and other
/// records are lost and counted.
pub const AUDIT_QUEUE_MAX: usize = 8_192;
/// Their bytes, which all go into one file of the spool.
pub const AUDIT_QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;
const _: () = assert!(
    AUDIT_SEGMENT_BYTES + (AUDIT_UNSYNCED_BYTES_MAX + AUDIT_QUEUE_BYTES_MAX + 256 * AUDIT_QUEUE_MAX) as u64
        <= AUDIT_SEGMENT_READ_BYTES_MAX
);
/// Records a second of what anybody can cause, such as a wrong credential; more are counted in the next one.
pub const AUDIT_STRANGERS_PER_SECOND: u32 = 10;
/// How long a call waits for its record: far beyond any disk that works.
pub const AUDIT_PATIENCE: Duration = Duration::from_secs(5);
/// How long records that nobody waits for gather before they are written: what a process that is killed may lose of them.
pub const AUDIT_GATHER: Duration = Duration::from_millis(20);
/// So many are written without further ado; well below what may wait.
pub const AUDIT_GATHERED_MAX: usize = 1_024;
/// How long a record that nobody waits for may be unsynced.
pub const AUDIT_SYNC_DELAY: Duration = Duration::from_millis(200);
/// So much is synced without further ado: what the spool holds twice, in memory and in its file.
pub const AUDIT_UNSYNCED_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Memory that the spool keeps for the next records, of what those before needed; see [`AUDIT_UNSYNCED_BYTES_MAX`].
pub const AUDIT_BUFFER_KEPT_BYTES: usize = 4 * 1024 * 1024;
/// A file of the spool is followed by another one after this time, so that retention can remove it.
pub const AUDIT_SEGMENT_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// Files of a spool together: some hours of full load without control, or months of an ordinary one.
pub const AUDIT_SPOOL_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Records that are sent to control at once, and their bytes.
pub const AUDIT_BATCH_RECORDS_MAX: usize = 512;
/// See [`AUDIT_BATCH_RECORDS_MAX`].
pub const AUDIT_BATCH_BYTES_MAX: usize = 256 * 1024;
const _: () = assert!(AUDIT_BATCH_BYTES_MAX + 2 * AUDIT_RECORD_BYTES_MAX < NODE_MESSAGE_BYTES_MAX);
/// How long records gather before they are sent on.
pub const AUDIT_FORWARD_DELAY: Duration = Duration::from_millis(100);
/// How long control may take to keep a batch; then it is sent again.
pub const AUDIT_ACK_TIMEOUT: Duration = Duration::from_secs(30);
/// Records of data planes that control keeps: some gigabytes.
pub const AUDIT_KEPT_RECORDS_MAX: u64 = 4_000_000;
/// Chains that control knows: each node has one, and another one after damage.
pub const AUDIT_CHAINS_MAX: u64 = 100_000;
/// Breaks of one chain that are listed.
pub const AUDIT_BREAKS_MAX: usize = 32;
/// Records that are removed with one batch, at most: more than come with it.
pub const AUDIT_EXPIRE_MAX: u64 = 2_048;
/// Records that one question looks at before it says where to go on.
pub const AUDIT_LOOKED_AT_MAX: usize = 50_000;
/// A file of the spool that is read: one group of records beyond [`AUDIT_SEGMENT_BYTES`].
pub const AUDIT_SEGMENT_READ_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// A file of the spool is followed by another one once it has this size.
pub const AUDIT_SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// One line of an export: a record and what proves it.
pub const AUDIT_LINE_BYTES_MAX: u64 = 256 * 1024;
/// What a check of the records lists; more would only follow from the first.
pub const AUDIT_FINDINGS_MAX: usize = 100;
/// The longest: ten years.
pub const AUDIT_RETENTION_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

// Kill switches.

/// Switches of one fleet.
pub const KILL_SWITCHES_MAX: usize = 1_000;
/// What one says: a name, and why.
pub const KILL_TEXT_BYTES_MAX: usize = 1_024;
/// The file that a data plane keeps them in.
pub const KILL_FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
const _: () = assert!(4 * KILL_SWITCHES_MAX * KILL_TEXT_BYTES_MAX < KILL_FILE_BYTES_MAX as usize);

// Telemetry.

/// Log lines waiting to be written; beyond it lines are dropped and counted.
pub const LOG_GATHERED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Memory that the log keeps for what it writes next: what gathers at 10 000 lines a second.
pub const LOG_KEPT_BYTES_MAX: usize = 128 * 1024;
/// Between two writes of the log: nobody who reads it along notices, and at 100 000 lines a second a tenth of its memory fills.
pub const LOG_PAUSE: Duration = Duration::from_millis(20);
/// For the last lines of a process to be written.
pub const LOG_END_TIMEOUT: Duration = Duration::from_secs(1);
/// Series per metric and process.
pub const SERIES_PER_METRIC_MAX: usize = 40_000;
/// Length of a client's string in a log line.
pub const LOG_FIELD_BYTES_MAX: usize = 256;
/// Connections of an admin or metrics listener at once; more wait to be accepted.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;

// The operator's commands.

/// Time for a command to reach control.
pub const CLI_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for control's whole answer: judging and comparing two full-size configs, on a busy machine.
pub const CLI_ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// One answer of control: the nodes of a large fleet with their mounts.
pub const CLI_ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How often `audit follow` asks for what has come.
pub const CLI_FOLLOW_INTERVAL: Duration = Duration::from_secs(1);
/// How often `--wait` and `up` look at what they wait for.
pub const CLI_POLL: Duration = Duration::from_millis(50);
/// Time for a process that `up` starts to become ready.
pub const UP_START_DEADLINE: Duration = Duration::from_secs(30);
/// Time for a process of `up` to end by itself before it is killed: draining, then the end of stdio children.
pub const UP_STOP_DEADLINE: Duration = Duration::from_secs(15);
/// Mounts that `up` prints; more are a list for `ostler mounts`.
pub const UP_MOUNTS_SHOWN_MAX: usize = 20;

// `ostler connect`.

/// One line that a client writes, and one message that it is given: what a stdio child may write.
pub const CONNECT_LINE_BYTES_MAX: usize = CHILD_LINE_BYTES_MAX;
/// Requests of one client that wait for an answer at once; each has a connection and may hold one message.
pub const CONNECT_IN_FLIGHT_MAX: usize = 64;
/// Notifications and answers of a client that wait to be sent, in their order; beyond it the client's input is not read.
pub const CONNECT_QUEUE_MAX: usize = 64;
/// Messages that wait for the client to read them; beyond it what they come from is not read.
pub const CONNECT_OUTBOX_MAX: usize = 8;
/// How long a request waits for a data plane that is being restarted, before its client is told.
pub const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries to reach the data plane, and to open a session's stream again: first step.
pub const CONNECT_RETRY_BASE: Duration = Duration::from_millis(100);
/// The same: cap.
pub const CONNECT_RETRY_CAP: Duration = Duration::from_secs(1);
/// The same where a session's stream ends unheard.
pub const CONNECT_STREAM_RETRY_CAP: Duration = Duration::from_secs(10);
/// How long the data plane may take to accept one notification or answer of the client; the next ones wait.
pub const CONNECT_DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);
/// Times that the stream of one answer is taken up again without a word from it.
pub const CONNECT_RESUMES_MAX: usize = 5;
/// The longest pause that a server may ask for before its stream is taken up again.
pub const CONNECT_RESUME_PAUSE_MAX: Duration = Duration::from_secs(30);
/// What a client has set in its session (its log level, the resources that it subscribed to) and is said again should the data
/// plane lose the session: as many as an upstream is told again.
pub const CONNECT_SETTINGS_MAX: usize = CHILD_SETTINGS_MAX;
/// One of them.
pub const CONNECT_SETTING_BYTES_MAX: usize = CHILD_SETTING_BYTES_MAX;
/// When the client's input has ended: how long answers to it are still waited for.
pub const CONNECT_END_GRACE: Duration = Duration::from_secs(5);
/// Then: how long the end of the session, and the client's reading of the last lines, may take.
pub const CONNECT_STOP_TIMEOUT: Duration = Duration::from_secs(2);
