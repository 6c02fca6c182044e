//! Text with references: `${NAME}`, `${NAME:-default}`, `${file:/path}`, and `$$` for a dollar.
//!
//! A template keeps what was written. What stands behind a reference is never kept here.

use std::fmt;

/// Text that may hold references, as written and as understood.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    Literal(String),
    Reference(Reference),
}

/// One `${…}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub source: Source,
    /// After `:-`; used when the source has no value.
    pub default: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A variable of the data plane's environment.
    Env(String),
    /// A file on the data plane's machine, by absolute path.
    File(String),
}

/// Why text with `$` could not be read. Texts are not shown: what was meant as a reference may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("a reference that starts with `${{` has no closing `}}`")]
    Unterminated,
    #[error("a reference is empty")]
    Empty,
    #[error("the name of a reference may hold letters, digits and `_` only, and must not start with a digit")]
    BadName,
    #[error("a file reference needs an absolute path without `..`")]
    BadPath,
    #[error("a file reference has no default")]
    FileDefault,
    #[error("a `$` before a name looks like a reference without braces")]
    BareDollar,
}

// === impl Template ===

impl Template {
    /// # Errors
    /// [`TemplateError`] for the first reference that cannot be read.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut segments = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            let (before, from_dollar) = rest.split_at(at);
            literal.push_str(before);
            let after = from_dollar.strip_prefix('$').unwrap_or_default();
            if let Some(after) = after.strip_prefix('$') {
                literal.push('$');
                rest = after;
            } else if let Some(body) = after.strip_prefix('{') {
                let (inside, after) = body.split_once('}').ok_or(TemplateError::Unterminated)?;
                if !literal.is_empty() {
                    segments.push(Segment::Literal(std::mem::take(&mut literal)));
                }
                segments.push(Segment::Reference(Reference::parse(inside)?));
                rest = after;
            } else if after.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                return Err(TemplateError::BareDollar);
            } else {
                literal.push('$');
                rest = after;
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            segments.push(Segment::Literal(literal));
        }
        Ok(Self { text: text.to_owned(), segments })
    }

    /// As written, references unresolved.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Literal(_) => None,
            Segment::Reference(reference) => Some(reference),
        })
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The text with every reference replaced.
    ///
    /// # Errors
    /// The first one of `value`.
    pub(crate) fn render<E>(
        &self,
        mut value: impl FnMut(&Reference) -> Result<String, E>,
    ) -> Result<String, E> {
        let mut out = String::with_capacity(self.text.len());
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => out.push_str(text),
                Segment::Reference(reference) => out.push_str(&value(reference)?),
            }
        }
        Ok(out)
    }
}

impl fmt::Debug for Template {
    /// Literal text may be a secret that should have been a reference, and so may a default.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.references().map(Reference::name)).finish()
    }
}

// === impl Reference ===

impl Reference {
    fn parse(inside: &str) -> Result<Self, TemplateError> {
        if inside.is_empty() {
            return Err(TemplateError::Empty);
        }
        if let Some(path) = inside.strip_prefix("file:") {
            if path.contains(":-") {
                return Err(TemplateError::FileDefault);
            }
            if !is_absolute(path) || path.split(['/', '\\']).any(|step| step == "..") || path.contains('\0') {
                return Err(TemplateError::BadPath);
            }
            return Ok(Self { source: Source::File(path.to_owned()), default: None });
        }
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default.to_owned())),
            None => (inside, None),
        };
        let mut characters = name.chars();
        let first = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        if !first || !characters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(TemplateError::BadName);
        }
        Ok(Self { source: Source::Env(name.to_owned()), default })
    }

    /// As written inside `${}`, without a default: what `--allow-ref` is matched against and what errors name.
    pub fn name(&self) -> String {
        match &self.source {
            Source::Env(name) => name.clone(),
            Source::File(path) => format!("file:{path}"),
        }
    }
}

/// Absolute on any system that a data plane may run on; control may judge for another one.
pub(crate) fn is_absolute(path: &str) -> bool {
    let drive = path.get(..3).is_some_and(|start| {
        start.starts_with(|c: char| c.is_ascii_alphabetic())
            && (start.ends_with(":\\") || start.ends_with(":/"))
    });
    (path.len() > 1 && path.starts_with('/')) || (drive && path.len() > 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str) -> String {
        Template::parse(text)
            .unwrap()
            .render(|r| Ok::<_, ()>(format!("<{}|{:?}>", r.name(), r.default)))
            .unwrap()
    }

    #[test]
    fn references_defaults_files_and_dollars_are_read() {
        assert_eq!(render("Bearer ${TOKEN}"), "Bearer <TOKEN|None>");
        assert_eq!(render("${A:-}${B:-x:-y}"), "<A|Some(\"\")><B|Some(\"x:-y\")>");
        assert_eq!(render("${file:/run/secrets/a}"), "<file:/run/secrets/a|None>");
        assert_eq!(render("${file:C:\\secrets\\a}"), "<file:C:\\secrets\\a|None>");
        assert_eq!(render("$$A costs 5$, $${A}, ^a$"), "$A costs 5$, ${A}, ^a$");
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        for (text, error) in [
            ("${", TemplateError::Unterminated),
            ("a ${TOKEN", TemplateError::Unterminated),
            ("${}", TemplateError::Empty),
            ("${1A}", TemplateError::BadName),
            ("${A B}", TemplateError::BadName),
            ("${:-x}", TemplateError::BadName),
            ("${file:secrets/a}", TemplateError::BadPath),
            ("${file:/}", TemplateError::BadPath),
            ("${file:/run/../etc/shadow}", TemplateError::BadPath),
            ("${file:/a:-b}", TemplateError::FileDefault),
            ("$TOKEN", TemplateError::BareDollar),
        ] {
            assert_eq!(Template::parse(text), Err(error), "{text}");
        }
    }
}
