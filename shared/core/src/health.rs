//! Asking a running process on this machine whether it is alive, for health checks of containers, whose images hold
//! nothing else that could ask.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::state_dir::read_listeners;

/// Why a process does not count as alive.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    #[error("no process has published its addresses in {0}; is it running with this --state-dir?")]
    NotRunning(String),
    #[error(
        "{addr} does not answer /healthz: {cause}; a listener with TLS cannot be asked, add --metrics-listen"
    )]
    Silent { addr: SocketAddr, cause: io::Error },
    #[error("{addr} is not well: {answer}")]
    Unwell { addr: SocketAddr, answer: String },
}

/// A process that needs longer is not well.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Of an answer, what could matter.
const ANSWER_BYTES_MAX: u64 = 4 * 1024;

/// Asks the process of this state folder for `/healthz`, at the first of the roles that it listens in. Blocks.
///
/// # Errors
/// [`HealthError`], one sentence.
pub fn check(state_dir: &Path, roles: &[&str]) -> Result<(), HealthError> {
    let not_running = || HealthError::NotRunning(state_dir.display().to_string());
    let listening = read_listeners(state_dir).ok_or_else(not_running)?;
    let addr = roles.iter().find_map(|role| listening.listeners.get(*role)).ok_or_else(not_running)?;
    let addr = reachable(*addr);
    let answer = ask(addr).map_err(|cause| HealthError::Silent { addr, cause })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    Err(HealthError::Unwell { addr, answer: format!("{status}: {}", body.trim()) })
}

fn ask(addr: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr, ANSWER_TIMEOUT)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(
        format!("GET /healthz HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    if !answer.starts_with(b"HTTP/") {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "that is no HTTP"));
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A process that listens on every address is asked on loopback.
fn reachable(addr: SocketAddr) -> SocketAddr {
    if !addr.ip().is_unspecified() {
        return addr;
    }
    let loopback = match addr {
        SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(loopback, addr.port())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::TcpListener;

    use super::*;
    use crate::state_dir::StateDir;

    fn asked(answer: &'static str) -> Result<(), HealthError> {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listeners = BTreeMap::from([("admin".to_owned(), listener.local_addr().unwrap())]);
        let _published = StateDir::open(dir.path()).unwrap().publish_listeners(listeners).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 256];
            let length = stream.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1:"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let checked = check(dir.path(), &["metrics", "admin"]);
        server.join().unwrap();
        checked
    }

    #[test]
    fn only_a_200_is_well() {
        asked("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n").unwrap();
        let error = asked("HTTP/1.1 503 Service Unavailable\r\n\r\ntraffic worker 0 does not answer\n");
        let error = error.unwrap_err().to_string();
        assert!(error.contains("503") && error.contains("traffic worker 0 does not answer"), "{error}");
        assert!(matches!(asked("\x15\x03\x01"), Err(HealthError::Silent { .. })));
    }

    #[test]
    fn a_process_that_is_not_there_is_not_alive() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(check(dir.path(), &["admin"]), Err(HealthError::NotRunning(_))));
    }

    #[test]
    fn who_listens_everywhere_is_asked_on_loopback() {
        assert_eq!(reachable("0.0.0.0:80".parse().unwrap()), "127.0.0.1:80".parse().unwrap());
        assert_eq!(reachable("[::]:80".parse().unwrap()), "[::1]:80".parse().unwrap());
    }
}
