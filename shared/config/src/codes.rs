//! Every diagnostic that Ostler gives about a config, in one place: its permanent number, its name, what it means and
//! what to do. The reference page is generated from this table.
//!
//! A number is never reused and never changes its meaning; a new mistake gets a new number.

use crate::diagnostic::Severity;

macro_rules! codes {
    ($($variant:ident = $id:literal, $name:literal, $severity:ident,
        $title:literal, $explanation:literal, $remedy:literal;)*) => {
        /// What a diagnostic is about.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $(#[doc = $title] $variant,)* }

        impl Code {
            /// Every code, in the order of its number.
            pub const fn all() -> &'static [Self] {
                &[$(Self::$variant,)*]
            }

            /// The permanent number, such as `OST0201`.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)* }
            }

            /// The name for programs, such as `unknown_key`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            pub const fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)* }
            }

            /// One line.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// Why it is refused or warned about.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $explanation,)* }
            }

            /// What to do, in general; a diagnostic's own `help` is more exact.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)* }
            }

            /// The code with this number, if this build knows it.
            pub fn from_id(id: &str) -> Option<Self> {
                Self::all().iter().copied().find(|code| code.id() == id)
            }
        }
    };
}

codes! {
    // 01: the document as text.
    Syntax = "OST0101", "syntax", Error,
        "the document is not valid YAML or JSON",
        "The text cannot be read as YAML 1.2, of which JSON is a part. Nothing after this place was judged.",
        "Correct the text at the place shown; look at its indentation, quotes and brackets first.";
    NotUtf8 = "OST0102", "not_utf8", Error,
        "the document is not UTF-8 text",
        "Config documents are UTF-8. Other encodings would be guessed, and a guess is not a config.",
        "Save the file as UTF-8.";
    TooLarge = "OST0103", "too_large", Error,
        "the document is larger than the limit",
        "The size of one config document is limited, before anything else is looked at.",
        "Split the config over several fleets, or remove what is not used.";
    TooDeep = "OST0104", "too_deep", Error,
        "the document is nested too deeply",
        "Nesting is limited; a valid document needs eight levels.",
        "Remove levels; the reference shows the shape.";
    TooManyNodes = "OST0105", "too_many_nodes", Error,
        "the document holds too many values",
        "Values are counted after aliases are expanded, so that a few lines cannot stand for billions of values.",
        "Remove aliases that multiply each other, or split the config over several fleets.";
    EmptyDocument = "OST0106", "empty_document", Error,
        "the document is empty",
        "An empty or truncated file must not be taken for a config without mounts.",
        "Write at least `version: 1`.";
    SeveralDocuments = "OST0107", "several_documents", Error,
        "the file holds more than one document",
        "One candidate is one document; `---` starts another.",
        "Keep one document in the file.";
    DuplicateKey = "OST0108", "duplicate_key", Error,
        "a key is written twice in one map",
        "Which of the two counts depends on the reader, so neither does.",
        "Remove one of the two, or merge their values.";
    MergeKey = "OST0109", "merge_key", Error,
        "the merge key `<<` is not supported",
        "Merge keys are not part of YAML 1.2, and JSON has none.",
        "Write the keys out, or repeat a whole value through an alias.";
    CustomTag = "OST0110", "custom_tag", Error,
        "a tag is not supported",
        "Only the tags of YAML's core schema mean something here.",
        "Remove the tag.";
    BadAlias = "OST0111", "bad_alias", Error,
        "an alias stands for something that contains it",
        "A value cannot contain itself.",
        "Write the value out.";
    BadKey = "OST0112", "bad_key", Error,
        "a key is not a plain name",
        "Keys are text. A list, a map or nothing cannot be a key.",
        "Write the key as a name.";
    MoreDiagnostics = "OST0199", "more_diagnostics", Error,
        "more was found than is shown",
        "The number of diagnostics for one candidate is limited.",
        "Correct what is shown and judge the document again.";

    // 02: the shape of one value.
    UnknownKey = "OST0201", "unknown_key", Error,
        "a key is not known here",
        "Documents are strict at every level, so that a misspelt key cannot silently leave a default in force.",
        "Correct the spelling or remove the key.";
    WrongType = "OST0202", "wrong_type", Error,
        "a value has the wrong type",
        "For example a number or `true` where text is expected.",
        "Write a value of the type that the message names; quotes turn anything into text.";
    MissingKey = "OST0203", "missing_key", Error,
        "a required key is missing",
        "The key has no default.",
        "Add the key.";
    UnsupportedVersion = "OST0204", "unsupported_version", Error,
        "the document's `version` is not supported",
        "`version` names the language of the document. This build reads version 1.",
        "Write `version: 1`.";
    UnknownValue = "OST0205", "unknown_value", Error,
        "a value is not one of those allowed",
        "The key takes one of a few words.",
        "Use one of the values that the help lists.";
    BadDuration = "OST0206", "bad_duration", Error,
        "a duration cannot be read",
        "Durations have a unit: `500ms`, `5s`, `1m30s`, `2h`. A bare number could be seconds or milliseconds.",
        "Add the unit.";
    OutOfRange = "OST0207", "out_of_range", Error,
        "a value is outside its range",
        "Everything has a limit; the message names both ends.",
        "Choose a value inside the range.";
    BadReference = "OST0208", "bad_reference", Error,
        "a `${…}` reference cannot be read",
        "References are `${NAME}`, `${NAME:-default}` and `${file:/absolute/path}`; `$$` is a dollar.",
        "Correct the reference, or write `$$` for a literal dollar.";
    ReferenceNotAllowed = "OST0209", "reference_not_allowed", Error,
        "a reference stands where none is resolved",
        "References are resolved in header values, `env` values, `args`, `url`, a listener's `tls`, `key`, `jwks`, `client_id` and `client_secret` only; elsewhere they would change what \
         the config is.",
        "Write the value itself.";

    // 03: what the values mean together.
    BadName = "OST0301", "bad_name", Error,
        "a name is not allowed",
        "Names of upstreams, mounts and bundles are permanent ids and parts of URLs; names of listeners are labels of metrics.",
        "Use lower-case letters, digits, `-` and `_`, at most 63, starting and ending with a letter or digit, without `__`.";
    NameConflict = "OST0302", "name_conflict", Error,
        "two things claim one mount name",
        "Every upstream is mounted under its own name unless it says `mount: false`, and a bundle has a name that nothing else has.",
        "Rename the mount or bundle, or write `mount: false` in the upstream of that name.";
    UnknownUpstream = "OST0303", "unknown_upstream", Error,
        "a mount or a rule names an upstream that does not exist",
        "A mount must lead somewhere, and a rule that is about no upstream would never match.",
        "Name one of the `upstreams`, or add it.";
    UnknownMount = "OST0304", "unknown_mount", Error,
        "`default_mount`, a listener or a bundle names a mount that does not exist",
        "The bare path must lead somewhere, a listener must serve what it says, and a bundle is made of mounts, not of bundles.",
        "Name one of the mounts; an upstream with `mount: false` has none of its own.";
    TransportChoice = "OST0305", "transport_choice", Error,
        "an upstream needs exactly one of `http`, `sse` and `stdio`",
        "An upstream is reached in one way.",
        "Keep one of them.";
    BadUrl = "OST0306", "bad_url", Error,
        "a URL cannot be used",
        "An upstream's URL is `http://` or `https://` with a host, without user, password and fragment.",
        "Correct the URL; credentials belong into `headers`.";
    BadHeaderName = "OST0307", "bad_header_name", Error,
        "a header name is not legal",
        "Header names are tokens as RFC 9110 section 5.6.2 defines them.",
        "Use letters, digits and `-`.";
    BadHeaderValue = "OST0308", "bad_header_value", Error,
        "a header value is not legal",
        "Header values hold visible characters, spaces and tabs; a line break would start another header.",
        "Remove control characters and line breaks.";
    ReservedHeader = "OST0309", "reserved_header", Error,
        "a header belongs to Ostler or to the connection",
        "Framing, sessions, protocol version and media types are the data plane's own; a fixed value would break them.",
        "Remove the header.";
    DuplicateHeader = "OST0310", "duplicate_header", Error,
        "a header is given twice",
        "Header names are the same whatever their case.",
        "Keep one of the two.";
    HeadersOnStdio = "OST0311", "headers_on_stdio", Error,
        "a stdio upstream has no headers",
        "A child process is given its credentials through `env` or `args`.",
        "Move the values to `stdio.env`, or remove `headers`.";
    BadEnvName = "OST0312", "bad_env_name", Error,
        "a name of an environment variable is not legal",
        "It must not be empty and must not hold `=`, spaces or control characters.",
        "Use letters, digits and `_`.";
    BadProcessValue = "OST0313", "bad_process_value", Error,
        "a value cannot be given to a process",
        "A command must not be empty, and no command, argument, variable or folder can hold a NUL.",
        "Correct the value.";
    UpstreamTwice = "OST0314", "upstream_twice", Error,
        "`upstream` and the same thing in its long form",
        "`upstream:` is short for an upstream named `default` that also owns the bare path.",
        "Keep `upstream:` or the long form, not both.";
    WarmNeedsMount = "OST0315", "warm_needs_mount", Error,
        "`warm` needs `share: mount`",
        "A child that serves one session cannot exist before the session does.",
        "Add `share: mount`, or remove `warm`.";
    BadAddress = "OST0316", "bad_address", Error,
        "an address cannot be listened on",
        "A listener has one IP address and one port. A name could resolve to another address, and port 0 would be another \
         port at each start.",
        "Write the IP address and a port from 1 to 65535, such as `127.0.0.1:7410`.";
    AddressConflict = "OST0317", "address_conflict", Error,
        "two listeners claim one address",
        "A port on all addresses, such as `0.0.0.0:7410`, has every address with that port.",
        "Give one of the two another port.";
    ListenerNeedsTls = "OST0318", "listener_needs_tls", Error,
        "a listener would speak to the network without encryption",
        "Only what is on loopback may do without a certificate.",
        "Add `tls`, or use a loopback address.";
    NotFileReference = "OST0319", "not_file_reference", Error,
        "certificate and key are references to files",
        "A key in the config would be stored with its history and shown to whoever may read it; a file is watched, and a \
         renewed certificate is used without a version.",
        "Write exactly one `${file:/path}`; if a key was written out, replace it.";
    BadHost = "OST0320", "bad_host", Error,
        "a host name is not legal",
        "`allowed_hosts` holds host names and IP addresses as they stand in a `Host` header, without scheme, port and path.",
        "Write the name alone, such as `gateway.example`.";
    LiteralSecret = "OST0321", "literal_secret", Warning,
        "a secret seems to be written into the config",
        "The config is stored with its history and shown to whoever may read it. A reference is resolved on the data plane \
         and never stored.",
        "Write a reference such as `${NAME}` or `${file:/path}` and change the secret.";
    NoUpstream = "OST0322", "no_upstream", Warning,
        "the config has no upstream",
        "Every request will be answered with `unknown_mount`.",
        "Add an upstream, if that is not what you want.";
    UnmountedUpstream = "OST0323", "unmounted_upstream", Warning,
        "no mount leads to an upstream",
        "It says `mount: false`, and no entry of `mounts` names it.",
        "Add a mount, or remove the upstream.";
    MountTwice = "OST0324", "mount_twice", Error,
        "a bundle names a mount twice",
        "Its tools would stand in the bundle's lists twice under the same names.",
        "Keep one of the two.";

    NeverMatches = "OST0325", "never_matches", Error,
        "a rule can never match",
        "A rule that has no effect looks like one that protects.",
        "Correct what the message names, or remove the rule.";
    RuleTwice = "OST0326", "rule_twice", Error,
        "two rules have one name",
        "Errors and records name the rule that decided.",
        "Rename one of the two.";
    BadExpression = "OST0327", "bad_expression", Error,
        "an expression or a regular expression cannot be used",
        "It cannot be read, names what does not exist, or costs more than it may. One that fails while it runs denies.",
        "Correct it at the place that the message names; docs/reference/policy.md says what there is.";

    // Who may use what.
    ListenerNeedsAuth = "OST0331", "listener_needs_auth", Error,
        "a listener would be open to everybody on the network",
        "Whoever reaches a listener that asks for no credential can use every tool behind it.",
        "Say in `auth` what is accepted, or `accept: [none]` for this listener if that is meant.";
    UnknownListener = "OST0332", "unknown_listener", Error,
        "`auth` names a listener that does not exist",
        "What is said of a listener that is not there protects nothing.",
        "Name one of the `listeners`, or `mcp` for the data plane's own `--listen`.";
    UnknownCredential = "OST0333", "unknown_credential", Error,
        "something is accepted that does not exist",
        "`accept` holds `api_keys`, names of `auth.issuers`, or `none`.",
        "Correct the name, or add the issuer or a key.";
    BadKeyDigest = "OST0334", "bad_key_digest", Error,
        "the digest of an API key cannot be read",
        "The config holds digests of keys, so that nobody who reads it can use them.",
        "Run `ostler key new NAME` and write what it prints; replace a key that was written out.";
    BadKeySet = "OST0335", "bad_key_set", Error,
        "a JSON Web Key Set cannot be read",
        "Tokens are verified by the public keys of their issuer (RFC 7517).",
        "Write the set as the issuer publishes it, or its `jwks_url`.";
    BadScope = "OST0336", "bad_scope", Error,
        "a scope is not legal",
        "Scopes are words of visible ASCII characters (RFC 6749 section 3.3); anything else could never be in a token.",
        "Write one scope an entry.";
    ScopesOfNobody = "OST0337", "scopes_of_nobody", Error,
        "scopes are wanted where no credential is asked for",
        "Nobody could ever have them, or everybody would be let in.",
        "Remove `scopes`, or accept something that has them.";
    WeakBundle = "OST0338", "weak_bundle", Error,
        "a bundle lets in whom one of its mounts keeps out",
        "Through a bundle, the tools of its mounts are called. What a mount says of callers must hold there too.",
        "Repeat in `auth.mounts.<bundle>` what its mounts accept and the scopes that they want.";
    BadIdentitySource = "OST0339", "bad_identity_source", Error,
        "a source of the identity cannot be used",
        "Callers are called what their credential or a header says, never what a model, an upstream or the client's own description does.",
        "Use `subject`, `api_key`, `session`, `{ claim: name }` or `{ header: x-name }`.";

    // 04: what this host makes of it.
    NotAllowedHere = "OST0401", "not_allowed_here", Error,
        "this data plane does not allow it",
        "Which commands a config may start, which references it may read and which addresses it may open is decided by \
         whoever starts the data plane.",
        "Start the data plane with the flag that the help names.";
    UnresolvedReference = "OST0402", "unresolved_reference", Error,
        "a reference has no value on this data plane",
        "The variable is not set, or the file cannot be read.",
        "Set the variable or provide the file where the data plane runs, or give a default: `${NAME:-default}`.";
    BadResolvedValue = "OST0403", "bad_resolved_value", Error,
        "the value behind a reference cannot be used here",
        "For example a line break inside a header, or something that is not a URL. The value is not shown.",
        "Correct the variable or file where the data plane runs.";

    ListenerUnbindable = "OST0404", "listener_unbindable", Error,
        "a listener cannot be opened on this data plane",
        "All sockets of a config are opened before it is swapped in, so that a config is served whole or not at all.",
        "Free the address or choose another; where it overlaps one that the config before had, remove that one first.";
    OpenToNetwork = "OST0405", "open_to_network", Error,
        "the data plane's own listener would be open to everybody on the network",
        "Whoever reaches a listener that asks for no credential can use every tool behind it, and `--listen` of this data plane is not on loopback.",
        "Say in `auth` what is accepted, or `accept: [none]` for the listener `mcp` if that is meant; or start the data plane with `--listen` on loopback.";

    // 05: parts, from the wire or from disk.
    PartDigest = "OST0501", "part_digest", Error,
        "a part's content does not match its digest",
        "The part was damaged on its way or on disk.",
        "Fetch the version again; if it happens again, look at the disk and at what stands between control and data plane.";
    PartTwice = "OST0502", "part_twice", Error,
        "a part is given twice",
        "Parts are identified by kind and name.",
        "Fetch the version again; control and data plane may differ in their build.";
    PartKindUnknown = "OST0503", "part_kind_unknown", Error,
        "a part's kind is not known to this build",
        "The config uses a feature that is newer than this data plane.",
        "Upgrade the data plane, or roll back to a version without that feature.";
    PartMissing = "OST0504", "part_missing", Error,
        "the settings part is missing",
        "Every config has exactly one part named `settings`, so that no parts at all are never taken for a config.",
        "Fetch the version again.";
    TooManyParts = "OST0505", "too_many_parts", Error,
        "the config has too many parts",
        "The number of parts of one snapshot is limited.",
        "Split the config over several fleets.";
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.id())
    }
}
