//! A client's `initialize` as it is kept, to greet with it again whatever takes the place of what it began with.

use bytes::Bytes;
use ostler_core::limits::SESSION_INITIALIZE_BYTES_MAX;
use ostler_mcp::Envelope;
use ostler_mcp::bridge::Members;

/// What of `clientInfo` is for people to look at. Icons may be whole pictures.
const FOR_SHOW: [&str; 3] = ["icons", "description", "websiteUrl"];

/// A copy of the message, without what is for show where it is too large with that; nothing where it still is.
pub(crate) fn kept(initialize: &[u8]) -> Option<Bytes> {
    if initialize.len() <= SESSION_INITIALIZE_BYTES_MAX {
        return Some(Bytes::copy_from_slice(initialize));
    }
    let bare = without_show(initialize)?;
    (bare.len() <= SESSION_INITIALIZE_BYTES_MAX).then(|| bare.into())
}

fn without_show(initialize: &[u8]) -> Option<String> {
    let params = Envelope::scan(initialize).ok()?.params?;
    let mut params = Members::parse(params, "params").ok()?;
    let info = params.get("clientInfo")?.to_owned();
    let mut info = Members::parse(&info, "clientInfo").ok()?;
    info.retain(|key| !FOR_SHOW.contains(&key));
    params.set("clientInfo", info.to_json());
    let mut message = Members::parse(std::str::from_utf8(initialize).ok()?, "the message").ok()?;
    message.set("params", params.to_json());
    Some(message.to_json())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn initialize(icon: &str, experimental: &str) -> String {
        format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"initialize","params":{{"protocolVersion":"2025-11-25","capabilities":{{"experimental":"{experimental}"}},"clientInfo":{{"name":"a","icons":[{{"src":"data:{icon}"}}],"version":"1"}}}}}}"#
        )
    }

    #[test]
    fn what_is_for_show_is_left_out_only_where_there_is_no_room_for_it() {
        let small = initialize("x", "y");
        assert_eq!(kept(small.as_bytes()).as_deref(), Some(small.as_bytes()));
        let large = initialize(&"x".repeat(SESSION_INITIALIZE_BYTES_MAX), "y");
        let expected = initialize("", "y").replace(r#""icons":[{"src":"data:"}],"#, "");
        assert_eq!(kept(large.as_bytes()).as_deref(), Some(expected.as_bytes()));
        let telling = initialize("x", &"y".repeat(SESSION_INITIALIZE_BYTES_MAX));
        assert_eq!(kept(telling.as_bytes()), None, "what a client can do is not for show");
    }
}
