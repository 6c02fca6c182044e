//! How an upstream is reached, with its references resolved.
//!
//! The identity is computed here, next to what it covers.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::header::HeaderValue;
use http::uri::PathAndQuery;
use http::{HeaderMap, Uri};
use ostler_core::digest::{Digest, DigestBuilder};
use ostler_core::limits::SECRET_SHOWN_BYTES_MIN;

use crate::compiled::{ClientCredentials, HttpTransport, SecretString, StdioTransport, Transport};
use crate::reference::{Template, is_absolute};
use crate::secret;
use crate::validate::url;
use crate::validated::{self, HttpUpstream, StdioUpstream, Upstream, UpstreamTransport};

use super::resolve::{Resolver, flag_help};

/// Variables that decide which code a command runs: the system's, and those of the interpreters that MCP servers are
/// written for. With a list of allowed commands they would make the list worthless.
const CODE_CHOOSING_ENV: [&str; 25] = [
    "PATH",
    "PATHEXT",
    "LD_*",
    "DYLD_*",
    "GCONV_PATH",
    "BASH_ENV",
    "BASH_FUNC_*",
    "ENV",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NPM_CONFIG_*",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PYTHONUSERBASE",
    "RUBYOPT",
    "RUBYLIB",
    "PERL5OPT",
    "PERL5LIB",
    "PERL5DB",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "_JAVA_OPTIONS",
    "CLASSPATH",
    "DOTNET_STARTUP_HOOKS",
];
pub(super) fn compile(upstream: &Upstream, resolver: &mut Resolver<'_>) -> (Transport, Digest) {
    match &upstream.transport {
        UpstreamTransport::Http(http) => {
            let (transport, identity) = compile_http(http, "http", resolver);
            (Transport::Http(transport), identity.finish())
        }
        UpstreamTransport::Sse(http) => {
            let (transport, mut identity) = compile_http(http, "sse", resolver);
            // A session is one long request, which other headers do not reach.
            for (name, value) in &transport.headers {
                identity.update(name.as_str().as_bytes()).update(value.as_bytes());
            }
            (Transport::Sse(transport), identity.finish())
        }
        UpstreamTransport::Stdio(stdio) => compile_stdio(stdio, resolver),
    }
}

/// `key` is where it stands in the document.
fn compile_http(
    http: &HttpUpstream,
    key: &str,
    resolver: &mut Resolver<'_>,
) -> (HttpTransport, DigestBuilder) {
    let url_path = format!("{key}.url");
    let mut headers = HeaderMap::with_capacity(http.headers.len());
    for (name, template) in &http.headers {
        let path = format!("headers.{}", crate::node::path_step(name.as_str()));
        let Some(text) = resolver.resolve(&path, template) else { continue };
        match HeaderValue::from_str(&text) {
            Ok(mut value) => {
                value.set_sensitive(
                    template.references().next().is_some() || secret::is_secret_header(name.as_str()),
                );
                headers.insert(name.clone(), value);
            }
            Err(_) => resolver.unusable(
                &path,
                template,
                "the header value holds a character that is not legal there",
            ),
        }
    }
    let oauth = http.oauth.as_ref().and_then(|oauth| self::oauth(oauth, resolver));
    let target = resolver.resolve(&url_path, &http.url).and_then(|text| match url::parse(&text) {
        Ok(target) => Some(target),
        Err(problem) => {
            resolver.unusable(&url_path, &http.url, problem.message);
            None
        }
    });
    let target = target.unwrap_or_else(url::Target::nowhere);
    let mut identity = DigestBuilder::new();
    identity.update(key.as_bytes()).update(target.url.to_string().as_bytes());
    let transport = HttpTransport {
        path_and_query: path_and_query(&target.url),
        host_header: HttpTransport::host_header(&target.url),
        url: target.url,
        https: target.https,
        host: target.host,
        port: target.port,
        headers,
        oauth: oauth.map(Arc::new),
    };
    (transport, identity)
}

/// Nothing while a reference has no value, which marks the upstream.
fn oauth(oauth: &validated::OauthClient, resolver: &mut Resolver<'_>) -> Option<ClientCredentials> {
    let client_id = resolver.resolve("oauth.client_id", &oauth.client_id);
    let client_secret = resolver.resolve("oauth.client_secret", &oauth.client_secret);
    let (client_id, client_secret) = (client_id?, client_secret?);
    let scope = oauth.scopes.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let mut identity = DigestBuilder::new();
    for text in
        [&oauth.url, &client_id, &client_secret, &scope, oauth.resource.as_deref().unwrap_or_default()]
    {
        identity.update(text.as_bytes());
    }
    Some(ClientCredentials {
        endpoint: super::auth::fetched(&oauth.url),
        client_id: SecretString::new(client_id),
        client_secret: SecretString::new(client_secret),
        scope,
        resource: oauth.resource.clone(),
        identity: identity.finish(),
    })
}

fn path_and_query(url: &Uri) -> PathAndQuery {
    url.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

fn compile_stdio(stdio: &StdioUpstream, resolver: &mut Resolver<'_>) -> (Transport, Digest) {
    let command = &stdio.command;
    if !resolver.host().allow_command.matches(command) {
        resolver.not_allowed(
            "stdio.command",
            format!("this data plane does not allow the command `{command}`"),
            flag_help("--allow-command", command),
        );
    }
    let mut identity = DigestBuilder::new();
    identity.update(b"stdio").update(command.as_bytes());

    let mut secrets = BTreeSet::new();
    let mut args = Vec::with_capacity(stdio.args.len());
    identity.update(&(stdio.args.len() as u64).to_be_bytes());
    for (index, template) in stdio.args.iter().enumerate() {
        let text = process_value(resolver, &format!("stdio.args[{index}]"), template);
        identity.update(text.as_bytes());
        secrets.extend(resolver.values(template));
        args.push(SecretString::new(text));
    }

    let mut env = Vec::with_capacity(stdio.env.len());
    for (name, template) in &stdio.env {
        let path = format!("stdio.env.{}", crate::node::path_step(name));
        if !resolver.host().allow_command.allows_everything() && chooses_code(name) {
            resolver.not_allowed(
                &path,
                format!("this data plane allows only some commands, and `{name}` would change what they run"),
                "remove the variable, or start the data plane with `--allow-command '*'`".to_owned(),
            );
        }
        let text = process_value(resolver, &path, template);
        identity.update(name.as_bytes()).update(text.as_bytes());
        secrets.extend(resolver.values(template));
        secrets.extend(secret::is_secret_name(name).then(|| text.clone()));
        env.push((name.clone(), SecretString::new(text)));
    }

    let is_relative_path = command.contains(['/', '\\']) && !is_absolute(command);
    if stdio.cwd.is_some() && is_relative_path && !resolver.host().allow_command.allows_everything() {
        resolver.not_allowed(
            "stdio.cwd",
            format!("this data plane allows only some commands, and `cwd` would decide which program `{command}` is"),
            "write the command with its whole path, or start the data plane with `--allow-command '*'`".to_owned(),
        );
    }

    identity.update(b"cwd").update(stdio.cwd.as_deref().unwrap_or_default().as_bytes());
    identity.update(stdio.share.as_str().as_bytes());
    let transport = StdioTransport {
        command: command.clone(),
        args,
        env,
        cwd: stdio.cwd.clone(),
        share: stdio.share,
        warm: stdio.warm,
        // The longer first, so that what is part of another is not looked for in what is left of it.
        secrets: sorted_by_length(secrets).map(SecretString::new).collect(),
    };
    (Transport::Stdio(transport), identity.finish())
}

fn sorted_by_length(secrets: BTreeSet<String>) -> impl Iterator<Item = String> {
    let mut secrets: Vec<_> =
        secrets.into_iter().filter(|secret| secret.len() >= SECRET_SHOWN_BYTES_MIN).collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.into_iter()
}

/// Empty when it has no usable value, which is then already recorded.
fn process_value(resolver: &mut Resolver<'_>, path: &str, template: &Template) -> String {
    let text = resolver.resolve(path, template).unwrap_or_default();
    if text.contains('\0') {
        resolver.unusable(path, template, "the value holds a NUL, which no process can be given");
        return String::new();
    }
    text
}

fn chooses_code(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    CODE_CHOOSING_ENV.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == *pattern,
    })
}
