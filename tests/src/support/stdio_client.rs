//! A client that only starts a command: a process on whose input it writes lines, and whose output must be messages, one a
//! line, and nothing else.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::PATIENCE;

/// A running command.
#[derive(Debug)]
pub struct StdioClient {
    child: Child,
    input: Option<ChildStdin>,
    output: Option<Lines<BufReader<ChildStdout>>>,
    complaints: ChildStderr,
}

/// The binary of this build, which stands beside the test.
///
/// # Panics
/// When the test's own path is not known.
pub fn ostler() -> PathBuf {
    let mut folder = std::env::current_exe().expect("the test's path");
    while folder.file_name().is_some_and(|name| name != "deps") {
        folder.pop();
    }
    folder.with_file_name(format!("ostler{}", std::env::consts::EXE_SUFFIX))
}

impl StdioClient {
    /// Starts `ostler` with these arguments.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_in(&[], arguments)
    }

    /// The same with variables of its environment.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_in(environment: &[(&str, &str)], arguments: &[&str]) -> Self {
        let mut child = Command::new(ostler())
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("`cargo build -p ostler-cli` has built it");
        let input = child.stdin.take();
        let output = child.stdout.take().map(|output| BufReader::new(output).lines());
        let complaints = child.stderr.take().expect("a pipe");
        Self { child, input, output, complaints }
    }

    /// Writes one line.
    ///
    /// # Panics
    /// When the process does not read it.
    pub async fn line(&mut self, line: &str) {
        let line = format!("{line}\n");
        let input = self.input.as_mut().expect("an open input");
        timeout(PATIENCE, input.write_all(line.as_bytes())).await.expect("it reads").expect("an open pipe");
    }

    pub async fn send(&mut self, message: &Value) {
        self.line(&message.to_string()).await;
    }

    /// The next message.
    ///
    /// # Panics
    /// When there is none, or a line is none.
    pub async fn next(&mut self) -> Value {
        let output = self.output.as_mut().expect("an open output");
        let line = timeout(PATIENCE, output.next_line()).await.expect("silence").expect("an open pipe");
        let line = line.expect("the output has ended");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("no message ({error}): {line}"))
    }

    /// The next message that answers this id; what comes before it is dropped.
    pub async fn answer(&mut self, id: &Value) -> Value {
        loop {
            let message = self.next().await;
            if message["id"] == *id && message.get("method").is_none() {
                return message;
            }
        }
    }

    /// One request, and its answer.
    pub async fn request(&mut self, id: Value, method: &str, params: Value) -> Value {
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await;
        self.answer(&id).await
    }

    /// Shakes hands as a legacy client.
    pub async fn initialize(&mut self, revision: &str) -> Value {
        let params = json!({"protocolVersion": revision, "capabilities": {"elicitation": {}}, "clientInfo": {"name": "test", "version": "1"}});
        let answer = self.request(json!("init"), "initialize", params).await;
        self.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        answer
    }

    /// Ends the input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Hangs up.
    pub fn close_output(&mut self) {
        self.output = None;
    }

    pub fn pid(&self) -> i32 {
        self.child.id().and_then(|pid| i32::try_from(pid).ok()).expect("a running process")
    }

    /// The next piece of what it says to people.
    ///
    /// # Panics
    /// When it says nothing.
    pub async fn complaint(&mut self) -> String {
        let mut piece = vec![0; 64 * 1024];
        let read = timeout(PATIENCE, self.complaints.read(&mut piece)).await.expect("silence");
        piece.truncate(read.expect("an open pipe"));
        String::from_utf8(piece).expect("text")
    }

    /// Waits for its end: how it ended, what it wrote and was not read, and what it told people.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn ended(mut self) -> (ExitStatus, Vec<String>, String) {
        let mut rest = Vec::new();
        let mut said = String::new();
        let status = timeout(PATIENCE, async {
            if let Some(output) = &mut self.output {
                while let Ok(Some(line)) = output.next_line().await {
                    rest.push(line);
                }
            }
            let _ = self.complaints.read_to_string(&mut said).await;
            self.child.wait().await.expect("its end")
        });
        let status = status.await.expect("it does not end");
        (status, rest, said)
    }
}
