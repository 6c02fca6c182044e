//! Fleets and their data planes.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use ostler_core::name::FleetName;

use super::ApiState;
use super::problem::Failure;
use super::request::{self, Path};
use super::types::{FleetInfo, FleetList, NodeList, NodeState};
use crate::distribution::Revision;

pub(super) async fn list_nodes(
    State(state): State<ApiState>,
    Path(fleet): Path<String>,
) -> Result<Json<NodeList>, Failure> {
    let fleet = request::fleet(&fleet)?;
    let desired = state.hub.desired(&fleet).map(|desired| desired.revision);
    let items = state.registry.list(&fleet, desired.as_ref());
    Ok(Json(NodeList { desired: desired.as_ref().map(Revision::info), items }))
}

pub(super) async fn list_fleets(State(state): State<ApiState>) -> Json<FleetList> {
    let mut fleets: BTreeMap<FleetName, FleetInfo> = BTreeMap::new();
    for (fleet, revision) in state.hub.all() {
        entry(&mut fleets, &fleet).desired = Some(revision.info());
    }
    for (fleet, states) in state.registry.counts(&state.hub) {
        let known: u64 = states.values().sum();
        let disconnected = states.get(&NodeState::Disconnected).copied().unwrap_or(0);
        let info = entry(&mut fleets, &fleet);
        info.nodes_known = known;
        info.nodes_connected = known - disconnected;
    }
    for (fleet, why) in state.hub.all_damaged() {
        entry(&mut fleets, &fleet).damaged = Some(why);
    }
    if let Some(followed) = &state.followed {
        entry(&mut fleets, &followed.fleet).file = Some(followed.status());
    }
    Json(FleetList { items: fleets.into_values().collect() })
}

fn entry<'a>(fleets: &'a mut BTreeMap<FleetName, FleetInfo>, fleet: &FleetName) -> &'a mut FleetInfo {
    fleets.entry(fleet.clone()).or_insert_with(|| FleetInfo {
        fleet: fleet.as_str().to_owned(),
        desired: None,
        nodes_connected: 0,
        nodes_known: 0,
        damaged: None,
        file: None,
    })
}
