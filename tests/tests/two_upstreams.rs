//! Two upstreams in one data plane, and what either could take of the other: eras, annotations, credentials, audit, names, policy. Clients and servers lie
//! all the time: about who they are, whom they mean, and which session is theirs.
//!
//! Every claim is looked at twice: in compositions that are put together rightly, where nothing may be found, and in one that is put together
//! wrongly on purpose, where the same look must find something. Every look asks for the probe as well, a tool that is denied
//! everywhere, so that a way that nobody governs shows in all of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

#[path = "two_upstreams/claims.rs"]
mod claims;
#[path = "two_upstreams/scene.rs"]
mod scene;

use claims::{Claim, Faults};
use scene::{Scene, Wiring};
use serde_json::json;

/// Which of the two servers are modern, for every mixture of eras.
const MIXTURES: [[bool; 2]; 4] = [[true, false], [false, true], [true, true], [false, false]];

/// Nothing may be found, whatever the eras are.
async fn holds(claim: Claim) {
    for modern in MIXTURES {
        let scene = Scene::start(modern, &Wiring::default()).await;
        let faults = claim.look(&scene).await;
        assert!(faults.is_empty(), "{modern:?}: {faults:#?}");
        scene.end().await;
    }
}

/// Something must be found.
async fn finds(claim: Claim, wiring: Wiring) -> Faults {
    let scene = Scene::start([true, false], &wiring).await;
    let faults = claim.look(&scene).await;
    assert!(!faults.is_empty(), "nothing is found in {wiring:?}");
    scene.end().await;
    faults
}

/// The two servers, each where the other should be.
fn crossed() -> Wiring {
    Wiring { is_crossed: true, ..Wiring::default() }
}

fn wired(change: fn(&mut serde_json::Value)) -> Wiring {
    Wiring { change, ..Wiring::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_server_is_spoken_to_in_its_own_era() {
    holds(Claim::Eras).await;
    finds(Claim::Eras, wired(|config| config["upstreams"]["one"]["protocol"] = json!("2025-11-25"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_of_the_same_name_are_called_where_they_were_asked_for() {
    holds(Claim::Names).await;
    finds(Claim::Names, crossed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_says_of_its_tools_says_nothing_of_the_other_ones() {
    holds(Claim::Annotations).await;
    finds(Claim::Annotations, crossed()).await;
    let only_one_is_asked = |config: &mut serde_json::Value| {
        config["policy"]["rules"][3]["match"]["upstreams"] = json!(["one"]);
    };
    finds(Claim::Annotations, wired(only_one_is_asked)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_server_sees_credentials_and_headers_of_the_other_or_of_the_client() {
    holds(Claim::Credentials).await;
    finds(Claim::Credentials, crossed()).await;
    let one_header = |config: &mut serde_json::Value| {
        let of_two = config["upstreams"]["two"]["headers"]["x-tenant"].clone();
        config["upstreams"]["one"]["headers"]["x-tenant"] = of_two;
    };
    finds(Claim::Credentials, wired(one_header)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_names_who_called_and_what_was_reached_whatever_anybody_says() {
    holds(Claim::Audit).await;
    finds(Claim::Audit, crossed()).await;
    let by_header = |config: &mut serde_json::Value| {
        config["identity"]["sources"] = json!([{"header": "x-agent"}, "api_key"]);
    };
    finds(Claim::Audit, wired(by_header)).await;
    finds(Claim::Audit, wired(|config| config["audit"]["outcomes"] = json!("off"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mount_has_its_own_policy() {
    holds(Claim::Policy).await;
    finds(Claim::Policy, crossed()).await;
    let for_both = |config: &mut serde_json::Value| {
        config["policy"]["rules"][1]["match"].as_object_mut().unwrap().remove("upstreams");
    };
    finds(Claim::Policy, wired(for_both)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_one_mount_mean_nothing_on_the_other() {
    holds(Claim::Sessions).await;
    // Two names for one server, but still two mounts: the session is unknown all the same. What is found is that both are one.
    let one_server = |config: &mut serde_json::Value| {
        config["upstreams"]["one"]["http"] = config["upstreams"]["two"]["http"].clone();
    };
    finds(Claim::Sessions, wired(one_server)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_looks_at_anything_finds_a_mount_that_nobody_governs() {
    for claim in Claim::ALL {
        for ungoverned in [
            wired(|config| drop(config.as_object_mut().unwrap().remove("policy"))),
            wired(|config| config["policy"]["dry_run"] = json!(true)),
            wired(|config| config["policy"]["rules"][0]["match"]["upstreams"] = json!(["one"])),
        ] {
            let faults = finds(claim, ungoverned).await;
            assert!(faults.iter().any(|fault| fault.contains("the probe")), "{claim:?}: {faults:#?}");
        }
    }
}
