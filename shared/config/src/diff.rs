//! What changes between two configs, as people think of it: by path, with both values.
//!
//! Both sides are compared in their canonical form, so that spelling, order and comments are no changes. References are
//! shown as written; literals in places that carry credentials are masked. A rename is a removal and an addition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ostler_core::name::ResourceName;
use serde::{Deserialize, Serialize};

use crate::canonical::{self, Canonical, Defaults};
use crate::node::path_step;
use crate::reference::Template;
use crate::secret;
use crate::validated::{Upstream, UpstreamTransport, Validated};

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Where: `upstreams.github.timeouts.answer`.
    pub path: String,
    pub kind: ChangeKind,
    /// Short text; absent when added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Short text; absent when removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    Added,
    Removed,
    Changed,
}

/// Sorted by path. Empty exactly when the digests are equal.
pub fn diff(from: &Validated, to: &Validated) -> Vec<Change> {
    if from.digest() == to.digest() {
        return Vec::new();
    }
    let mut changes = Vec::new();
    push(
        &mut changes,
        "default_mount".to_owned(),
        from.default_mount().map(ToString::to_string),
        to.default_mount().map(ToString::to_string),
    );

    let environment = |config: &Validated| config.environment().map(ToOwned::to_owned);
    push(&mut changes, "environment".to_owned(), environment(from), environment(to));
    compare_leaves(&mut changes, &policy(from), &policy(to));

    let mounts = |config: &Validated| -> BTreeMap<String, String> {
        let explicit = config.mounts().values().filter(|mount| !mount.automatic);
        explicit.map(|mount| (mount.name.to_string(), mount.upstream.to_string())).collect()
    };
    let (before, after) = (mounts(from), mounts(to));
    for name in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
        push(&mut changes, format!("mounts.{name}"), before.get(name).cloned(), after.get(name).cloned());
    }

    let bundles = |config: &Validated| -> BTreeMap<String, String> {
        let listed =
            |mounts: &[ResourceName]| mounts.iter().map(ResourceName::as_str).collect::<Vec<_>>().join(", ");
        config
            .bundles()
            .values()
            .map(|it| (it.name.to_string(), format!("[{}]", listed(&it.mounts))))
            .collect()
    };
    let (before, after) = (bundles(from), bundles(to));
    for name in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
        let path = format!("bundles.{name}.mounts");
        push(&mut changes, path, before.get(name).cloned(), after.get(name).cloned());
    }

    let listeners = |config: &Validated| {
        let mut out = BTreeMap::new();
        for listener in config.listeners().values() {
            collect(&format!("listeners.{}", listener.name), None, &canonical::listener(listener), &mut out);
        }
        out
    };
    compare_leaves(&mut changes, &listeners(from), &listeners(to));

    let audit = |config: &Validated| {
        let mut out = BTreeMap::new();
        if let Some(audit) = config.audit() {
            let said = Leaf { meant: String::new(), shown: "said".to_owned() };
            out.insert("audit".to_owned(), said);
            collect("audit", None, &canonical::audit(audit), &mut out);
        }
        out
    };
    compare_leaves(&mut changes, &audit(from), &audit(to));
    let access = |config: &Validated| {
        let mut out = BTreeMap::new();
        collect("auth", None, &canonical::auth(config.auth()), &mut out);
        collect("identity", None, &canonical::identity(config.identity()), &mut out);
        out
    };
    compare_leaves(&mut changes, &access(from), &access(to));

    let names: BTreeSet<_> = from.upstreams().keys().chain(to.upstreams().keys()).collect();
    for name in names {
        let path = format!("upstreams.{name}");
        match (from.upstreams().get(name).map(Arc::as_ref), to.upstreams().get(name).map(Arc::as_ref)) {
            (Some(before), Some(after)) if before == after => {}
            (Some(before), Some(after)) => {
                compare_leaves(&mut changes, &leaves(&path, before), &leaves(&path, after));
            }
            (before, after) => {
                push(&mut changes, path.clone(), before.map(summary), after.map(summary));
                // What comes or goes with an upstream is to be reviewed as much as what changes in one that stays.
                let of =
                    |upstream: Option<&Upstream>| upstream.map(|it| stated(&path, it)).unwrap_or_default();
                compare_leaves(&mut changes, &of(before), &of(after));
            }
        }
    }
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    changes
}

/// A policy by its rules: each is one value for people, under its name or else its place, and where it stands is one more.
fn policy(config: &Validated) -> BTreeMap<String, Leaf> {
    let mut out = BTreeMap::new();
    let Some(policy) = config.policy() else { return out };
    let Canonical::Map(mut map) = canonical::policy(policy) else { return out };
    let rules = map.remove("rules");
    // That there is one at all: the empty policy is not the absent one.
    map.entry("default".to_owned()).or_insert_with(|| Canonical::Text("allow".to_owned()));
    collect("policy", None, &Canonical::Map(map), &mut out);
    let Some(Canonical::List(rules)) = rules else { return out };
    let mut order = Vec::with_capacity(rules.len());
    for (index, (canonical, rule)) in rules.iter().zip(policy.rules()).enumerate() {
        let step =
            rule.name.as_deref().map_or_else(|| format!("[{index}]"), |name| format!(".{}", path_step(name)));
        let meant = canonical.to_json();
        out.insert(format!("policy.rules{step}"), Leaf { shown: meant.clone(), meant });
        order.push(rule.name.as_deref().map_or_else(|| index.to_string(), path_step));
    }
    let order = format!("[{}]", order.join(", "));
    out.insert("policy.order".to_owned(), Leaf { meant: order.clone(), shown: order });
    out
}

/// One value of an upstream. What is shown may be equal where what is meant is not.
#[derive(PartialEq, Eq)]
struct Leaf {
    meant: String,
    shown: String,
}

fn compare_leaves(
    changes: &mut Vec<Change>,
    before: &BTreeMap<String, Leaf>,
    after: &BTreeMap<String, Leaf>,
) {
    for leaf in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
        compare_leaf(changes, leaf, before.get(leaf), after.get(leaf));
    }
}

fn compare_leaf(changes: &mut Vec<Change>, path: &str, before: Option<&Leaf>, after: Option<&Leaf>) {
    if before.map(|leaf| &leaf.meant) == after.map(|leaf| &leaf.meant) {
        return;
    }
    let kind = match (before, after) {
        (None, _) => ChangeKind::Added,
        (_, None) => ChangeKind::Removed,
        _ => ChangeKind::Changed,
    };
    let shown = |leaf: Option<&Leaf>| leaf.map(|leaf| leaf.shown.clone());
    changes.push(Change { path: path.to_owned(), kind, before: shown(before), after: shown(after) });
}

fn push(changes: &mut Vec<Change>, path: String, before: Option<String>, after: Option<String>) {
    let leaf = |text: String| Leaf { meant: text.clone(), shown: text };
    compare_leaf(changes, &path, before.map(leaf).as_ref(), after.map(leaf).as_ref());
}

/// What an upstream is, in a few words.
fn summary(upstream: &Upstream) -> String {
    match &upstream.transport {
        UpstreamTransport::Http(http) => format!("http {}", secret::masked_url(http.url.as_str())),
        UpstreamTransport::Sse(http) => format!("sse {}", secret::masked_url(http.url.as_str())),
        UpstreamTransport::Stdio(stdio) => {
            let mut text = format!("stdio {}", stdio.command);
            let args = shown_args(&stdio.args);
            for arg in &args {
                text.push(' ');
                text.push_str(arg);
            }
            text
        }
    }
}

/// What the operator stated beyond what [`summary`] tells.
fn stated(path: &str, upstream: &Upstream) -> BTreeMap<String, Leaf> {
    let mut out = leaves_with(path, upstream, Defaults::LeaveOut);
    for told in ["http.url", "sse.url", "stdio.command", "stdio.args"] {
        out.remove(&format!("{path}.{told}"));
    }
    out
}

fn leaves(path: &str, upstream: &Upstream) -> BTreeMap<String, Leaf> {
    leaves_with(path, upstream, Defaults::FillIn)
}

fn leaves_with(path: &str, upstream: &Upstream, defaults: Defaults) -> BTreeMap<String, Leaf> {
    let mut out = BTreeMap::new();
    collect(path, None, &canonical::upstream_with(upstream, defaults), &mut out);
    // Arguments are one value for people: an inserted one must not look like a change of all that follow.
    if let UpstreamTransport::Stdio(stdio) = &upstream.transport {
        let prefix = format!("{path}.stdio.args[");
        out.retain(|path, _| !path.starts_with(&prefix));
        if !stdio.args.is_empty() {
            let meant =
                Canonical::List(stdio.args.iter().map(|a| Canonical::Text(a.as_str().to_owned())).collect());
            let shown = format!("[{}]", shown_args(&stdio.args).join(", "));
            out.insert(format!("{path}.stdio.args"), Leaf { meant: meant.to_json(), shown });
        }
    }
    out
}

fn collect(path: &str, key: Option<&str>, value: &Canonical, out: &mut BTreeMap<String, Leaf>) {
    match value {
        Canonical::Map(map) => {
            for (key, value) in map {
                collect(&format!("{path}.{}", path_step(key)), Some(key), value, out);
            }
        }
        Canonical::List(items) => {
            for (index, item) in items.iter().enumerate() {
                collect(&format!("{path}[{index}]"), None, item, out);
            }
        }
        Canonical::Text(text) => {
            let shown = match key {
                Some("url") => secret::masked_url(text).into_owned(),
                Some(key) if secret::is_secret_key(key) => {
                    Template::parse(text).map_or_else(|_| secret::MASK.to_owned(), |t| secret::masked(&t))
                }
                _ => text.clone(),
            };
            out.insert(path.to_owned(), Leaf { meant: text.clone(), shown });
        }
        Canonical::Bool(_) | Canonical::Int(_) => {
            let text = value.to_json();
            out.insert(path.to_owned(), Leaf { meant: text.clone(), shown: text });
        }
    }
}

fn shown_args(args: &[Template]) -> Vec<String> {
    let mut previous: Option<&str> = None;
    args.iter()
        .map(|arg| {
            let is_secret = secret::is_secret_arg(previous, arg.as_str());
            previous = Some(arg.as_str());
            if is_secret { secret::masked_arg(arg) } else { arg.as_str().to_owned() }
        })
        .collect()
}
