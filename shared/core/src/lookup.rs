//! Addresses behind names, asked of a resolver that blocks, as the system's does, for as long as a name server lets it wait.
//!
//! At most one lookup of a name is under way; whoever asks meanwhile waits for the same answer. So a name whose server
//! hangs holds one thread however often it is probed and called, and not those that others' names, and the disk, need.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::limits::LOOKUPS_MAX;

type Resolve = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// What a resolver said; shared by all who asked.
type Answer = Result<Arc<[IpAddr]>, (io::ErrorKind, Arc<str>)>;

/// Where the answer of each lookup that is under way will be.
type UnderWay = HashMap<Arc<str>, watch::Receiver<Option<Answer>>>;

/// Lookups that are under way. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Lookups {
    resolve: Arc<Resolve>,
    running: Arc<Mutex<UnderWay>>,
    places: Arc<Semaphore>,
}

/// A lookup on its thread, until it is answered.
struct Running {
    lookups: Lookups,
    host: Arc<str>,
    answer: watch::Sender<Option<Answer>>,
    _place: OwnedSemaphorePermit,
}

/// Asks the system.
pub(crate) async fn system(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    static SYSTEM: LazyLock<Lookups> = LazyLock::new(|| {
        Lookups::new(|host| Ok((host, 0).to_socket_addrs()?.map(|addr| addr.ip()).collect()))
    });
    let found = SYSTEM.lookup(host).await?;
    Ok(found.iter().map(|ip| SocketAddr::new(*ip, port)).collect())
}

// === impl Lookups ===

impl Lookups {
    pub(crate) fn new(resolve: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        let places = Arc::new(Semaphore::new(LOOKUPS_MAX));
        Self { resolve: Arc::new(resolve), running: Arc::default(), places }
    }

    /// # Errors
    /// What the resolver says, or that no thread can be had for it.
    pub(crate) async fn lookup(&self, host: &str) -> io::Result<Arc<[IpAddr]>> {
        let running = self.lock().get(host).cloned();
        let mut answer = match running {
            Some(running) => running,
            None => {
                let place = Arc::clone(&self.places).acquire_owned().await.map_err(io::Error::other)?;
                self.join_or_start(host, place)?
            }
        };
        let found = answer.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
        let gone = || (io::ErrorKind::Other, Arc::from("the lookup ended without an answer"));
        found.ok_or_else(gone).flatten().map_err(|(kind, what)| io::Error::new(kind, what.to_string()))
    }

    fn join_or_start(
        &self,
        host: &str,
        place: OwnedSemaphorePermit,
    ) -> io::Result<watch::Receiver<Option<Answer>>> {
        let mut all = self.lock();
        if let Some(running) = all.get(host) {
            return Ok(running.clone());
        }
        let (answer, receiver) = watch::channel(None);
        let host: Arc<str> = host.into();
        all.insert(Arc::clone(&host), receiver.clone());
        drop(all);
        let running = Running { lookups: self.clone(), host, answer, _place: place };
        // Of no runtime: a thread that blocks keeps nobody from ending.
        std::thread::Builder::new().name("lookup".to_owned()).spawn(move || running.run())?;
        Ok(receiver)
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Running ===

impl Running {
    fn run(self) {
        let found = (self.lookups.resolve)(&self.host);
        let found = found.map(Arc::from).map_err(|error| (error.kind(), error.to_string().into()));
        let answer = self.answer.clone();
        // First, so that nobody who has heard the answer finds it once more.
        drop(self);
        answer.send_replace(Some(found));
    }
}

impl Drop for Running {
    /// Whoever asks from now on asks anew.
    fn drop(&mut self) {
        self.lookups.lock().remove(&self.host);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// Names that begin with `hangs` are answered when it is opened.
    #[derive(Default)]
    struct Gate {
        is_open: Mutex<bool>,
        opened: Condvar,
        asked: AtomicUsize,
    }

    impl Gate {
        fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let is_open = self.is_open.lock().unwrap();
            let _open =
                self.opened.wait_while(is_open, |is_open| host.starts_with("hangs") && !*is_open).unwrap();
            if host == "unknown" { Err(io::Error::other("no such name")) } else { Ok(vec![ADDRESS]) }
        }

        fn open(&self) {
            *self.is_open.lock().unwrap() = true;
            self.opened.notify_all();
        }
    }

    #[tokio::test]
    async fn names_that_hang_hold_one_thread_each_and_others_are_answered() {
        let gate = Arc::new(Gate::default());
        let asked = Arc::clone(&gate);
        let lookups = Lookups::new(move |host| asked.resolve(host));
        let names = 10;
        let (mut waiting, begun) = (Vec::new(), Arc::new(AtomicUsize::new(0)));
        for number in 0..LOOKUPS_MAX * 10 {
            let (lookups, begun) = (lookups.clone(), Arc::clone(&begun));
            waiting.push(tokio::spawn(async move {
                begun.fetch_add(1, Ordering::Relaxed);
                lookups.lookup(&format!("hangs{}", number % names)).await.unwrap()
            }));
        }
        while begun.load(Ordering::Relaxed) < waiting.len() {
            tokio::task::yield_now().await;
        }
        assert_eq!(*lookups.lookup("well").await.unwrap(), [ADDRESS]);
        let unknown = lookups.lookup("unknown").await.unwrap_err();
        assert_eq!(unknown.to_string(), "no such name");
        assert_eq!(lookups.lock().len(), names, "lookups under way");
        gate.open();
        for one in waiting {
            assert_eq!(*one.await.unwrap(), [ADDRESS]);
        }
        assert_eq!(gate.asked.load(Ordering::Relaxed), names + 2);
    }

    #[tokio::test]
    async fn a_lookup_that_nobody_waits_for_any_more_is_not_asked_again_until_it_is_answered() {
        let gate = Arc::new(Gate::default());
        let asked = Arc::clone(&gate);
        let lookups = Lookups::new(move |host| asked.resolve(host));
        for _ in 0..LOOKUPS_MAX * 2 {
            let impatient = tokio::time::timeout(std::time::Duration::ZERO, lookups.lookup("hangs"));
            assert!(impatient.await.is_err());
        }
        gate.open();
        assert_eq!(*lookups.lookup("hangs").await.unwrap(), [ADDRESS]);
        assert!(gate.asked.load(Ordering::Relaxed) <= 2, "one that was given up, and the last");
    }
}
