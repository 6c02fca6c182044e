//! A config document: any bytes as YAML or JSON text.
//!
//! - What is accepted is the same config again as parts, as the text made of these parts, and after both: digest,
//!   upstreams, mounts, default mount; its parts are canonical, and there is no difference to show.
//! - What is refused has an error, and every finding has a remedy and a place inside the text; it can be shown, and what
//!   is shown cannot steer a terminal.
//! - JSON that an independent reader accepts is never a mistake of syntax.
//! - Compiling an accepted config never shows what a reference stands for.

use std::io;

use ostler_config::{
    GlobList, Host, Judged, Lookup, PartKind, Report, Unresolved, Validated, compile, diff, judge_parts,
    judge_text, locate, render,
};
use ostler_core::limits::{CONFIG_DEPTH_MAX, DIAGNOSTICS_MAX};

use super::strict_json;

pub(super) fn run(input: &[u8]) {
    match judge_text(input) {
        Ok(judged) => {
            is_the_same_again(&judged.config);
            keeps_secrets(&judged);
        }
        Err(report) => {
            assert!(report.errors().next().is_some(), "refused without an error");
            is_presentable(input, &report);
        }
    }
    json_is_no_mistake_of_syntax(input);
}

/// The document that a config's parts make, as JSON.
pub(super) fn text_of(config: &Validated) -> String {
    let of_kind = |kind: PartKind| {
        let parts = config.parts().iter().filter(move |part| part.kind == kind);
        let entries = parts.map(|part| {
            let json = std::str::from_utf8(&part.bytes).expect("an accepted part is UTF-8");
            (part.name.clone(), json.to_owned())
        });
        entries.collect::<Vec<_>>()
    };
    let map = |entries: Vec<(String, String)>| {
        let members = entries.iter().map(|(name, json)| format!("\"{name}\":{json}"));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    };
    let settings = of_kind(PartKind::Settings).pop().expect("there is a settings part").1;
    let own = settings.trim().trim_end_matches('}');
    let (upstreams, mounts) = (map(of_kind(PartKind::Upstream)), map(of_kind(PartKind::Mount)));
    let listeners = map(of_kind(PartKind::Listener));
    let bundles = map(of_kind(PartKind::Bundle));
    let sections = [PartKind::Audit, PartKind::Auth, PartKind::Identity, PartKind::Policy].map(|kind| {
        let section = kind.as_str().to_owned();
        of_kind(kind).iter().map(|(_, json)| format!(",\"{section}\":{json}")).collect::<String>()
    });
    let sections = sections.concat();
    format!(
        "{own},\"upstreams\":{upstreams},\"mounts\":{mounts},\"bundles\":{bundles},\"listeners\":{listeners}{sections}}}"
    )
}

pub(super) fn assert_same_meaning(one: &Validated, other: &Validated) {
    assert_eq!(one.upstreams(), other.upstreams());
    assert_eq!(one.mounts(), other.mounts());
    assert_eq!(one.listeners(), other.listeners());
    assert_eq!(one.bundles(), other.bundles());
    assert_eq!((one.auth(), one.identity()), (other.auth(), other.identity()));
    assert_eq!(one.audit(), other.audit());
    assert_eq!(one.environment(), other.environment());
    assert_eq!(one.default_mount(), other.default_mount());
    assert!(diff(one, other).is_empty(), "there is nothing to show as a difference");
}

fn is_the_same_again(config: &Validated) {
    let from_parts = judge_parts(config.parts()).unwrap_or_else(|report| panic!("its own parts: {report}"));
    assert_eq!(from_parts.config.digest(), config.digest());
    assert_eq!(from_parts.config.parts(), config.parts());
    assert_same_meaning(config, &from_parts.config);
    let text = text_of(config);
    let again = judge_text(text.as_bytes()).unwrap_or_else(|report| panic!("{text}\n{report}"));
    assert_eq!(again.config.digest(), config.digest(), "{text}");
    assert_eq!(again.config.parts(), config.parts());
    assert_same_meaning(config, &again.config);
}

fn is_presentable(input: &[u8], report: &Report) {
    assert!(report.diagnostics.len() <= DIAGNOSTICS_MAX + 1, "{} findings", report.diagnostics.len());
    let lines = 1 + input.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    for diagnostic in &report.diagnostics {
        assert!(!diagnostic.help.is_empty() && !diagnostic.message.is_empty(), "{diagnostic:?}");
        let line = diagnostic.line.unwrap_or(1) as usize;
        let column = diagnostic.column.unwrap_or(1) as usize;
        assert!((1..=lines).contains(&line), "line {line} of {lines}: {diagnostic:?}");
        assert!((1..=input.len() + 1).contains(&column), "column {column}: {diagnostic:?}");
    }
    let mut unplaced: Vec<_> = report.diagnostics.clone();
    unplaced.iter_mut().for_each(|diagnostic| diagnostic.line = None);
    locate(input, &mut unplaced);
    let shown = render::plain(report, "config");
    assert!(!shown.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t')), "{shown:?}");
}

fn json_is_no_mistake_of_syntax(input: &[u8]) {
    // YAML does not count other control characters as printable, and limits how long a key on one line may be.
    let printable =
        |text: &str| text.chars().all(|c| matches!(c, ' '..='~' | '\t' | '\r' | '\n')) && text.len() < 1024;
    let Ok(value) = strict_json::read(input) else { return };
    if !std::str::from_utf8(input).is_ok_and(printable) || depth(&value) > CONFIG_DEPTH_MAX {
        return;
    }
    if let Err(report) = judge_text(input) {
        assert!(!report.has(ostler_config::Code::Syntax), "{report}");
        assert!(!report.has(ostler_config::Code::DuplicateKey), "{report}");
    }
}

fn depth(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        serde_json::Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn keeps_secrets(judged: &Judged) {
    const SECRET: &str = "xyzzy-7Q";
    struct Secrets(&'static str);
    impl Lookup for Secrets {
        fn env(&self, name: &str) -> Option<String> {
            (!name.ends_with('_')).then(|| self.0.to_owned())
        }

        fn file(&self, path: &str) -> io::Result<String> {
            if path.len() % 5 == 4 { Err(io::ErrorKind::NotFound.into()) } else { Ok(self.0.to_owned()) }
        }
    }
    let all = GlobList::any();
    // As a plain value, as one that no header carries, and as one that makes another URL of it.
    for value in [SECRET, "xyzzy-7Q\n\u{1}", "http://xyzzy-7Q/?a#b"] {
        let lookup = Secrets(value);
        for unresolved in [Unresolved::Refuse, Unresolved::MarkDown] {
            let host = Host {
                allow_command: &all,
                allow_ref: &all,
                allow_listen: &all,
                listen: None,
                lookup: &lookup,
                unresolved,
            };
            let shown = match compile(&judged.config, &host) {
                Ok(compiled) => format!("{compiled:?}"),
                Err(report) => format!("{report}{report:?}"),
            };
            let written = judged.config.parts().iter().any(|part| {
                part.bytes.windows(SECRET.len()).any(|window| window.eq_ignore_ascii_case(SECRET.as_bytes()))
            });
            assert!(written || !shown.contains(SECRET), "{shown}");
        }
    }
}
