//! The data plane as a process under a service manager: what it tells the manager, how it ends, and that its port is its own
//! again at once.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops where it fails")]

mod process;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use ostler_core::limits::{DRAIN_CUT_GRACE, DRAIN_DEADLINE};
use process::{Manager, Process, Signal, config};

/// Connections that stay open, each with one answered request.
fn clients(addr: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| client(addr)).collect()
}

fn client(addr: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(b"GET /mcp/nobody HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 404");
    stream
}

#[test]
fn the_manager_hears_ready_then_signs_of_life_then_a_reload_then_stopping() {
    let manager = Manager::start();
    let dir = config(&[]);
    let mut process = Process::start(&dir, &manager.variables("400000"), &[]);
    let ready = manager.next();
    assert!(ready.starts_with("READY=1\nSTATUS=serving 0 mounts, version 1"), "{ready}");
    // Ready means that clients are answered.
    drop(client(process.addr("mcp")));
    for _ in 0..3 {
        assert_eq!(manager.next_but_status(), "WATCHDOG=1");
    }
    process.signal(Signal::HUP);
    let reloading = manager.until(|message| message != "WATCHDOG=1");
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    let ready = manager.until(|message| message != "WATCHDOG=1");
    assert!(ready.starts_with("READY=1\n"), "{ready}");
    process.signal(Signal::TERM);
    let stopping = manager.until(|message| message != "WATCHDOG=1");
    assert!(stopping.starts_with("STOPPING=1\n"), "{stopping}");
    assert_eq!(process.wait(), Some(0));
}

#[test]
fn a_process_that_waits_for_its_first_config_is_active_and_says_what_it_waits_for() {
    let manager = Manager::start();
    let dir = config(&[]);
    let token = dir.path().join("node.token");
    ostler_core::token::load_or_create(&token).unwrap();
    let token = token.display().to_string();
    // Port 1 answers nobody.
    let flags = ["--control", "http://127.0.0.1:1", "--node-token-file", &token];
    let mut process = Process::start(&dir, &manager.variables("60000000"), &flags);
    let ready = manager.next();
    assert!(ready.starts_with("READY=1\nSTATUS=waiting for a first config"), "{ready}");
    let mut admin = TcpStream::connect(process.addr("admin")).unwrap();
    admin.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    admin.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert_eq!(process::health(&dir), Some(0), "it is alive all the same");
    process.signal(Signal::INT);
    assert_eq!(process.wait(), Some(0));
    assert_eq!(process::health(&dir), Some(1), "it is gone");
}

#[test]
fn a_restarted_process_has_its_port_at_once_though_its_clients_are_still_connected() {
    let dir = config(&[]);
    let first = Process::start(&dir, &[], &[]);
    let addr = first.addr("mcp");
    let listen = addr.to_string();
    let mut process = first;
    let mut connected = clients(addr, 20);
    process::until_kept(&dir);
    for round in 0..6 {
        // An orderly end closes connections from this side, which leaves them in TIME_WAIT; a kill leaves it to the system.
        process.signal(if round % 2 == 0 { Signal::TERM } else { Signal::KILL });
        process.wait();
        process = Process::start(&dir, &[], &["--listen", &listen]);
        assert_eq!(process.addr("mcp"), addr, "round {round}");
        // The connections of rounds before are held open by their clients.
        connected.extend(clients(addr, 20));
        process::until_kept(&dir);
    }
    process.signal(Signal::TERM);
    assert_eq!(process.wait(), Some(0));
}

/// A client whose call is at the upstream, and the upstream's end of it.
fn call_under_way(process: &Process, silent: &TcpListener) -> (TcpStream, TcpStream) {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
    let mut waiting = TcpStream::connect(process.addr("mcp")).unwrap();
    waiting.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let head = format!(
        "POST /mcp/up HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    waiting.write_all(head.as_bytes()).unwrap();
    waiting.write_all(body.as_bytes()).unwrap();
    loop {
        let (mut stream, _) = silent.accept().unwrap();
        let mut request = [0; 4096];
        let length = stream.read(&mut request).unwrap();
        // A probe may have come first.
        if String::from_utf8_lossy(&request[..length]).contains("clientInfo\":{\"name\":\"t\"") {
            return (waiting, stream);
        }
    }
}

/// A process with one upstream, which answers when the test does.
fn with_silent_upstream(manager: &Manager) -> (tempfile::TempDir, Process, TcpListener) {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = config(&[("up", &format!("http://{}/", silent.local_addr().unwrap()))]);
    let process = Process::start(&dir, &manager.variables("60000000"), &[]);
    manager.until(|message| message.starts_with("READY=1"));
    (dir, process, silent)
}

#[test]
fn a_second_signal_ends_the_drain_at_once() {
    for signals in [[Signal::TERM, Signal::TERM], [Signal::TERM, Signal::INT], [Signal::INT, Signal::TERM]] {
        let manager = Manager::start();
        let (_dir, mut process, silent) = with_silent_upstream(&manager);
        let _held = call_under_way(&process, &silent);
        process.signal(signals[0]);
        manager.until(|message| message.starts_with("STOPPING=1"));
        assert!(process.is_running(), "it drains");
        let asked = Instant::now();
        process.signal(signals[1]);
        assert_eq!(process.wait(), Some(0));
        assert!(asked.elapsed() < DRAIN_DEADLINE / 2, "it took {:?}", asked.elapsed());
    }
}

#[test]
fn a_process_that_is_told_to_stop_answers_what_is_in_flight_and_ends_with_it() {
    let manager = Manager::start();
    let (_dir, mut process, silent) = with_silent_upstream(&manager);
    let (mut client, mut upstream) = call_under_way(&process, &silent);
    let asked = Instant::now();
    process.signal(Signal::TERM);
    manager.until(|message| message.starts_with("STOPPING=1"));
    let body = r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}"#;
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    upstream.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(body), "{answer}");
    assert_eq!(process.wait(), Some(0));
    assert!(asked.elapsed() < DRAIN_DEADLINE, "it took {:?}", asked.elapsed());
}

#[test]
fn a_call_that_never_ends_holds_a_stop_until_the_drain_deadline_and_no_longer() {
    let manager = Manager::start();
    let (_dir, mut process, silent) = with_silent_upstream(&manager);
    let (mut client, _upstream) = call_under_way(&process, &silent);
    let asked = Instant::now();
    process.signal(Signal::TERM);
    manager.until(|message| message.starts_with("STOPPING=1"));
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert!(
        String::from_utf8_lossy(&answer).contains("the data plane is stopping"),
        "it was cut without a word"
    );
    assert_eq!(process.wait(), Some(0));
    assert!(asked.elapsed() >= DRAIN_DEADLINE - DRAIN_CUT_GRACE, "it took {:?}", asked.elapsed());
    assert!(asked.elapsed() < DRAIN_DEADLINE * 3, "it took {:?}", asked.elapsed());
}

#[test]
fn a_process_that_cannot_start_exits_with_1_and_one_with_wrong_flags_with_2() {
    let dir = config(&[]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    assert_eq!(process::run(&dir, &["--listen", &listen]), Some(1));
    assert_eq!(process::run(&dir, &["--no-such-flag"]), Some(2));
}
