//! What pushed config, and a state folder that somebody wrote to, may do to a host: no more than its flags allow.

use super::*;

#[tokio::test]
async fn an_upstream_at_one_of_ostlers_own_listeners_is_refused_when_connecting() {
    let dir = tempfile::tempdir().unwrap();
    let control = TestControl::start(&dir.path().join("control")).await;
    let node_token = control.state_dir.join("node.token");
    let from = world::following(control.running.sync_addr, &node_token, "a");
    let mut options = world::options(&dir.path().join("dp"), from);
    options.metrics_listen = Some("0.0.0.0:0".parse().unwrap());
    let dataplane = DataPlane::start(options).await.unwrap();
    let listeners = ostler_core::state_dir::read_listeners(&dir.path().join("dp")).unwrap().listeners;
    let (mcp, admin_port, metrics) =
        (listeners["mcp"].port(), listeners["admin"].port(), listeners["metrics"].port());
    let sync = control.running.sync_addr.port();
    let urls = [
        format!("http://127.0.0.1:{mcp}/mcp/a"),
        format!("http://localhost:{mcp}/mcp/a"),
        format!("http://LOCALHOST.:{admin_port}/config"),
        format!("http://0.0.0.0:{admin_port}/config"),
        format!("http://[::ffff:127.0.0.1]:{admin_port}/config"),
        format!("http://[::ffff:7f00:1]:{mcp}/mcp/a"),
        format!("http://127.1:{admin_port}/config"),
        format!("http://2130706433:{admin_port}/config"),
        format!("http://0x7f.1:{admin_port}/config"),
        format!("http://127.0.0.9:{metrics}/metrics"),
        format!("http://127.0.0.1:{sync}/"),
    ];
    let upstreams: serde_json::Map<_, _> = urls
        .iter()
        .enumerate()
        .map(|(index, url)| (format!("u{index}"), json!({"http": {"url": url}})))
        .collect();
    let applied = control.apply(&json!({"version": 1, "upstreams": upstreams}).to_string()).await;
    assert_eq!(applied.status, 200, "{}", applied.text());
    control.until("a", "in_sync").await;
    for (index, url) in urls.iter().enumerate() {
        let answer = Ask::mcp(dataplane.mcp_addr(), &format!("/mcp/u{index}"), &initialize()).send().await;
        let error = answer.json()["error"].clone();
        assert_eq!(error["data"]["reason"], "upstream_unavailable", "{url}: {error}");
        let message = error["message"].as_str().unwrap();
        let is_refused = message.contains("own listeners") || message.contains("own_listener");
        // What no resolver of this machine takes for an address leads nowhere, which is as good.
        let is_odd = ["LOCALHOST.", "127.1:", "2130706433", "0x7f"].iter().any(|odd| url.contains(odd));
        assert!(
            is_refused || is_odd && ["connect_failed", "dns_failed"].iter().any(|why| message.contains(why)),
            "{url}: {message}"
        );
    }
    dataplane.shutdown().await;
    control.running.shutdown().await;
}

#[cfg(unix)]
#[tokio::test]
async fn what_the_host_does_not_allow_is_refused_however_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let control = TestControl::start(&dir.path().join("control")).await;
    let from = world::following(control.running.sync_addr, &control.state_dir.join("node.token"), "a");
    let mut options = world::options(&dir.path().join("dp"), from);
    options.allowed.commands = GlobList::parse(["/opt/mcp/*", "./tool", "npx"]).unwrap();
    options.allowed.references = GlobList::parse(["PUBLIC_*", "file:/run/secrets/*"]).unwrap();
    let dataplane = DataPlane::start(options).await.unwrap();
    let http = |url: &str, header: &str| {
        json!({"version": 1, "upstreams": {"u": {"http": {"url": url}, "headers": {"X-A": header}}}})
            .to_string()
    };
    let stdio = |command: &str, extra: serde_json::Value| {
        let mut stdio = json!({"command": command});
        stdio.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"version": 1, "upstreams": {"u": {"stdio": stdio}}}).to_string()
    };
    let refused = [
        http("http://127.0.0.1:1/", "${HOME}"),
        http("http://127.0.0.1:1/", "${HOME:-x}"),
        http("http://127.0.0.1:1/${HOME}", "x"),
        http("http://127.0.0.1:1/", "${public_x:-y}"),
        http("http://127.0.0.1:1/", "${file:/run/secrets/../../etc/passwd}"),
        http("http://127.0.0.1:1/", "${file:/etc/passwd}"),
        http("http://127.0.0.1:1/", "${file://run/secrets/a}"),
        http("http://127.0.0.1:1/", "${file:/run/./secrets/a}"),
        stdio("/bin/sh", json!({})),
        stdio("/opt/mcp/../../bin/sh", json!({})),
        stdio("/OPT/MCP/tool", json!({})),
        stdio("opt/mcp/x", json!({})),
        stdio("NPX", json!({})),
        stdio("./npx", json!({})),
        stdio("npx ", json!({})),
        stdio("npx", json!({"args": ["${HOME}"]})),
        stdio("npx", json!({"env": {"A": "${HOME}"}})),
        stdio("npx", json!({"env": {"LD_PRELOAD": "/tmp/x.so"}})),
        stdio("npx", json!({"env": {"PATH": "/tmp"}})),
        stdio("npx", json!({"env": {"Path": "/tmp"}})),
        stdio("/opt/mcp/tool", json!({"env": {"NODE_OPTIONS": "--require /tmp/x.js"}})),
        stdio("/opt/mcp/tool", json!({"env": {"PYTHONPATH": "/tmp"}})),
        stdio("/opt/mcp/tool", json!({"env": {"BASH_ENV": "/tmp/x"}})),
        // Relative to a folder of the config's choosing it is another program.
        stdio("./tool", json!({"cwd": "/tmp"})),
        "version: 1\nupstreams:\n  a: &a { stdio: { command: npx } }\n  b: { stdio: { command: /bin/sh } }\n"
            .to_owned(),
    ];
    for text in refused {
        let applied = control.apply(&text).await;
        if applied.status == 422 {
            continue;
        }
        assert_eq!(applied.status, 200, "{text}: {}", applied.text());
        let version = applied.json()["version"].clone();
        let node = eventually("an answer", async || {
            let node = control.node("a").await?;
            let settled =
                node["last_error"]["revision"]["version"] == version || node["applied"]["version"] == version;
            settled.then_some(node)
        })
        .await;
        assert_eq!(node["last_error"]["code"], "not_allowed_here", "{text}: {node}");
        assert_ne!(node["applied"]["version"], version, "{text}");
    }
    dataplane.shutdown().await;
    control.running.shutdown().await;
}

#[tokio::test]
async fn flags_that_were_tightened_bind_the_last_known_good_too() {
    let dir = tempfile::tempdir().unwrap();
    let control = TestControl::start(&dir.path().join("control")).await;
    let dataplane = control.dataplane(&dir.path().join("dp"), "a").await;
    let text = json!({"version": 1, "upstreams": {"u": {"stdio": {"command": "/bin/cat"}}}}).to_string();
    assert_eq!(control.apply(&text).await.status, 200);
    control.until("a", "in_sync").await;
    dataplane.shutdown().await;
    let from = world::following(control.running.sync_addr, &control.state_dir.join("node.token"), "a");
    control.running.shutdown().await;
    let mut options = world::options(&dir.path().join("dp"), from);
    options.allowed.commands = GlobList::none();
    let dataplane = DataPlane::start(options).await.unwrap();
    let status = Ask::mcp(dataplane.mcp_addr(), "/mcp/u", &initialize()).send().await.status;
    assert_eq!(status, 404);
    let shown = admin(&dataplane, &dir.path().join("dp"), "/config").await;
    assert_eq!(shown["last_rejection"]["code"], "not_allowed_here", "{shown}");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn a_state_folder_that_was_tampered_with_costs_no_more_than_its_generations() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let server = FakeServer::start("up").await;
    let first = config(&[("up", &server.url())]);
    let dataplane = standalone(dir.path(), &first).await;
    eventually("healthy", async || {
        let shown = admin(&dataplane, &state, "/config").await;
        shown["healthy"].is_object().then_some(())
    })
    .await;
    dataplane.shutdown().await;
    let generations = state.join("generations");
    let kept = std::fs::read_dir(&generations)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "ostler"))
        .unwrap();
    let bytes = std::fs::read(&kept).unwrap();
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    let header: serde_json::Value = serde_json::from_slice(&bytes[..end]).unwrap();
    let with_header = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut header = header.clone();
        change(&mut header);
        [header.to_string().as_bytes(), &bytes[end..]].concat()
    };
    let evil = String::from_utf8(bytes.clone()).unwrap().replace("/mcp", "/bad").into_bytes();
    let variants = [
        ("part", evil),
        ("order", with_header(&|header| header["kept_order"] = json!(u64::MAX))),
        ("version", with_header(&|header| header["revision"]["version"] = json!(u64::MAX))),
        ("epoch", with_header(&|header| header["revision"]["epoch"] = json!(u64::MAX))),
        ("length", with_header(&|header| header["body_bytes"] = json!(0))),
        ("fleet", with_header(&|header| header["revision"]["fleet"] = json!("../../x"))),
        ("digest", with_header(&|header| header["revision"]["digest"] = json!("00".repeat(32)))),
        ("format", with_header(&|header| header["format"] = json!(u32::MAX))),
        ("cut", bytes[..end].to_vec()),
        ("empty", Vec::new()),
    ];
    for (index, (what, bytes)) in variants.iter().enumerate() {
        std::fs::write(&kept, bytes).unwrap();
        std::fs::write(
            generations.join("attempts.json"),
            format!(r#"{{"{}":{{"unfinished":4294967295,"once_healthy":true}}}}"#, "00".repeat(32)),
        )
        .unwrap();
        // Another document, so that there is something to apply and to keep.
        let mount = format!("m{index}");
        let dataplane =
            standalone(dir.path(), &config(&[("up", &server.url()), (&mount, &server.url())])).await;
        let status =
            Ask::mcp(dataplane.mcp_addr(), &format!("/mcp/{mount}"), &initialize()).send().await.status;
        // A place in the history beyond every other is believed, as only a signature could tell; what follows is refused
        // aloud, and the last-known-good serves on.
        let shown = admin(&dataplane, &state, "/config").await;
        let is_ahead = matches!(*what, "version" | "epoch") && shown["last_rejection"]["code"].is_string();
        assert!(status == 200 || is_ahead, "{what}: {status}: {shown}");
        dataplane.shutdown().await;
        for entry in std::fs::read_dir(&generations).unwrap() {
            let path = entry.unwrap().path();
            if path != kept {
                std::fs::remove_file(path).unwrap();
            }
        }
    }
}
