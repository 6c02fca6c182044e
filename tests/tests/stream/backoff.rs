//! However control ends a stream, or refuses one, its data planes come back with growing, spread pauses and never at
//! once.

use std::time::Duration;

use bytes::Bytes;
use ostler_core::limits::{RECONNECT_BASE, RECONNECT_CAP, RECONNECT_STABLE_AFTER, SYNC_MESSAGE_BYTES_MAX};
use ostler_core::net::{Listener, Network as _};
use ostler_proto::sync::v1::control_message::Message as Said;
use ostler_proto::sync::v1::directive::Directive as Order;
use ostler_proto::sync::v1::{self as wire};
use ostler_tests::support::grpc::{frame, frame_of};
use ostler_tests::support::net::MemoryNetwork;
use ostler_tests::support::scripted_control::{NodeStream, ScriptedControl};
use ostler_tests::support::world;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::{Scene, start, version};

const LONG: Duration = Duration::from_secs(60 * 60);

fn reconnect(after_ms: u64) -> Said {
    let directive = Some(Order::Reconnect(wire::Reconnect { after_ms }));
    Said::Directive(wire::Directive { directive })
}

/// Attempts of an hour were neither a hot loop nor given up, and their pauses grew.
fn assert_backed_off(what: &str, attempts: &[Instant]) {
    let pauses: Vec<_> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let shortest = pauses.iter().min().unwrap();
    let longest = pauses.iter().max().unwrap();
    // At the cap a pause is half a minute on average.
    assert!((60..=300).contains(&attempts.len()), "{what}: {} attempts in an hour", attempts.len());
    assert!(*shortest >= RECONNECT_BASE / 4, "{what}: {shortest:?}");
    assert!(*longest > RECONNECT_CAP / 2 && *longest <= RECONNECT_CAP * 3 / 2, "{what}: {longest:?}");
}

/// What a control does with each call.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    EndsAtOnce,
    CutsAtOnce,
    AsksToComeBackAtOnce,
    SaysGarbage,
    SaysHalfAMessage,
    AnnouncesTooMuch,
    ClaimsCompression,
    RefusesAndEnds,
    ConfirmsAndEnds,
}

async fn act(stream: NodeStream, manner: Manner, number: usize) {
    match manner {
        Manner::EndsAtOnce => stream.end().await,
        Manner::CutsAtOnce => {}
        Manner::AsksToComeBackAtOnce => stream.say(reconnect(0)).await,
        Manner::SaysGarbage => stream.say_bytes(frame_of(&[0xff; 64])).await,
        Manner::SaysHalfAMessage => {
            let whole =
                frame(&wire::ControlMessage { message: Some(Said::Snapshot(version("n", 6, &["up"]))) });
            stream.say_bytes(whole.slice(..whole.len() / 2)).await;
        }
        Manner::AnnouncesTooMuch => {
            let length = u32::try_from(SYNC_MESSAGE_BYTES_MAX + 1).unwrap();
            stream.say_bytes([&[0][..], &length.to_be_bytes(), b"x"].concat().into()).await;
        }
        Manner::ClaimsCompression => stream.say_bytes(Bytes::from_static(b"\x01\x00\x00\x00\x01x")).await,
        Manner::RefusesAndEnds => {
            stream.say(Said::Snapshot(version(&format!("n{number}"), 4, &["up"]))).await;
            stream.end().await;
        }
        Manner::ConfirmsAndEnds => {
            let revision = version("", 5, &["up"]).revision;
            stream.say(Said::Unchanged(wire::Unchanged { revision })).await;
            stream.end().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_way_to_end_a_stream_makes_a_data_plane_call_without_pause() {
    use Manner::*;
    for manner in [
        EndsAtOnce,
        CutsAtOnce,
        AsksToComeBackAtOnce,
        SaysGarbage,
        SaysHalfAMessage,
        AnnouncesTooMuch,
        ClaimsCompression,
        RefusesAndEnds,
        ConfirmsAndEnds,
    ] {
        let mut scene = Scene::start().await;
        let served = scene.served();
        // The first stream lived as long as it took to set the scene.
        let known = scene.network.attempts().len();
        scene.stream.end().await;
        let over = tokio::time::sleep(LONG);
        tokio::pin!(over);
        let mut number = 0;
        loop {
            tokio::select! {
                stream = scene.control.call() => {
                    number += 1;
                    act(stream, manner, number).await;
                }
                () = &mut over => break,
            }
        }
        assert_backed_off(&format!("{manner:?}"), &scene.network.attempts()[known..]);
        assert!(std::sync::Arc::ptr_eq(&served, &scene.served()), "{manner:?}");
        assert_eq!(
            scene.dataplane.admin().deps.tasks.len(),
            tasks_of_a_quiet_data_plane().await,
            "{manner:?}"
        );
        scene.end().await;
    }
}

/// To compare with: every ended stream has left nothing behind.
async fn tasks_of_a_quiet_data_plane() -> usize {
    let scene = Scene::start().await;
    let tasks = scene.dataplane.admin().deps.tasks.len();
    scene.end().await;
    tasks
}

/// Where control should be is something else.
#[derive(Debug, Clone, Copy)]
enum Port {
    Nobody,
    Silent,
    Closing,
    Web,
    Noise,
}

async fn be(port: Port, listener: Listener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let answer: &[u8] = match port {
                Port::Closing | Port::Nobody => return,
                Port::Silent => return std::future::pending().await,
                Port::Web => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
                Port::Noise => &[0xa5; 4096],
            };
            let _ = stream.write_all(answer).await;
            let mut read = [0; 1024];
            while stream.read(&mut read).await.is_ok_and(|read| read > 0) {}
        });
    }
}

#[tokio::test(start_paused = true)]
async fn no_other_program_on_controls_port_makes_a_data_plane_call_without_pause() {
    for port in [Port::Nobody, Port::Silent, Port::Closing, Port::Web, Port::Noise] {
        let dir = tempfile::tempdir().unwrap();
        let network = MemoryNetwork::default();
        let control = ScriptedControl::start(&network, MemoryNetwork::addr(2));
        if !matches!(port, Port::Nobody) {
            tokio::spawn(be(port, network.bind(MemoryNetwork::addr(1)).unwrap()));
        }
        let mut options = world::options(&dir.path().join("a"), control.followed(dir.path(), "a"));
        options.network = std::sync::Arc::new(network.clone());
        let ostler_dataplane::ConfigFrom::Control(sync) = &mut options.config else { panic!() };
        sync.control = format!("http://{}", MemoryNetwork::addr(1)).parse().unwrap();
        let dataplane = ostler_dataplane::DataPlane::start(options).await.unwrap();
        tokio::time::sleep(LONG).await;
        assert_backed_off(&format!("{port:?}"), &network.attempts());
        let sync = dataplane.admin().sync.as_ref().unwrap();
        assert!(!sync.connected() && sync.reconnects.get() as usize + 1 >= network.attempts().len());
        tokio::time::resume();
        dataplane.shutdown().await;
        tokio::time::pause();
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_stable_applied_stream_shortens_the_pause_again() {
    let mut scene = Scene::start().await;
    // Long, but nothing was applied on it: control never said what it wants.
    for _ in 0..12 {
        scene.stream.end().await;
        scene.stream = scene.control.call().await;
        tokio::time::sleep(RECONNECT_STABLE_AFTER + Duration::from_secs(1)).await;
    }
    let ended = |attempts: &[Instant]| attempts[attempts.len() - 1] - attempts[attempts.len() - 2];
    let stable = RECONNECT_STABLE_AFTER + Duration::from_secs(1);
    let pauses: Vec<_> =
        scene.network.attempts().windows(2).map(|pair| (pair[1] - pair[0]).saturating_sub(stable)).collect();
    assert!(pauses.iter().max() > Some(&(RECONNECT_CAP / 4)), "{pauses:?}");
    // Applied and stable: the next pause is one of the first step.
    let revision = version("", 5, &["up"]).revision;
    scene.stream.say(Said::Unchanged(wire::Unchanged { revision })).await;
    tokio::time::sleep(stable).await;
    let left = Instant::now();
    scene.stream.end().await;
    scene.stream = scene.control.call().await;
    assert!(left.elapsed() <= RECONNECT_BASE + Duration::from_millis(10), "{:?}", left.elapsed());
    assert!(ended(&scene.network.attempts()) >= RECONNECT_BASE / 4);
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn control_may_ask_for_more_time_than_the_backoff_gives_but_not_for_ever() {
    for (hint_ms, least, most) in
        [(30_000, Duration::from_secs(30), RECONNECT_CAP), (u64::MAX, RECONNECT_CAP, RECONNECT_CAP)]
    {
        let mut scene = Scene::start().await;
        let asked = Instant::now();
        scene.stream.say(reconnect(hint_ms)).await;
        scene.stream = scene.control.call().await;
        let pause = asked.elapsed();
        assert!(pause >= least && pause <= most + Duration::from_millis(10), "{hint_ms} ms: {pause:?}");
        scene.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_read_no_faster_than_control_may_be_listened_to() {
    let scene = Scene::start().await;
    let nothing = frame_of(b"");
    let flood = Bytes::from(nothing.repeat(1_000));
    let sender = async {
        loop {
            scene.stream.say_bytes(flood.clone()).await;
        }
    };
    let seconds = 10;
    let _ = tokio::time::timeout(Duration::from_secs(seconds), sender).await;
    let interval = ostler_core::limits::SYNC_MESSAGE_INTERVAL;
    let at_most = u64::from(ostler_core::limits::SYNC_MESSAGE_BURST_MAX)
        + seconds * 1_000 / u64::try_from(interval.as_millis()).unwrap();
    let read = scene.ignored();
    assert!(read > at_most / 2 && read <= at_most + 1, "{read} of at most {at_most}");
    assert!(scene.is_connected());
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn versions_are_applied_as_fast_as_they_come() {
    let mut scene = Scene::start().await;
    let versions = 4 * u64::from(ostler_core::limits::SYNC_MESSAGE_BURST_MAX);
    let began = Instant::now();
    for number in 1..=versions {
        let nonce = format!("n{number}");
        let name = format!("up{number}");
        scene.stream.say(Said::Snapshot(version(&nonce, 5 + number, &[name.as_str()]))).await;
        while scene.stream.ack().await.nonce != nonce {}
    }
    assert!(
        began.elapsed() < ostler_core::limits::SYNC_MESSAGE_INTERVAL * 2,
        "{versions} versions took {:?}",
        began.elapsed()
    );
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_control_that_takes_no_answer_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let network = MemoryNetwork::default();
    let mut control = ScriptedControl::start_deaf(&network, MemoryNetwork::addr(1));
    let dataplane = start(dir.path(), &network, &control, world::SETTLE).await;
    let stream = control.call().await;
    let mut long = version("n", 1, &["up"]);
    // A refusal as long as refusals get, and one after the other.
    let keys: Vec<_> = (0..300).map(|key| format!("\"unknown_{key}\":1")).collect();
    super::refusals::content(&mut long.parts[0], format!("{{\"version\":1,{}}}", keys.join(",")).as_bytes());
    super::refusals::announce(&mut long);
    for number in 0..100 {
        long.nonce = format!("n{number}");
        stream.say(Said::Snapshot(long.clone())).await;
        if network.attempts().len() > 1 {
            break;
        }
    }
    let again = tokio::time::timeout(LONG, control.call()).await;
    assert!(again.is_ok(), "the data plane waits for ever");
    tokio::time::resume();
    dataplane.shutdown().await;
}
