//! The operator's commands against a control process that `ostler up` started.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

mod support;

use std::net::TcpListener;
use std::process::Output;

use support::{Place, file_name, one_sentence, post, text};

const CONFIG: &str = "version: 1\nupstreams: { mine: { http: { url: http://127.0.0.1:1/ } } }\n";

fn json(output: &Output) -> serde_json::Value {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn a_config_goes_out_and_back() {
    let place = Place::new();
    let up = place.up(&[]).await;
    let path = place.write("mine.yaml", CONFIG);
    let file = file_name(&path);

    let forecast = json(&up.operator(&place, &["apply", "-f", file, "--dry-run", "-o", "json"]).await);
    assert_eq!((&forecast["changed"], &forecast["version"]), (&true.into(), &2.into()));

    let applied = up.operator(&place, &["apply", "-f", file, "-m", "mine & not yours", "--wait"]).await;
    let out = text(&applied.stdout);
    assert_eq!(applied.status.code(), Some(0), "{}", text(&applied.stderr));
    assert!(
        out.contains("version 2") && out.contains("+ upstreams.mine") && out.contains("healthy on 1 node"),
        "{out}"
    );
    assert!(out.lines().any(|line| line.starts_with("local") && line.contains("mine")), "{out}");

    let again = json(&up.operator(&place, &["apply", "-f", file, "-o", "json"]).await);
    assert_eq!((&again["changed"], &again["version"]), (&false.into(), &2.into()));

    let versions = json(&up.operator(&place, &["versions", "-o", "json"]).await);
    assert_eq!(versions["items"].as_array().unwrap().len(), 2);
    assert_eq!(versions["items"][0]["message"], "mine & not yours");
    let table = text(&up.operator(&place, &["versions"]).await.stdout);
    assert!(table.starts_with("VERSION") && table.lines().count() == 3, "{table}");

    let diff = text(&up.operator(&place, &["diff", "1", "2"]).await.stdout);
    assert!(diff.contains("+ upstreams.mine") && diff.contains("- upstreams.demo"), "{diff}");

    let back = up.operator(&place, &["rollback", "1", "--wait", "-o", "json"]).await;
    assert_eq!(json(&back)["version"], 3);
    assert!(text(&back.stderr).contains("healthy on 1 node"), "{}", text(&back.stderr));
    let nodes = json(&up.operator(&place, &["nodes", "-o", "json"]).await);
    assert_eq!(
        (&nodes["items"][0]["state"], &nodes["items"][0]["healthy"]["version"]),
        (&"in_sync".into(), &3.into())
    );
    let status = text(&up.operator(&place, &["status"]).await.stdout);
    assert!(status.contains("version  3") && status.contains("1 in_sync"), "{status}");
    let mounts = text(&up.operator(&place, &["mounts"]).await.stdout);
    assert!(mounts.contains("demo") && mounts.contains("pending"), "{mounts}");
    assert_eq!(up.interrupt().await.0, Some(0));
}

#[tokio::test]
async fn a_refusal_of_control_is_told_in_full() {
    let place = Place::new();
    let up = place.up(&[]).await;
    let bad = place.write("bad.yaml", "version: 1\nupstreams: { a: 1 }\nmonuts: {}\n");
    let refused = up.operator(&place, &["apply", "-f", file_name(&bad)]).await;
    let complaint = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    assert!(complaint.contains("bad.yaml:2:") && complaint.contains("bad.yaml:3:"), "{complaint}");
    let refused = up.operator(&place, &["apply", "-f", file_name(&bad), "-o", "json"]).await;
    let problem: serde_json::Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!((refused.status.code(), &problem["status"]), (Some(1), &422.into()));

    let good = place.write("good.yaml", CONFIG);
    let conflict = up.operator(&place, &["apply", "-f", file_name(&good), "--if-version", "7"]).await;
    let complaint = one_sentence(&conflict);
    assert!(complaint.contains("version"), "{complaint}");
    assert!(one_sentence(&up.operator(&place, &["rollback", "99"]).await).contains("99"));
}

#[tokio::test]
async fn a_node_that_refuses_is_named_with_every_reason() {
    let place = Place::new();
    let up = place.up(&["--allow-command", "nothing-else", "--allow-command", "*/ostler"]).await;
    let config = place.write("c.yaml", "version: 1\nupstreams: { s: { stdio: { command: forbidden } } }\n");
    let refused = up.operator(&place, &["apply", "-f", file_name(&config), "--wait"]).await;
    let complaint = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{complaint}");
    assert!(complaint.contains("node local") && complaint.contains("--allow-command"), "{complaint}");
}

#[tokio::test]
async fn readiness_is_waited_for_only_when_it_is_asked_for() {
    let place = Place::new();
    let up = place.up(&[]).await;
    let down = place.write("down.yaml", CONFIG);
    let args = ["apply", "-f", file_name(&down), "--wait", "--timeout", "500ms", "--require-ready"];
    let refused = up.operator(&place, &args).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("mount mine of node local"), "{}", text(&refused.stderr));
    assert_eq!(
        up.operator(&place, &["apply", "-f", file_name(&down), "--wait"]).await.status.code(),
        Some(0)
    );
    // A stdio mount that nobody has used yet has no child to be ready.
    let idle = place.write("idle.yaml", "version: 1\nupstreams: { s: { stdio: { command: cat } } }\n");
    let args = ["apply", "-f", file_name(&idle), "--wait", "--require-ready"];
    assert_eq!(up.operator(&place, &args).await.status.code(), Some(0));
}

#[tokio::test]
async fn a_fleet_without_nodes_is_not_waited_for() {
    let place = Place::new();
    let up = place.up(&[]).await;
    let config = place.write("c.yaml", CONFIG);
    let applied =
        up.operator(&place, &["apply", "-f", file_name(&config), "--fleet", "other", "--wait"]).await;
    assert_eq!(applied.status.code(), Some(0));
    assert!(text(&applied.stdout).contains("no node is connected"), "{}", text(&applied.stdout));
}

#[tokio::test]
async fn a_wrong_token_is_refused_and_no_token_is_shown() {
    let place = Place::new();
    let up = place.up(&[]).await;
    let control = format!("http://{}", up.address("control", "api"));
    let mut command = place.ostler(&["status", "--control", &control]);
    let output = command.env("OSTLER_TOKEN", "not-the-token-of-this-control").output().await.unwrap();
    let complaint = one_sentence(&output);
    assert!(complaint.contains("OSTLER_TOKEN") && !complaint.contains("not-the-token"), "{complaint}");

    let token = std::fs::read_to_string(up.state.join("control/operator.token")).unwrap();
    let mut command = place.ostler(&["status", "--control", &control]);
    let output = command.env("OSTLER_TOKEN", &token).output().await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));

    let mut command = place.ostler(&["status", "--control", "http://192.0.2.1:7500"]);
    let complaint = one_sentence(&command.env("OSTLER_TOKEN", &token).output().await.unwrap());
    assert!(complaint.contains("unencrypted") && !complaint.contains(&token), "{complaint}");
}

#[tokio::test]
async fn silence_and_strangers_are_told_apart() {
    let place = Place::new();
    place.write("token", "0123456789abcdef0123");
    let token = place.path("token");
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed}");
    let args = ["nodes", "--control", &url, "--token-file", file_name(&token)];
    let complaint = one_sentence(&place.run(&args).await);
    assert!(complaint.contains("does not answer at") && complaint.contains("ostler up"), "{complaint}");

    let up = place.up(&[]).await;
    let url = format!("http://{}", up.address("dataplane", "mcp"));
    let args = ["nodes", "--control", &url, "--token-file", file_name(&token)];
    let complaint = one_sentence(&place.run(&args).await);
    assert!(complaint.contains("does not answer as control does"), "{complaint}");
    // The stranger was a data plane, and serves on.
    assert!(
        post(&up.address("dataplane", "mcp"), "/mcp/nothing", "", "{}").await.head.starts_with("http/1.1 4")
    );
}

#[tokio::test]
async fn commands_find_the_control_of_this_user_by_themselves() {
    let place = Place::new();
    let mut command = place.ostler(&["up", "--settle", "50ms"]);
    for flag in ["--mcp-listen", "--admin-listen", "--control-listen", "--sync-listen"] {
        command.args([flag, "127.0.0.1:0"]);
    }
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).process_group(0);
    let up = support::Up::from(command, place.path("ostler")).await;
    assert!(!up.said.contains("--token-file"), "{}", up.said);
    let output = place.run(&["status"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(up.interrupt().await.0, Some(0));
}

#[tokio::test]
async fn what_is_stopped_is_shown_and_what_was_decided_is_asked_exported_and_verified() {
    let place = Place::new();
    let up = place.up(&[]).await;
    let none = up.operator(&place, &["kills"]).await;
    assert_eq!(text(&none.stdout), "fleet default: nothing is stopped\n");
    let killed = json(&up.operator(&place, &["kill", "--mount", "demo", "-m", "=leak", "-o", "json"]).await);
    assert_eq!((&killed["changed"], &killed["items"][0]["target"]["scope"]), (&true.into(), &"mount".into()));
    let again = up.operator(&place, &["kill", "--mount", "demo"]).await;
    assert!(text(&again.stderr).contains("nothing changed") && text(&again.stdout).contains("=leak"));
    let told = async || {
        let told = up.operator(&place, &["audit", "query", "--event", "kill_switch_on"]).await;
        text(&told.stdout).lines().count() > 1
    };
    let mut tries = 0;
    while !told().await {
        tries += 1;
        assert!(tries < 300, "the node's record never came");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let resumed = up.operator(&place, &["resume", "--everything"]).await;
    assert_eq!(text(&resumed.stdout), "fleet default: nothing is stopped\n");
    let export = up.operator(&place, &["audit", "export"]).await;
    let file = place.write("all.jsonl", &text(&export.stdout));
    let verified = place.run(&["audit", "verify", file_name(&file)]).await;
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified.stdout));
    assert!(text(&verified.stdout).ends_with("whole\n"), "{}", text(&verified.stdout));
    let changed = text(&export.stdout).replacen("kill_switch_on", "kill_switch_no", 1);
    let changed = place.write("changed.jsonl", &changed);
    let found = place.run(&["audit", "verify", file_name(&changed), "-o", "json"]).await;
    assert_eq!(found.status.code(), Some(1), "{}", text(&found.stdout));
    let csv = text(&up.operator(&place, &["audit", "export", "--format", "csv"]).await.stdout);
    assert!(csv.starts_with("chain,node,seq") && csv.contains("kill_switch_on"), "{csv}");
    let chains = text(&up.operator(&place, &["audit", "chains"]).await.stdout);
    assert!(chains.starts_with("NODE") && chains.contains("none"), "{chains}");
    assert_eq!(up.interrupt().await.0, Some(0));
}
