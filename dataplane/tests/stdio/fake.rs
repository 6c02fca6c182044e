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

/// Names a file that says how a server behaves that is started now ([`Mood`]); beside it stands a list of all starts.
pub const MOOD: &str = "OSTLER_FAKE_MOOD";

const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";

#[test]
#[ignore = "is the child process of the other tests"]
fn child() {
    if std::env::var_os(ROLE).is_some() {
        Fake { mood: Mood::of_this_process(), ..Fake::default() }.run();
    }
}

fn sleep_for_ever() -> ! {
    loop {
        std::thread::park();
    }
}

/// What a server is like from its start on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Well,
    /// Exits before it has read anything.
    ExitAtStart,
    /// Answers `initialize` and exits at the first call.
    ExitAtCall,
    /// Answers `initialize` with an error.
    Refuse,
    /// Reads and never answers.
    Mute,
    /// Is busy for a while before it reads.
    Slow,
}

// === impl Mood ===

impl Mood {
    pub fn word(self) -> String {
        format!("{self:?}")
    }

    /// Also notes the start.
    fn of_this_process() -> Self {
        let Some(path) = std::env::var_os(MOOD) else { return Self::Well };
        let path = std::path::PathBuf::from(path);
        let starts =
            std::fs::OpenOptions::new().create(true).append(true).open(path.with_extension("starts"));
        writeln!(starts.unwrap(), "{}", std::process::id()).unwrap();
        let word = std::fs::read_to_string(path).unwrap();
        let moods = [Self::Well, Self::ExitAtStart, Self::ExitAtCall, Self::Refuse, Self::Mute, Self::Slow];
        moods.into_iter().find(|mood| mood.word() == word).unwrap()
    }
}

#[derive(Default)]
struct Fake {
    mood: Mood,
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
        match self.mood {
            Mood::ExitAtStart => std::process::exit(1),
            Mood::Slow => std::thread::park_timeout(std::time::Duration::from_millis(1_500)),
            _ => {}
        }
        // Ends the line that the test harness has begun.
        raw(b"\n");
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            let message: Value = serde_json::from_str(&line).expect("one JSON message per line");
            self.seen.push(line);
            if self.mood != Mood::Mute {
                self.take(&message);
            }
        }
        if std::env::var_os(STUBBORN).is_some() {
            sleep_for_ever();
        }
        std::process::exit(0);
    }

    fn take(&mut self, message: &Value) {
        let id = &message["id"];
        match message["method"].as_str() {
            Some("tools/call") if self.mood == Mood::ExitAtCall => std::process::exit(1),
            Some("initialize") if self.mood == Mood::Refuse => {
                send(&json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32000, "message": "not today"}}));
            }
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
            // Never answered.
            Some("tools/list") => {}
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
            "half_a_line" => {
                raw(format!(r#"{{"jsonrpc":"2.0","id":{id},"res"#).as_bytes());
                if arguments["exit"].as_bool().unwrap_or(false) {
                    std::process::exit(0);
                }
                sleep_for_ever();
            }
            "wrong_id" => result(&json!("somebody else's"), &json!({})),
            "twice" => (0..2).for_each(|_| result(id, &json!({"pid": std::process::id()}))),
            "flood" => {
                let line = arguments["line"].as_str().unwrap().to_owned() + "\n";
                let block = line.repeat((64 << 10) / line.len());
                result(id, &json!({"pid": std::process::id()}));
                loop {
                    raw(block.as_bytes());
                }
            }
            "flood_stderr_for_ever" => {
                let line = arguments["line"].as_str().unwrap().to_owned() + "\n";
                let block = line.repeat((64 << 10) / line.len());
                std::thread::spawn(move || while std::io::stderr().write_all(block.as_bytes()).is_ok() {});
                result(id, &json!({}));
            }
            "kill_itself" => {
                let own = rustix::process::getpid();
                rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
            }
            "large" => result(id, &json!({"text": "x".repeat(usize::try_from(number("bytes")).unwrap())})),
            "escaped" => {
                // `setsid` leaves the group, and its parent, which ends at once, the tree. Its stdout is the server's.
                let script = "setsid sleep 1000 & echo $! > \"$0\"";
                let noted = std::env::temp_dir().join(format!("ostler-fake-{}", std::process::id()));
                assert!(Command::new("sh").args(["-c", script]).arg(&noted).status().unwrap().success());
                let pid: u32 = std::fs::read_to_string(&noted).unwrap().trim().parse().unwrap();
                std::fs::remove_file(noted).unwrap();
                result(id, &json!({"pid": pid}));
            }
            "grandchild" => {
                // It holds the pipes, as a server's helpers do, and says nothing.
                #[expect(clippy::zombie_processes, reason = "the data plane ends it with the group")]
                let sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
                result(id, &json!({"pid": sleeper.id()}));
            }
            "exit" => std::process::exit(i32::try_from(number("code")).unwrap()),
            "answer_and_exit" => {
                raw("\n".repeat(usize::try_from(number("blank_lines")).unwrap()).as_bytes());
                // As much as a pipe holds, so that it is still being read when the exit is seen.
                let padding = "x".repeat(if number("blank_lines") > 0 { 1 } else { 60_000 });
                result(id, &json!({"last": true, "padding": padding}));
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
