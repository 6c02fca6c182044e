//! What stands behind whatever is measured: it answers each message by its method, from bytes that were written before. It is no
//! example of a server; it checks nothing, and a call costs it the same each time.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::thread::Builder;

use memchr::memmem::Finder;

use crate::messages::{Era, TOOL};
use crate::wire::Wire;

/// What its threads are called, so that their time is not counted.
pub const THREAD: &str = "upstream";
const INITIALIZE: &str = r#""initialize""#;
const ANSWER_TEXT_BYTES: usize = 100;

/// Starts one that lives as long as the process does: a thread for each connection.
///
/// # Errors
/// When it has no port or no thread.
pub fn start() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let addr = listener.local_addr()?;
    Builder::new().name(THREAD.to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // A connection that fails is whoever's who waits for its answer.
            let serve = move || Wire::of(stream).and_then(serve);
            let _ = Builder::new().name(THREAD.to_owned()).spawn(serve);
        }
    })?;
    Ok(addr)
}

fn serve(mut wire: Wire) -> anyhow::Result<()> {
    let (results, mut answer) = (results(), Vec::new());
    let methods: Vec<_> = results.iter().map(|(method, _)| Finder::new(*method)).collect();
    let key = Finder::new(r#""id":"#);
    while let Some(message) = wire.read()? {
        let id = id(message, &key);
        let method = methods.iter().position(|method| method.find(message).is_some());
        let result = method.and_then(|index| results.get(index));
        answer.clear();
        match (id, result) {
            _ if !message.starts_with(b"POST") => {
                answer.extend_from_slice(b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n");
            }
            (None, _) => answer.extend_from_slice(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"),
            (Some(id), result) => {
                let session = match result {
                    Some((INITIALIZE, _)) => "mcp-session-id: the-session-of-the-upstream\r\n",
                    _ => "",
                };
                let result = result.map_or("{}", |(_, result)| result);
                let (front, middle) = (r#"{"jsonrpc":"2.0","id":"#, r#","result":"#);
                let length = front.len() + id.len() + middle.len() + result.len() + 1;
                write!(
                    answer,
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{session}content-length: {length}\r\n\r\n{front}{id}{middle}{result}}}"
                )?;
            }
        }
        wire.write(&answer)?;
    }
    Ok(())
}

/// As it stands there; nothing in a notification.
fn id<'m>(message: &'m [u8], key: &Finder<'_>) -> Option<&'m str> {
    let rest = message.get(key.find(message)? + key.needle().len()..)?;
    let end = rest.iter().position(|byte| matches!(byte, b',' | b'}'))?;
    std::str::from_utf8(rest.get(..end)?).ok()
}

/// By method.
fn results() -> [(&'static str, String); 4] {
    let (legacy, modern) = (Era::Legacy.revision(), Era::Modern.revision());
    let text = "y".repeat(ANSWER_TEXT_BYTES);
    [
        (
            "\"tools/call\"",
            format!(
                r#"{{"resultType":"complete","content":[{{"type":"text","text":"{text}"}}],"isError":false}}"#
            ),
        ),
        (
            INITIALIZE,
            format!(
                r#"{{"protocolVersion":"{legacy}","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"budget","version":"1"}}}}"#
            ),
        ),
        (
            "\"server/discover\"",
            format!(
                r#"{{"resultType":"complete","supportedVersions":["{modern}"],"capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"budget","version":"1"}},"ttlMs":60000,"cacheScope":"public"}}"#
            ),
        ),
        (
            "\"tools/list\"",
            format!(
                r#"{{"resultType":"complete","tools":[{{"name":"{TOOL}","inputSchema":{{"type":"object"}},"annotations":{{"readOnlyHint":true}}}}],"ttlMs":60000,"cacheScope":"public"}}"#
            ),
        ),
    ]
}
