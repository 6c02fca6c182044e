//! The channels of one mount. The id in a channel's POST address is all that a message has to show for itself, so it is
//! unguessable, and is never logged.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ostler_core::clock::WallClock;
use ostler_core::limits::SESSIONS_PER_MOUNT_MAX;
use ostler_core::rng::{RandomError, secret_token};
use ostler_policy::Caller;

use super::channel::{Channel, Queue};
use crate::mount::session::SessionTable;

/// The channels of one mount.
pub struct Channels {
    /// The sessions behind them. Their ids are nobody's: no client can name one.
    sessions: Arc<SessionTable>,
    open: Mutex<HashMap<String, Arc<Channel>>>,
}

/// No channel could be opened.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub enum ChannelError {
    #[error("mount holds {SESSIONS_PER_MOUNT_MAX} HTTP+SSE streams, its limit; close some")]
    Full,
    #[error(transparent)]
    Random(#[from] RandomError),
}

// === impl Channels ===

impl Channels {
    pub fn new(clock: WallClock) -> Self {
        Self { sessions: Arc::new(SessionTable::new(clock)), open: Mutex::default() }
    }

    pub fn sessions(&self) -> &Arc<SessionTable> {
        &self.sessions
    }

    /// A new channel of a caller's, and what is to be written on its stream.
    ///
    /// # Errors
    /// When the mount has as many as it may hold.
    pub(super) fn create(&self, caller: &Caller) -> Result<(Arc<Channel>, Queue), ChannelError> {
        let (channel, queue) = Channel::new(secret_token()?, caller.clone());
        let channel = Arc::new(channel);
        let mut open = self.lock();
        if open.len() >= SESSIONS_PER_MOUNT_MAX {
            return Err(ChannelError::Full);
        }
        open.insert(channel.id().to_owned(), Arc::clone(&channel));
        Ok((channel, queue))
    }

    /// Another caller's channel is as unknown as one that does not exist.
    pub fn get(&self, id: &str, caller: &Caller) -> Option<Arc<Channel>> {
        self.lock().get(id).filter(|channel| channel.is_of(caller)).cloned()
    }

    /// Forgets a channel whose stream has ended.
    pub(super) fn remove(&self, channel: &Channel) {
        self.lock().remove(channel.id());
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Channel>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Channels({})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unguessable_forgotten_when_removed_and_never_shown() {
        let channels = Channels::new(WallClock::manual(0));
        let (a, _queue) = channels.create(&Caller::default()).unwrap();
        let (b, _queue) = channels.create(&Caller::default()).unwrap();
        assert_ne!(a.id(), b.id());
        assert!(a.id().len() >= 22, "{} characters hold less than 128 bits", a.id().len());
        assert!(!format!("{a:?} {channels:?}").contains(a.id()));
        channels.remove(&a);
        assert!(channels.get(a.id(), &Caller::default()).is_none());
        assert!(channels.get(b.id(), &Caller::default()).is_some());
    }

    #[test]
    fn a_mount_holds_so_many_channels_and_no_more() {
        let channels = Channels::new(WallClock::manual(0));
        let held: Vec<_> =
            (0..SESSIONS_PER_MOUNT_MAX).map(|_| channels.create(&Caller::default()).unwrap()).collect();
        assert!(matches!(channels.create(&Caller::default()), Err(ChannelError::Full)));
        channels.remove(&held[0].0);
        assert!(channels.create(&Caller::default()).is_ok());
    }
}
