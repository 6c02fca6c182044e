//! The stdio counterpart of [`super::server`]: what `fake-mcp` is. Each answer names the server, its process, and the two
//! halves of its version: one from the environment, one from the arguments. One named `old` speaks the legacy era alone, and has
//! tools that ask their caller.

use std::collections::HashMap;
use std::io::{BufRead as _, Write as _};

use serde_json::{Value, json};

use super::background;

/// The variable that holds the first half of the version.
pub const VERSION: &str = "V_A";

/// Serves standard input and output until the input ends. The arguments are `<name> <version>`.
pub fn run() {
    let mut arguments = std::env::args().skip(1);
    let (name, version) = (arguments.next().unwrap_or_default(), arguments.next().unwrap_or_default());
    let other = std::env::var(VERSION).unwrap_or_default();
    // Whether its tool says that it changes nothing; `change` turns it.
    let mut is_read_only = name == "reader";
    if name == "dies" {
        // Long enough to be a child, too short to be a server.
        std::process::exit(3);
    }
    let (mut client, mut asked) = (Value::Null, HashMap::new());
    // Calls of `hold`, answered by `release`.
    let mut held = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        let message: Value = serde_json::from_str(&line).unwrap_or_default();
        let id = &message["id"];
        if id.is_null() {
            continue;
        }
        let arguments = &message["params"]["arguments"];
        if let Some(call) = asked.remove(&id.to_string()).filter(|_| message["method"].is_null()) {
            let told = json!({"content": [], "answer": message["result"], "pid": std::process::id()});
            say(&json!({"jsonrpc": "2.0", "id": call, "result": told}).to_string());
            continue;
        }
        let result = match message["method"].as_str().unwrap_or_default() {
            "initialize" => {
                client = message["params"]["capabilities"].clone();
                json!({
                    "protocolVersion": message["params"]["protocolVersion"],
                    "capabilities": {"tools": {}, "logging": {}}, "serverInfo": {"name": name, "version": "1"},
                })
            }
            "logging/setLevel" => json!({}),
            // The answer to a question of `asks_later`.
            "" => {
                asked.insert("later".to_owned(), message["error"]["code"].clone());
                continue;
            }
            "server/discover" if name != "old" => {
                json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "ttlMs": 0, "cacheScope": "private"})
            }
            "tools/list" => {
                json!({"tools": [{"name": "who", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": is_read_only}}], "resultType": "complete", "ttlMs": 0, "cacheScope": "private"})
            }
            "tools/call" => match message["params"]["name"].as_str().unwrap_or_default() {
                "exit" => std::process::exit(3),
                "hang" => continue,
                "hold" => {
                    held.push(id.clone());
                    continue;
                }
                "held" => json!({"content": [], "held": held.len(), "pid": std::process::id()}),
                "release" => {
                    for id in held.drain(..) {
                        let told = json!({"content": [], "pid": std::process::id()});
                        say(&json!({"jsonrpc": "2.0", "id": id, "result": told}).to_string());
                    }
                    json!({"content": []})
                }
                "fail" => json!({"resultType": "complete", "content": [], "isError": true}),
                "error" => {
                    let error = json!({"code": -32050, "message": "no"});
                    say(&json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string());
                    continue;
                }
                "ask" => {
                    asked.insert(format!("\"question-{id}\""), id.clone());
                    question(&format!("question-{id}"), arguments);
                    continue;
                }
                "asks_later" => {
                    say(&json!({"jsonrpc": "2.0", "id": id, "result": {"content": []}}).to_string());
                    question("later", &Value::Null);
                    say(&json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "error", "data": "later"}}).to_string());
                    continue;
                }
                "client" => {
                    json!({"content": [], "capabilities": client, "pid": std::process::id(), "later": asked.get("later")})
                }
                "change" => {
                    is_read_only = !is_read_only;
                    say(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}).to_string());
                    json!({"content": []})
                }
                "flood" => flood(),
                "large" => {
                    let bytes = arguments["bytes"].as_u64().and_then(|bytes| usize::try_from(bytes).ok());
                    json!({"content": [], "x": "x".repeat(bytes.unwrap_or_default())})
                }
                "chatter" => {
                    let token = &message["params"]["_meta"]["progressToken"];
                    for token in [&json!("of another"), token, &json!(0)] {
                        say(&json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}}).to_string());
                    }
                    say(&json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "error", "data": "of anybody"}}).to_string());
                    json!({"content": []})
                }
                "garbage" => {
                    say("no JSON at all");
                    continue;
                }
                _ => {
                    json!({"resultType": "complete", "content": [], "server": name, "a": other, "b": version, "x": arguments["x"], "pid": std::process::id()})
                }
            },
            _ => {
                say(&json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "no"}})
                    .to_string());
                continue;
            }
        };
        say(&json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string());
    }
}

fn question(id: &str, arguments: &Value) {
    say(&json!({"jsonrpc": "2.0", "id": id, "method": "elicitation/create", "params":
        {"message": arguments.to_string(), "requestedSchema": {"type": "object", "properties": {}}}})
    .to_string());
}

fn flood() -> ! {
    background::yield_to_others();
    let padding = "x".repeat(1024);
    let message = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": padding}}).to_string();
    loop {
        say(&message);
    }
}

fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    if writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_err() {
        std::process::exit(0);
    }
}
