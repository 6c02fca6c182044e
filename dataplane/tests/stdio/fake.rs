//! The scripted MCP server that the tests talk to: the test program itself, started again as a child. It speaks both
//! eras and does what its tools are named for.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::process::Command;

use serde_json::{Value, json};

/// How the test program is told to be the child.
pub const ARGS: [&str; 5] = ["--exact", "fake::child", "--ignored", "--nocapture", "--test-threads=1"];
/// Set for a process that is to be the server.
pub const ROLE: &str = "OSTLER_FAKE";
/// Set for a server that goes on at the end of its stdin.
pub const STUBBORN: &str = "OSTLER_FAKE_STUBBORN";

const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";

#[test]
#[ignore = "is the child process of the other tests"]
fn child() {
    if std::env::var_os(ROLE).is_some() {
        Fake::default().run();
    }
}

fn sleep_for_ever() -> ! {
    loop {
        std::thread::park();
    }
}

#[derive(Default)]
struct Fake {
    /// Every line that came in.
    seen: Vec<String>,
    /// Calls of `hold`, answered by `release`.
    held: Vec<Value>,
    /// Calls of `ask`, by the id of the request to the client.
    asked: HashMap<String, Value>,
    /// Ids of open subscriptions.
    listens: Vec<Value>,
}

impl Fake {
    fn run(mut self) {
        // Ends the line that the test harness has begun.
        raw(b"\n");
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            let message: Value = serde_json::from_str(&line).expect("one JSON message per line");
            self.seen.push(line);
            self.take(&message);
        }
        if std::env::var_os(STUBBORN).is_some() {
            sleep_for_ever();
        }
        std::process::exit(0);
    }

    fn take(&mut self, message: &Value) {
        let id = &message["id"];
        match message["method"].as_str() {
            Some("initialize") => result(
                id,
                &json!({
                    "protocolVersion": message["params"]["protocolVersion"], "capabilities": {"tools": {}},
                    "serverInfo": {"name": "fake", "version": std::process::id().to_string()},
                }),
            ),
            Some("subscriptions/listen") => {
                self.listens.push(id.clone());
                let meta = json!({SUBSCRIPTION_ID: id});
                notify(
                    "notifications/subscriptions/acknowledged",
                    &json!({"_meta": meta, "notifications": {}}),
                );
            }
            Some("resources/subscribe" | "resources/unsubscribe" | "logging/setLevel" | "ping") => {
                result(id, &json!({}));
            }
            Some("tools/call") => self.tool(message),
            Some(method) if !id.is_null() => {
                send(&json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": method}}));
            }
            Some(_) => {}
            // The client's answer to what `ask` asked.
            None => {
                if let Some(call) = self.asked.remove(&id.to_string()) {
                    result(&call, &json!({"answer": message}));
                }
            }
        }
    }

    fn tool(&mut self, message: &Value) {
        let (id, params) = (&message["id"], &message["params"]);
        let (arguments, token) = (&params["arguments"], &params["_meta"]["progressToken"]);
        let number = |name: &str| arguments[name].as_u64().unwrap_or(0);
        match params["name"].as_str().unwrap_or_default() {
            "echo" => result(id, &json!({"line": self.seen.last()})),
            "pid" => result(id, &json!({"pid": std::process::id()})),
            "env" => result(id, &json!(std::env::vars().collect::<HashMap<_, _>>())),
            "seen" => result(id, &json!({"seen": self.seen})),
            "hang" => {}
            "hold" => self.held.push(message.clone()),
            "release" => {
                for call in self.held.drain(..).rev() {
                    let token = &call["params"]["_meta"]["progressToken"];
                    notify("notifications/progress", &json!({"progressToken": token, "progress": 1}));
                    result(&call["id"], &json!({"argument": call["params"]["arguments"]}));
                }
                result(id, &json!({}));
            }
            "progress" => {
                for progress in 0..number("count") {
                    let padding = "x".repeat(usize::try_from(number("padding")).unwrap());
                    notify(
                        "notifications/progress",
                        &json!({"progressToken": token, "progress": progress, "padding": padding}),
                    );
                }
                if !arguments["hang"].as_bool().unwrap_or(false) {
                    result(id, &json!({}));
                }
            }
            "notify" => {
                for count in 0..number("count").max(1) {
                    notify("notifications/message", &json!({"level": "info", "data": count}));
                }
                result(id, &json!({}));
            }
            "ask" => {
                let request = json!({"jsonrpc": "2.0", "id": "from-server", "method": arguments["method"]});
                self.asked.insert(request["id"].to_string(), id.clone());
                send(&request);
            }
            "emit" => {
                let teardown = arguments["teardown"].as_bool().unwrap_or(false);
                for listen in &self.listens {
                    if teardown {
                        notify("notifications/cancelled", &json!({"requestId": listen}));
                    } else {
                        notify(
                            "notifications/tools/list_changed",
                            &json!({"_meta": {SUBSCRIPTION_ID: listen}}),
                        );
                    }
                }
                result(id, &json!({}));
            }
            "garbage" => {
                raw(b"no JSON at all\n\r\n  \n[1]\n{\"jsonrpc\":\"2.0\",\"id\":\"nobodys\",\"result\":{}}\n\xff\xfe\n");
                raw(format!("{}\r\n", json!({"jsonrpc": "2.0", "id": id, "result": {"after": "garbage"}}))
                    .as_bytes());
            }
            "broken_answer" => {
                raw(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":1,\"result\":2}}\n").as_bytes())
            }
            "long_line" => raw(&vec![b' '; usize::try_from(number("bytes")).unwrap()]),
            "flood_stderr" => {
                let line = [vec![b'e'; 100_000], b"\n".to_vec()].concat();
                (0..40).for_each(|_| std::io::stderr().write_all(&line).expect("stderr is drained"));
                result(id, &json!({}));
            }
            "stop_reading" => sleep_for_ever(),
            "grandchild" => {
                // It holds the pipes, as a server's helpers do, and says nothing.
                #[expect(clippy::zombie_processes, reason = "the data plane ends it with the group")]
                let sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
                result(id, &json!({"pid": sleeper.id()}));
            }
            "exit" => std::process::exit(i32::try_from(number("code")).unwrap()),
            "answer_and_exit" => {
                // As much as a pipe holds, so that it is still being read when the exit is seen.
                result(id, &json!({"last": true, "padding": "x".repeat(60_000)}));
                std::process::exit(0);
            }
            other => panic!("no tool {other}"),
        }
    }
}

fn result(id: &Value, result: &Value) {
    send(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
}

fn notify(method: &str, params: &Value) {
    send(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
}

fn send(message: &Value) {
    raw(format!("{message}\n").as_bytes());
}

fn raw(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    if stdout.write_all(bytes).and_then(|()| stdout.flush()).is_err() {
        std::process::exit(0);
    }
}
