//! Bad configs as text.

/// What is right, in three lines.
pub const GOOD: &str = "version: 1\nupstreams:\n  up: { http: { url: 'http://127.0.0.1:1/mcp' } }\n";

/// A text, and what is to be said of it.
pub struct Bad {
    pub what: &'static str,
    pub text: Vec<u8>,
    /// Name of the first diagnostic.
    pub code: &'static str,
    /// Where, if there is a place.
    pub line: Option<u64>,
}

fn bad(what: &'static str, code: &'static str, line: Option<u64>, text: impl Into<Vec<u8>>) -> Bad {
    Bad { what, text: text.into(), code, line }
}

pub fn all() -> Vec<Bad> {
    let more = |text: &str| format!("{GOOD}{text}");
    let upstreams = |count: usize| {
        (0..count).fold("version: 1\nupstreams:\n".to_owned(), |text, index| {
            text + &format!("  u{index}: {{ http: {{ url: 'http://h/' }} }}\n")
        })
    };
    let bomb =
        (1..10).fold("version: 1\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, level| {
            text + &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(", "))
        });
    vec![
        bad("unknown key", "transport_choice", Some(4), more("  two: { htttp: { url: 'http://h/' } }\n")),
        bad("dangling reference", "unknown_upstream", Some(5), more("mounts:\n  m: { upstream: nowhere }\n")),
        bad(
            "duplicate mount",
            "duplicate_key",
            Some(6),
            more("mounts:\n  m: { upstream: up }\n  m: { upstream: up }\n"),
        ),
        bad(
            "mount of a name that is taken",
            "name_conflict",
            Some(5),
            more("mounts:\n  up: { upstream: up }\n"),
        ),
        bad("duplicate key", "duplicate_key", Some(4), more("version: 1\n")),
        bad("0 bytes", "empty_document", Some(1), ""),
        bad("blank", "empty_document", Some(1), " \n\n"),
        bad("50 MB", "too_large", None, vec![b'#'; 50_000_000]),
        bad(
            "deep nesting",
            "too_deep",
            Some(4),
            more(&format!("mounts: {}{}\n", "[".repeat(10_000), "]".repeat(10_000))),
        ),
        bad("alias bomb", "too_many_nodes", Some(2), bomb),
        bad("invalid UTF-8", "not_utf8", Some(4), [GOOD.as_bytes(), b"  two: \xc3\x28\n"].concat()),
        bad("NUL bytes", "syntax", Some(4), more("  two: \0\0\n")),
        bad("only NUL bytes", "syntax", Some(1), vec![0; 4096]),
        bad("a BOM in the middle", "syntax", Some(4), more("\u{feff}  two: 1\n")),
        bad("UTF-16", "syntax", Some(1), GOOD.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()),
        bad("tabs", "syntax", Some(4), more("\ttwo: { http: { url: 'http://h/' } }\n")),
        bad("10 001 upstreams", "out_of_range", Some(3), upstreams(10_001)),
        bad(
            "huge number",
            "wrong_type",
            Some(5),
            more(
                "    # over\n  two: { http: { url: 'http://h/' }, limits: { in_flight: 99999999999999999999999999 } }\n",
            ),
        ),
        bad(
            "negative number",
            "out_of_range",
            Some(4),
            more("  two: { http: { url: 'http://h/' }, limits: { in_flight: -1 } }\n"),
        ),
        bad(
            "endless time",
            "bad_duration",
            Some(4),
            more("  two: { http: { url: 'http://h/' }, timeouts: { total: 99999999999999999999h } }\n"),
        ),
        bad("half a document", "syntax", Some(3), "version: 1\nupstreams:\n  up: { http: { url: 'http"),
        bad("two documents", "several_documents", Some(4), more("---\nversion: 1\n")),
        bad("another version", "unsupported_version", Some(1), GOOD.replace("version: 1", "version: 2")),
        bad("a list", "wrong_type", Some(1), "[1, 2, 3]\n"),
        bad("html", "wrong_type", Some(1), "<html><body>502 Bad Gateway</body></html>\n"),
    ]
}
