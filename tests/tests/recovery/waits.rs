//! `Retry-After`: kept by the prober, told to callers, and never long enough to park a mount.

use std::time::{Duration, Instant, UNIX_EPOCH};

use ostler_core::clock::WallClock;
use ostler_tests::support::raw::{RawRequest, RawServer, Step, well, with_headers};
use serde_json::json;

use super::{LOST, Scene, UNAVAILABLE};

fn wait(status: u16, retry_after: &str) -> Step {
    with_headers(status, &format!("retry-after: {retry_after}\r\n"), "later")
}

/// The first probe after that moment, whenever it comes.
async fn first_probe_after(scene: &Scene, moment: Instant) -> RawRequest {
    ostler_tests::support::eventually("a probe", async || {
        scene.server.probes().into_iter().find(|probe| probe.at > moment)
    })
    .await
}

#[tokio::test]
async fn a_503_is_not_probed_before_the_end_of_its_retry_after() {
    let date = || {
        let in_three_seconds = Duration::from_millis(WallClock::system().unix_ms()) + Duration::from_secs(3);
        httpdate::fmt_http_date(UNIX_EPOCH + in_three_seconds)
    };
    let seconds = || "2".to_owned();
    for retry_after in [seconds as fn() -> String, date] {
        let scene = Scene::start().await;
        scene.server.behave(move |_| vec![wait(503, &retry_after())]);
        let asked = Instant::now();
        let told = scene.call(1).await;
        LOST.by(&told, &json!(1));
        assert!(told.json()["error"]["data"]["retry_after_ms"].as_u64().unwrap() > 900, "{}", told.text());
        scene.server.behave(well);
        let probe = first_probe_after(&scene, asked).await;
        // A date has whole seconds.
        assert!(probe.at - asked > Duration::from_millis(1_800), "after {:?}", probe.at - asked);
        scene.back().await;
    }
}

#[tokio::test]
async fn callers_of_a_mount_that_waits_are_told_how_long() {
    let scene = Scene::start().await;
    scene.server.behave(|_| vec![wait(503, "60")]);
    for id in 0..5 {
        LOST.by(&scene.call(id).await, &json!(id));
    }
    scene.until("down", Some("http_5xx")).await;
    let refused = scene.call(9).await;
    UNAVAILABLE.by(&refused, &json!(9));
    let told = refused.json()["error"]["data"]["retry_after_ms"].as_u64().unwrap();
    assert!((50_000..=63_000).contains(&told), "{told}");
    assert_eq!(scene.server.probes().len(), 1, "the one at load");
    assert_eq!(scene.server.calls().len(), 5);
    scene.dataplane.shutdown().await;
}

#[tokio::test]
async fn no_retry_after_parks_a_mount() {
    let scene = Scene::start().await;
    scene.server.behave(|_| vec![wait(503, "1000000000")]);
    let told = scene.call(1).await.json()["error"]["data"]["retry_after_ms"].as_u64().unwrap();
    assert_eq!(told, 300_000);
    let mount = scene.until("degraded", Some("http_5xx")).await;
    let probe = mount["next_probe_unix_ms"].as_u64().unwrap() - mount["since_unix_ms"].as_u64().unwrap();
    assert!(probe <= 310_000, "{probe}");
    // It is routed: a call brings it back before.
    scene.server.behave(well);
    scene.call(2).await;
    scene.back().await;
}

#[tokio::test]
async fn a_429_is_its_callers_and_not_the_mounts() {
    let scene = Scene::start().await;
    scene.server.misbehave(|_| vec![wait(429, "7")]);
    for id in 0..10 {
        let told = scene.call(id).await;
        LOST.by(&told, &json!(id));
        assert_eq!(told.json()["error"]["data"]["retry_after_ms"], 7_000);
        assert_eq!(scene.mount().await["state"], "ready");
    }
    scene.server.behave(well);
    scene.back().await;
}

#[tokio::test]
async fn a_probe_that_meets_429_waits() {
    let server = RawServer::start().await;
    server.behave(|request| if request.is_probe() { vec![wait(429, "2")] } else { well(request) });
    let scene = Scene::on(server, json!({})).await;
    scene.until("degraded", Some("rate_limited")).await;
    let first = scene.server.probes()[0].at;
    scene.server.behave(well);
    let second = first_probe_after(&scene, first).await;
    assert!(second.at - first >= Duration::from_secs(2), "after {:?}", second.at - first);
    scene.back().await;
}
