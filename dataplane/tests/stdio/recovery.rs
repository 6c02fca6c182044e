//! The stdio rows of docs/recovery.md that are about a child's life: starts, ends, silence. Each says what the caller gets,
//! what the mount shows, and that it comes back by itself.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use ostler_core::limits::{BREAKER_FAILURES, RESPAWN_INTERVAL, RESPAWNS_BURST_MAX};
use serde_json::{Value, json};

use crate::door::{Caller, Door, RETURN};
use crate::fake::Mood;
use crate::world::{kill, until, until_gone};

/// What a caller may be told to wait for the next start.
const NEXT_START: Duration = Duration::from_secs(3);
const UNAVAILABLE: i64 = -31003;
const TIMEOUT: i64 = -31004;

/// What broke is mended: a client gets a session within the time that a mount has to be back, and is served.
async fn is_back(door: &Door, client: &mut Caller) {
    let told = client.initialize_at_last().await;
    assert!(told < RETURN, "told to wait {told:?}");
    client.until_back().await;
    assert_eq!(door.state(), ("ready", "answered"));
}

#[tokio::test]
async fn a_child_that_exits_during_a_call_fails_it_at_once_and_the_next_one_serves() {
    for (tool, detail) in [("exit", "exit status: 0"), ("kill_itself", "signal: 9")] {
        let door = Door::open(Mood::Well).await;
        let client = door.client().await;
        let before = client.result("pid").await;
        let heard = client.call(tool, json!({})).await;
        assert_eq!(heard.status, 200);
        assert_eq!(heard.error(), (UNAVAILABLE, "upstream_unavailable", false), "it may have been executed");
        assert!(heard.retry_after().unwrap() <= NEXT_START);
        assert!(heard.body["error"]["message"].as_str().unwrap().contains(detail), "{heard:?}");
        assert_eq!(door.state(), ("degraded", "child_exited"));
        assert_ne!(client.until_back().await, before["pid"]);
        assert_eq!(door.state(), ("ready", "answered"));
        door.close().await;
    }
}

#[tokio::test]
async fn a_list_lost_with_its_child_may_be_asked_for_again_and_a_call_may_not() {
    let door = Door::with(Mood::Well, &json!({"timeouts": {"answer": "20s"}})).await;
    let client = door.client().await;
    let pid = client.result("pid").await["pid"].clone();
    let list = json!({"jsonrpc": "2.0", "id": "list", "method": "tools/list"});
    let hanging = join_all((0..=BREAKER_FAILURES).map(|_| client.call("hang", json!({}))));
    let (hung, listed, ()) = tokio::join!(hanging, client.post(&list), async {
        loop {
            let seen = client.result("seen").await.to_string();
            if seen.matches(r#"\"hang\""#).count() > BREAKER_FAILURES as usize && seen.contains("tools/list")
            {
                break kill(&pid);
            }
        }
    });
    for hung in hung {
        assert_eq!(hung.error(), (UNAVAILABLE, "upstream_unavailable", false));
    }
    assert_eq!(listed.error(), (UNAVAILABLE, "upstream_unavailable", true));
    assert_eq!(door.state(), ("degraded", "child_exited"), "one end is one failure");
    door.close().await;
}

#[tokio::test]
async fn a_child_that_ends_between_calls_is_seen_at_once_and_replaced_at_the_next_call() {
    let door = Door::open(Mood::Well).await;
    let client = door.client().await;
    let pid = client.result("pid").await["pid"].clone();
    kill(&pid);
    door.until_state("degraded", "child_exited").await;
    assert_ne!(client.until_back().await, pid);
    assert_eq!((door.state(), door.counts().unexpected_exits), (("ready", "answered"), 1));
    door.close().await;
}

#[tokio::test]
async fn a_program_that_exits_at_its_start_takes_the_mount_down_and_its_return_brings_it_back() {
    let door = Door::open(Mood::ExitAtStart).await;
    let mut client = door.stranger("program");
    while door.state().0 != "down" {
        let heard = client.initialize().await;
        assert_eq!((heard.status.as_u16(), heard.error().0), (200, UNAVAILABLE));
        assert!(heard.retry_after().unwrap() <= NEXT_START, "{heard:?}");
        // Between two tries, as a client would; what is waited for is the state.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(door.state(), ("down", "child_exited"));
    let starts = door.starts();
    for _ in 0..20 {
        let heard = client.initialize().await;
        assert_eq!(heard.error(), (UNAVAILABLE, "upstream_unavailable", true));
        assert!(heard.retry_after().unwrap() <= NEXT_START);
    }
    assert!(door.starts() <= starts + 1, "while it is down nothing is started but one trial");
    door.set(Mood::Well);
    is_back(&door, &mut client).await;
    door.close().await;
}

#[tokio::test]
async fn a_crash_loop_has_a_bound_on_its_starts_whichever_sessions_ask_for_them() {
    let door = Door::open(Mood::ExitAtCall).await;
    let begun = Instant::now();
    let mut refused = 0;
    // Each client is new, greets a new child and makes it crash.
    while begun.elapsed() < Duration::from_secs(4) {
        let mut client = door.stranger("program");
        let heard = client.initialize().await;
        if heard.body["result"].is_object() {
            assert_eq!(client.call("pid", json!({})).await.error().0, UNAVAILABLE);
        } else {
            refused += 1;
            assert!(heard.retry_after().unwrap() <= NEXT_START, "{heard:?}");
            // Between two tries, so that refusals do not keep the machine from starting children.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let seconds = begun.elapsed().as_secs() / RESPAWN_INTERVAL.as_secs();
    let bound = u64::from(RESPAWNS_BURST_MAX) + seconds + 1;
    let counts = door.counts();
    assert!(
        counts.starts <= bound && counts.starts >= u64::from(RESPAWNS_BURST_MAX),
        "{counts:?} of {bound}"
    );
    assert_eq!(counts.starts, counts.unexpected_exits);
    assert!(refused > counts.starts, "who asks too often is told so");
    door.set(Mood::Well);
    let mut client = door.stranger("program");
    is_back(&door, &mut client).await;
    door.close().await;
}

#[tokio::test]
async fn a_child_that_never_answers_initialize_is_ended_when_the_call_times_out() {
    let door = Door::open(Mood::Mute).await;
    let mut client = door.stranger("program");
    let heard = client.initialize().await;
    assert_eq!((heard.status.as_u16(), heard.error()), (200, (TIMEOUT, "upstream_timeout", false)));
    assert_eq!(door.state(), ("degraded", "answer_timeout"));
    until(|| door.counts().running == 0).await;
    door.set(Mood::Well);
    is_back(&door, &mut client).await;
    door.close().await;
}

#[tokio::test]
async fn a_shared_child_that_refuses_its_greeting_is_tried_again_until_it_does_not() {
    let door = Door::with(Mood::Refuse, &json!({"stdio": {"share": "mount"}})).await;
    let mut client = door.stranger("program");
    let heard = client.initialize().await;
    assert_eq!(heard.error(), (UNAVAILABLE, "upstream_unavailable", true));
    assert!(heard.retry_after().unwrap() <= NEXT_START);
    assert_eq!(door.state(), ("degraded", "initialize_refused"));
    door.set(Mood::Well);
    is_back(&door, &mut client).await;
    door.close().await;
}

#[tokio::test]
async fn a_call_without_an_answer_times_out_and_a_child_that_still_answers_a_ping_stays() {
    let door = Door::open(Mood::Well).await;
    let client = door.client().await;
    let before = client.result("pid").await;
    let heard = client.call("hang", json!({})).await;
    assert_eq!(heard.error(), (TIMEOUT, "upstream_timeout", false));
    assert_eq!(door.state(), ("degraded", "answer_timeout"));
    assert_eq!(client.result("pid").await, before);
    assert_eq!((door.state(), door.counts().unexpected_exits), (("ready", "answered"), 0));
    door.close().await;
}

#[tokio::test]
async fn a_child_that_says_nothing_at_all_is_replaced_after_the_call_that_timed_out() {
    let door = Door::open(Mood::Well).await;
    let client = door.client().await;
    let pid = client.result("pid").await["pid"].clone();
    assert_eq!(client.call("stop_reading", json!({})).await.error(), (TIMEOUT, "upstream_timeout", false));
    door.until_state("degraded", "child_silent").await;
    until_gone(&pid).await;
    assert_ne!(client.until_back().await, pid);
    assert_eq!(door.state(), ("ready", "answered"));
    door.close().await;
}

#[tokio::test]
async fn a_child_that_closes_its_output_and_lives_on_is_ended_and_its_calls_fail_at_once() {
    // It answers one call and then says no more.
    let script = r#"n=0; while [ -f "$0" ] && read line; do n=$((n+1)); case $n in
        1) echo '{"jsonrpc":"2.0","id":"init","result":{}}';;
        2) exec >&-; exec sleep 1000;; esac; done; exec "$@""#;
    let dir = tempfile::tempdir().unwrap();
    let marker = dir.path().join("closes");
    std::fs::write(&marker, "").unwrap();
    let server = std::env::current_exe().unwrap();
    let mut args = vec![json!("-c"), json!(script.replace('$', "$$")), json!(marker), json!(server)];
    args.extend(crate::fake::ARGS.map(Value::from));
    let door = Door::with(Mood::Well, &json!({"stdio": {"command": "sh", "args": args}})).await;
    let client = door.client().await;
    let heard = client.call("pid", json!({})).await;
    assert_eq!(heard.error(), (UNAVAILABLE, "upstream_unavailable", false));
    assert_eq!(door.state(), ("degraded", "child_exited"));
    std::fs::remove_file(marker).unwrap();
    client.until_back().await;
    until(|| door.counts().running == 1).await;
    door.close().await;
}

#[tokio::test]
async fn a_program_that_is_missing_not_executable_or_without_its_folder_is_named_and_comes_back_when_it_can()
{
    let door = Door::open(Mood::Well).await;
    let mut client = door.stranger("program");
    door.uninstall();
    let heard = client.initialize().await;
    assert_eq!(heard.error(), (UNAVAILABLE, "upstream_unavailable", true));
    assert!(heard.body["error"]["message"].as_str().unwrap().contains("was not found"), "{heard:?}");
    assert_eq!(door.state(), ("degraded", "spawn_failed"));
    std::fs::write(door.program(), "").unwrap();
    client.initialize_until_refused_for("may not be executed").await;
    std::fs::remove_file(door.program()).unwrap();
    door.install();
    is_back(&door, &mut client).await;
    door.close().await;

    let dir = tempfile::tempdir().unwrap();
    let cwd = dir.path().join("cwd");
    let door = Door::with(Mood::Well, &json!({"stdio": {"cwd": cwd}})).await;
    let mut client = door.stranger("program");
    client.initialize_until_refused_for("does not exist; correct `cwd`").await;
    std::fs::create_dir(cwd).unwrap();
    is_back(&door, &mut client).await;
    door.close().await;
}

#[tokio::test]
async fn a_slow_start_makes_its_callers_wait_and_is_shared_by_them() {
    let door =
        Door::with(Mood::Slow, &json!({"stdio": {"share": "mount"}, "timeouts": {"answer": "20s"}})).await;
    let (mut a, mut b) = (door.stranger("program"), door.stranger("program"));
    let (first, second) = tokio::join!(a.initialize(), b.initialize());
    assert!(first.body["result"].is_object() && second.body["result"].is_object());
    assert_eq!((door.starts(), door.state()), (1, ("ready", "answered")));
    door.close().await;
}

#[tokio::test]
async fn a_warm_child_is_back_within_five_seconds_of_its_programs_return_without_a_call() {
    let door = Door::with(Mood::ExitAtStart, &json!({"stdio": {"share": "mount", "warm": true}})).await;
    until(|| door.starts() >= 4).await;
    assert!(matches!(door.state(), ("degraded" | "down", "child_exited")), "{:?}", door.state());
    let next = door.upstream().health.reading();
    door.set(Mood::Well);
    let since = Instant::now();
    door.until_state("ready", "answered").await;
    assert!(since.elapsed() < RETURN, "{:?} after {next:?}", since.elapsed());
    door.close().await;
}

#[tokio::test]
async fn a_session_whose_next_child_refuses_its_greeting_is_gone_and_its_client_starts_another() {
    let door = Door::open(Mood::Well).await;
    let mut client = door.client().await;
    let pid = client.result("pid").await["pid"].clone();
    door.set(Mood::Refuse);
    kill(&pid);
    door.until_state("degraded", "child_exited").await;
    let gone = loop {
        let heard = client.call("pid", json!({})).await;
        match heard.retry_after() {
            Some(wait) => tokio::time::sleep(wait).await,
            None => break heard,
        }
    };
    assert_eq!((gone.status.as_u16(), gone.error().1), (404, "session_not_found"));
    assert_eq!(door.state(), ("degraded", "initialize_refused"));
    door.set(Mood::Well);
    client.forget_session();
    is_back(&door, &mut client).await;
    door.close().await;
}

#[tokio::test]
async fn the_child_that_follows_another_is_told_what_clients_had_set() {
    for share in ["session", "mount"] {
        let door = Door::with(Mood::Well, &json!({"stdio": {"share": share}})).await;
        let client = door.client().await;
        for (method, params) in [
            ("logging/setLevel", json!({"level": "debug"})),
            ("resources/subscribe", json!({"uri": "a:kept"})),
            ("resources/subscribe", json!({"uri": "a:left"})),
            ("resources/unsubscribe", json!({"uri": "a:left"})),
            ("logging/setLevel", json!({"level": "error"})),
        ] {
            let set = json!({"jsonrpc": "2.0", "id": 5, "method": method, "params": params});
            assert!(client.post(&set).await.body["result"].is_object());
        }
        let pid = client.result("pid").await["pid"].clone();
        kill(&pid);
        door.until_state("degraded", "child_exited").await;
        client.until_back().await;
        let seen = client.result("seen").await["seen"].clone();
        let told: Vec<Value> = seen.as_array().unwrap()[..4]
            .iter()
            .map(|line| serde_json::from_str(line.as_str().unwrap()).unwrap())
            .collect();
        let methods: Vec<_> = told.iter().map(|message| message["method"].as_str().unwrap()).collect();
        assert_eq!(
            methods,
            ["initialize", "notifications/initialized", "resources/subscribe", "logging/setLevel"]
        );
        assert_eq!(
            (&told[2]["params"]["uri"], &told[3]["params"]["level"]),
            (&json!("a:kept"), &json!("error"))
        );
        assert!(!seen.to_string().contains("a:left"));
        door.close().await;
    }
}
