//! What `up` tells the person who started it, on standard output: where MCP clients go, what to paste into their config,
//! and where control is. The token itself is never shown.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use ostler_core::limits::UP_MOUNTS_SHOWN_MAX;
use serde_json::json;

/// Everything that is told.
#[derive(Debug)]
pub struct Announcement<'a> {
    /// One sentence on where the config comes from.
    pub source: String,
    pub mcp: SocketAddr,
    pub mounts: &'a [String],
    pub api: SocketAddr,
    pub token_file: &'a Path,
    /// Whether operator commands find control without being told where it is.
    pub found_by_default: bool,
}

impl Announcement<'_> {
    pub fn text(&self) -> String {
        let mut text = format!("\nOstler is up: {}. Ctrl-C ends it.\n\n", self.source);
        let url = |mount: &str| format!("http://{}/mcp/{mount}", self.mcp);
        let shown: Vec<_> = self.mounts.iter().take(UP_MOUNTS_SHOWN_MAX).collect();
        let width = shown.iter().map(|mount| mount.len()).max().unwrap_or(0);
        for mount in &shown {
            let _ = writeln!(text, "  {mount:width$}  {}", url(mount));
        }
        let more = self.mounts.len() - shown.len();
        if more > 0 {
            let _ = writeln!(text, "  and {more} more; see `ostler mounts`");
        }
        let servers: serde_json::Map<_, _> = shown
            .iter()
            .map(|mount| ((*mount).clone(), json!({ "type": "http", "url": url(mount) })))
            .collect();
        let paste = serde_json::to_string_pretty(&json!({ "mcpServers": servers })).unwrap_or_default();
        let _ = writeln!(text, "\nFor the config of an MCP client:\n\n{paste}\n");
        let _ = writeln!(text, "Control API  http://{}", self.api);
        let _ = writeln!(text, "its token    {}", self.token_file.display());
        let connect = if self.found_by_default {
            String::new()
        } else {
            format!(" --control http://{} --token-file '{}'", self.api, self.token_file.display())
        };
        let _ = writeln!(text, "look at it   ostler status{connect}");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(mounts: &[String], found_by_default: bool) -> String {
        Announcement {
            source: "serving".to_owned(),
            mcp: "127.0.0.1:7400".parse().unwrap(),
            mounts,
            api: "127.0.0.1:7500".parse().unwrap(),
            token_file: Path::new("/state/operator.token"),
            found_by_default,
        }
        .text()
    }

    #[test]
    fn what_is_to_be_pasted_is_json_with_every_mount() {
        let text = announced(&["demo".to_owned(), "files".to_owned()], true);
        let (from, to) = (text.find('{').unwrap(), text.rfind('}').unwrap());
        let pasted: serde_json::Value = serde_json::from_str(&text[from..=to]).unwrap();
        assert_eq!(pasted["mcpServers"]["files"]["url"], "http://127.0.0.1:7400/mcp/files");
        assert!(!text.contains("--token-file"));
        assert!(announced(&[], false).contains("--token-file '/state/operator.token'"));
    }

    #[test]
    fn a_thousand_mounts_do_not_fill_the_screen() {
        let mounts: Vec<_> = (0..1_000).map(|n| format!("m{n}")).collect();
        let text = announced(&mounts, true);
        assert!(text.lines().count() < 150 && text.contains("and 980 more"), "{text}");
    }
}
