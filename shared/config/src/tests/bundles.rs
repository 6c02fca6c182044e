//! `bundles:`: several mounts at one endpoint, as a document says it.

use super::{accepted, codes, refused};
use crate::{diff, judge_parts, rejudge_parts};

const UPSTREAMS: &str = "version: 1\nupstreams:\n  a: { http: { url: http://a/ } }\n  b: { http: { url: http://b/ } }\n  c: { http: { url: http://c/ }, mount: false }\nmounts: { m: { upstream: c } }\n";

fn with(bundles: &str) -> String {
    format!("{UPSTREAMS}bundles: {{ {bundles} }}\n")
}

#[test]
fn a_bundle_keeps_its_mounts_in_their_order() {
    let config = accepted(&with("all: { mounts: [m, b, a] }"));
    let names: Vec<_> = config.bundles()["all"].mounts.iter().map(|name| name.as_str()).collect();
    assert_eq!(names, ["m", "b", "a"]);
    let part = config.parts().iter().find(|part| part.name == "all").unwrap();
    assert_eq!((part.kind.as_str(), part.capability()), ("bundle", Some("bundles.v1")));
    assert_eq!(part.bytes, r#"{"mounts":["m","b","a"]}"#);
    let again = judge_parts(config.parts()).unwrap().config;
    assert_eq!((again.bundles(), again.digest()), (config.bundles(), config.digest()));
    assert_ne!(config.digest(), accepted(&with("all: { mounts: [a, b, m] }")).digest());
    assert_eq!(accepted(UPSTREAMS).digest(), accepted(&format!("{UPSTREAMS}bundles: {{}}\n")).digest());
}

#[test]
fn a_bundle_is_served_like_a_mount() {
    let text = with("all: { mounts: [a] }");
    let config = accepted(&format!(
        "{text}default_mount: all\nlisteners: {{ l: {{ address: '127.0.0.1:1', mounts: [all, a] }} }}\n"
    ));
    assert_eq!(config.default_mount().unwrap().as_str(), "all");
    assert_eq!(config.listeners()["l"].mounts.as_ref().unwrap().len(), 2);
}

#[test]
fn what_cannot_be_bundled_is_refused_where_it_stands() {
    for (bundles, code, path, said) in [
        ("x: { mounts: [a, gone] }", "OST0304", "bundles.x.mounts[1]", "there is no mount named `gone`"),
        ("x: { mounts: [c] }", "OST0304", "bundles.x.mounts[0]", "there is no mount named `c`"),
        ("x: { mounts: [y] }, y: { mounts: [a] }", "OST0304", "bundles.x.mounts[0]", "`y` is a bundle"),
        ("x: { mounts: [x] }", "OST0304", "bundles.x.mounts[0]", "`x` is a bundle"),
        ("x: { mounts: [a, a] }", "OST0324", "bundles.x.mounts[1]", "already has the mount `a`"),
        ("x: { mounts: [] }", "OST0207", "bundles.x.mounts", "the bundle would have no mount"),
        ("x: {}", "OST0203", "bundles.x", "`mounts` is missing"),
        ("a: { mounts: [b] }", "OST0302", "bundles.a", "a mount is already named `a`"),
        ("m: { mounts: [b] }", "OST0302", "bundles.m", "a mount is already named `m`"),
        ("c: { mounts: [b] }", "OST0302", "bundles.c", "an upstream is already named `c`"),
        ("a__b: { mounts: [b] }", "OST0301", "bundles.a__b", "cannot be the name of a bundle"),
    ] {
        let report = refused(with(bundles));
        let found = &report.diagnostics[0];
        assert_eq!(codes(&report.diagnostics)[..1], [code], "{bundles}: {report}");
        assert_eq!(found.path, path, "{bundles}");
        assert!(found.message.contains(said), "{bundles}: {}", found.message);
    }
    let many = (0..300).map(|index| format!("b{index}: {{ mounts: [a] }}")).collect::<Vec<_>>().join(", ");
    assert_eq!(codes(&refused(with(&many)).diagnostics), ["OST0207"]);
}

#[test]
fn what_becomes_of_a_bundle_is_seen_in_the_difference() {
    let before = accepted(&with("kept: { mounts: [a, b] }, gone: { mounts: [a] }"));
    let after = accepted(&with("kept: { mounts: [a, m] }, new: { mounts: [b] }"));
    let changes: Vec<_> = diff(&before, &after)
        .into_iter()
        .map(|it| format!("{} {} {}", it.path, it.before.unwrap_or_default(), it.after.unwrap_or_default()))
        .collect();
    let expected =
        ["bundles.gone.mounts [a] ", "bundles.kept.mounts [a, b] [a, m]", "bundles.new.mounts  [b]"];
    assert_eq!(changes, expected);
}

#[test]
fn a_mount_that_a_bundle_needs_is_not_taken_away_unseen() {
    let before = accepted(&with("all: { mounts: [m, a] }"));
    let without: Vec<_> = before.parts().iter().filter(|part| part.name != "m").cloned().collect();
    let report = rejudge_parts(&without.into(), Some(&before)).unwrap_err();
    assert_eq!(codes(&report.diagnostics)[..1], ["OST0304"]);
    assert_eq!(report.diagnostics[0].path, "bundles.all.mounts[0]");
    // With the bundle, it may go; and a new mount of a bundle's name may not come.
    let neither: Vec<_> =
        before.parts().iter().filter(|part| part.name != "m" && part.name != "all").cloned().collect();
    let rejudged = rejudge_parts(&neither.clone().into(), Some(&before)).unwrap();
    assert!(rejudged.config.bundles().is_empty());
    assert_eq!(rejudged.config.digest(), judge_parts(&neither).unwrap().config.digest());
}
