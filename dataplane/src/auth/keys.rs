//! The keys of one issuer, and the tokens that they have verified. Keys that are fetched are fetched in the background: a request
//! is judged by what is at hand, and the last good set is kept while no other can be had, on disk as well.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, StatusCode};
use ostler_config::HttpTransport;
use ostler_core::backoff::Backoff;
use ostler_core::digest::Digest;
use ostler_core::disk::open_regular;
use ostler_core::jwt::{KeySet, Unproven, Unverified};
use ostler_core::limits::{
    JWKS_BYTES_MAX, JWKS_FETCH_TIMEOUT, JWKS_FILES_MAX, JWKS_REFETCH_MIN, JWKS_REFRESH, JWKS_RETRY_BASE,
    JWKS_RETRY_CAP, TOKENS_VERIFIED_MAX,
};
use ostler_core::rng::Jitter;
use ostler_core::state_dir::StateDir;
use ostler_mcp::headers::JSON;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::Denial;
use super::token::Claims;
use crate::deps::Deps;
use crate::upstream::http::{Ask, fetch};

/// What files of key sets are called.
const FILE_PREFIX: &str = "jwks-";

/// One issuer's keys.
pub(super) struct Keys {
    state: Mutex<State>,
    /// A token named a key that the set does not have.
    wanted: Arc<Notify>,
    /// Where they are fetched; nothing where config gives them.
    source: Option<HttpTransport>,
    is_followed: AtomicBool,
}

#[derive(Default)]
struct State {
    set: Option<Arc<KeySet>>,
    /// Of the set as it was fetched.
    fetched: Option<Digest>,
    /// By SHA-256 of the token, of this set alone.
    verified: HashMap<Digest, Arc<Claims>>,
}

/// All keys that are fetched, by URL, for as long as a config names it.
#[derive(Default)]
pub struct KeyStores {
    /// Told when some keys are others.
    changed: watch::Sender<()>,
    kept: Mutex<HashMap<String, Weak<Keys>>>,
    folder: Option<StateDir>,
}

// === impl KeyStores ===

impl KeyStores {
    /// The same, with sets that are found again by the next process.
    pub fn kept_in(folder: StateDir) -> Self {
        Self { folder: Some(folder), ..Self::default() }
    }

    /// The keys at a URL: those at hand, or what an earlier process has left. Nothing is fetched here.
    pub(super) fn at(&self, source: &HttpTransport) -> Arc<Keys> {
        let url = source.url.to_string();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, keys| keys.strong_count() > 0);
        if let Some(keys) = kept.get(&url).and_then(Weak::upgrade) {
            return keys;
        }
        let keys = Arc::new(Keys::new(self.load(&url), Some(source.clone())));
        kept.insert(url, Arc::downgrade(&keys));
        keys
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn load(&self, url: &str) -> Option<KeySet> {
        let file = open_regular(&self.folder.as_ref()?.path(&file_of(url))).ok()?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, JWKS_BYTES_MAX as u64), &mut bytes).ok()?;
        KeySet::parse(&bytes).ok()
    }

    fn store(&self, url: &str, bytes: &[u8]) {
        let Some(folder) = &self.folder else { return };
        if let Err(error) = folder.write_atomic(&file_of(url), bytes) {
            tracing::warn!(%error, "a key set cannot be kept on disk; a restart has to fetch it first");
        }
        self.forget_oldest(folder);
    }

    /// Sets of URLs that no config names any more are kept for a config that comes back, but not all of them for ever.
    fn forget_oldest(&self, folder: &StateDir) {
        let named = |name: String| (name.starts_with(FILE_PREFIX) && name.ends_with(".json")).then_some(name);
        let entries = std::fs::read_dir(folder.root()).into_iter().flatten().flatten();
        let mut files: Vec<_> = entries
            .filter_map(|entry| {
                let written = entry.metadata().and_then(|metadata| metadata.modified()).ok()?;
                Some((written, named(entry.file_name().into_string().ok()?)?))
            })
            .collect();
        files.sort_unstable();
        let surplus = files.len().saturating_sub(JWKS_FILES_MAX);
        let kept: HashSet<_> = {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.keys().map(|url| file_of(url)).collect()
        };
        for (_, name) in files.iter().filter(|(_, name)| !kept.contains(name)).take(surplus) {
            // One that stays is tried again with the next set.
            let _ = folder.remove(name);
        }
    }
}

impl fmt::Debug for KeyStores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyStores").finish_non_exhaustive()
    }
}

/// Public keys; the name tells which URL's they are.
fn file_of(url: &str) -> String {
    format!("{FILE_PREFIX}{}.json", Digest::of(url.as_bytes()))
}

// === impl Keys ===

impl Keys {
    pub(super) fn new(set: Option<KeySet>, source: Option<HttpTransport>) -> Self {
        let state = State { set: set.map(Arc::new), ..State::default() };
        Self { state: Mutex::new(state), wanted: Arc::default(), source, is_followed: AtomicBool::new(false) }
    }

    /// Whether this key is among them still.
    pub(super) fn have(&self, signer: &Digest) -> bool {
        self.lock().set.as_ref().is_some_and(|set| set.has(signer))
    }

    /// What a token claims that was verified before.
    pub(super) fn known(&self, digest: &Digest) -> Option<Arc<Claims>> {
        self.lock().verified.get(digest).cloned()
    }

    /// Verifies a token of this issuer.
    pub(super) fn verify(
        &self,
        digest: Digest,
        token: &Unverified<'_>,
        issuer: &str,
    ) -> Result<Arc<Claims>, Denial> {
        let set = self.lock().set.clone();
        let Some(set) = set else {
            self.wanted.notify_one();
            return Err(Denial::KeysUnavailable);
        };
        let proven = token.verify(&set, issuer).inspect_err(|unproven| {
            if *unproven == Unproven::UnknownKey {
                self.wanted.notify_one();
            }
        });
        let claims = Arc::new(Claims::read(proven.map_err(denial)?)?);
        let mut state = self.lock();
        // What another set has verified meanwhile is not this one's.
        if state.set.as_ref().is_some_and(|now| Arc::ptr_eq(now, &set)) {
            if state.verified.len() >= TOKENS_VERIFIED_MAX {
                state.verified.clear();
            }
            state.verified.insert(digest, Arc::clone(&claims));
        }
        Ok(claims)
    }

    /// Fetches them from now on, for as long as somebody uses them.
    pub(super) fn follow(self: &Arc<Self>, stores: &Arc<KeyStores>, deps: &Deps) {
        let Some(source) = self.source.clone() else { return };
        if self.is_followed.swap(true, Ordering::Relaxed) {
            return;
        }
        let (followed, stores, of_task) = (Arc::downgrade(self), Arc::clone(stores), deps.clone());
        deps.tasks.spawn_until_stopped("issuer keys", async move {
            let mut jitter = of_task.jitter();
            let mut backoff = Backoff::new(JWKS_RETRY_BASE, JWKS_RETRY_CAP, of_task.jitter());
            loop {
                let fetched = timeout(JWKS_FETCH_TIMEOUT, fetch_set(&source, &of_task)).await;
                let Some(keys) = followed.upgrade() else { return };
                let pause = match fetched.unwrap_or_else(|_| Err("it takes too long".to_owned())) {
                    Ok((set, bytes)) => {
                        if keys.replace(set, Digest::of(&bytes)) {
                            stores.changed.send_replace(());
                            stores.store(&source.url.to_string(), &bytes);
                        }
                        backoff.reset();
                        refresh(&mut jitter)
                    }
                    Err(why) => {
                        tracing::warn!(
                            host = source.host,
                            "the keys of an issuer cannot be fetched: {why}; the last good ones are used on"
                        );
                        backoff.next_delay()
                    }
                };
                // Whoever waits here must not be the last who holds them.
                let wanted = Arc::clone(&keys.wanted);
                drop(keys);
                let asked = async {
                    sleep(JWKS_REFETCH_MIN).await;
                    wanted.notified().await;
                };
                tokio::select! {
                    () = sleep(pause) => {}
                    () = asked => {}
                }
            }
        });
    }

    /// Takes a set, and says whether it is another than before. Tokens that the same one has verified stay verified.
    fn replace(&self, set: KeySet, fetched: Digest) -> bool {
        let mut state = self.lock();
        if state.fetched == Some(fetched) {
            return false;
        }
        *state = State { set: Some(Arc::new(set)), fetched: Some(fetched), verified: HashMap::new() };
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a caller with such a token is told.
pub(super) fn denial(unproven: Unproven) -> Denial {
    match unproven {
        Unproven::Malformed => Denial::Malformed,
        Unproven::Invalid => Denial::InvalidToken,
        Unproven::UnknownKey => Denial::UnknownSigner,
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

/// Earlier by up to a tenth, so that a fleet that was started together does not ask together.
fn refresh(jitter: &mut Jitter) -> Duration {
    let tenth = JWKS_REFRESH / 10;
    let early = Duration::from_micros(jitter.below(u64::try_from(tenth.as_micros()).unwrap_or(u64::MAX)));
    JWKS_REFRESH.saturating_sub(early)
}

async fn fetch_set(source: &HttpTransport, deps: &Deps) -> Result<(KeySet, Vec<u8>), String> {
    let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(JSON))]);
    let (status, bytes) = fetch(source, deps, Ask { headers, ..Ask::default() }, JWKS_BYTES_MAX).await?;
    if status != StatusCode::OK {
        return Err(format!("the answer is {status}"));
    }
    let set = KeySet::parse(&bytes).map_err(|error| error.to_string())?;
    Ok((set, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_urls_that_nobody_names_are_kept_for_a_while_and_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let folder = StateDir::open(dir.path()).unwrap();
        let stores = KeyStores::kept_in(folder.clone());
        let named = "https://named.example/keys";
        stores.kept.lock().unwrap().insert(named.to_owned(), Weak::new());
        folder.write_atomic("journal", b"another's").unwrap();
        stores.store(named, b"{}");
        for index in 0..2 * JWKS_FILES_MAX {
            stores.store(&format!("https://{index}.example/keys"), b"{}");
        }
        let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let files: Vec<_> = files.map(|name| name.into_string().unwrap()).collect();
        let sets = files.iter().filter(|name| name.starts_with(FILE_PREFIX)).count();
        assert_eq!(sets, JWKS_FILES_MAX);
        assert!(files.contains(&file_of(named)) && files.iter().any(|name| name == "journal"));
    }
}
