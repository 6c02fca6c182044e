//! The data plane's own messages are acceptable to its own scan.

use super::*;
use crate::envelope::{Envelope, Kind};

const CLIENT: Implementation<'static> = Implementation { name: "os\"tler", version: "1" };

#[test]
fn every_message_is_one_that_we_would_accept() {
    let initialize = initialize(4, Revision::V2025_06_18, CLIENT);
    let envelope = Envelope::scan(&initialize).unwrap();
    assert_eq!((envelope.kind, &*envelope.method), (Kind::Request, "initialize"));
    assert_eq!(envelope.initialize_version.as_deref(), Some("2025-06-18"));
    let params = envelope.params.unwrap();
    let again = initialize_again(4, params);
    assert_eq!(again, initialize);
    let params: serde_json::Value = serde_json::from_str(params).unwrap();
    assert_eq!(params["capabilities"], serde_json::json!({}));
    assert_eq!(params["clientInfo"]["name"], "os\"tler");

    let discover = discover(5);
    let envelope = Envelope::scan(&discover).unwrap();
    assert_eq!(envelope.meta.protocol_version.as_deref(), Some("2026-07-28"));

    assert_eq!(Envelope::scan(&ping(1)).unwrap().id.unwrap().as_u64(), Some(1));
    assert_eq!(Envelope::scan(initialized()).unwrap().kind, Kind::Notification);
    let cancelled = cancelled(r#""a""#, "client \"left\"");
    assert_eq!(Envelope::scan(&cancelled).unwrap().request_id.unwrap().raw(), r#""a""#);
    let result = result("7", "{}");
    assert_eq!(Envelope::scan(&result).unwrap().kind, Kind::Response { error: false });
}
