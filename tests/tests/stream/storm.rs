//! A fleet that loses its control at once does not come back at once, whether control died or was ended.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ostler_core::backoff::Backoff;
use ostler_core::limits::{RECONNECT_BASE, RECONNECT_CAP, RECONNECT_SPREAD};
use ostler_core::rng::Jitter;
use ostler_proto::sync::v1::control_message::Message as Heard;
use ostler_proto::sync::v1::directive::Directive as Order;
use ostler_proto::sync::v1::{self as wire, ack::Stage};
use ostler_tests::support::control::TestControl;
use ostler_tests::support::net::MemoryNetwork;
use ostler_tests::support::scripted_node::{Connection, ScriptedNode, hello};
use prost::Message as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::text;

const NODES: usize = 200;
const PORT: u16 = 1;

async fn control(dir: &Path, network: &MemoryNetwork) -> TestControl {
    let mut options = TestControl::options(&dir.join("control"));
    options.network = Arc::new(network.clone());
    options.sync_listen = MemoryNetwork::addr(PORT);
    TestControl::start_with(options).await
}

/// A fleet in sync with control, and what each of its nodes holds.
async fn fleet(control: &TestControl, network: &MemoryNetwork) -> (Vec<ScriptedNode>, wire::Revision) {
    control.apply(&text(&["up"])).await;
    let mut nodes = Vec::new();
    let mut held = None;
    for number in 0..NODES {
        let token = &control.running.node_token;
        let mut connection = Connection::open(network, MemoryNetwork::addr(PORT), token).await;
        let mut node = connection.node(hello(&format!("n{number}"))).await;
        let snapshot = node.snapshot().await;
        node.ack(&snapshot, Stage::Healthy).await;
        held = snapshot.revision;
        nodes.push(node);
    }
    (nodes, held.unwrap())
}

/// How many fall into each step of time.
fn by_step(moments: impl Iterator<Item = Duration>, step: Duration) -> BTreeMap<u128, usize> {
    let mut counts = BTreeMap::new();
    for moment in moments {
        *counts.entry(moment.as_millis() / step.as_millis()).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn a_control_that_ends_sends_its_nodes_away_for_a_time_that_is_spread() {
    let dir = tempfile::tempdir().unwrap();
    let network = MemoryNetwork::default();
    let control = control(dir.path(), &network).await;
    let (nodes, _) = fleet(&control, &network).await;
    let listening: JoinSet<_> = nodes
        .into_iter()
        .map(|mut node| async move {
            loop {
                match node.hear().await {
                    Some(Heard::Directive(wire::Directive { directive: Some(Order::Reconnect(hint)) })) => {
                        return hint.after_ms;
                    }
                    Some(_) => {}
                    None => panic!("control ended without a word"),
                }
            }
        })
        .collect();
    control.running.shutdown().await;
    let hints = listening.join_all().await;
    let (least, most) = (RECONNECT_BASE, RECONNECT_BASE + RECONNECT_SPREAD);
    let hints = || hints.iter().map(|hint| Duration::from_millis(*hint));
    assert!(hints().all(|hint| hint >= least && hint < most));
    // A fifth is due in each second of the spread; twice that in any would be a crowd.
    let seconds = by_step(hints(), Duration::from_secs(1));
    let fair = NODES / usize::try_from(RECONNECT_SPREAD.as_secs()).unwrap();
    assert!(
        seconds.len() == 5 && seconds.values().all(|count| (fair / 2..=fair * 2).contains(count)),
        "{seconds:?}"
    );
}

/// A node that keeps calling with the backoff of a data plane until it is told that what it holds is right.
async fn come_back(
    network: MemoryNetwork,
    token: ostler_core::token::BearerToken,
    number: usize,
    held: wire::Revision,
) -> (usize, ScriptedNode) {
    let mut backoff = Backoff::new(RECONNECT_BASE, RECONNECT_CAP, Jitter::from_seed(number as u64));
    loop {
        tokio::time::sleep(backoff.next_delay()).await;
        let Some(mut connection) = Connection::try_open(&network, MemoryNetwork::addr(PORT), &token).await
        else {
            continue;
        };
        let Ok(mut node) = connection.try_stream("application/grpc").await else { continue };
        let hello = wire::Hello { held: Some(held.clone()), ..hello(&format!("n{number}")) };
        node.say(wire::node_message::Message::Hello(hello)).await;
        if let Some(Heard::Unchanged(unchanged)) = node.hear().await {
            let message = wire::ControlMessage { message: Some(Heard::Unchanged(unchanged)) };
            return (message.encoded_len(), node);
        }
    }
}

#[tokio::test]
async fn a_control_that_died_is_called_at_a_bounded_rate_and_takes_its_fleet_back_for_a_hundred_bytes_each() {
    let dir = tempfile::tempdir().unwrap();
    let network = MemoryNetwork::default();
    let first = control(dir.path(), &network).await;
    let token = first.running.node_token.clone();
    let (nodes, held) = fleet(&first, &network).await;
    let known = network.attempts().len();
    // As after a kill: no word to anybody, and nothing listens.
    drop((nodes, first));
    network.unbind(PORT);
    tokio::time::pause();
    let died = Instant::now();
    let coming: JoinSet<_> =
        (0..NODES).map(|number| come_back(network.clone(), token.clone(), number, held.clone())).collect();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let attempts: Vec<_> = network.attempts()[known..].iter().map(|at| *at - died).collect();
    let soon = attempts.iter().copied().filter(|at| *at < RECONNECT_BASE);
    let first_second = by_step(soon, Duration::from_millis(50));
    // Each node once in the first second, over its three quarters; a crowd would be a third of them in one step.
    assert!(first_second.values().all(|count| *count <= NODES / 6), "{first_second:?}");
    let per_second = by_step(attempts.iter().copied(), Duration::from_secs(1));
    assert!(per_second.values().all(|count| *count <= NODES + NODES / 4), "{per_second:?}");
    // At the cap, thirty seconds on average.
    let late: Vec<_> = per_second.range(120..).map(|(_, count)| *count).collect();
    assert!(late.iter().all(|count| *count <= NODES / 8), "{late:?}");

    tokio::time::resume();
    let second = control(dir.path(), &network).await;
    tokio::time::pause();
    let returned = Instant::now();
    let back = coming.join_all().await;
    assert!(returned.elapsed() <= RECONNECT_CAP + Duration::from_secs(1), "{:?}", returned.elapsed());
    assert!(back.iter().all(|(bytes, _)| *bytes <= 128), "{:?}", back.first().map(|(bytes, _)| bytes));
    assert_eq!(second.running.open_streams(), NODES as i64);
    tokio::time::resume();
    let pushes = async |result: &str| {
        second.metric(&format!("ostler_control_pushes_total{{result=\"{result}\"}}")).await
    };
    assert_eq!((pushes("unchanged").await, pushes("snapshot").await), (NODES as u64, 0));
    drop(back);
    second.running.shutdown().await;
}
