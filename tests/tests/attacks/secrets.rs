//! Where a resolved secret or a token may be seen: nowhere but where it is used.

use super::*;

#[tokio::test]
async fn a_resolved_secret_is_shown_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let canary = "canary-4f1d9";
    let secret = dir.path().join("secret");
    std::fs::write(&secret, canary).unwrap();
    let reference = format!("${{file:{}}}", secret.display());
    let server = FakeServer::start("up").await;
    let text = json!({"version": 1, "upstreams": {
        "up": {"http": {"url": format!("{}?k={reference}", server.url())}, "headers": {"Authorization": format!("Bearer {reference}")}},
        "gone": {"http": {"url": format!("http://{reference}.invalid/")}, "headers": {"X-A": reference}},
        "refused": {"http": {"url": format!("http://127.0.0.1:1/{reference}")}},
        "child": {"stdio": {"command": "/nonexistent/tool", "args": [format!("--token={reference}")], "env": {"TOKEN": reference}}},
    }, "audit": {"secrets": ["card", "deep.pin_code"]}})
    .to_string();
    let control = TestControl::start(&dir.path().join("control")).await;
    let dataplane = control.dataplane(&dir.path().join("dp"), "a").await;
    let mut shown = vec![control.apply(&text).await.text()];
    control.until("a", "in_sync").await;
    for mount in ["up", "gone", "refused", "child", "none"] {
        let path = format!("/mcp/{mount}");
        let answer = Ask::mcp(dataplane.mcp_addr(), &path, &initialize()).send().await;
        shown.push(format!("{:?} {}", answer.headers, answer.text()));
        shown.push(Ask::mcp(dataplane.mcp_addr(), &path, &call(1)).send().await.text());
        // Marked as secret by config, by their names, and by what they look like.
        let arguments = json!({
            "card": canary, "deep": [{"Pin_Code": canary}], "password": [canary], "accessToken": {"a": canary},
            "note": format!("Bearer {canary}-and-more"), "url": format!("https://me:{canary}@host/"), "kept": "harmless",
        });
        let params = json!({"name": "who", "arguments": arguments});
        let answer = modern(dataplane.mcp_addr(), mount, 2, "tools/call", params).send().await;
        // The server's own answer says what it was sent.
        shown.extend(answer.json()["error"].is_object().then(|| answer.text()));
    }
    eventually("the records have come to control", async || {
        let records = control.ask("GET", "/v1/audit/records?kind=decision&limit=500").send().await.text();
        let has_come = records.matches("harmless").count() >= 4;
        has_come.then(|| shown.push(records))
    })
    .await;
    for path in ["records", "chains", "changes"] {
        shown.push(control.ask("GET", &format!("/v1/audit/{path}")).send().await.text());
    }
    assert!(
        server.seen().iter().any(|seen| seen.headers["authorization"] == format!("Bearer {canary}").as_str())
    );
    // A value that cannot be used must not be shown as the reason.
    std::fs::write(&secret, format!("{canary}\u{1}\nx")).unwrap();
    let changed = text.replace("refused", "refused2");
    shown.push(control.apply(&changed).await.text());
    shown.push(
        eventually("a nack", async || {
            let node = control.node("a").await?;
            node["last_error"].is_object().then(|| node.to_string())
        })
        .await,
    );
    for path in ["config", "versions", "versions/1", "diff?from=1&to=2", "nodes"] {
        shown.push(control.ask("GET", &format!("/v1/fleets/default/{path}")).send().await.text());
    }
    shown.push(control.ask("GET", "/metrics").send().await.text());
    for path in ["/config", "/mounts"] {
        shown.push(admin(&dataplane, &dir.path().join("dp"), path).await.to_string());
    }
    shown.push(Ask::new(dataplane.admin_addr(), "GET", "/metrics").send().await.text());
    shown.push(format!("{dataplane:?} {:?} {:?}", dataplane.admin(), dataplane.admin().applier.snapshots));
    dataplane.shutdown().await;
    control.running.shutdown().await;
    for text in &shown {
        assert!(!text.contains(canary), "{text}");
    }
    let tokens: Vec<_> = ["control/operator.token", "control/node.token", "dp/admin.token"]
        .iter()
        .map(|path| std::fs::read_to_string(dir.path().join(path)).unwrap())
        .collect();
    for text in &shown {
        assert!(!tokens.iter().any(|token| text.contains(token.as_str())), "{text}");
    }
    let mut folders = vec![dir.path().join("control"), dir.path().join("dp")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let holds = |needle: &str| bytes.windows(needle.len()).any(|window| window == needle.as_bytes());
            assert!(!holds(canary), "{}", path.display());
            let is_token = path.extension().is_some_and(|extension| extension == "token");
            assert!(is_token || !tokens.iter().any(|token| holds(token)), "{}", path.display());
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o077;
                assert_eq!(mode, 0, "{} can be read by others", path.display());
            }
        }
    }
}
