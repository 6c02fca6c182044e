//! Parts of a call by themselves: what the pipeline asks of its stages for one request, of a data plane that runs, on the thread that asks.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::FutureExt as _;
use ostler_core::guard::HostGuard;
use ostler_dataplane::govern::Asking;
use ostler_dataplane::mount::metrics::Outcome;
use ostler_dataplane::mount::{Mount, admission};
use ostler_dataplane::pipeline::RequestIds;
use ostler_dataplane::snapshot::Snapshot;
use ostler_mcp::headers::Mirrored;
use ostler_mcp::{Envelope, Era};
use ostler_policy::Caller;
use ostler_telemetry::access::AccessLog;

use crate::messages;
use crate::path::{self, MOUNT, Path, With};

/// A part of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The message is scanned, its era told, its headers compared with it.
    Envelope,
    /// The session that the call names is found.
    Session,
    /// The host is judged, the mount is found in the snapshot, a place is taken, and the mount counts the call.
    Door,
    /// The gate is asked, and its permit given back.
    Gate(With),
}

/// One that is ready to be gone through.
pub struct Ready {
    stage: Stage,
    client: path::Caller,
    mount: Arc<Mount>,
    guard: HostGuard,
    host: String,
    body: Bytes,
    caller: Caller,
    ids: RequestIds,
}

/// What a call to an upstream may take, for the histogram.
const ELAPSED: Duration = Duration::from_micros(300);

impl Stage {
    /// # Errors
    /// When the data plane does not start.
    pub fn start(self, access: &AccessLog) -> anyhow::Result<Ready> {
        let with = if let Self::Gate(with) = self { with } else { With::Nothing };
        let era = messages::Era::Legacy;
        let client = Path::Dataplane { client: era, upstream: era, with }.start(access)?;
        let to = client.world.as_ref().context("a data plane")?.to;
        let mount = Arc::clone(snapshot(&client)?.mount(MOUNT).context("the mount")?);
        Ok(Ready {
            stage: self,
            client,
            mount,
            guard: HostGuard::for_listener(to, &[]),
            host: to.to_string(),
            body: messages::call(era).into(),
            caller: Caller::default(),
            ids: RequestIds::from_entropy(),
        })
    }
}

impl Ready {
    /// As often as that.
    ///
    /// # Errors
    /// When a stage refuses the call.
    pub fn run(&mut self, calls: usize) -> anyhow::Result<()> {
        let envelope = Envelope::scan(&self.body)?;
        for _ in 0..calls {
            match self.stage {
                Stage::Envelope => self.envelope()?,
                Stage::Session => self.session()?,
                Stage::Door => self.door()?,
                Stage::Gate(_) => self.gate(&envelope)?,
            }
        }
        Ok(())
    }

    fn envelope(&self) -> anyhow::Result<()> {
        let envelope = Envelope::scan(&self.body)?;
        let version = Some(messages::Era::Legacy.revision());
        let era = Era::of_request(&envelope, version);
        Ok(Mirrored { protocol_version: version, method: None, name: None }.check(&envelope, era)?)
    }

    fn session(&self) -> anyhow::Result<()> {
        let id = self.client.session.as_deref().unwrap_or_default();
        self.mount.runtime.sessions.get(id, &self.caller).map(drop).context("the session")
    }

    fn door(&self) -> anyhow::Result<()> {
        let snapshot = snapshot(&self.client)?;
        self.guard.check_request(None, [self.host.as_bytes()], [])?;
        let mount = snapshot.mount(MOUNT).context("the mount")?;
        let metrics = &mount.runtime.metrics;
        metrics.in_flight.add(1);
        let place = admission::admit(mount, false).map_err(|error| anyhow::anyhow!("{}", error.detail))?;
        metrics.duration.record(ELAPSED);
        drop(place);
        metrics.in_flight.add(-1);
        metrics.count(Outcome::Ok);
        Ok(())
    }

    fn gate(&self, envelope: &Envelope<'_>) -> anyhow::Result<()> {
        let snapshot = snapshot(&self.client)?;
        let asking = Asking {
            caller: &self.caller,
            request_id: self.ids.next(),
            way: (&*self.mount).into(),
            envelope: Some(envelope),
            body: &self.body,
            session: self.client.session.as_deref(),
        };
        // Where nothing is written down, nothing is waited for.
        let asked = snapshot.governance().ask(asking).now_or_never().context("the gate had to wait")?;
        asked.map(drop).map_err(|error| anyhow::anyhow!("{}", error.detail))
    }
}

fn snapshot(client: &path::Caller) -> anyhow::Result<Arc<Snapshot>> {
    let world = client.world.as_ref().context("a data plane")?;
    world.admin.applier.snapshots.load().context("a snapshot")
}
