//! `ostler up` from its first word to its end: the demo, a file, refusals, and what is left behind.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

mod support;

use std::net::TcpListener;

use rustix::process::Signal;
use support::{
    LIMIT, Place, Up, children_of, file_name, get, gone, is_running, one_sentence, post, signal, text, until,
};
use tokio::time::timeout;

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;

/// Calls `add` of the demo server as a client of the 2025 era does.
async fn two_and_three(mcp: &str) -> serde_json::Value {
    let initialized = post(mcp, "/mcp/demo", "", INITIALIZE).await;
    let headers = format!("mcp-session-id: {}\r\nmcp-protocol-version: 2025-11-25\r\n", initialized.session);
    post(mcp, "/mcp/demo", &headers, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    let call =
        r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"add","arguments":{"a":2,"b":3}}}"#;
    post(mcp, "/mcp/demo", &headers, call).await.body
}

#[tokio::test]
async fn a_call_of_the_demo_works_and_ctrl_c_leaves_nothing_behind() {
    let place = Place::new();
    let mut command = place.up_command(&[]);
    // Meant for a process of somebody else's; either would fail to start with it.
    command.env("OSTLER_TLS_CERT", "/nowhere").env("OSTLER_LISTEN", "192.0.2.1:1");
    let up = Up::from(command, place.path("state")).await;
    let mcp = up.address("dataplane", "mcp");
    assert!(up.said.contains(&format!("\"url\": \"http://{mcp}/mcp/demo\"")), "{}", up.said);
    let token = std::fs::read_to_string(up.state.join("control/operator.token")).unwrap();
    assert!(!up.said.contains(token.trim()));

    let answer = two_and_three(&mcp).await;
    assert_eq!(answer["result"]["content"][0]["text"], "5", "{answer}");

    let (control, dataplane) = (up.pid_of("control"), up.pid_of("dataplane"));
    // The server, and on Linux the guard over it.
    let children = children_of(dataplane);
    assert_eq!(children.len(), if cfg!(target_os = "linux") { 2 } else { 1 });
    let state = up.state.clone();
    let (code, log) = up.interrupt().await;
    assert_eq!(code, Some(0), "{log}");
    for pid in [control, dataplane].into_iter().chain(children) {
        assert!(!is_running(pid), "{pid} is left behind; {log}");
    }
    // The terminal's Ctrl-C reached `up` alone, and it kept the order.
    let (first, second) = (log.find("stopping: finishing"), log.find("control is shutting down"));
    assert!(first.is_some() && first < second, "{log}");
    for process in ["control", "dataplane"] {
        assert!(!state.join(process).join("listen.json").exists(), "{process}");
    }
}

#[tokio::test]
async fn the_children_end_when_up_is_killed() {
    let place = Place::new();
    let up = place.up(&[]).await;
    let mut children = vec![up.pid_of("control"), up.pid_of("dataplane")];
    two_and_three(&up.address("dataplane", "mcp")).await;
    children.extend(children_of(up.pid_of("dataplane")));
    assert!(children.len() > 2, "the demo server runs");
    signal(up.pid(), Signal::KILL);
    up.ended().await;
    for pid in children {
        gone(pid).await;
    }
}

#[tokio::test]
async fn a_dead_child_ends_the_other_and_is_named() {
    for (victim, named, other) in
        [("dataplane", "the data plane", "control"), ("control", "control", "dataplane")]
    {
        let place = Place::new();
        let up = place.up(&[]).await;
        let survivor = up.pid_of(other);
        signal(up.pid_of(victim), Signal::KILL);
        let (code, log) = up.ended().await;
        assert_eq!(code, Some(1));
        let last = log.lines().last().unwrap();
        assert!(last.starts_with(&format!("error: {named} ended unexpectedly (signal: 9")), "{last}");
        assert!(!is_running(survivor), "{other} is left behind");
    }
}

#[tokio::test]
async fn a_taken_port_is_one_sentence_with_the_flag_to_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for flag in ["--mcp-listen", "--admin-listen", "--control-listen", "--sync-listen", "--metrics-listen"] {
        let place = Place::new();
        let output = place.up_command(&[flag, &addr]).output().await.unwrap();
        let complaint = one_sentence(&output);
        assert!(
            complaint.contains(&addr) && complaint.contains("taken") && complaint.contains(flag),
            "{complaint}"
        );
    }
}

#[tokio::test]
async fn a_port_that_others_reach_is_refused() {
    let place = Place::new();
    let complaint = one_sentence(&place.up_command(&["--mcp-listen", "0.0.0.0:0"]).output().await.unwrap());
    assert!(complaint.contains("--mcp-listen") && complaint.contains("--tls-cert"), "{complaint}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_is_one_sentence() {
    let place = Place::new();
    place.write("state", "a file in the way");
    let complaint = one_sentence(&place.up_command(&[]).output().await.unwrap());
    assert!(complaint.contains("state folder") && complaint.contains("--state-dir"), "{complaint}");
}

#[tokio::test]
async fn a_bad_file_is_told_in_full_and_starts_nothing() {
    let place = Place::new();
    let path = place.write("ostler.yaml", "version: 1\nupstreams: { a: 1 }\nmonuts: {}\n");
    let output = place.up_command(&["--config", file_name(&path)]).output().await.unwrap();
    let complaint = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""), "{complaint}");
    assert!(complaint.contains("ostler.yaml:2:") && complaint.contains("ostler.yaml:3:"), "{complaint}");
    assert!(!place.path("state").exists());
    let missing = place.path("missing.yaml");
    let complaint =
        one_sentence(&place.up_command(&["--config", file_name(&missing)]).output().await.unwrap());
    assert!(complaint.contains("does not exist"), "{complaint}");
}

#[tokio::test]
async fn a_file_that_this_host_cannot_serve_is_told_at_start() {
    let place = Place::new();
    let text = "version: 1\nupstreams: { a: { http: { url: http://127.0.0.1:1/ }, headers: { X-A: '${UNSET_BY_THIS_TEST}' } } }\n";
    let path = place.write("ostler.yaml", text);
    let output =
        timeout(LIMIT, place.up_command(&["--config", file_name(&path)]).output()).await.unwrap().unwrap();
    let complaint = support::text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert!(complaint.contains("node local") && complaint.contains("UNSET_BY_THIS_TEST"), "{complaint}");
}

#[tokio::test]
async fn a_second_up_on_the_same_folder_is_refused() {
    let place = Place::new();
    let up = place.up(&[]).await;
    let complaint = one_sentence(&place.up_command(&[]).output().await.unwrap());
    assert!(complaint.contains("another `ostler up`"), "{complaint}");
    assert_eq!(up.interrupt().await.0, Some(0));
    let again = place.up(&[]).await;
    assert_eq!(again.interrupt().await.0, Some(0));
}

#[tokio::test]
async fn a_folder_of_a_data_plane_that_runs_by_itself_is_refused() {
    let place = Place::new();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    std::fs::create_dir_all(place.path("state/dataplane")).unwrap();
    let listening = format!("{{\"pid\":7,\"listeners\":{{\"admin\":\"{}\"}}}}", holder.local_addr().unwrap());
    place.write("state/dataplane/listen.json", &listening);
    let complaint = one_sentence(&place.up_command(&[]).output().await.unwrap());
    assert!(complaint.contains("in use by process 7"), "{complaint}");
    // Nobody answers any more: it was left over.
    drop(holder);
    assert_eq!(place.up(&[]).await.interrupt().await.0, Some(0));
}

#[tokio::test]
async fn a_file_is_followed_and_refuses_changes_from_elsewhere() {
    let place = Place::new();
    let config = |name: &str| {
        format!("version: 1\nupstreams: {{ {name}: {{ http: {{ url: http://127.0.0.1:1/ }} }} }}\n")
    };
    let path = place.write("ostler.yaml", &config("first"));
    let up = place.up(&["--config", file_name(&path)]).await;
    assert!(up.said.contains("/mcp/first"), "{}", up.said);
    let refused = up.operator(&place, &["apply", "-f", file_name(&path)]).await;
    let complaint = one_sentence(&refused);
    assert!(complaint.contains("ostler.yaml"), "{complaint}");
    place.write("ostler.yaml", &config("second"));
    until("the change is served", async || {
        text(&up.operator(&place, &["mounts"]).await.stdout).contains("second")
    })
    .await;
    assert_eq!(up.interrupt().await.0, Some(0));
}

#[tokio::test]
async fn a_hangup_has_the_file_read_again_and_ends_nothing() {
    let place = Place::new();
    let path = place
        .write("ostler.yaml", "version: 1\nupstreams: { mine: { http: { url: http://127.0.0.1:1/ } } }\n");
    let up = place.up(&["--config", file_name(&path)]).await;
    let (pids, api) = ([up.pid_of("control"), up.pid_of("dataplane")], up.address("control", "api"));
    signal(up.pid(), Signal::HUP);
    let unchanged = "ostler_control_applies_total{source=\"file\",result=\"unchanged\"} 1";
    until("the file is read again", async || get(&api, "/metrics").await.contains(unchanged)).await;
    assert!(is_running(up.pid()) && pids.into_iter().all(is_running));
    let (code, log) = up.interrupt().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("config file and referenced files are read again, as asked"), "{log}");
}

#[tokio::test]
async fn the_demo_stands_in_until_the_file_names_an_upstream() {
    let place = Place::new();
    let path = place.write("ostler.yaml", "version: 1\n");
    let mut up = place.up(&["--config", file_name(&path)]).await;
    assert!(up.said.contains("names no upstream") && up.said.contains("/mcp/demo"), "{}", up.said);
    let mcp = up.address("dataplane", "mcp");
    assert_eq!(two_and_three(&mcp).await["result"]["content"][0]["text"], "5");
    let dataplane = up.pid_of("dataplane");
    place.write("ostler.yaml", "version: 1\nupstreams: { mine: { http: { url: http://127.0.0.1:1/ } } }\n");
    up.listen().await;
    assert!(
        up.said.contains("it follows") && up.said.contains(&format!("http://{mcp}/mcp/mine")),
        "{}",
        up.said
    );
    assert!(!up.said.contains("/mcp/demo"), "{}", up.said);
    assert_eq!(up.pid_of("dataplane"), dataplane);
    let (code, log) = up.interrupt().await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test]
async fn what_was_applied_is_served_again_after_a_restart() {
    let place = Place::new();
    let path =
        place.write("mine.yaml", "version: 1\nupstreams: { mine: { http: { url: http://127.0.0.1:1/ } } }\n");
    let up = place.up(&[]).await;
    let applied = up.operator(&place, &["apply", "-f", file_name(&path)]).await;
    assert_eq!(applied.status.code(), Some(0), "{}", text(&applied.stderr));
    assert_eq!(up.interrupt().await.0, Some(0));
    let up = place.up(&[]).await;
    assert!(up.said.contains("/mcp/mine") && !up.said.contains("/mcp/demo"), "{}", up.said);
    assert_eq!(up.interrupt().await.0, Some(0));
}

#[tokio::test]
async fn ctrl_c_during_the_start_ends_it_too() {
    let place = Place::new();
    let mut child = place.up_command(&[]).spawn().unwrap();
    // Control has made its token, so both the signal handler and a child are there.
    let token = place.path("state/control/operator.token");
    until("control has started", async || token.exists()).await;
    signal(child.id().unwrap().try_into().unwrap(), Signal::INT);
    let status = timeout(LIMIT, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(!place.path("state/control/listen.json").exists());
}

#[tokio::test]
async fn a_process_that_cannot_start_says_why_and_nothing_is_added() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("state/control")).unwrap();
    place.write("state/control/epoch", "not a number");
    let complaint = one_sentence(&place.up_command(&[]).output().await.unwrap());
    assert!(complaint.contains("does not hold an epoch"), "{complaint}");
}
