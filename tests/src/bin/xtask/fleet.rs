//! Control and one data plane that follows it, as release processes on loopback.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use ostler_tests::load::target::Target;
use tokio::sync::Mutex;

use super::processes::{self, Running};

const LOOPBACK: &str = "127.0.0.1:0";

/// They end with this.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) control: Arc<Mutex<Option<Running>>>,
    pub(crate) dataplane: Running,
    pub(crate) target: Target,
    sync: SocketAddr,
}

impl Fleet {
    /// Starts both, with their state below that folder.
    pub(crate) async fn start(dir: &Path) -> anyhow::Result<Self> {
        let (control_dir, dataplane_dir) = (dir.join("control"), dir.join("dataplane"));
        let control = start_control(&control_dir, LOOPBACK, LOOPBACK).await?;
        let sync_addr = control.addr("sync")?;
        let sync = format!("http://{sync_addr}");
        let node_token = control_dir.join("node.token").display().to_string();
        let child = processes::release("fake-mcp").display().to_string();
        let arguments = [
            "--control",
            &sync,
            "--node-token-file",
            &node_token,
            "--node",
            "a",
            "--listen",
            LOOPBACK,
            "--admin-listen",
            LOOPBACK,
            "--allow-listen",
            "127.0.0.1:*",
            "--allow-command",
            &child,
        ];
        let dataplane = processes::start("ostler-dataplane", &dataplane_dir, &arguments).await?;
        let target = Target {
            mcp: dataplane.addr("mcp")?,
            admin: dataplane.addr("admin")?,
            api: control.addr("api")?,
            control_dir,
            dataplane_dir,
        };
        Ok(Self { control: Arc::new(Mutex::new(Some(control))), dataplane, target, sync: sync_addr })
    }

    /// Kills control.
    pub(crate) async fn kill_control(&self) {
        // Dropped, it is killed.
        *self.control.lock().await = None;
    }

    /// Starts control where it was, after it was killed; returns when it answers.
    ///
    /// # Panics
    /// When it does not come back.
    #[expect(clippy::expect_used, reason = "a run without it measures nothing")]
    pub(crate) async fn start_control_again(&self) {
        let (api, sync) = (self.target.api.to_string(), self.sync.to_string());
        let control = start_control(&self.target.control_dir, &api, &sync).await;
        *self.control.lock().await = Some(control.expect("control comes back"));
    }

    /// Kills control and starts it again where it was; returns when it answers.
    pub(crate) fn restart_control(&self) -> impl FnMut() -> BoxFuture<'static, ()> + use<> {
        let (control, dir) = (Arc::clone(&self.control), self.target.control_dir.clone());
        move || {
            let (control, dir) = (Arc::clone(&control), dir.clone());
            Box::pin(async move {
                let mut control = control.lock().await;
                let addr =
                    |role| control.as_ref().map(|running| running.addr(role).map(|addr| addr.to_string()));
                let addrs = addr("api").zip(addr("sync"));
                // Dropped, it is killed.
                *control = None;
                if let Some((Ok(api), Ok(sync))) = addrs {
                    *control = start_control(&dir, &api, &sync).await.ok();
                }
                assert!(control.is_some(), "control does not come back");
            })
        }
    }
}

async fn start_control(dir: &Path, api: &str, sync: &str) -> anyhow::Result<Running> {
    processes::start("ostler", dir, &["control", "--listen", api, "--sync-listen", sync]).await
}
