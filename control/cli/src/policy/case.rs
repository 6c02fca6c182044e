//! A call as people write it down: on a command line, or in a file.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use ostler_config::Validated;
use ostler_mcp::method;
use ostler_policy::{
    Annotations, Arguments, Caller, Credential, Decision, Explained, Known, Message, Policy, Settings,
    Target, Why,
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// One call.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Case {
    pub(super) upstream: Option<String>,
    pub(super) mount: Option<String>,
    pub(super) method: Option<String>,
    pub(super) tool: Option<String>,
    pub(super) prompt: Option<String>,
    pub(super) resource: Option<String>,
    pub(super) arguments: Option<Value>,
    pub(super) identity: Option<String>,
    pub(super) claims: Map<String, Value>,
    pub(super) annotations: Map<String, Value>,
}

impl Case {
    /// What the config's policy says of it.
    ///
    /// # Errors
    /// When it is no call, or goes to no upstream of the config.
    pub(super) fn explain(&self, config: &Validated) -> anyhow::Result<Explained> {
        let upstream = self.upstream(config)?;
        let (of, target) = match (&self.tool, &self.prompt, &self.resource) {
            (Some(tool), None, None) => (method::TOOLS_CALL, Target::Tool(tool)),
            (None, Some(prompt), None) => (method::PROMPTS_GET, Target::Prompt(prompt)),
            (None, None, Some(uri)) => (method::RESOURCES_READ, Target::Resource(uri)),
            (None, None, None) if self.method.is_some() => ("", Target::Nothing),
            _ => bail!("a call is of one tool, prompt or resource, or has a method alone"),
        };
        let method = self.method.as_deref().unwrap_or(of);
        let arguments = self.arguments.as_ref().map(Value::to_string);
        let claims = self.claims.clone();
        let credential = match claims.is_empty() {
            true => Credential::Nothing,
            false => Credential::Token { issuer: "".into(), subject: "".into(), claims: Arc::new(claims) },
        };
        let caller = Caller::new(credential, self.identity.as_deref().map(Into::into));
        let known = Known::new(arguments.as_deref());
        let message = Message {
            method,
            is_call: method::is_governed(method),
            target,
            arguments: Arguments::Known(&known),
            annotations: self.annotations()?,
            caller: &caller,
            mount: self.mount.as_deref().unwrap_or(upstream),
            upstream: Some(upstream),
            environment: config.environment(),
        };
        Ok(match config.policy() {
            Some(policy) => policy.explain(&message),
            None => {
                let none = Policy::new(Vec::new(), Settings::default()).explain(&message);
                Explained { decision: Decision::allowed(Why::NoPolicy), ..none }
            }
        })
    }

    fn upstream<'c>(&'c self, config: &'c Validated) -> anyhow::Result<&'c str> {
        let named = match (&self.upstream, &self.mount) {
            (Some(upstream), _) => config.upstreams().get_key_value(upstream.as_str()).map(|(name, _)| name),
            (None, Some(mount)) => config.mounts().get(mount.as_str()).map(|mount| &mount.upstream),
            (None, None) => match config.upstreams().len() {
                1 => config.upstreams().keys().next(),
                _ => bail!("say which upstream the call goes to, or by which mount"),
            },
        };
        named.map(|name| name.as_str()).context("the config has no such upstream or mount")
    }

    fn annotations(&self) -> anyhow::Result<Annotations> {
        let mut annotations = Annotations::default();
        for (name, value) in &self.annotations {
            let value =
                value.as_bool().with_context(|| format!("the annotation `{name}` is true or false"))?;
            match name.as_str() {
                "readOnlyHint" => annotations.read_only = value,
                "destructiveHint" => annotations.destructive = value,
                "idempotentHint" => annotations.idempotent = value,
                "openWorldHint" => annotations.open_world = value,
                _ => bail!("`{name}` is no annotation; there are {}", Annotations::NAMES.join(", ")),
            }
        }
        Ok(annotations)
    }
}
