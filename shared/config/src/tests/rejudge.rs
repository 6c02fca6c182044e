//! A config that differs in little from the one before costs little to judge, and is judged by the same rules.

use std::sync::Arc;

use bytes::Bytes;
use ostler_core::digest::Digest;
use proptest::prelude::*;
use serde_json::json;

use super::accepted;
use super::sameness::document;
use crate::compile::{GlobList, Host, Lookup, Unresolved};
use crate::{Compiled, Part, PartKind, Validated, judge_parts, recompile, rejudge_parts};

fn judged(parts: &[Part]) -> Validated {
    judge_parts(parts).unwrap_or_else(|report| panic!("{report}")).config
}

fn parts(text: &str) -> Arc<[Part]> {
    accepted(text).parts().into()
}

/// What both ways say of a candidate must be the same.
fn assert_agreement(candidate: &Arc<[Part]>, before: &Validated) {
    match (judge_parts(candidate), rejudge_parts(candidate, Some(before))) {
        (Ok(whole), Ok(again)) => {
            let (whole, again) = (whole.config, again.config);
            assert_eq!(again.digest(), whole.digest());
            assert_eq!(again.parts(), whole.parts());
            assert_eq!(again.upstreams(), whole.upstreams());
            assert_eq!(again.mounts(), whole.mounts());
            assert_eq!(again.listeners(), whole.listeners());
            assert_eq!((again.auth(), again.identity()), (whole.auth(), whole.identity()));
            assert_eq!(again.default_mount(), whole.default_mount());
        }
        (Err(whole), Err(again)) => assert_eq!(again, whole),
        (whole, again) => panic!("{:?}\n{:?}", whole.map(|judged| judged.config), again),
    }
}

fn many(count: usize, changed: Option<usize>) -> String {
    let upstreams: serde_json::Map<_, _> = (0..count)
        .map(|index| {
            let path = if changed == Some(index) { "other" } else { "mcp" };
            (format!("u{index}"), json!({"http": {"url": format!("http://h{index}/{path}")}}))
        })
        .collect();
    json!({"version": 1, "upstreams": upstreams}).to_string()
}

struct Nothing;

impl Lookup for Nothing {
    fn env(&self, _: &str) -> Option<String> {
        Some("value".to_owned())
    }
    fn file(&self, _: &str) -> std::io::Result<String> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

fn compiled(config: &Validated, before: Option<&Compiled>) -> Compiled {
    let any = GlobList::any();
    let host = Host {
        allow_command: &any,
        allow_ref: &any,
        allow_listen: &any,
        listen: None,
        lookup: &Nothing,
        unresolved: Unresolved::Refuse,
    };
    recompile(config, &host, before).unwrap()
}

#[test]
fn one_change_among_many_reads_one_part_and_shares_the_rest() {
    let before = judged(&parts(&many(500, None)));
    let after = rejudge_parts(&parts(&many(500, Some(7))), Some(&before)).unwrap();
    assert_eq!(after.read, 1);
    let shared = |config: &Validated, other: &Validated| {
        let pairs = config.upstreams().values().zip(other.upstreams().values());
        pairs.filter(|(one, other)| Arc::ptr_eq(one, other)).count()
    };
    assert_eq!(shared(&before, &after.config), 499);
    let old = compiled(&before, None);
    let new = compiled(&after.config, Some(&old));
    let kept = old.upstreams.values().zip(new.upstreams.values());
    assert_eq!(kept.filter(|(one, other)| Arc::ptr_eq(one, other)).count(), 499);
    let kept = old.mounts.values().zip(new.mounts.values());
    assert_eq!(kept.filter(|(one, other)| Arc::ptr_eq(one, other)).count(), 499);
    assert_eq!(rejudge_parts(&parts(&many(500, Some(7))), Some(&after.config)).unwrap().read, 0);
}

#[test]
fn what_has_a_reference_is_compiled_again_though_its_part_is_the_same() {
    let config = judged(&parts(
        "version: 1\nupstreams:\n  a: { http: { url: http://a/ } }\n  b: { http: { url: 'http://${HOST}/' } }\n",
    ));
    let old = compiled(&config, None);
    let new = compiled(&config, Some(&old));
    assert!(Arc::ptr_eq(&old.upstreams["a"], &new.upstreams["a"]));
    assert!(!Arc::ptr_eq(&old.upstreams["b"], &new.upstreams["b"]));
}

#[test]
fn what_only_the_whole_can_tell_is_told() {
    const BEFORE: &str = "version: 1\nupstreams: { a: { http: { url: http://a/ } }, b: { http: { url: http://b/ } } }\nmounts: { m: { upstream: a } }\ndefault_mount: b\nlisteners: { l: { address: '127.0.0.1:1', mounts: [b] } }\n";
    let before = judged(&parts(BEFORE));
    let without = |kind: PartKind, name: &str| -> Arc<[Part]> {
        before.parts().iter().filter(|part| (&part.kind, &*part.name) != (&kind, name)).cloned().collect()
    };
    let with = |kind: PartKind, name: &str, text: &str| -> Arc<[Part]> {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let part = Part { kind: kind.clone(), name: name.to_owned(), sha256: Digest::of(&bytes), bytes };
        let mut parts = without(kind, name).to_vec();
        parts.push(part);
        crate::parts::sort(&mut parts);
        parts.into()
    };
    let mut damaged = before.parts().to_vec();
    damaged[3].bytes = Bytes::from_static(b"{}");
    let mut unsorted = before.parts().to_vec();
    unsorted.reverse();
    let mut twice = before.parts().to_vec();
    twice.push(twice[0].clone());
    for candidate in [
        without(PartKind::Upstream, "a"),
        without(PartKind::Upstream, "b"),
        without(PartKind::Mount, "m"),
        without(PartKind::Listener, "l"),
        without(PartKind::Settings, "settings"),
        with(PartKind::Upstream, "m", r#"{"http":{"url":"http://m/"}}"#),
        with(PartKind::Mount, "b", r#"{"upstream":"a"}"#),
        with(PartKind::Mount, "m", r#"{"upstream":"c"}"#),
        with(PartKind::Mount, "n", r#"{"upstream":"m"}"#),
        with(PartKind::Upstream, "b", r#"{"http":{"url":"http://b/"},"mount":false}"#),
        with(PartKind::Upstream, "b", r#"{"http":{"url":"ftp://b/"}}"#),
        with(PartKind::Upstream, "B", r#"{"http":{"url":"http://b/"}}"#),
        with(PartKind::Upstream, "b", r#"{"http":{"url":"http://c/"},"limits":{"in_flight":3}}"#),
        with(PartKind::Listener, "k", r#"{"address":"127.0.0.1:1"}"#),
        with(PartKind::Listener, "k", r#"{"address":"127.0.0.1:2","mounts":["m"]}"#),
        with(PartKind::Settings, "settings", r#"{"version":1,"default_mount":"m"}"#),
        with(PartKind::Settings, "settings", r#"{"version":1,"default_mount":"x"}"#),
        with(PartKind::Settings, "other", r#"{"version":1}"#),
        with(PartKind::from_wire("filter"), "p", "{}"),
        damaged.into(),
        unsorted.into(),
        twice.into(),
        Arc::from([]),
    ] {
        assert_agreement(&candidate, &before);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_config_after_any_other_means_what_it_means_alone(one in document(), other in document()) {
        let before = judged(&parts(&one.to_string()));
        assert_agreement(&parts(&other.to_string()), &before);
    }

    #[test]
    fn a_part_that_is_missing_or_stands_there_instead_of_another_is_judged_as_by_the_whole(
        one in document(), other in document(), index in any::<proptest::sample::Index>(), take in any::<bool>(),
    ) {
        let before = judged(&parts(&one.to_string()));
        let mut mixed = before.parts().to_vec();
        mixed.remove(index.index(mixed.len()));
        let others = parts(&other.to_string());
        if take {
            let taken = &others[index.index(others.len())];
            mixed.retain(|part| (&part.kind, &part.name) != (&taken.kind, &taken.name));
            mixed.push(taken.clone());
        }
        crate::parts::sort(&mut mixed);
        assert_agreement(&mixed.into(), &before);
    }
}
