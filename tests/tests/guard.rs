//! Every port probed without its token, with another's, from a foreign Origin and Host: refused, nothing changed,
//! counted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

use ostler_tests::support::http::Ask;
use ostler_tests::support::world::{admin_token, config, initialize, one_mount, standalone};

#[tokio::test]
async fn the_mcp_port_turns_foreign_hosts_and_origins_away() {
    let dir = tempfile::tempdir().unwrap();
    let (server, dataplane) = one_mount(dir.path()).await;
    let ask = || Ask::mcp(dataplane.mcp_addr(), "/mcp/up", &initialize());
    let foreign = [
        ask().header("host", "evil.example"),
        ask().header("host", "localhost.evil.example:7400"),
        ask().header("origin", "https://evil.example"),
        ask().header("origin", "null"),
        Ask::new(dataplane.mcp_addr(), "GET", "/mcp/up").header("origin", "https://evil.example"),
        Ask::new(dataplane.mcp_addr(), "DELETE", "/mcp/up").header("host", "evil.example"),
    ];
    let count = foreign.len();
    for ask in foreign {
        assert_eq!(ask.send().await.status, 403);
    }
    assert!(server.seen().is_empty());
    assert_eq!(ask().header("origin", "http://localhost:6274").send().await.status, 200);
    let metrics = Ask::new(dataplane.admin_addr(), "GET", "/metrics").send().await.text();
    let counted: u64 = ["host_foreign", "origin_foreign"]
        .iter()
        .filter_map(|reason| {
            let line = format!("ostler_requests_refused_total{{listener=\"mcp\",reason=\"{reason}\"}} ");
            metrics.lines().find_map(|text| text.strip_prefix(&line)?.parse::<u64>().ok())
        })
        .sum();
    assert_eq!(counted, count as u64, "{metrics}");
    dataplane.shutdown().await;
}

#[tokio::test]
async fn the_admin_port_wants_its_own_token_for_all_but_health_and_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let dataplane = standalone(dir.path(), &config(&[("up", "http://127.0.0.1:1/mcp")])).await;
    let get = |path: &str| Ask::new(dataplane.admin_addr(), "GET", path);
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(get(path).send().await.status, 200, "{path}");
        assert_eq!(get(path).header("host", "evil.example").send().await.status, 403, "{path}");
        assert_eq!(get(path).header("origin", "https://evil.example").send().await.status, 403, "{path}");
    }
    let token = admin_token(&dir.path().join("state"));
    for path in ["/mounts", "/config", "/anything", "/"] {
        assert_eq!(get(path).send().await.status, 401, "{path}");
        assert_eq!(
            get(path).header("authorization", "Bearer wrong-wrong-wrong-wrong").send().await.status,
            401,
            "{path}"
        );
        assert_eq!(get(path).header("authorization", &token).send().await.status, 401, "{path}");
        let foreign = get(path)
            .header("authorization", &format!("Bearer {token}"))
            .header("origin", "https://evil.example");
        assert_eq!(foreign.send().await.status, 403, "{path}");
    }
    assert_eq!(get("/mounts").header("authorization", &format!("Bearer {token}")).send().await.status, 200);
    let posted = Ask::new(dataplane.admin_addr(), "POST", "/config")
        .header("authorization", &format!("Bearer {token}"));
    assert_eq!(posted.send().await.status, 405);
    let metrics = get("/metrics").send().await.text();
    assert!(
        metrics.contains("ostler_requests_refused_total{listener=\"admin\",reason=\"token\"} 12\n"),
        "{metrics}"
    );
    dataplane.shutdown().await;
}

#[cfg(unix)]
#[tokio::test]
async fn tokens_and_state_are_private_files() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let dataplane = standalone(dir.path(), &config(&[("up", "http://127.0.0.1:1/mcp")])).await;
    let mode = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dir.path().join("state/admin.token")), 0o600);
    assert_eq!(mode(dir.path().join("state")), 0o700);
    dataplane.shutdown().await;
}
