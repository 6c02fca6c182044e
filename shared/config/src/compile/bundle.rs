//! A bundle as a mount whose upstream is other mounts.

use std::sync::Arc;

use ostler_core::digest::{Digest, DigestBuilder};
use ostler_core::limits::CONFIG_IN_FLIGHT_MAX;

use crate::compiled::{CompiledBundle, CompiledMount, CompiledUpstream, Transport};
use crate::validated::{Bundle, Limits, ProtocolPin, Timeouts};

/// `members` are the upstreams of its mounts.
pub(super) fn compile<'a>(
    bundle: &Bundle,
    part: Digest,
    members: impl Iterator<Item = &'a CompiledUpstream>,
) -> CompiledBundle {
    let mut timeouts: Option<Timeouts> = None;
    let mut in_flight = 0_u32;
    for member in members {
        let before = timeouts.unwrap_or(member.timeouts);
        timeouts = Some(Timeouts {
            connect: before.connect.max(member.timeouts.connect),
            answer: before.answer.max(member.timeouts.answer),
            idle: before.idle.max(member.timeouts.idle),
            total: before.total.max(member.timeouts.total),
        });
        in_flight = in_flight.saturating_add(member.limits.in_flight).min(CONFIG_IN_FLIGHT_MAX);
    }
    let mut identity = DigestBuilder::new();
    identity.update(b"bundle").update(bundle.name.as_str().as_bytes());
    let upstream = CompiledUpstream {
        name: bundle.name.clone(),
        transport: Transport::Bundle,
        protocol: ProtocolPin::Auto,
        timeouts: timeouts.unwrap_or_default(),
        limits: Limits { in_flight },
        unresolved: None,
        part,
        identity: identity.finish(),
        constant: None,
    };
    let mount = CompiledMount { name: bundle.name.clone(), upstream: bundle.name.clone(), part };
    CompiledBundle { mount: Arc::new(mount), upstream: Arc::new(upstream), members: bundle.mounts.clone() }
}

/// Whether the one may stand for the other.
pub(super) fn is_same(one: &CompiledBundle, other: &CompiledBundle) -> bool {
    one.upstream.part == other.upstream.part
        && one.upstream.timeouts == other.upstream.timeouts
        && one.upstream.limits == other.upstream.limits
}
