//! What a candidate's listeners are to upstreams before anybody accepts on them.

use std::net::TcpListener;

use ostler_config::{GlobList, Host, ProcessLookup};
use ostler_core::net::{Network as _, SystemNetwork};
use ostler_core::tasks::Tasks;

use super::*;
use crate::own::OwnListeners;

/// A process whose upstreams are kept from `own`.
fn listeners(own: &OwnListeners) -> Arc<Listeners> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listeners = Listeners::bind(any, None, &[], 1, Tasks::default()).unwrap();
    Arc::new(listeners.beside(own.clone()))
}

fn config(addrs: &[SocketAddr]) -> Compiled {
    let listeners = addrs.iter().enumerate().map(|(n, addr)| format!("  l{n}: {{ address: '{addr}' }}\n"));
    let text = format!("version: 1\nlisteners:\n{}", listeners.collect::<String>());
    let config = ostler_config::judge_text(text.as_bytes()).unwrap().config;
    let any = GlobList::any();
    let host = Host {
        allow_command: &any,
        allow_ref: &any,
        allow_listen: &any,
        listen: None,
        lookup: &ProcessLookup,
        unresolved: Unresolved::Refuse,
    };
    ostler_config::recompile(&config, &host, None).unwrap()
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Whether an upstream that connects there would be refused.
async fn is_own(own: &OwnListeners, addr: SocketAddr) -> bool {
    let stream = SystemNetwork.connect("127.0.0.1", addr.port()).await.unwrap();
    own.are_behind(&stream, &SystemNetwork).await
}

#[tokio::test]
async fn a_listener_is_ostlers_own_before_its_config_is_served_and_until_it_is_gone() {
    let (own, addr) = (OwnListeners::default(), free());
    let listeners = listeners(&own);
    let prepare = async || listeners.prepare(&config(&[addr]), None, Unresolved::Refuse).await.unwrap();
    let prepared = prepare().await;
    assert!(is_own(&own, addr).await, "an upstream could reach it before the swap");
    drop(prepared);
    let server = TcpListener::bind(addr).unwrap();
    assert!(!is_own(&own, addr).await, "a config that was not served keeps its address");
    drop(server);
    listeners.commit(prepare().await, || ());
    assert!(is_own(&own, addr).await);
    listeners.commit(PreparedListeners::default(), || ());
    let mut changes = listeners.watch();
    while !listeners.lock().draining.is_empty() {
        changes.changed().await.unwrap();
    }
    let _server = TcpListener::bind(addr).unwrap();
    assert!(!is_own(&own, addr).await, "a listener that is gone keeps its address");
}

#[tokio::test]
async fn an_address_that_cannot_be_bound_stays_its_holders() {
    let own = OwnListeners::default();
    let listeners = listeners(&own);
    let (server, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), free());
    let taken = server.local_addr().unwrap();
    let refused = listeners.prepare(&config(&[other, taken]), None, Unresolved::Refuse).await.unwrap_err();
    assert_eq!(refused.code, "listener_unbindable");
    assert!(!is_own(&own, taken).await);
    let _freed = TcpListener::bind(other).unwrap();
    assert!(!is_own(&own, other).await, "the other listener of the refused config is still claimed");
}
