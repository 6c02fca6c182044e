//! An upstream that costs as little as one can: it answers every message by its method, and a call by the path that it came to. It is no
//! example of a server; it checks nothing.

pub(crate) mod http;
pub(crate) mod stdio;

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::calls::{LEGACY_REVISION, MODERN_REVISION, TOOL};

/// In every answer to a call that the upstream made, and in no other.
pub(crate) const ANSWERED: &[u8] = b"yyyyyyyy";

/// What of a message an answer needs.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
}

/// The JSON of the answer, or nothing for what is no request. A call's answer has as many bytes of text.
fn answer(body: &[u8], text_bytes: usize) -> Option<String> {
    let message: Message<'_> = serde_json::from_slice(body).ok()?;
    let id = message.id?.get();
    let result = match message.method.as_deref()? {
        "tools/call" => format!(
            r#"{{"resultType":"complete","content":[{{"type":"text","text":"{}"}}],"isError":false}}"#,
            "y".repeat(text_bytes)
        ),
        "initialize" => format!(
            r#"{{"protocolVersion":"{LEGACY_REVISION}","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"bench","version":"1"}}}}"#
        ),
        "server/discover" => format!(
            r#"{{"resultType":"complete","supportedVersions":["{MODERN_REVISION}"],"capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"bench","version":"1"}},"ttlMs":60000,"cacheScope":"public"}}"#
        ),
        "tools/list" => format!(
            r#"{{"resultType":"complete","tools":[{{"name":"{TOOL}","inputSchema":{{"type":"object"}},"annotations":{{"readOnlyHint":true}}}}],"ttlMs":60000,"cacheScope":"public"}}"#
        ),
        _ => "{}".to_owned(),
    };
    Some(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#))
}
