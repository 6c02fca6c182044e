//! `ostler up`: control and one data plane as two real processes, and nothing left behind.
//!
//! Everything that can be wrong is found before anything is started. From then on there are three ends: a signal, which
//! stops the data plane first and control after it; the death of a child, which ends the other; and the death of `up`
//! itself, which both children notice by the end of their standard input.

mod announce;
mod args;
mod child;
mod content;
mod ground;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use ostler_config::{Validated, judge_text};
use ostler_control::api::types::{ApplyResult, NodeInfo, NodeList, NodeState};
use ostler_core::limits::{CLI_POLL, UP_START_DEADLINE};
use ostler_core::signal::{self, Hangups};
use ostler_core::supervisor::Supervisor;
use tokio::time::{sleep, timeout};

pub use args::UpArgs;

use crate::client::{Client, ClientError, exchange, query_value};
use crate::operator::{self, node_error};
use crate::output::{self, Outcome};
use announce::Announcement;
use child::{Child, Ended, flag};
use content::Content;
use ground::Ground;

const CONTROL: &str = "control";
const DATAPLANE: &str = "the data plane";

/// Runs until a signal, or until something fails.
///
/// # Errors
/// One sentence that names the object and the next step.
pub fn run(args: UpArgs) -> anyhow::Result<Outcome> {
    operator::run(async {
        let Some(content) = Content::find(args.config.as_deref())? else { return Ok(Outcome::Refused) };
        let ground = Ground::take(&args)?;
        let hangups = Hangups::listen().context("signals cannot be listened to")?;
        let mut up = Up { args, ground, content, hangups, processes: Processes::default() };
        let supervisor = Supervisor::from_env();
        let ended = tokio::select! {
            biased;
            stopped = signal::terminated() => stopped.context("signals cannot be listened to").map(|()| Outcome::Done),
            failed = up.serve(&supervisor) => Err(failed),
        };
        supervisor.stopping("ending the data plane, then control");
        up.processes.stop().await;
        match ended {
            // The process has said why, and one sentence is enough.
            Err(error) if matches!(error.downcast_ref(), Some(Ended::Explained { .. })) => {
                Ok(Outcome::Refused)
            }
            ended => ended,
        }
    })
}

struct Up {
    args: UpArgs,
    ground: Ground,
    content: Content,
    hangups: Hangups,
    processes: Processes,
}

#[derive(Default)]
struct Processes {
    control: Option<Child>,
    dataplane: Option<Child>,
}

/// What both processes bound.
#[derive(Debug, Clone, Copy)]
struct Addresses {
    api: SocketAddr,
    sync: SocketAddr,
    mcp: SocketAddr,
    admin: SocketAddr,
}

impl Processes {
    /// The data plane first: it finishes what is in flight while control still knows it. A second Ctrl-C waits for
    /// nothing.
    async fn stop(self) {
        let orderly = async {
            for process in [self.dataplane, self.control].into_iter().flatten() {
                process.stop().await;
            }
        };
        tokio::select! {
            () = orderly => {}
            // What is dropped here is killed.
            _ = signal::terminated() => {}
        }
    }
}

impl Up {
    /// Starts everything and stays until something fails: the only way to return.
    async fn serve(&mut self, supervisor: &Supervisor) -> anyhow::Error {
        let mut addresses = match self.start().await {
            Ok(addresses) => addresses,
            Err(error) => return error,
        };
        supervisor.ready(&format!("clients connect to {}", addresses.mcp));
        loop {
            let Processes { control: Some(control), dataplane: Some(dataplane) } = &mut self.processes else {
                return anyhow::anyhow!("a process is missing");
            };
            let file = tokio::select! {
                error = control.ended() => return error,
                error = dataplane.ended() => return error,
                () = self.hangups.next() => None,
                file = self.content.named_an_upstream() => Some(file),
                never = watched(supervisor, addresses) => match never {},
            };
            let Some(file) = file else {
                supervisor.reloading();
                [&*control, &*dataplane].into_iter().for_each(Child::hang_up);
                self.content.reload();
                supervisor.ready(&format!("clients connect to {}", addresses.mcp));
                continue;
            };
            addresses = match self.follow(file, addresses).await {
                Ok(addresses) => addresses,
                Err(error) => return error,
            };
        }
    }

    async fn start(&mut self) -> anyhow::Result<Addresses> {
        let followed = self.content.followed().map(Path::to_owned);
        let (api, sync) =
            self.start_control(self.args.control_listen, self.args.sync_listen, followed.as_deref()).await?;
        let client = self.client(api)?;
        self.offer_demo(&client).await?;
        let dataplane = Child::start(DATAPLANE, self.dataplane_flags(sync), &self.ground.dataplane)?;
        let listeners = self.processes.dataplane.insert(dataplane).listeners().await?;
        let addresses =
            Addresses { api, sync, mcp: address(&listeners, "mcp")?, admin: address(&listeners, "admin")? };
        self.settle_in(&client, addresses).await?;
        Ok(addresses)
    }

    /// The file names an upstream now. Control is started anew to follow it; the data plane serves on meanwhile.
    async fn follow(&mut self, file: PathBuf, before: Addresses) -> anyhow::Result<Addresses> {
        if let Some(control) = self.processes.control.take() {
            control.stop().await;
        }
        let (api, sync) = self.start_control(before.api, before.sync, Some(&file)).await?;
        self.content = Content::File(file);
        let addresses = Addresses { api, sync, ..before };
        self.settle_in(&self.client(api)?, addresses).await?;
        Ok(addresses)
    }

    async fn start_control(
        &mut self,
        api: SocketAddr,
        sync: SocketAddr,
        file: Option<&Path>,
    ) -> anyhow::Result<(SocketAddr, SocketAddr)> {
        let control = Child::start(CONTROL, self.control_flags(api, sync, file), &self.ground.control)?;
        let listeners = self.processes.control.insert(control).listeners().await?;
        Ok((address(&listeners, "api")?, address(&listeners, "sync")?))
    }

    /// Waits until the data plane serves what the fleet has, and says so.
    async fn settle_in(&mut self, client: &Client, addresses: Addresses) -> anyhow::Result<()> {
        let ready = timeout(UP_START_DEADLINE, self.ready(client, addresses.admin)).await;
        ready.unwrap_or_else(|_| {
            anyhow::bail!(
                "{DATAPLANE} did not take the config within {} s; see its log above",
                UP_START_DEADLINE.as_secs()
            )
        })?;
        let (text, config) = current_config(client, &self.args).await?;
        let mounts = content::mounts_of(&config);
        let announcement = Announcement {
            source: self.source(content::is_demo_config(&text)),
            mcp: addresses.mcp,
            mounts: &mounts,
            api: addresses.api,
            token_file: &self.ground.operator_token(),
            found_by_default: self.args.state_dir.is_none(),
        };
        output::print(&announcement.text())
    }

    async fn ready(&mut self, client: &Client, admin: SocketAddr) -> anyhow::Result<()> {
        let path = format!("/v1/fleets/{}/nodes", self.args.fleet);
        loop {
            let list = client.get::<NodeList>(&path).await?.value;
            let node = list.items.iter().find(|node| node.connected && node.node == self.args.node.as_str());
            match node.map(|node| (node.state, node)) {
                Some((NodeState::InSync | NodeState::Applied, _)) if is_ready(admin).await => return Ok(()),
                Some((NodeState::Rejected | NodeState::Ahead, node)) => {
                    return refused(node, is_ready(admin).await);
                }
                _ => {}
            }
            let Processes { control: Some(control), dataplane: Some(dataplane) } = &mut self.processes else {
                anyhow::bail!("a process is missing");
            };
            tokio::select! {
                error = control.ended() => return Err(error),
                error = dataplane.ended() => return Err(error),
                () = sleep(CLI_POLL) => {}
            }
        }
    }

    /// Gives the fleet the demo server where it has nothing else to serve.
    async fn offer_demo(&self, client: &Client) -> anyhow::Result<()> {
        let reason = match &self.content {
            Content::File(_) => return Ok(()),
            Content::StandIn(stand_in) => {
                format!("demo server: {} names no upstream", stand_in.path.display())
            }
            Content::Fleet => "demo server: no config yet".to_owned(),
        };
        let demo = content::demo_config()?;
        if matches!(self.content, Content::Fleet) {
            match current_config(client, &self.args).await {
                Ok((text, _)) if !content::is_demo_config(&text) || text == demo.as_bytes() => return Ok(()),
                Ok(_) => {}
                Err(CurrentError::None) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let path = format!("/v1/fleets/{}/config?message={}", self.args.fleet, query_value(&reason));
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/yaml"))]);
        client.ask::<ApplyResult>(Method::PUT, &path, headers, demo.into()).await?;
        Ok(())
    }

    fn source(&self, demo: bool) -> String {
        match &self.content {
            Content::File(path) => format!("it follows {}", path.display()),
            Content::StandIn(stand_in) => {
                let path = stand_in.path.display();
                format!("{path} names no upstream, so a demo server stands in until it does")
            }
            Content::Fleet if demo => "it serves a demo server, until you run `ostler apply`".to_owned(),
            Content::Fleet => format!("it serves what was applied to fleet {}", self.args.fleet),
        }
    }

    fn client(&self, api: SocketAddr) -> anyhow::Result<Client> {
        Client::of(api, &self.ground.operator_token())
    }

    fn control_flags(&self, api: SocketAddr, sync: SocketAddr, file: Option<&Path>) -> Vec<OsString> {
        let mut flags = vec![
            OsString::from("control"),
            flag("listen", api.to_string()),
            flag("sync-listen", sync.to_string()),
            flag("fleet", self.args.fleet.as_str()),
        ];
        flags.extend(file.map(|file| flag("config", file)));
        flags.extend(self.common_flags());
        flags
    }

    fn dataplane_flags(&self, sync: SocketAddr) -> Vec<OsString> {
        let args = &self.args;
        let mut flags = vec![
            OsString::from("dataplane"),
            flag("control", format!("http://{sync}")),
            flag("node-token-file", self.ground.node_token()),
            flag("listen", args.mcp_listen.to_string()),
            flag("admin-listen", args.admin_listen.to_string()),
            flag("fleet", args.fleet.as_str()),
            flag("node", args.node.as_str()),
            flag("settle", format!("{}ms", args.settle.as_millis())),
            flag("workers", args.workers.to_string()),
        ];
        flags.extend(args.metrics_listen.map(|addr| flag("metrics-listen", addr.to_string())));
        flags.extend(args.labels.iter().map(|label| flag("label", label)));
        flags.extend(args.allow_commands.iter().map(|glob| flag("allow-command", glob)));
        flags.extend(args.allow_listen.iter().map(|glob| flag("allow-listen", glob)));
        flags.extend(args.allow_refs.iter().map(|glob| flag("allow-ref", glob)));
        flags.extend(self.common_flags());
        flags
    }

    fn common_flags(&self) -> Vec<OsString> {
        let args = &self.args;
        let mut flags =
            vec![flag("log-format", args.log_format.to_string()), flag("log-level", &args.log_level)];
        flags.extend(args.allow_hosts.iter().map(|host| flag("allow-host", host)));
        flags
    }
}

/// Why the fleet's config is not known.
#[derive(Debug, thiserror::Error)]
enum CurrentError {
    #[error("the fleet has no config yet; make one with `ostler apply -f FILE`")]
    None,
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the fleet's config cannot be read by this build: {0}")]
    Unreadable(ostler_config::Report),
}

/// The fleet's config as it was written, and what it means.
async fn current_config(client: &Client, args: &UpArgs) -> Result<(Bytes, Validated), CurrentError> {
    let path = format!("/v1/fleets/{}/config", args.fleet);
    match client.send(Method::GET, &path, HeaderMap::new(), Bytes::new()).await {
        Ok(answer) => {
            let judged = judge_text(&answer.body).map_err(CurrentError::Unreadable)?;
            Ok((answer.body, judged.config))
        }
        Err(ClientError::Problem { problem, .. }) if problem.code == "no_config" => Err(CurrentError::None),
        Err(error) => Err(error.into()),
    }
}

/// The data plane refuses the config. What it served before, it serves on; a person is told in any case.
fn refused(node: &NodeInfo, serves_another: bool) -> anyhow::Result<()> {
    let reasons = node_error(node);
    anyhow::ensure!(serves_another, "the config was refused\n{reasons}");
    output::complain(&format!(
        "warning: the config was refused, and the one before it is served\n{reasons}\n"
    ));
    Ok(())
}

/// Gives the service manager its signs of life for as long as both processes give theirs.
async fn watched(supervisor: &Supervisor, addresses: Addresses) -> Infallible {
    let alive = || async {
        for (name, addr) in [(DATAPLANE, addresses.admin), (CONTROL, addresses.api)] {
            if !says_ok(addr, "/healthz").await {
                return Err(format!("{name} is not well"));
            }
        }
        Ok(())
    };
    supervisor.watch(alive).await;
    std::future::pending().await
}

async fn is_ready(admin: SocketAddr) -> bool {
    says_ok(admin, "/readyz").await
}

async fn says_ok(addr: SocketAddr, path: &'static str) -> bool {
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.uri_mut() = http::Uri::from_static(path);
    let Ok(host) = HeaderValue::from_str(&addr.to_string()) else { return false };
    request.headers_mut().insert(HOST, host);
    exchange(&addr.ip().to_string(), addr.port(), None, request)
        .await
        .is_ok_and(|answer| answer.status == StatusCode::OK)
}

fn address(listeners: &BTreeMap<String, SocketAddr>, role: &str) -> anyhow::Result<SocketAddr> {
    listeners.get(role).copied().with_context(|| format!("listen.json names no {role} address"))
}
