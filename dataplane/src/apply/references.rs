//! Files behind `${file:…}` references. A secret that is rotated on disk takes effect without a version: the served
//! config is compiled again, and what does not use the secret keeps its runtime.

use std::sync::Arc;

use ostler_config::{GlobList, Lookup, ReferenceSource, Validated};
use ostler_core::digest::{Digest, DigestBuilder};
use ostler_core::limits::{WATCH_DEBOUNCE, WATCH_DEBOUNCE_MAX, WATCH_POLL};
use ostler_watch::Reloads;
use tokio::time::Instant;

use super::Applier;

/// Looks at the referenced files for ever, and at once when a reload is asked for. By polling: secret mounts are often
/// file systems without events.
pub async fn follow(applier: Arc<Applier>, mut reloads: Reloads) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(WATCH_POLL) => {}
            () = reloads.asked() => {}
        }
        if have_changed(&applier).await {
            applier.refresh().await;
        }
    }
}

/// Waits until the files rest, because half a secret is none. False when nothing has changed in the end.
async fn have_changed(applier: &Applier) -> bool {
    let deadline = Instant::now() + WATCH_DEBOUNCE_MAX;
    let mut before = applier.changed_references().await;
    while before.is_some() {
        tokio::time::sleep(WATCH_DEBOUNCE).await;
        let now = applier.changed_references().await;
        if now == before || Instant::now() >= deadline {
            return now.is_some();
        }
        before = now;
    }
    false
}

/// What the referenced files hold, as one digest; the content itself is kept nowhere. A file that this host does not allow
/// is not opened: opening alone may say or do something.
pub(super) fn fingerprint(config: &Validated, allowed: &GlobList, lookup: &dyn Lookup) -> Option<Digest> {
    let mut builder = DigestBuilder::new();
    let mut files = 0_usize;
    let references = config.references().filter(|reference| allowed.matches(&reference.name()));
    for path in references.filter_map(|reference| match &reference.source {
        ReferenceSource::File(path) => Some(path),
        ReferenceSource::Env(_) => None,
    }) {
        files += 1;
        builder.update(path.as_bytes());
        match lookup.file(path) {
            Ok(content) => builder.update(content.as_bytes()),
            Err(_) => builder.update(b"\0unreadable"),
        };
    }
    (files > 0).then(|| builder.finish())
}
