//! The real binary for tests: a folder and an environment of its own, ports that the system chooses, and the few HTTP
//! requests that a test writes by hand. What is started here ends with the test.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::{sleep, timeout};

/// Far more than anything here takes; a test that gets here has failed.
pub const LIMIT: Duration = Duration::from_secs(40);
const ANY_PORT: &str = "127.0.0.1:0";

/// A place for one test.
pub struct Place {
    pub folder: TempDir,
}

/// A running `ostler up`.
pub struct Up {
    pub child: Child,
    pub state: PathBuf,
    pub said: String,
    out: Lines<BufReader<ChildStdout>>,
    err: ChildStderr,
}

pub struct Answer {
    /// In lower case.
    pub head: String,
    /// Empty when none was given.
    pub session: String,
    pub body: serde_json::Value,
}

impl Place {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The binary, with none of the variables that somebody may have set for theirs.
    pub fn ostler(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ostler"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OSTLER_"))
        {
            command.env_remove(name);
        }
        command.env("XDG_STATE_HOME", self.folder.path()).args(args);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a command to its end.
    pub async fn run(&self, args: &[&str]) -> Output {
        timeout(LIMIT, self.ostler(args).output()).await.unwrap().unwrap()
    }

    pub fn up_command(&self, args: &[&str]) -> Command {
        let mut command = self.ostler(&["up", "--settle", "50ms", "--state-dir"]);
        command.arg(self.path("state"));
        // Later flags are the test's own; a flag is given once.
        for flag in ["--mcp-listen", "--admin-listen", "--control-listen", "--sync-listen"] {
            if !args.contains(&flag) {
                command.args([flag, ANY_PORT]);
            }
        }
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        // As a shell does it, so that a Ctrl-C can be sent as a terminal does it: to the whole group.
        command.process_group(0);
        command
    }

    /// Starts `ostler up` and waits until it says that it is up.
    pub async fn up(&self, args: &[&str]) -> Up {
        Up::from(self.up_command(args), self.path("state")).await
    }
}

impl Up {
    pub async fn from(mut command: Command, state: PathBuf) -> Self {
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        let err = child.stderr.take().unwrap();
        let mut up = Self { child, state, said: String::new(), out, err };
        up.listen().await;
        up
    }

    /// Reads what it says about where it is, to the last line.
    pub async fn listen(&mut self) {
        self.said.clear();
        while !self.said.contains("look at it") {
            match timeout(LIMIT, self.out.next_line()).await.expect("silence").unwrap() {
                Some(line) => self.said += &(line + "\n"),
                None => panic!("it ended: {}", self.complaints().await),
            }
        }
    }

    pub fn pid(&self) -> i32 {
        self.child.id().unwrap().try_into().unwrap()
    }

    pub fn pid_of(&self, process: &str) -> i32 {
        self.listening(process)["pid"].as_i64().unwrap().try_into().unwrap()
    }

    pub fn address(&self, process: &str, role: &str) -> String {
        self.listening(process)["listeners"][role].as_str().unwrap().to_owned()
    }

    fn listening(&self, process: &str) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.state.join(process).join("listen.json")).unwrap()).unwrap()
    }

    /// Runs an operator's command against this control.
    pub async fn operator(&self, place: &Place, args: &[&str]) -> Output {
        let control = format!("http://{}", self.address("control", "api"));
        let token = self.state.join("control/operator.token");
        let mut all = args.to_vec();
        all.extend(["--control", &control, "--token-file", token.to_str().unwrap()]);
        place.run(&all).await
    }

    /// Ends it as Ctrl-C does: its exit code and everything on standard error.
    pub async fn interrupt(self) -> (Option<i32>, String) {
        kill_process_group(Pid::from_raw(self.pid()).unwrap(), Signal::INT).unwrap();
        self.ended().await
    }

    pub async fn ended(mut self) -> (Option<i32>, String) {
        let status = timeout(LIMIT, self.child.wait()).await.expect("it does not end").unwrap();
        (status.code(), self.complaints().await)
    }

    async fn complaints(&mut self) -> String {
        let mut text = String::new();
        timeout(LIMIT, self.err.read_to_string(&mut text))
            .await
            .expect("somebody holds standard error")
            .unwrap();
        text
    }
}

pub fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

pub fn is_running(pid: i32) -> bool {
    test_kill_process(Pid::from_raw(pid).unwrap()).is_ok()
}

/// Waits for the end of a process that is no child of the test.
pub async fn gone(pid: i32) {
    until(&format!("process {pid} is gone"), async || !is_running(pid)).await;
}

/// Waits until something is so, looking again and again.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let so = async {
        while !is_so().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, so).await.unwrap_or_else(|_| panic!("never happened: {what}"));
}

/// Processes whose parent this is.
pub fn children_of(parent: i32) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // Fields after the name, which stands in parentheses: state, parent.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        if fields.split_whitespace().nth(1) == Some(&parent.to_string()) {
            found.push(pid);
        }
    }
    found
}

/// A POST of JSON, written by hand, and its whole answer.
pub async fn post(addr: &str, path: &str, headers: &str, body: &str) -> Answer {
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {addr}\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(LIMIT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let body = serde_json::from_str(body).unwrap_or(serde_json::Value::Null);
    let headers = head.lines().filter_map(|line| line.split_once(": "));
    let mut sessions = headers.filter(|(name, _)| name.eq_ignore_ascii_case("mcp-session-id"));
    let session = sessions.next().map(|(_, value)| value.to_owned()).unwrap_or_default();
    Answer { head: head.to_ascii_lowercase(), session, body }
}

/// A GET, written by hand, and its whole answer.
pub async fn get(addr: &str, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(LIMIT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Exit code 1, nothing on standard output, and one sentence on standard error, which is returned.
pub fn one_sentence(output: &Output) -> String {
    let complaint = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""), "{complaint}");
    assert!(complaint.starts_with("error: ") && complaint.trim_end().lines().count() == 1, "{complaint}");
    complaint
}

pub fn file_name(path: &Path) -> &str {
    path.to_str().unwrap()
}
