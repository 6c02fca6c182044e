//! `auth`: who may use which mount. Whether a mount exists is for the whole document to say, and what is open to the network is judged
//! with the listeners.

use std::collections::{BTreeMap, BTreeSet};

use ostler_core::digest::Digest;
use ostler_core::jwt::KeySet;
use ostler_core::limits;
use ostler_core::name::ResourceName;

use crate::codes::Code;
use crate::located::{Entries, Located};
use crate::node::NodeId;
use crate::raw::{RawApiKey, RawAuth, RawIssuer, RawMountAccess};
use crate::reporter::Reporter;
use crate::validated::{Accept, ApiKey, Auth, Issuer, IssuerKeys, MountAccess};

use super::{names, values};

/// What a digest of an API key begins with.
const SHA256: &str = "sha256:";

/// Finds what other sections name; each reports what does not exist.
pub(super) struct Existing<'a> {
    pub(super) mount: &'a dyn Fn(&Located<String>) -> Option<ResourceName>,
    pub(super) listener: &'a dyn Fn(&Located<String>) -> Option<ResourceName>,
}

struct Judge<'a> {
    existing: Existing<'a>,
    /// Issuers that the section names, understood or not.
    issuers: BTreeSet<String>,
    has_keys: bool,
    reporter: &'a Reporter<'a>,
}

pub(super) fn validate(raw: Located<RawAuth>, existing: Existing<'_>, reporter: &Reporter<'_>) -> Auth {
    let Located { at, value: Some(raw) } = raw else { return Auth::default() };
    let issuers = raw.issuers.as_ref().and_then(|issuers| issuers.value.as_ref());
    let issuers =
        issuers.into_iter().flat_map(|entries| &entries.0).filter_map(|(name, _)| name.value.clone());
    let keys = raw.api_keys.as_ref().and_then(|keys| keys.value.as_ref());
    let judge = Judge {
        existing,
        issuers: issuers.collect(),
        has_keys: keys.is_some_and(|keys| !keys.0.is_empty()),
        reporter,
    };
    let resource = raw.resource.and_then(|resource| judge.resource(resource));
    if !judge.issuers.is_empty() && resource.is_none() {
        let help = "write `resource: https://gateway.example`, the URL at which clients reach the data plane";
        let message = "tokens are accepted, and `resource` does not say for which URL they must be made";
        reporter.report(Code::MissingKey, at, message, help);
    }
    Auth {
        accept: raw.accept.and_then(|accept| judge.accept(accept)),
        api_keys: judge.entries(raw.api_keys, limits::CONFIG_API_KEYS_MAX, "an API key", |raw, at| {
            judge.api_key(raw, at)
        }),
        issuers: judge
            .entries(raw.issuers, limits::CONFIG_ISSUERS_MAX, "an issuer", |raw, at| judge.issuer(raw, at)),
        listeners: judge.listeners(raw.listeners),
        mounts: judge.mounts(raw.mounts),
        resource,
    }
}

// === impl Judge ===

impl Judge<'_> {
    /// A map by names of the operator's choice.
    fn entries<R, V>(
        &self,
        found: Option<Located<Entries<R>>>,
        max: usize,
        what: &str,
        judge: impl Fn(R, NodeId) -> Option<V>,
    ) -> BTreeMap<ResourceName, V> {
        let Some(Located { at, value: Some(Entries(entries)) }) = found else { return BTreeMap::new() };
        values::count(at, entries.len(), max, "entries", self.reporter);
        let mut judged = BTreeMap::new();
        for (name, raw) in entries {
            let parsed = names::resource(&name, what, self.reporter);
            if let Some(taken) = parsed.as_ref().filter(|name| is_word(name.as_str())) {
                let message = format!("`{taken}` has a meaning of its own in `accept`");
                self.reporter.report(Code::BadName, name.at, message, "choose another name");
            }
            let value = raw.value.and_then(|raw| judge(raw, name.at));
            if let (Some(name), Some(value)) = (parsed, value) {
                judged.insert(name, value);
            }
        }
        judged
    }

    fn api_key(&self, raw: RawApiKey, at: NodeId) -> Option<ApiKey> {
        let mounts = raw.mounts.map(|mounts| self.listed_mounts(mounts));
        let scopes = self.scopes(raw.scopes);
        let Some(key) = raw.key else {
            let help = "run `ostler key new NAME` and write what it prints";
            self.reporter.report(Code::MissingKey, at, "the required key `key` is missing", help);
            return None;
        };
        let template = values::template(key.at, &key.value?, self.reporter)?;
        if template.references().next().is_none() && key_digest(template.as_str()).is_none() {
            let message = "`key` is not the digest of an API key";
            let help = "write `sha256:` and 64 hexadecimal digits, as `ostler key new NAME` prints them; if a key was written out here, replace it";
            self.reporter.report(Code::BadKeyDigest, key.at, message, help);
            return None;
        }
        Some(ApiKey { key: template, mounts, scopes })
    }

    fn issuer(&self, raw: RawIssuer, at: NodeId) -> Option<Issuer> {
        let audiences = self.texts(raw.audiences, "an audience");
        let keys = self.keys(raw.jwks, raw.jwks_url, at);
        let Some(issuer) = raw.issuer else {
            let help = "write `issuer: https://idp.example`, exactly as its tokens say it";
            self.reporter.report(Code::MissingKey, at, "the required key `issuer` is missing", help);
            return None;
        };
        let text = issuer.value?;
        self.url(issuer.at, &text)?;
        Some(Issuer { issuer: text, keys: keys?, audiences })
    }

    fn keys(
        &self,
        given: Option<Located<String>>,
        fetched: Option<Located<String>>,
        at: NodeId,
    ) -> Option<IssuerKeys> {
        match (given, fetched) {
            (Some(set), None) => {
                let text = set.value?;
                let template = values::template(set.at, &text, self.reporter)?;
                let is_set = || KeySet::parse(text.as_bytes()).is_ok();
                if template.references().next().is_none() && !is_set() {
                    let message = "`jwks` is not a JSON Web Key Set with a public key";
                    let help = "write the set as it is published, or `${file:/path}`";
                    self.reporter.report(Code::BadKeySet, set.at, message, help);
                    return None;
                }
                Some(IssuerKeys::Given(template))
            }
            (None, Some(url)) => {
                let text = url.value?;
                self.url(url.at, &text)?;
                Some(IssuerKeys::Fetched(text))
            }
            (given, _) => {
                let message = if given.is_some() {
                    "`jwks` and `jwks_url` are both given"
                } else {
                    "the keys of the issuer are missing"
                };
                let help = "write one of `jwks_url` and `jwks`";
                self.reporter.report(Code::MissingKey, at, message, help);
                None
            }
        }
    }

    fn url(&self, at: NodeId, text: &str) -> Option<()> {
        values::own_url(at, text, "a URL of an issuer", self.reporter).then_some(())
    }

    /// Without a `/` at its end.
    fn resource(&self, resource: Located<String>) -> Option<String> {
        let text = resource.value?;
        self.url(resource.at, &text)?;
        let origin = text.trim_end_matches('/');
        // Metadata about it stands below its host (RFC 9728 section 3.1), where a path would need a second place.
        if origin.split("://").nth(1).is_none_or(|rest| rest.contains(['/', '?'])) {
            let help = "write scheme and host, such as `https://gateway.example`";
            self.reporter.report(Code::BadUrl, resource.at, "the URL has a path or a query", help);
            return None;
        }
        Some(origin.to_owned())
    }

    fn accept(&self, found: Located<Vec<Located<String>>>) -> Option<Accept> {
        let Located { at, value } = found;
        let items = value?;
        let mut accept = Accept::default();
        let mut is_none = false;
        for item in &items {
            let Some(word) = item.value.as_deref() else { continue };
            match word {
                Accept::NONE => is_none = true,
                Accept::API_KEYS => {
                    accept.api_keys = true;
                    if !self.has_keys {
                        let message = "API keys are accepted, and there are none";
                        self.reporter.report(
                            Code::UnknownCredential,
                            item.at,
                            message,
                            "add one to `auth.api_keys`",
                        );
                    }
                }
                issuer => accept.issuers.extend(self.issuer_named(issuer, item.at)),
            }
        }
        if items.is_empty() || (is_none && items.len() > 1) {
            let message = if is_none { "`none` stands beside something else" } else { "nothing is accepted" };
            let help = "write `[none]` alone to ask for no credential, or name what is accepted";
            self.reporter.report(Code::OutOfRange, at, message, help);
            return None;
        }
        // What could not be read must not become an open door.
        (is_none || !accept.is_none()).then_some(accept)
    }

    fn issuer_named(&self, text: &str, at: NodeId) -> Option<ResourceName> {
        if self.issuers.contains(text) {
            return ResourceName::parse(text).ok();
        }
        let known = self.issuers.iter().map(String::as_str).chain([Accept::API_KEYS, Accept::NONE]);
        let message = format!("there is no issuer named `{}`", values::shown(text));
        let help = names::suggestion(text, known, "words that may stand here");
        self.reporter.report(Code::UnknownCredential, at, message, help);
        None
    }

    fn listeners(
        &self,
        found: Option<Located<Entries<crate::raw::RawListenerAccess>>>,
    ) -> BTreeMap<ResourceName, Accept> {
        let Some(Located { at, value: Some(Entries(entries)) }) = found else { return BTreeMap::new() };
        values::count(at, entries.len(), limits::CONFIG_LISTENERS_MAX + 1, "listeners", self.reporter);
        let mut judged = BTreeMap::new();
        for (name, raw) in entries {
            let listener = (self.existing.listener)(&name);
            let Some(raw) = raw.value else { continue };
            let Some(accept) = raw.accept else {
                let help = "write `accept: [none]`, or what is accepted";
                self.reporter.report(Code::MissingKey, name.at, "the required key `accept` is missing", help);
                continue;
            };
            let accept = self.accept(accept);
            if let (Some(listener), Some(accept)) = (listener, accept) {
                judged.insert(listener, accept);
            }
        }
        judged
    }

    fn mounts(&self, found: Option<Located<Entries<RawMountAccess>>>) -> BTreeMap<ResourceName, MountAccess> {
        let Some(Located { at, value: Some(Entries(entries)) }) = found else { return BTreeMap::new() };
        values::count(at, entries.len(), limits::CONFIG_RESOURCES_MAX, "mounts", self.reporter);
        let mut judged = BTreeMap::new();
        for (name, raw) in entries {
            let mount = (self.existing.mount)(&name);
            let Some(raw) = raw.value else { continue };
            let accept = raw.accept.and_then(|accept| self.accept(accept));
            let scopes_at = raw.scopes.as_ref().map(|scopes| scopes.at);
            let scopes = self.scopes(raw.scopes);
            if let Some(at) = scopes_at.filter(|_| accept.as_ref().is_some_and(Accept::is_none)) {
                let message = "scopes are wanted of callers who are asked for no credential";
                let help = "remove `scopes`, or accept something that has them";
                self.reporter.report(Code::ScopesOfNobody, at, message, help);
            }
            if let Some(mount) = mount.filter(|_| accept.is_some() || !scopes.is_empty()) {
                judged.insert(mount, MountAccess { accept, scopes });
            }
        }
        judged
    }

    fn listed_mounts(&self, mounts: Located<Vec<Located<String>>>) -> BTreeSet<ResourceName> {
        let Some(items) = mounts.value else { return BTreeSet::new() };
        if items.is_empty() {
            let help = "name the mounts that it is good for, or leave `mounts` out for all of them";
            self.reporter.report(Code::OutOfRange, mounts.at, "the key would be good for no mount", help);
        }
        values::count(mounts.at, items.len(), limits::CONFIG_RESOURCES_MAX, "mounts", self.reporter);
        items.iter().filter_map(|name| (self.existing.mount)(name)).collect()
    }

    fn scopes(&self, found: Option<Located<Vec<Located<String>>>>) -> BTreeSet<String> {
        values::scopes(found, self.reporter)
    }

    fn texts(&self, found: Option<Located<Vec<Located<String>>>>, what: &str) -> BTreeSet<String> {
        let Some(Located { at, value: Some(items) }) = found else { return BTreeSet::new() };
        values::count(at, items.len(), limits::CONFIG_SCOPES_MAX, "audiences", self.reporter);
        let texts = items.into_iter().filter_map(|item| item.value.map(|text| (item.at, text)));
        let is_fixed = |(at, text): &(NodeId, String)| values::fixed(*at, text, what, self.reporter);
        texts.filter(is_fixed).map(|(_, text)| text).collect()
    }
}

/// The digest in `sha256:…`.
pub(crate) fn key_digest(text: &str) -> Option<Digest> {
    text.strip_prefix(SHA256)?.parse().ok()
}

/// A bundle must not let anybody to a mount whom the mount itself keeps out.
pub(super) fn weak_bundle(auth: &Auth, bundle: &str, mount: &str) -> Option<String> {
    let of_mount = auth.mounts.get(mount)?;
    let of_bundle = auth.mounts.get(bundle);
    if let Some(wanted) = &of_mount.accept
        && !wanted.is_none()
        && !of_bundle.and_then(|access| access.accept.as_ref()).is_some_and(|accept| accept.is_within(wanted))
    {
        return Some(format!("the bundle accepts what its mount `{mount}` does not"));
    }
    let nothing = BTreeSet::new();
    let has = of_bundle.map_or(&nothing, |access| &access.scopes);
    let missing = of_mount.scopes.difference(has).next()?;
    Some(format!("the bundle does not want the scope `{missing}`, which its mount `{mount}` wants"))
}

fn is_word(text: &str) -> bool {
    [Accept::API_KEYS, Accept::NONE].contains(&text)
}
