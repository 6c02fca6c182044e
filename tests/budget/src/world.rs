//! A data plane inside this process, as the binary starts one: a control thread, one traffic worker, a config file that is followed.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use ostler_core::name::FleetName;
use ostler_dataplane::admin::Admin;
use ostler_dataplane::{ConfigFrom, DataPlane, Options};
use ostler_telemetry::access::AccessLog;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;

/// One that runs until it is dropped.
pub struct World {
    pub to: SocketAddr,
    /// What it shows of itself.
    pub admin: Arc<Admin>,
    stop: Option<oneshot::Sender<()>>,
    control: Option<JoinHandle<anyhow::Result<()>>>,
    _folder: TempDir,
}

/// Nothing has to settle.
const SETTLE: Duration = Duration::from_millis(1);

impl World {
    /// Starts one with this config.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(config: &Value, access: &AccessLog) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        // Alone in its folder, which the data plane watches.
        let file = folder.path().join("config").join("ostler.yaml");
        std::fs::create_dir_all(folder.path().join("config"))?;
        std::fs::write(&file, config.to_string())?;
        let fleet = FleetName::parse("budget").context("a fleet's name")?;
        let options = Options::on_loopback(folder.path().join("state"), fleet, ConfigFrom::File(file));
        let options = Options { settle: SETTLE, access: access.clone(), ..options };
        let (stop, stopped) = oneshot::channel();
        let (told, started) = mpsc::channel();
        let control = Builder::new().name("control".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let dataplane = DataPlane::start(options).await?;
                // Whoever asked is still there.
                let _ = told.send((dataplane.mcp_addr(), Arc::clone(dataplane.admin())));
                let _ = stopped.await;
                dataplane.shutdown().await;
                Ok(())
            })
        })?;
        match started.recv() {
            Ok((to, admin)) => {
                Ok(Self { to, admin, stop: Some(stop), control: Some(control), _folder: folder })
            }
            Err(_) => match control.join() {
                Ok(Err(error)) => Err(error.context("the data plane does not start")),
                _ => anyhow::bail!("the data plane does not start"),
            },
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A panic was told of by the thread.
        let _ = self.control.take().map(JoinHandle::join);
    }
}
