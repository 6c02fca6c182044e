//! References → values for one upstream, and what is said when that fails. The only holder of resolved values before they
//! stand in a `Compiled`.

use crate::codes::Code;
use crate::diagnostic::Diagnostic;
use crate::reference::{Reference, Source, Template};

use super::{Host, Unresolved};

/// Resolves the templates of one upstream and collects what is wrong with them.
pub(super) struct Resolver<'a> {
    host: &'a Host<'a>,
    /// `upstreams.<name>`.
    root: String,
    diagnostics: Vec<Diagnostic>,
    /// The first reference without a usable value, when such upstreams are marked instead of refused.
    unresolved: Option<String>,
}

// === impl Resolver ===

impl<'a> Resolver<'a> {
    pub(super) fn new(host: &'a Host<'a>, root: String) -> Self {
        Self { host, root, diagnostics: Vec::new(), unresolved: None }
    }

    /// Hands over what was found. The name of the reference that marks the upstream, if one does.
    pub(super) fn finish(self, diagnostics: &mut Vec<Diagnostic>) -> Option<String> {
        diagnostics.extend(self.diagnostics);
        self.unresolved
    }

    pub(super) fn host(&self) -> &'a Host<'a> {
        self.host
    }

    /// The text with its references replaced; nothing if one has no value, which is then already recorded.
    pub(super) fn resolve(&mut self, path: &str, template: &Template) -> Option<String> {
        // Every reference is looked at, so that each failure is reported.
        let failures: Vec<_> =
            template.references().filter_map(|reference| self.value(reference).err()).collect();
        if failures.is_empty() {
            return template.render(|reference| self.value(reference)).ok();
        }
        for failure in failures {
            self.record_failure(path, failure);
        }
        None
    }

    /// What the references of a template gave, as far as they gave anything.
    pub(super) fn values(&self, template: &Template) -> Vec<String> {
        template.references().filter_map(|reference| self.value(reference).ok()).collect()
    }

    /// A value that a reference gave cannot be used. Without any reference in it the document would have been refused.
    pub(super) fn unusable(&mut self, path: &str, template: &Template, reason: &str) {
        let names: Vec<_> =
            template.references().map(|reference| format!("`${{{}}}`", reference.name())).collect();
        let first = template.references().next().map(Reference::name);
        match (self.host.unresolved, first) {
            (Unresolved::MarkDown, Some(first)) => {
                self.unresolved.get_or_insert(first);
            }
            (Unresolved::Refuse, _) | (Unresolved::MarkDown, None) => {
                let message = format!("with {} resolved, {reason}", names.join(" and "));
                let help =
                    "correct the variable or file where the data plane runs; its value is not shown here";
                self.push(Code::BadResolvedValue, path, message, help.to_owned());
            }
        }
    }

    /// A value is one that must not stand there twice. What was good before is refused by nobody: the second is left out.
    pub(super) fn conflicting(&mut self, path: &str, reason: &str) {
        if self.host.unresolved == Unresolved::Refuse {
            let help = "give each of them a value of its own".to_owned();
            self.push(Code::BadResolvedValue, path, reason.to_owned(), help);
        }
    }

    /// The host's own flags refuse it.
    pub(super) fn not_allowed(&mut self, path: &str, message: String, help: String) {
        self.push(Code::NotAllowedHere, path, message, help);
    }

    fn value(&self, reference: &Reference) -> Result<String, Failure> {
        let name = reference.name();
        if !self.host.allow_ref.matches(&name) {
            return Err(Failure::NotAllowed(name));
        }
        match &reference.source {
            Source::Env(variable) => match self.host.lookup.env(variable) {
                // As in a shell, `:-` also stands in for an empty value.
                Some(value) if !value.is_empty() || reference.default.is_none() => Ok(value),
                _ => reference.default.clone().ok_or(Failure::NotSet(name)),
            },
            Source::File(path) => match self.host.lookup.file(path) {
                Ok(mut text) => {
                    // Editors and secret stores end files with a line break that is no part of the secret.
                    if text.ends_with('\n') {
                        text.pop();
                        if text.ends_with('\r') {
                            text.pop();
                        }
                    }
                    Ok(text)
                }
                Err(error) => Err(Failure::Unreadable(name, error.kind())),
            },
        }
    }

    fn record_failure(&mut self, path: &str, failure: Failure) {
        if let Failure::NotAllowed(name) = &failure {
            let message = format!("this data plane does not allow the reference `${{{name}}}`");
            return self.not_allowed(path, message, flag_help("--allow-ref", name));
        }
        if self.host.unresolved == Unresolved::MarkDown {
            self.unresolved.get_or_insert(failure.into_name());
            return;
        }
        let (message, help) = match failure {
            Failure::NotSet(name) | Failure::NotAllowed(name) => (
                format!("the variable `{name}` is not set where the data plane runs"),
                format!("set `{name}` in the data plane's environment, or give a default: `${{{name}:-…}}`"),
            ),
            Failure::Unreadable(name, kind) => (
                format!("`${{{name}}}` cannot be read: {kind}"),
                "provide the file where the data plane runs, readable for its user".to_owned(),
            ),
        };
        self.push(Code::UnresolvedReference, path, message, help);
    }

    fn push(&mut self, code: Code, path: &str, message: String, help: String) {
        self.diagnostics.push(Diagnostic::new(code, format!("{}.{path}", self.root), message, help));
    }
}

/// The flag that would allow the text. It is made to be copied into a shell, so nothing in the text may end the quotes, nor
/// may the text allow more than itself.
pub(super) fn flag_help(flag: &str, text: &str) -> String {
    if text.contains(['\'', '*', '?', ',']) || text.chars().any(char::is_control) {
        format!("start the data plane with a pattern for `{flag}` that matches it")
    } else {
        format!("start the data plane with `{flag} '{text}'`")
    }
}

enum Failure {
    NotAllowed(String),
    NotSet(String),
    Unreadable(String, std::io::ErrorKind),
}

// === impl Failure ===

impl Failure {
    fn into_name(self) -> String {
        match self {
            Self::NotAllowed(name) | Self::NotSet(name) | Self::Unreadable(name, _) => name,
        }
    }
}
