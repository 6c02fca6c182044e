//! Snapshots that come twice, at once, or in the wrong order, and acks that outlive a stream.

use std::sync::Arc;
use std::time::Duration;

use ostler_proto::sync::v1::control_message::Message as Said;
use ostler_proto::sync::v1::{self as wire, ack::Stage};
use ostler_tests::support::scripted_control::snapshot;
use ostler_tests::support::world;

use super::{EPOCH, Scene, start, version};

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_comes_twice_is_applied_once_and_acked_twice() {
    let mut scene = Scene::start().await;
    let again = version("n", 6, &["up", "two"]);
    for _ in 0..2 {
        scene.stream.say(Said::Snapshot(again.clone())).await;
    }
    let mut stages = Vec::new();
    for _ in 0..3 {
        let ack = scene.stream.ack().await;
        assert_eq!((ack.nonce.as_str(), &ack.revision), ("n", &again.revision));
        stages.push(ack.stage());
    }
    assert_eq!(stages, [Stage::Applied, Stage::Applied, Stage::Healthy]);
    assert_eq!((scene.counted("applied"), scene.counted("unchanged")), (2, 1));
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_ack_says_nothing_of_mounts_that_are_as_the_stream_said_last() {
    let mut scene = Scene::start().await;
    let mut told = Vec::new();
    // Nobody asks how a command is before somebody uses it.
    for (number, names, in_flight) in
        [(6, &["a", "b"][..], 10), (7, &["a", "b"], 20), (8, &["a", "b", "c"], 20)]
    {
        let upstream = |name: &str| {
            format!("  {name}: {{ stdio: {{ command: cat }}, limits: {{ in_flight: {in_flight} }} }}\n")
        };
        let upstreams: String = names.iter().map(|name| upstream(name)).collect();
        let text = format!("version: 1\nupstreams:\n{upstreams}");
        scene.stream.say(Said::Snapshot(snapshot(&number.to_string(), EPOCH, number, &text))).await;
        for stage in [Stage::Applied, Stage::Healthy] {
            let ack = scene.stream.ack().await;
            assert_eq!(ack.stage(), stage);
            told.push(ack.mounts.len());
        }
    }
    assert_eq!(told, [2, 0, 0, 0, 3, 0]);
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_before_the_first_answer_is_answered_in_order() {
    let mut scene = Scene::start().await;
    for (nonce, number) in [("a", 7), ("b", 6), ("c", 9), ("d", 8), ("e", 10)] {
        scene.stream.say(Said::Snapshot(version(nonce, number, &["up", nonce]))).await;
    }
    let mut answers = Vec::new();
    while answers.len() < 6 {
        answers.push(match scene.stream.answer().await {
            super::Heard::Ack(ack) => (ack.nonce.clone(), format!("{:?}", ack.stage())),
            super::Heard::Nack(nack) => (nack.nonce, nack.code),
            other => panic!("{other:?}"),
        });
    }
    let answers: Vec<_> = answers.iter().map(|(nonce, word)| (nonce.as_str(), word.as_str())).collect();
    // Only what is served when it has settled is called healthy.
    let expected = [
        ("a", "Applied"),
        ("b", "older_version"),
        ("c", "Applied"),
        ("d", "older_version"),
        ("e", "Applied"),
        ("e", "Healthy"),
    ];
    assert_eq!(answers, expected);
    assert!(scene.served().mount("e").is_some());
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_settles_after_its_stream_has_ended_is_acked_on_the_next() {
    let mut scene = Scene::start_with(Duration::from_secs(20)).await;
    let held = version("", 5, &["up"]).revision;
    scene.stream.end().await;
    scene.stream = scene.control.call().await;
    assert_eq!(scene.stream.hello().await.held, held);
    scene.stream.say(Said::Unchanged(wire::Unchanged { revision: held.clone() })).await;
    let ack = scene.stream.ack().await;
    assert_eq!((ack.nonce.as_str(), ack.stage(), &ack.revision), ("", Stage::Healthy, &held));
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_moves_to_another_fleet_serves_nothing_of_the_old_one() {
    let scene = Scene::start().await;
    let Scene { dir, network, mut control, dataplane, stream } = scene;
    drop(stream);
    tokio::time::resume();
    dataplane.shutdown().await;
    tokio::time::pause();
    let mut options = world::options(&dir.path().join("a"), control.followed(dir.path(), "a"));
    options.network = Arc::new(network.clone());
    let eu = ostler_core::name::FleetName::parse("eu").unwrap();
    options.fleet = eu.clone();
    let ostler_dataplane::ConfigFrom::Control(sync) = &mut options.config else { panic!() };
    sync.fleet = eu;
    let dataplane = ostler_dataplane::DataPlane::start(options).await.unwrap();
    assert!(dataplane.admin().applier.snapshots.load().is_none());
    let mut stream = control.call().await;
    let hello = stream.hello().await;
    assert_eq!((hello.fleet.as_str(), hello.held), ("eu", None));
    // Of the fleet that it left, even though it is newer.
    stream.say(Said::Snapshot(version("old", 6, &["up"]))).await;
    assert_eq!(stream.nack().await.code, "wrong_fleet");
    // A lower version of the new fleet is no step back: it is another lineage.
    let mut first = version("new", 1, &["down"]);
    first.fleet = "eu".to_owned();
    stream.say(Said::Snapshot(first)).await;
    assert_eq!(stream.ack().await.nonce, "new");
    assert!(dataplane.admin().applier.snapshots.load().unwrap().mount("down").is_some());
    drop(stream);
    tokio::time::resume();
    dataplane.shutdown().await;
    tokio::time::pause();
    // Back in the old fleet, its own last-known-good is served.
    let dataplane = start(dir.path(), &network, &control, world::SETTLE).await;
    let served = dataplane.admin().applier.snapshots.load().unwrap();
    assert_eq!((served.revision.version, served.mount("up").is_some()), (5, true));
    tokio::time::resume();
    dataplane.shutdown().await;
}
