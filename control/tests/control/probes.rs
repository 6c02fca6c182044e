//! Every port without its token, with another's, and from foreign places: refused, counted, and nothing changed.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;
use tonic::Code;

use crate::support::{Answer, Node, World, call, config};

const OPEN: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/openapi.json"];

/// Every (method, path) that the description names, with its parameters filled in.
async fn operations(world: &World) -> Vec<(Method, String)> {
    let document = call(world.control.api_addr, Method::GET, "/openapi.json", &[], Bytes::new()).await;
    let document: Value = document.json();
    let mut operations = Vec::new();
    for (path, item) in document.get("paths").and_then(Value::as_object).unwrap() {
        for method in ["get", "put", "post", "delete", "patch"] {
            if item.get(method).is_some() {
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                operations.push((method, path.replace("{fleet}", "default").replace("{version}", "1")));
            }
        }
    }
    assert!(operations.len() >= 12, "{operations:?}");
    operations
}

#[tokio::test]
async fn every_route_refuses_a_missing_or_foreign_token() {
    let world = World::start().await;
    world.put(config(1)).await;
    let node_token = world.control.node_token.to_header();
    let operator_token = world.control.operator_token.to_header();
    let mut probed = 0;
    for (method, path) in operations(&world).await {
        if OPEN.contains(&path.as_str()) {
            continue;
        }
        for header in ["", &node_token, "Bearer ", "Basic b3BlcmF0b3I6", &operator_token.to_lowercase()[..20]]
        {
            let headers = if header.is_empty() { vec![] } else { vec![("authorization", header)] };
            let answer =
                call(world.control.api_addr, method.clone(), &path, &headers, config(2).into()).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path} with {header:?}");
            assert_eq!(answer.header("www-authenticate"), "Bearer");
            answer.problem();
            probed += 1;
        }
        let twice = [("authorization", operator_token.as_str()), ("authorization", "Bearer x")];
        let answer = call(world.control.api_addr, method.clone(), &path, &twice, config(2).into()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path} with two tokens");
    }
    unchanged(&world).await;
    let missing =
        world.metric("ostler_requests_refused_total{listener=\"api\",reason=\"token_missing\"}").await;
    let wrong = world.metric("ostler_requests_refused_total{listener=\"api\",reason=\"token_wrong\"}").await;
    assert_eq!(missing, Some(probed / 5));
    assert_eq!(wrong, Some(probed / 5 * 5));
}

#[tokio::test]
async fn every_route_refuses_a_foreign_host_and_a_foreign_origin_even_with_the_token() {
    let world = World::start().await;
    world.put(config(1)).await;
    let token = world.control.operator_token.to_header();
    let operations = operations(&world).await;
    for (method, path) in &operations {
        for foreign in [("host", "evil.example"), ("origin", "https://evil.example"), ("origin", "null")] {
            let headers = [("authorization", token.as_str()), foreign];
            let answer = call(world.control.api_addr, method.clone(), path, &headers, config(2).into()).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {path} with {foreign:?}");
        }
    }
    unchanged(&world).await;
    let count = Some(operations.len() as u64);
    assert_eq!(
        world.metric("ostler_requests_refused_total{listener=\"api\",reason=\"host_foreign\"}").await,
        count
    );
    let origins =
        world.metric("ostler_requests_refused_total{listener=\"api\",reason=\"origin_foreign\"}").await;
    assert_eq!(origins, count.map(|count| count * 2));
}

#[tokio::test]
async fn the_stream_refuses_a_missing_token_the_operators_token_and_foreign_places() {
    let world = World::start().await;
    world.put(config(1)).await;
    let addr = world.control.sync_addr;
    for token in [None, Some(&world.control.operator_token)] {
        let refused = Node::open(addr, token).await.err().unwrap();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
    }
    let node_token = world.control.node_token.to_header();
    let operator_token = world.control.operator_token.to_header();
    let probe = async |headers: &[(&str, &str)], path: &str| -> Answer {
        call(addr, Method::POST, path, headers, Bytes::new()).await
    };
    let stream = "/ostler.sync.v1.Sync/Stream";
    for path in [stream, "/", "/v1/fleets", "/metrics"] {
        assert_eq!(probe(&[], path).await.status, StatusCode::UNAUTHORIZED, "{path}");
        let operator = [("authorization", operator_token.as_str())];
        assert_eq!(probe(&operator, path).await.status, StatusCode::UNAUTHORIZED, "{path}");
        for foreign in [("host", "evil.example"), ("origin", "https://evil.example")] {
            let headers = [("authorization", node_token.as_str()), foreign];
            assert_eq!(probe(&headers, path).await.status, StatusCode::FORBIDDEN, "{path}");
        }
    }
    assert!(world.nodes().await.items.is_empty());
    let wrong = world.metric("ostler_requests_refused_total{listener=\"sync\",reason=\"token_wrong\"}").await;
    assert_eq!(wrong, Some(5));
}

#[tokio::test]
async fn an_open_metrics_listener_serves_nothing_else() {
    let world = World::start_with(|options, _| {
        options.metrics_listen = Some(std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
    })
    .await;
    world.put(config(1)).await;
    let addr = world.control.metrics_addr.unwrap();
    let token = world.control.operator_token.to_header();
    for (method, path) in operations(&world).await {
        let answer = call(addr, method.clone(), &path, &[("authorization", &token)], Bytes::new()).await;
        let open = ["/healthz", "/readyz", "/metrics"].contains(&path.as_str());
        let expected = if open { StatusCode::OK } else { StatusCode::NOT_FOUND };
        assert_eq!(answer.status, expected, "{method} {path}");
    }
    let foreign = call(addr, Method::GET, "/metrics", &[("host", "evil.example")], Bytes::new()).await;
    assert_eq!(foreign.status, StatusCode::FORBIDDEN);
}

async fn unchanged(world: &World) {
    let read = world.api(Method::GET, "/v1/fleets/default/config", &[], "").await;
    assert_eq!((read.header("etag"), read.text()), ("\"1\"", config(1)));
    let fleets: ostler_control::api::types::FleetList = world.get("/v1/fleets").await;
    assert_eq!(fleets.items.len(), 1);
}
