//! What the things of a mount are called in a bundle: `<mount>__<name>` for tools and prompts, and for resources the mount
//! after the scheme: `file:///a` of the mount `docs` is `file://docs//a`. Both ways from the name alone, without a table and
//! without asking anybody: a mount's name never holds `__` or `/`.

use ostler_core::limits::BUNDLE_NAME_CHARS_MAX;

/// Between a mount's name and that of its tool.
const SEPARATOR: &str = "__";
/// The scheme of URIs that have none of their own that could be kept.
const SCHEME: &str = "ostler";

/// A tool's or prompt's name in the bundle; nothing if it would be too long.
pub(super) fn prefixed(mount: &str, name: &str) -> Option<String> {
    let chars = mount.len() + SEPARATOR.len() + name.chars().count();
    (chars <= BUNDLE_NAME_CHARS_MAX).then(|| format!("{mount}{SEPARATOR}{name}"))
}

/// The mount and the name there.
pub(super) fn split(name: &str) -> Option<(&str, &str)> {
    name.split_once(SEPARATOR).filter(|(mount, name)| !mount.is_empty() && !name.is_empty())
}

/// A resource's URI, or a template of them, in the bundle.
pub(super) fn with_mount(mount: &str, uri: &str) -> String {
    match scheme(uri).filter(|scheme| *scheme != SCHEME) {
        Some(scheme) => {
            let rest = uri.get(scheme.len() + 1..).unwrap_or_default();
            let slashes = if rest.starts_with("//") { "//" } else { "" };
            format!("{scheme}:{slashes}{mount}/{}", rest.strip_prefix("//").unwrap_or(rest))
        }
        None => format!("{SCHEME}:{mount}/{uri}"),
    }
}

/// The mount, and the URI there.
pub(super) fn without_mount(uri: &str) -> Option<(&str, String)> {
    let scheme = scheme(uri)?;
    let rest = uri.get(scheme.len() + 1..)?;
    if scheme == SCHEME {
        return rest.split_once('/').map(|(mount, uri)| (mount, uri.to_owned()));
    }
    let slashes = if rest.starts_with("//") { "//" } else { "" };
    let (mount, rest) = rest.strip_prefix("//").unwrap_or(rest).split_once('/')?;
    Some((mount, format!("{scheme}:{slashes}{rest}")))
}

/// RFC 3986 section 3.1.
fn scheme(uri: &str) -> Option<&str> {
    let (scheme, _) = uri.split_once(':')?;
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    (scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(is_legal)).then_some(scheme)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_mounts_and_its_own_and_is_never_cut() {
        assert_eq!(prefixed("git-hub", "create").as_deref(), Some("git-hub__create"));
        for name in ["create", "_private", "a__b", "__", "\u{e4}"] {
            let prefixed = prefixed("git_hub", name).unwrap();
            assert_eq!(split(&prefixed), Some(("git_hub", name)));
        }
        let longest = "n".repeat(64 - "m__".len());
        assert!(prefixed("m", &longest).is_some());
        assert!(prefixed("m", &format!("{longest}n")).is_none());
        for other in ["create", "github__", "__create", "", "github_create"] {
            assert!(split(other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_uri_keeps_its_scheme_and_comes_back_whole() {
        for (uri, bundled) in [
            ("file:///etc/hosts", "file://docs//etc/hosts"),
            ("ui://app/index.html", "ui://docs/app/index.html"),
            ("repo://{owner}/{name}{?ref}", "repo://docs/{owner}/{name}{?ref}"),
            ("urn:isbn:1", "urn:docs/isbn:1"),
            ("x:", "x:docs/"),
            ("x://", "x://docs/"),
            ("{+uri}", "ostler:docs/{+uri}"),
            ("{scheme}://a", "ostler:docs/{scheme}://a"),
            ("no-scheme", "ostler:docs/no-scheme"),
            ("ostler:docs/a", "ostler:docs/ostler:docs/a"),
            ("", "ostler:docs/"),
        ] {
            assert_eq!(with_mount("docs", uri), bundled);
            assert_eq!(without_mount(bundled), Some(("docs", uri.to_owned())), "{bundled}");
        }
        for other in ["file:", "docs", "file://docs", "1:a/b", ""] {
            assert!(without_mount(other).is_none(), "{other}");
        }
    }
}
