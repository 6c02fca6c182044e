//! Control's state folder: the store, and beside it the largest epoch ever minted, so that a store that is lost or older
//! than its folder is noticed. Both the process and what operators do while it is stopped come in here.

use std::io;

use ostler_core::clock::WallClock;
use ostler_core::state_dir::{StateDir, StateDirError};

use crate::control::StartError;
use crate::distribution::Hub;
use crate::store::{OpenError, Store, StoreOptions};

/// The store's file in the state folder.
pub const STORE_FILE: &str = "control.redb";
/// The largest epoch ever minted here, beside the store, so that it survives the store.
const EPOCH_FILE: &str = "epoch";

/// Opens the store of a state folder and offers what it holds to the hub.
pub(crate) async fn open_store(
    state_dir: &StateDir,
    clock: WallClock,
    versions_kept_max: u64,
    even_if_older: bool,
    hub: &Hub,
) -> Result<Store, StartError> {
    let epoch_floor = read_epoch_floor(state_dir)?;
    let path = state_dir.path(STORE_FILE);
    if epoch_floor > 0 && !path.exists() {
        // The file was written when there was a store. An empty one in its place would look like health.
        return Err(OpenError::Lost { path, epoch_file: state_dir.path(EPOCH_FILE) }.into());
    }
    let (publish, stop) = (hub.clone(), hub.clone());
    let store = Store::open(StoreOptions {
        path,
        clock,
        epoch_floor,
        versions_kept_max,
        even_if_older,
        observer: Box::new(move |version| publish.publish(version)),
        kill_observer: Box::new(move |fleet, set| stop.publish_kills(fleet, set)),
    })?;
    let epoch = store.epoch().await?;
    if epoch < epoch_floor {
        tracing::error!(
            epoch,
            newest = epoch_floor,
            "store is older than its folder; if it was restored, stop control and run `ostler control new-epoch`"
        );
    }
    write_epoch(state_dir, epoch.max(epoch_floor))?;
    let heads = store.heads().await?;
    heads.sound.iter().for_each(|head| hub.publish(head));
    store.kills().await?.iter().for_each(|(fleet, set)| hub.publish_kills(fleet, set));
    for (fleet, error) in heads.damaged {
        tracing::error!(%fleet, %error, "the current version of a fleet is damaged; the fleet is given nothing until it has another");
        hub.show_damaged(&fleet, &error.to_string());
    }
    Ok(store)
}

/// Keeps the epoch where it outlives the store.
pub(crate) fn write_epoch(state_dir: &StateDir, epoch: u64) -> Result<(), StateDirError> {
    state_dir.write_atomic(EPOCH_FILE, format!("{epoch}\n").as_bytes())
}

pub(crate) fn read_epoch_floor(state_dir: &StateDir) -> Result<u64, StartError> {
    let path = state_dir.path(EPOCH_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| StartError::EpochFile { path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(_) => Err(StartError::EpochFile { path }),
    }
}
