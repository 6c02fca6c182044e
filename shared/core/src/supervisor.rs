//! What a process tells the service manager that started it: ready, reloading, stopping, alive. The protocol is
//! `sd_notify(3)`: datagrams of `KEY=value` lines to the socket that `NOTIFY_SOCKET` names.
//!
//! For binaries only: a library that is embedded must not speak for the process that embeds it. Without a manager every
//! call does nothing. A manager that does not listen never holds up the process.

use std::future::Future;
use std::time::Duration;

/// The service manager, if there is one.
#[derive(Debug, Default)]
pub struct Supervisor {
    #[cfg(unix)]
    socket: Option<socket::Socket>,
    watchdog: Option<Duration>,
}

/// The variables by which a manager speaks to the process that it started, and to no child of it.
pub const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];
/// A probe that takes longer has failed: this part of the time between two signs of life.
const PROBE_SHARE: u32 = 2;

// === impl Supervisor ===

impl Supervisor {
    /// The manager that the process's environment names.
    pub fn from_env() -> Self {
        Self::of(|name| std::env::var(name).ok(), std::process::id())
    }

    /// The manager that these variables name: `NOTIFY_SOCKET`, a path or an abstract name behind `@`; `WATCHDOG_USEC`, the
    /// time after which the manager takes the process for hung; `WATCHDOG_PID`, for whom that is meant.
    pub fn of(variable: impl Fn(&str) -> Option<String>, pid: u32) -> Self {
        let is_meant = variable("WATCHDOG_PID").is_none_or(|meant| meant.parse() == Ok(pid));
        let watchdog = variable("WATCHDOG_USEC").and_then(|usec| usec.parse().ok()).filter(|usec| *usec > 0);
        Self {
            #[cfg(unix)]
            socket: variable("NOTIFY_SOCKET").and_then(|name| socket::Socket::to(&name)),
            watchdog: watchdog.filter(|_| is_meant).map(Duration::from_micros),
        }
    }

    /// The process serves. `status` is one line for people, as everywhere here.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// What the process is doing.
    pub fn status(&self, status: &str) {
        self.tell(&format!("STATUS={}", one_line(status)));
    }

    /// The process reads its config again; [`Supervisor::ready`] follows.
    pub fn reloading(&self) {
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_usec()));
    }

    /// The process has begun to end.
    pub fn stopping(&self, status: &str) {
        self.tell(&format!("STOPPING=1\nSTATUS={}", one_line(status)));
    }

    /// Gives a sign of life at half the watchdog's time, each only after the probe has answered. A probe that fails or hangs
    /// is logged and leaves its sign out, so that the manager acts. Returns only where no watchdog is set.
    pub async fn watch<F, P>(&self, probe: F)
    where
        F: Fn() -> P,
        P: Future<Output = Result<(), String>>,
    {
        let Some(time) = self.watchdog else { return };
        let mut beats = tokio::time::interval(time / 2);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            match tokio::time::timeout(time / 2 / PROBE_SHARE, probe()).await {
                Ok(Ok(())) => self.tell("WATCHDOG=1"),
                Ok(Err(reason)) => tracing::error!(reason, "no sign of life for the service manager"),
                Err(_) => tracing::error!("no sign of life for the service manager: the probe hangs"),
            }
        }
    }

    fn tell(&self, message: &str) {
        #[cfg(unix)]
        if let Some(socket) = &self.socket {
            socket.send(message);
        }
        #[cfg(not(unix))]
        let _ = message;
    }
}

/// A line break would begin another key.
fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

/// `CLOCK_MONOTONIC`, by which a manager tells a reload from one before it.
#[cfg(unix)]
fn monotonic_usec() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let part = |number: i64| u64::try_from(number).unwrap_or_default();
    part(now.tv_sec).saturating_mul(1_000_000).saturating_add(part(now.tv_nsec) / 1_000)
}

#[cfg(not(unix))]
fn monotonic_usec() -> u64 {
    0
}

#[cfg(unix)]
mod socket {
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    /// The manager's end.
    #[derive(Debug)]
    pub(super) struct Socket {
        own: UnixDatagram,
        manager: SocketAddr,
    }

    impl Socket {
        pub(super) fn to(name: &str) -> Option<Self> {
            let opened = address(name).and_then(|manager| {
                let own = UnixDatagram::unbound()?;
                own.set_nonblocking(true)?;
                Ok(Self { own, manager })
            });
            opened
                .inspect_err(
                    |error| tracing::warn!(%error, name, "the service manager cannot be told anything"),
                )
                .ok()
        }

        pub(super) fn send(&self, message: &str) {
            if let Err(error) = self.own.send_to_addr(message.as_bytes(), &self.manager) {
                tracing::warn!(%error, "the service manager was not told");
            }
        }
    }

    fn address(name: &str) -> std::io::Result<SocketAddr> {
        match name.strip_prefix('@') {
            Some(name) => abstract_address(name),
            None => SocketAddr::from_pathname(name),
        }
    }

    #[cfg(target_os = "linux")]
    fn abstract_address(name: &str) -> std::io::Result<SocketAddr> {
        use std::os::linux::net::SocketAddrExt as _;
        SocketAddr::from_abstract_name(name)
    }

    #[cfg(not(target_os = "linux"))]
    fn abstract_address(_name: &str) -> std::io::Result<SocketAddr> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const PID: u32 = 77;

    fn supervisor(variables: &[(&str, &str)]) -> Supervisor {
        let find = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Supervisor::of(find, PID)
    }

    fn heard(manager: &UnixDatagram) -> Vec<String> {
        manager.set_nonblocking(true).unwrap();
        let mut buffer = [0; 512];
        let receive = || manager.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec());
        let messages = std::iter::from_fn(receive).map(|bytes| String::from_utf8(bytes).unwrap());
        messages.collect()
    }

    #[test]
    fn a_manager_is_told_at_a_path_and_at_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let at_path = UnixDatagram::bind(&path).unwrap();
        supervisor(&[("NOTIFY_SOCKET", path.to_str().unwrap())]).ready("serves\nREADY=0");
        assert_eq!(heard(&at_path), ["READY=1\nSTATUS=serves READY=0"]);

        let name = format!("ostler-test-{}", std::process::id());
        let abstracted = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let supervisor = supervisor(&[("NOTIFY_SOCKET", &format!("@{name}"))]);
        supervisor.stopping("drains");
        supervisor.reloading();
        let heard = heard(&abstracted);
        assert_eq!(heard[0], "STOPPING=1\nSTATUS=drains");
        let at = heard[1].strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(at.parse::<u64>().unwrap() > 0);
    }

    #[test]
    fn without_a_manager_or_with_a_dead_one_nothing_happens() {
        supervisor(&[]).ready("serves");
        supervisor(&[("NOTIFY_SOCKET", "/nowhere/at/all")]).ready("serves");
        supervisor(&[("NOTIFY_SOCKET", "")]).ready("serves");
    }

    #[tokio::test(start_paused = true)]
    async fn a_sign_of_life_is_given_at_half_the_time_and_only_after_an_answer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let supervisor =
            supervisor(&[("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "2000000")]);
        let (answers, hangs) = (AtomicBool::new(true), AtomicBool::new(false));
        let probe = || async {
            if hangs.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            if answers.load(Ordering::Relaxed) { Ok(()) } else { Err("worker 0 does not answer".to_owned()) }
        };
        let pass = |millis| tokio::time::timeout(Duration::from_millis(millis), supervisor.watch(probe));
        assert!(pass(9_500).await.is_err());
        assert_eq!(heard(&manager), vec!["WATCHDOG=1"; 10]);
        answers.store(false, Ordering::Relaxed);
        assert!(pass(9_500).await.is_err());
        answers.store(true, Ordering::Relaxed);
        hangs.store(true, Ordering::Relaxed);
        assert!(pass(9_500).await.is_err());
        assert_eq!(heard(&manager), [""; 0]);
        hangs.store(false, Ordering::Relaxed);
        assert!(pass(2_500).await.is_err());
        assert_eq!(heard(&manager), vec!["WATCHDOG=1"; 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watchdog_that_is_meant_for_another_process_is_not_fed() {
        let another = [("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "78")];
        supervisor(&another).watch(|| async { panic!("it is not asked") }).await;
        let own = [("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "77")];
        let watching = supervisor(&own);
        let watched = tokio::time::timeout(Duration::from_secs(1), watching.watch(|| async { Ok(()) }));
        assert!(watched.await.is_err());
    }
}
