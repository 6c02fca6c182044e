//! Raw → Validated: the meaning of every value, and of all values together. Every mistake is reported; what is mistaken is
//! left out, so that nothing is reported that only follows from it.

mod audit;
pub(crate) mod auth;
mod bundle;
mod callers;
mod identity;
pub(crate) mod listener;
mod names;
mod policy;
mod stdio;
mod upstream;
pub(crate) mod url;
mod values;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use ostler_core::limits;
use ostler_core::name::ResourceName;
use ostler_policy::Policy;

use crate::codes::Code;
use crate::de::did_you_mean;
use crate::located::{Entries, Located};
use crate::node::NodeId;
use crate::raw::{RawAuth, RawBundle, RawDocument, RawListener, RawMount, RawPolicy, RawUpstream};
use crate::reporter::Reporter;
use crate::validated::{Audit, Auth, Bundle, Identity, Listener, Mount, Upstream};

/// The only version of the language.
const VERSION: i64 = 1;
/// What the singular `upstream` is called.
const SINGULAR: &str = "default";

/// What a document means, as far as it could be understood.
#[derive(Debug, Default, Clone)]
pub(crate) struct Meaning {
    pub(crate) upstreams: BTreeMap<ResourceName, Arc<Upstream>>,
    pub(crate) mounts: BTreeMap<ResourceName, Mount>,
    pub(crate) bundles: BTreeMap<ResourceName, Bundle>,
    pub(crate) listeners: BTreeMap<ResourceName, Listener>,
    pub(crate) audit: Option<Arc<Audit>>,
    pub(crate) default_mount: Option<ResourceName>,
    pub(crate) environment: Option<String>,
    pub(crate) policy: Option<Arc<Policy>>,
    pub(crate) auth: Auth,
    pub(crate) identity: Identity,
}

/// Reports every mistake. The meaning is whole only if none was reported. What is `known` was judged before and has none; the
/// document adds to it.
pub(crate) fn validate(document: Located<RawDocument>, known: Meaning, reporter: &Reporter<'_>) -> Meaning {
    let root = document.at;
    let Some(raw) = document.value else { return Meaning::default() };
    version(raw.version, root, reporter);

    let mut judge = Judge::new(known, reporter);
    let singular = judge.singular(raw.upstream, raw.default_mount.as_ref(), raw.upstreams.as_ref());
    judge.upstreams(raw.upstreams);
    judge.mounts(raw.mounts);
    judge.bundles(raw.bundles);
    judge.default_mount(raw.default_mount, singular);
    let listeners = judge.listeners(raw.listeners);
    let named = callers::Named::of(raw.auth.as_ref());
    judge.auth(raw.auth, &listeners);
    let written = callers::sources_written(raw.identity.as_ref());
    judge.meaning.identity = raw.identity.map(|raw| identity::validate(raw, reporter)).unwrap_or_default();
    let callers = callers::Callers::of(written, &judge.meaning.identity, &named);
    judge.policy(raw.environment, raw.policy, callers.as_ref());
    judge.meaning.audit = raw.audit.and_then(|raw| audit::validate(raw, reporter)).map(Arc::new);
    judge.warn_of_unmounted();
    if judge.upstreams.is_empty() && judge.meaning.upstreams.is_empty() && !judge.unsure {
        let help = "add an upstream, if every request should not be answered with `unknown_mount`";
        reporter.report(Code::NoUpstream, root, "the config has no upstream", help);
    }
    judge.meaning
}

fn version(version: Option<Located<i64>>, root: NodeId, reporter: &Reporter<'_>) {
    match version {
        None => {
            let help = "write `version: 1` at the top of the document";
            reporter.report(Code::MissingKey, root, "the required key `version` is missing", help);
        }
        Some(Located { at, value: Some(found) }) if found != VERSION => {
            let message = format!("version {found} of the config language is not supported");
            reporter.report(
                Code::UnsupportedVersion,
                at,
                message,
                "write `version: 1`, the only version of this build",
            );
        }
        Some(_) => {}
    }
}

struct Judge<'a> {
    reporter: &'a Reporter<'a>,
    /// Upstreams that the document names, understood or not, and where each says whether it is mounted.
    upstreams: BTreeMap<ResourceName, Option<NodeId>>,
    /// Mounts that the document names or implies, understood or not.
    mounts: BTreeSet<ResourceName>,
    /// Bundles that the document names, understood or not, and where.
    bundles: BTreeMap<ResourceName, NodeId>,
    /// Upstreams that explicit mounts lead to.
    led_to: BTreeSet<ResourceName>,
    /// Names that were refused: whoever uses one makes no further mistake.
    refused: HashSet<String>,
    /// Whether there may be upstreams that could not be read.
    unsure: bool,
    meaning: Meaning,
}

// === impl Judge ===

impl<'a> Judge<'a> {
    fn new(known: Meaning, reporter: &'a Reporter<'a>) -> Self {
        Self {
            reporter,
            upstreams: BTreeMap::new(),
            mounts: BTreeSet::new(),
            bundles: BTreeMap::new(),
            led_to: BTreeSet::new(),
            refused: HashSet::new(),
            unsure: false,
            meaning: known,
        }
    }

    /// Whether the singular form is used.
    fn singular(
        &mut self,
        upstream: Option<Located<RawUpstream>>,
        default_mount: Option<&Located<String>>,
        upstreams: Option<&Located<Entries<RawUpstream>>>,
    ) -> bool {
        let Some(Located { at, value }) = upstream else { return false };
        let long_form = upstreams.and_then(|upstreams| upstreams.value.as_ref()).and_then(|upstreams| {
            upstreams.0.iter().find(|(name, _)| name.value.as_deref() == Some(SINGULAR))
        });
        if let Some((name, _)) = long_form {
            let message = "`upstream` already is the upstream named `default`";
            self.reporter.report(
                Code::UpstreamTwice,
                name.at,
                message,
                "keep one of the two, or rename this one",
            );
        }
        if let Some(Located { at, value: Some(name) }) = default_mount
            && name != SINGULAR
        {
            let message =
                "`upstream` already owns the bare path, so `default_mount` cannot name another mount";
            let help = "remove `default_mount`, or write the upstream under `upstreams`";
            self.reporter.report(Code::UpstreamTwice, *at, message, help);
        }
        if let Some(Located { at, value: Some(false) }) = value.as_ref().and_then(|raw| raw.mount.as_ref()) {
            let message = "the singular `upstream` owns the bare path, so it needs its mount";
            let help = "remove `mount: false`, or write the upstream under `upstreams`";
            self.reporter.report(Code::UnknownMount, *at, message, help);
        }
        if let Ok(name) = ResourceName::parse(SINGULAR) {
            self.upstream(name, at, value);
        }
        true
    }

    fn upstreams(&mut self, upstreams: Option<Located<Entries<RawUpstream>>>) {
        let Some(Located { at, value }) = upstreams else { return };
        let Some(Entries(entries)) = value else {
            self.unsure = true;
            return;
        };
        self.count(at, entries.len(), limits::CONFIG_RESOURCES_MAX, "upstreams");
        for (name, raw) in entries {
            match names::resource(&name, "an upstream", self.reporter) {
                Some(parsed) => self.upstream(parsed, name.at, raw.value),
                None => {
                    self.unsure = true;
                    self.refused.extend(name.value);
                    // What it holds is judged all the same.
                    if let (Some(raw), Ok(unnamed)) = (raw.value, ResourceName::parse(SINGULAR)) {
                        upstream::validate(raw, unnamed, name.at, self.reporter);
                    }
                }
            }
        }
    }

    fn upstream(&mut self, name: ResourceName, at: NodeId, raw: Option<RawUpstream>) {
        let mount = raw.as_ref().and_then(|raw| raw.mount.as_ref());
        let mount_at = mount.map(|mount| mount.at);
        if mount.is_none_or(|mount| mount.value != Some(false)) {
            self.mounts.insert(name.clone());
        }
        let upstream = raw.and_then(|raw| upstream::validate(raw, name.clone(), at, self.reporter));
        // Only the singular form can come first under the same name, which is reported.
        if self.upstreams.contains_key(&name) {
            return;
        }
        self.upstreams.insert(name.clone(), mount_at);
        let Some(upstream) = upstream else { return };
        if upstream.mount {
            let mount = Mount { name: name.clone(), upstream: name.clone(), automatic: true };
            self.meaning.mounts.insert(name.clone(), mount);
        }
        self.meaning.upstreams.insert(name, Arc::new(upstream));
    }

    fn mounts(&mut self, mounts: Option<Located<Entries<RawMount>>>) {
        let Some(Located { at, value: Some(Entries(entries)) }) = mounts else { return };
        self.count(at, entries.len(), limits::CONFIG_RESOURCES_MAX, "mounts");
        for (name, raw) in entries {
            let parsed = names::resource(&name, "a mount", self.reporter);
            if let Some(parsed) = &parsed {
                if self.meaning.mounts.contains_key(parsed) || !self.mounts.insert(parsed.clone()) {
                    let message = format!("the upstream `{parsed}` is already mounted under this name");
                    let help =
                        format!("rename this mount, or write `mount: false` in the upstream `{parsed}`");
                    self.reporter.report(Code::NameConflict, name.at, message, help);
                }
            } else {
                self.refused.extend(name.value);
            }
            let Some(raw) = raw.value else { continue };
            let Some(upstream) = raw.upstream else {
                let help = "write `upstream: <name>`";
                self.reporter.report(
                    Code::MissingKey,
                    name.at,
                    "the required key `upstream` is missing",
                    help,
                );
                continue;
            };
            let Some(target) = self.existing_upstream(&upstream) else { continue };
            self.led_to.insert(target.clone());
            if let Some(parsed) = parsed {
                let mount = Mount { name: parsed.clone(), upstream: target, automatic: false };
                self.meaning.mounts.entry(parsed).or_insert(mount);
            }
        }
    }

    fn existing_upstream(&self, name: &Located<String>) -> Option<ResourceName> {
        let text = name.value.as_deref()?;
        let named = self.upstreams.get_key_value(text).map(|(name, _)| name);
        if let Some(found) =
            named.or_else(|| self.meaning.upstreams.get_key_value(text).map(|(name, _)| name))
        {
            return Some(found.clone());
        }
        if !self.refused.contains(text) {
            let known = self.upstreams.keys().map(ResourceName::as_str);
            let message = format!("there is no upstream named `{}`", values::shown(text));
            self.reporter.report(
                Code::UnknownUpstream,
                name.at,
                message,
                names::suggestion(text, known, "upstreams"),
            );
        }
        None
    }

    fn bundles(&mut self, bundles: Option<Located<Entries<RawBundle>>>) {
        let Some(Located { at, value: Some(Entries(entries)) }) = bundles else { return };
        self.count(at, entries.len(), limits::CONFIG_BUNDLES_MAX, "bundles");
        let mut understood = Vec::new();
        for (name, raw) in entries {
            let parsed = names::resource(&name, "a bundle", self.reporter);
            match &parsed {
                Some(parsed) => {
                    let is_mount = self.mounts.contains(parsed) || self.meaning.mounts.contains_key(parsed);
                    let is_upstream =
                        self.upstreams.contains_key(parsed) || self.meaning.upstreams.contains_key(parsed);
                    if is_mount || is_upstream {
                        let what = if is_mount { "a mount" } else { "an upstream" };
                        let message = format!("{what} is already named `{parsed}`");
                        self.reporter.report(Code::NameConflict, name.at, message, "rename this bundle");
                    }
                    self.bundles.insert(parsed.clone(), name.at);
                }
                None => self.refused.extend(name.value),
            }
            understood.push((parsed, name.at, raw));
        }
        let mut judged = BTreeMap::new();
        for (name, at, raw) in understood {
            let mounts = bundle::validate(raw, at, |name| self.existing_member(name), self.reporter);
            if let Some(name) = name {
                judged.insert(name.clone(), Bundle { name, mounts });
            }
        }
        self.meaning.bundles = judged;
    }

    /// A mount that a bundle names.
    fn existing_member(&self, name: &Located<String>) -> Option<ResourceName> {
        let text = name.value.as_deref()?;
        if !self.bundles.contains_key(text) || self.mounts.contains(text) {
            return self.existing_mount(name);
        }
        let message = format!("`{text}` is a bundle, and bundles are made of mounts");
        self.reporter.report(Code::UnknownMount, name.at, message, "name the mounts of that bundle");
        None
    }

    fn default_mount(&mut self, default_mount: Option<Located<String>>, singular: bool) {
        if singular {
            self.meaning.default_mount = ResourceName::parse(SINGULAR).ok();
            return;
        }
        self.meaning.default_mount = default_mount.as_ref().and_then(|name| self.existing_mount(name));
    }

    /// Names of listeners, understood or not, and where.
    fn listeners(
        &mut self,
        listeners: Option<Located<Entries<RawListener>>>,
    ) -> BTreeMap<ResourceName, NodeId> {
        let mut named = BTreeMap::new();
        let Some(Located { at, value: Some(Entries(entries)) }) = listeners else { return named };
        self.count(at, entries.len(), limits::CONFIG_LISTENERS_MAX, "listeners");
        let mut understood = Vec::new();
        for (name, raw) in entries {
            let parsed = names::resource(&name, "a listener", self.reporter);
            named.extend(parsed.clone().map(|parsed| (parsed, name.at)));
            let Some(mut raw) = raw.value else { continue };
            let mounts = raw.mounts.take().map(|mounts| self.listed_mounts(mounts));
            // What it holds is judged all the same.
            let Some(parsed) = parsed.or_else(|| ResourceName::parse(SINGULAR).ok()) else { continue };
            if let Some((listener, at)) = listener::validate(raw, &parsed, name.at, self.reporter) {
                understood.push((Listener { mounts, ..listener }, at));
            }
        }
        listener::conflicts(understood.iter(), self.reporter);
        let by_name = understood.into_iter().map(|(listener, _)| (listener.name.clone(), listener));
        self.meaning.listeners = by_name.collect();
        named
    }

    /// `listeners` are the names of those that the document has.
    fn auth(&mut self, raw: Option<Located<RawAuth>>, listeners: &BTreeMap<ResourceName, NodeId>) {
        let listener = |name: &Located<String>| self.existing_listener(name, listeners);
        let existing = auth::Existing { mount: &|name| self.existing_mount(name), listener: &listener };
        let auth = raw.map(|raw| auth::validate(raw, existing, self.reporter)).unwrap_or_default();
        for listener in self.meaning.listeners.values() {
            let is_open = !listener.address.ip().is_loopback() && auth.is_open(listener.name.as_str());
            if let Some(at) = listeners.get(&listener.name).filter(|_| is_open) {
                let message = format!(
                    "the listener `{}` would let everybody on the network use its mounts",
                    listener.name
                );
                let help = format!(
                    "say in `auth` what is accepted, or `auth: {{ listeners: {{ {}: {{ accept: [none] }} }} }}` if that is meant",
                    listener.name
                );
                self.reporter.report(Code::ListenerNeedsAuth, *at, message, help);
            }
        }
        for (bundle, mounts) in self.meaning.bundles.values().map(|bundle| (&bundle.name, &bundle.mounts)) {
            let weak =
                mounts.iter().find_map(|mount| auth::weak_bundle(&auth, bundle.as_str(), mount.as_str()));
            if let (Some(message), Some(at)) = (weak, self.bundles.get(bundle)) {
                let help = format!("say in `auth.mounts.{bundle}` what its mounts say");
                self.reporter.report(Code::WeakBundle, *at, message, help);
            }
        }
        self.meaning.auth = auth;
    }

    fn existing_listener(
        &self,
        name: &Located<String>,
        listeners: &BTreeMap<ResourceName, NodeId>,
    ) -> Option<ResourceName> {
        let text = name.value.as_deref()?;
        if text == listener::BOOTSTRAP {
            return ResourceName::parse(text).ok();
        }
        if let Some((found, _)) = listeners.get_key_value(text) {
            return Some(found.clone());
        }
        let known = listeners.keys().map(ResourceName::as_str).chain([listener::BOOTSTRAP]);
        let message = format!("there is no listener named `{}`", values::shown(text));
        self.reporter.report(
            Code::UnknownListener,
            name.at,
            message,
            names::suggestion(text, known, "listeners"),
        );
        None
    }

    fn listed_mounts(&self, mounts: Located<Vec<Located<String>>>) -> BTreeSet<ResourceName> {
        let Some(items) = mounts.value else { return BTreeSet::new() };
        if items.is_empty() {
            let help = "name the mounts that it serves, or leave `mounts` out for all of them";
            self.reporter.report(Code::OutOfRange, mounts.at, "the listener would serve no mount", help);
        }
        self.count(mounts.at, items.len(), limits::CONFIG_RESOURCES_MAX, "mounts");
        items.iter().filter_map(|name| self.existing_mount(name)).collect()
    }

    fn existing_mount(&self, name: &Located<String>) -> Option<ResourceName> {
        let Located { at, value } = name;
        let text = value.as_deref()?;
        let known = || self.meaning.mounts.get_key_value(text).map(|(name, _)| name);
        let bundle = || self.bundles.get_key_value(text).map(|(name, _)| name);
        if let Some(found) = self.mounts.get(text).or_else(known).or_else(bundle) {
            return Some(found.clone());
        }
        if self.refused.contains(text) {
            return None;
        }
        let message = format!("there is no mount named `{}`", values::shown(text));
        let help = if self.upstreams.contains_key(text) {
            format!("the upstream `{text}` says `mount: false`; remove that, or add a mount for it")
        } else {
            names::suggestion(text, self.mounts.iter().map(ResourceName::as_str), "mounts")
        };
        self.reporter.report(Code::UnknownMount, *at, message, help);
        None
    }

    fn policy(
        &mut self,
        environment: Option<Located<String>>,
        policy: Option<Located<RawPolicy>>,
        callers: Option<&callers::Callers>,
    ) {
        let text = environment.and_then(|found| policy::text(&found, "the environment", self.reporter));
        self.meaning.environment = text;
        let Some(Located { value: Some(policy), .. }) = policy else { return };
        let known = policy::Known {
            environment: self.meaning.environment.as_deref(),
            callers,
            upstream: &|name| self.existing_upstream(name),
        };
        self.meaning.policy = policy::validate(policy, &known, self.reporter).map(Arc::new);
    }

    fn warn_of_unmounted(&self) {
        for (name, at) in &self.upstreams {
            let Some(upstream) = self.meaning.upstreams.get(name) else { continue };
            if let Some(at) = at.filter(|_| !upstream.mount && !self.led_to.contains(name)) {
                let message = format!("no mount leads to the upstream `{}`", upstream.name);
                let help =
                    "add a mount with `upstream: <name>`, or remove the upstream or its `mount: false`";
                self.reporter.report(Code::UnmountedUpstream, at, message, help);
            }
        }
    }

    fn count(&self, at: NodeId, count: usize, max: usize, what: &str) {
        if count > max {
            let message = format!("{count} {what} are more than the {max} that one config may have");
            self.reporter.report(Code::OutOfRange, at, message, "split the config over several fleets");
        }
    }
}

/// The values of a key that takes one of a few words.
fn one_of<T: Copy>(
    found: &Located<String>,
    known: impl Iterator<Item = (&'static str, T)> + Clone,
    what: &str,
    reporter: &Reporter<'_>,
) -> Option<T> {
    let text = found.value.as_deref()?;
    if let Some((_, value)) = known.clone().find(|(word, _)| *word == text) {
        return Some(value);
    }
    let words = known.clone().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    let help = match did_you_mean(text, known.map(|(word, _)| word)) {
        Some(word) => format!("did you mean `{word}`? allowed are {words}"),
        None => format!("use one of {words}"),
    };
    reporter.report(Code::UnknownValue, found.at, format!("`{}` is not {what}", values::shown(text)), help);
    None
}
