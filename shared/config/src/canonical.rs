//! The one spelling of every validated resource: keys sorted, defaults left out, durations in one form, header names in
//! lower case, references as written. Digest and diff see nothing else.
//!
//! Defaults are left out so that a newer build, which knows more keys, gives the same text the same digest, and so that an
//! older one can read what does not use them. That is why a default never changes within one document version.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ostler_core::name::ResourceName;
use ostler_policy::fields::{Field, Scalar, Test};
use ostler_policy::{Match, Policy, Rule};

use crate::duration;
use crate::validated::{
    Accept, Audit, Auth, Bundle, Identity, IdentitySource, IssuerKeys, Limits, Listener, Mount, OauthClient,
    OnUnresolved, ProtocolPin, Share, Timeouts, Upstream, UpstreamTransport,
};

/// A JSON value whose maps are always sorted, whatever features `serde_json` is built with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Canonical {
    Bool(bool),
    Int(i64),
    Text(String),
    List(Vec<Self>),
    Map(BTreeMap<String, Self>),
}

/// Whether values that equal their default are part of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defaults {
    LeaveOut,
    /// For the diff, where `5m → 10m` says more than `added 10m`.
    FillIn,
}

pub(crate) fn settings(default_mount: Option<&ResourceName>, environment: Option<&str>) -> Canonical {
    let mut map = MapBuilder::new(Defaults::LeaveOut);
    map.put("version", Canonical::Int(1));
    if let Some(name) = default_mount {
        map.put("default_mount", text(name.as_str()));
    }
    if let Some(environment) = environment {
        map.put("environment", text(environment));
    }
    map.finish()
}

pub(crate) fn mount(mount: &Mount) -> Canonical {
    let mut map = MapBuilder::new(Defaults::LeaveOut);
    map.put("upstream", text(mount.upstream.as_str()));
    map.finish()
}

pub(crate) fn bundle(bundle: &Bundle) -> Canonical {
    let mut map = MapBuilder::new(Defaults::LeaveOut);
    map.put("mounts", Canonical::List(bundle.mounts.iter().map(|name| text(name.as_str())).collect()));
    map.finish()
}

pub(crate) fn audit(audit: &Audit) -> Canonical {
    let default = Audit::default();
    let mut map = MapBuilder::new(Defaults::LeaveOut);
    for (key, value, default) in [
        ("allowed", audit.allowed, default.allowed),
        ("denied", audit.denied, default.denied),
        ("outcomes", audit.outcomes, default.outcomes),
        ("events", audit.events, default.events),
    ] {
        map.put_unless_default(key, text(value.as_str()), value == default);
    }
    map.put_unless_default("arguments", text(audit.arguments.as_str()), audit.arguments == default.arguments);
    map.put_unless_default("responses", text(audit.responses.as_str()), audit.responses == default.responses);
    if !audit.secrets.is_empty() {
        map.put("secrets", Canonical::List(audit.secrets.iter().map(|name| text(name)).collect()));
    }
    let retention = Canonical::Text(duration::format(audit.retention));
    map.put_unless_default("retention", retention, audit.retention == default.retention);
    map.finish()
}

pub(crate) fn listener(listener: &Listener) -> Canonical {
    let mut map = MapBuilder::new(Defaults::LeaveOut);
    map.put("address", Canonical::Text(listener.address.to_string()));
    if let Some(tls) = &listener.tls {
        let mut inner = MapBuilder::new(Defaults::LeaveOut);
        inner.put("certificate", text(tls.certificate.as_str()));
        inner.put("key", text(tls.key.as_str()));
        map.put("tls", inner.finish());
    }
    if !listener.allowed_hosts.is_empty() {
        let hosts = listener.allowed_hosts.iter().map(|host| text(host));
        map.put("allowed_hosts", Canonical::List(hosts.collect()));
    }
    if let Some(mounts) = &listener.mounts {
        map.put("mounts", Canonical::List(mounts.iter().map(|name| text(name.as_str())).collect()));
    }
    map.finish()
}

pub(crate) fn policy(policy: &Policy) -> Canonical {
    let settings = policy.settings();
    let mut map = MapBuilder::new(Defaults::LeaveOut);
    map.put_unless_default("default", text("deny"), settings.allows_by_default);
    map.put_unless_default("dry_run", Canonical::Bool(true), !settings.dry_run);
    if let Some(flag) = settings.flag_destructive {
        map.put("flag_destructive", text(flag.as_str()));
    }
    let rules: Vec<_> = policy.rules().iter().map(rule).collect();
    map.put_unless_default("rules", Canonical::List(rules), policy.rules().is_empty());
    map.finish()
}

fn rule(rule: &Rule) -> Canonical {
    let mut map = MapBuilder::new(Defaults::LeaveOut);
    if let Some(name) = &rule.name {
        map.put("name", text(name));
    }
    map.put_unless_empty("match", matches(&rule.matches));
    map.put("action", text(rule.action.as_str()));
    let mut feedback = MapBuilder::new(Defaults::LeaveOut);
    for (key, told) in [("message", &rule.feedback.message), ("suggestion", &rule.feedback.suggestion)] {
        if let Some(told) = told {
            feedback.put(key, text(told));
        }
    }
    map.put_unless_empty("feedback", feedback);
    map.finish()
}

fn matches(matches: &Match) -> MapBuilder {
    let mut map = MapBuilder::new(Defaults::LeaveOut);
    let target = matches.target.as_ref().map(|(kind, patterns)| (kind.as_str(), patterns));
    let patterns = [("method", &matches.methods), ("identity", &matches.identity)];
    let patterns = patterns.into_iter().filter_map(|(key, patterns)| Some((key, patterns.as_ref()?)));
    for (key, patterns) in patterns.chain(target) {
        map.put(key, Canonical::List(patterns.iter().map(|pattern| text(pattern.as_str())).collect()));
    }
    if let Some(upstreams) = &matches.upstreams {
        map.put("upstreams", Canonical::List(upstreams.iter().map(|name| text(name.as_str())).collect()));
    }
    if let Some(environment) = &matches.environment {
        map.put("environment", text(environment));
    }
    let annotations =
        matches.annotations.iter().map(|(name, wanted)| ((*name).to_owned(), Canonical::Bool(*wanted)));
    map.put_unless_default(
        "annotations",
        Canonical::Map(annotations.collect()),
        matches.annotations.is_empty(),
    );
    for (key, fields) in [("arguments", &matches.arguments), ("claims", &matches.claims)] {
        let all = fields.iter().map(|field| (field.path.as_str().to_owned(), tests(field)));
        map.put_unless_default(key, Canonical::Map(all.collect()), fields.is_empty());
    }
    if let Some(when) = &matches.when {
        map.put("when", text(when.source()));
    }
    map
}

pub(crate) fn auth(auth: &Auth) -> Canonical {
    let mut map = MapBuilder::new(Defaults::LeaveOut);
    if let Some(accept) = &auth.accept {
        map.put("accept", self::accept(accept));
    }
    let keys = auth.api_keys.iter().map(|(name, key)| {
        let mut inner = MapBuilder::new(Defaults::LeaveOut);
        inner.put("key", text(key.key.as_str()));
        if let Some(mounts) = &key.mounts {
            inner.put("mounts", texts(mounts.iter().map(ResourceName::as_str)));
        }
        inner.put_list("scopes", key.scopes.iter().map(String::as_str));
        (name.to_string(), inner.finish())
    });
    map.put_map("api_keys", keys.collect());
    let issuers = auth.issuers.iter().map(|(name, issuer)| {
        let mut inner = MapBuilder::new(Defaults::LeaveOut);
        inner.put("issuer", text(&issuer.issuer));
        match &issuer.keys {
            IssuerKeys::Given(set) => inner.put("jwks", text(set.as_str())),
            IssuerKeys::Fetched(url) => inner.put("jwks_url", text(url)),
        }
        inner.put_list("audiences", issuer.audiences.iter().map(String::as_str));
        (name.to_string(), inner.finish())
    });
    map.put_map("issuers", issuers.collect());
    let listeners = auth.listeners.iter().map(|(name, accept)| {
        let mut inner = MapBuilder::new(Defaults::LeaveOut);
        inner.put("accept", self::accept(accept));
        (name.to_string(), inner.finish())
    });
    map.put_map("listeners", listeners.collect());
    let mounts = auth.mounts.iter().map(|(name, access)| {
        let mut inner = MapBuilder::new(Defaults::LeaveOut);
        if let Some(accept) = &access.accept {
            inner.put("accept", self::accept(accept));
        }
        inner.put_list("scopes", access.scopes.iter().map(String::as_str));
        (name.to_string(), inner.finish())
    });
    map.put_map("mounts", mounts.collect());
    if let Some(resource) = &auth.resource {
        map.put("resource", text(resource));
    }
    map.finish()
}

pub(crate) fn identity(identity: &Identity) -> Canonical {
    let mut map = MapBuilder::new(Defaults::LeaveOut);
    let sources = identity.sources.iter().map(|source| {
        let named = |key: &str, name: &str| Canonical::Map([(key.to_owned(), text(name))].into());
        match source {
            IdentitySource::Subject => text("subject"),
            IdentitySource::ApiKey => text("api_key"),
            IdentitySource::Session => text("session"),
            IdentitySource::Claim(name) => named("claim", name),
            IdentitySource::Header(name) => named("header", name.as_str()),
        }
    });
    if identity.sources != Identity::default().sources {
        map.put("sources", Canonical::List(sources.collect()));
    }
    let denies = identity.on_unresolved == OnUnresolved::Deny;
    map.put_unless_default("on_unresolved", text("deny"), !denies);
    map.finish()
}

/// Its words, sorted.
fn accept(accept: &Accept) -> Canonical {
    let keys = accept.api_keys.then_some(Accept::API_KEYS);
    let none = accept.is_none().then_some(Accept::NONE);
    let issuers = accept.issuers.iter().map(ResourceName::as_str);
    texts(keys.into_iter().chain(none).chain(issuers))
}

fn texts<'t>(items: impl Iterator<Item = &'t str>) -> Canonical {
    Canonical::List(items.map(text).collect())
}

fn tests(field: &Field) -> Canonical {
    let scalar = |scalar: &Scalar| match scalar {
        Scalar::Bool(value) => Canonical::Bool(*value),
        Scalar::Int(int) => Canonical::Int(*int),
        Scalar::Text(it) => text(it),
    };
    let tests = field.tests.iter().map(|test| match test {
        Test::Eq(wanted) => ("eq", scalar(wanted)),
        Test::Neq(other) => ("neq", scalar(other)),
        Test::Gt(bound) => ("gt", Canonical::Int(*bound)),
        Test::Gte(bound) => ("gte", Canonical::Int(*bound)),
        Test::Lt(bound) => ("lt", Canonical::Int(*bound)),
        Test::Lte(bound) => ("lte", Canonical::Int(*bound)),
        Test::Contains(part) => ("contains", text(part)),
        Test::Regex(regex) => ("regex", text(regex.as_str())),
        Test::Exists(wanted) => ("exists", Canonical::Bool(*wanted)),
    });
    Canonical::Map(tests.map(|(key, value)| (key.to_owned(), value)).collect())
}

fn oauth(oauth: &OauthClient) -> Canonical {
    let mut map = BTreeMap::from([
        ("url".to_owned(), text(&oauth.url)),
        ("client_id".to_owned(), text(oauth.client_id.as_str())),
        ("client_secret".to_owned(), text(oauth.client_secret.as_str())),
    ]);
    if !oauth.scopes.is_empty() {
        let scopes = oauth.scopes.iter().map(|scope| text(scope)).collect();
        map.insert("scopes".to_owned(), Canonical::List(scopes));
    }
    if let Some(resource) = &oauth.resource {
        map.insert("resource".to_owned(), text(resource));
    }
    Canonical::Map(map)
}

pub(crate) fn upstream(upstream: &Upstream) -> Canonical {
    upstream_with(upstream, Defaults::LeaveOut)
}

pub(crate) fn upstream_with(upstream: &Upstream, defaults: Defaults) -> Canonical {
    let mut map = MapBuilder::new(defaults);
    match &upstream.transport {
        UpstreamTransport::Http(http) | UpstreamTransport::Sse(http) => {
            let key = if matches!(upstream.transport, UpstreamTransport::Sse(_)) { "sse" } else { "http" };
            map.put(key, Canonical::Map([("url".to_owned(), text(http.url.as_str()))].into()));
            let headers: BTreeMap<_, _> = http
                .headers
                .iter()
                .map(|(name, value)| (name.as_str().to_owned(), text(value.as_str())))
                .collect();
            if !headers.is_empty() {
                map.put("headers", Canonical::Map(headers));
            }
            if let Some(oauth) = &http.oauth {
                map.put("oauth", self::oauth(oauth));
            }
        }
        UpstreamTransport::Stdio(stdio) => {
            let mut inner = MapBuilder::new(defaults);
            inner.put("command", text(&stdio.command));
            if !stdio.args.is_empty() {
                inner.put("args", Canonical::List(stdio.args.iter().map(|arg| text(arg.as_str())).collect()));
            }
            if !stdio.env.is_empty() {
                let env =
                    stdio.env.iter().map(|(name, value)| (name.clone(), text(value.as_str()))).collect();
                inner.put("env", Canonical::Map(env));
            }
            if let Some(cwd) = &stdio.cwd {
                inner.put("cwd", text(cwd));
            }
            inner.put_unless_default("share", text(stdio.share.as_str()), stdio.share == Share::default());
            inner.put_unless_default("warm", Canonical::Bool(stdio.warm), !stdio.warm);
            map.put("stdio", inner.finish());
        }
    }
    map.put_unless_default(
        "protocol",
        text(upstream.protocol.as_str()),
        upstream.protocol == ProtocolPin::default(),
    );
    map.put_unless_empty("timeouts", timeouts(&upstream.timeouts, defaults));
    let mut inner = MapBuilder::new(defaults);
    let in_flight = upstream.limits.in_flight;
    inner.put_unless_default(
        "in_flight",
        Canonical::Int(in_flight.into()),
        in_flight == Limits::default().in_flight,
    );
    map.put_unless_empty("limits", inner);
    map.put_unless_default("mount", Canonical::Bool(upstream.mount), upstream.mount);
    map.finish()
}

fn timeouts(timeouts: &Timeouts, defaults: Defaults) -> MapBuilder {
    let default = Timeouts::default();
    let mut map = MapBuilder::new(defaults);
    for (key, value, default) in [
        ("connect", timeouts.connect, default.connect),
        ("answer", timeouts.answer, default.answer),
        ("idle", timeouts.idle, default.idle),
        ("total", timeouts.total, default.total),
    ] {
        map.put_unless_default(key, Canonical::Text(duration::format(value)), value == default);
    }
    map
}

fn text(text: &str) -> Canonical {
    Canonical::Text(text.to_owned())
}

struct MapBuilder {
    defaults: Defaults,
    map: BTreeMap<String, Canonical>,
}

// === impl MapBuilder ===

impl MapBuilder {
    fn new(defaults: Defaults) -> Self {
        Self { defaults, map: BTreeMap::new() }
    }

    fn put(&mut self, key: &str, value: Canonical) {
        self.map.insert(key.to_owned(), value);
    }

    fn put_unless_default(&mut self, key: &str, value: Canonical, is_default: bool) {
        if !is_default || self.defaults == Defaults::FillIn {
            self.put(key, value);
        }
    }

    fn put_list<'t>(&mut self, key: &str, items: impl Iterator<Item = &'t str>) {
        let list = texts(items);
        if list != Canonical::List(Vec::new()) {
            self.put(key, list);
        }
    }

    fn put_map(&mut self, key: &str, entries: BTreeMap<String, Canonical>) {
        if !entries.is_empty() {
            self.put(key, Canonical::Map(entries));
        }
    }

    fn put_unless_empty(&mut self, key: &str, inner: Self) {
        if !inner.map.is_empty() {
            self.put(key, inner.finish());
        }
    }

    fn finish(self) -> Canonical {
        Canonical::Map(self.map)
    }
}

// === impl Canonical ===

impl Canonical {
    pub(crate) fn to_json(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(value) => {
                let _ = write!(out, "{value}");
            }
            Self::Text(text) => write_text(text, out),
            Self::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Self::Map(map) => {
                out.push('{');
                for (index, (key, value)) in map.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    write_text(key, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

/// RFC 8259 section 7, with the shortest escape for each character; everything above U+001F but `"`, `\` and U+007F stands
/// for itself.
fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            // Escaped although JSON need not: YAML 1.2 section 5.1 does not count them as printable, and line
            // separators would break a part over several lines.
            '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}
