//! A bundle of many mounts, some of them dead: half of these refuse connections, half take requests and never answer. Its list
//! must have every tool of the living ones once, in their order, and name the dead ones; and a call must cost the same whatever
//! the bundle's size: one request to one member, and no more of the data plane's processor than in a bundle of two.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::member::{MemberServer, Script};
use crate::support::proc;
use crate::support::world::{modern, standalone};

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub mounts: usize,
    pub dead: usize,
    /// Of all living mounts together.
    pub tools: usize,
    /// Tools on a page of a member's own list.
    pub page: usize,
    pub calls: usize,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Tally {
    /// Pages of the bundle's list.
    pub pages: usize,
    /// Pages that members were asked for.
    pub member_pages: usize,
    pub tools: usize,
    /// Tools that are missing, doubled, or out of order.
    pub wrong: Vec<String>,
    /// Dead mounts that were not named, and living ones that were.
    pub unmarked: Vec<String>,
    /// To the first page, and to the last.
    pub first: Duration,
    pub whole: Duration,
    pub called: usize,
    /// Requests that members were sent for the calls.
    pub requests: usize,
    /// Calls that were not answered by their member.
    pub misled: Vec<String>,
    /// Processor time of the data plane for a call of the same tool, in the bundle of all and in one of two of its mounts; nothing
    /// where the system does not say.
    pub cpu: Option<[Duration; 2]>,
}

/// Blocks of calls whose processor time is read, of each bundle in turn. The least of each counts: what else the machine does can
/// only add.
const BLOCKS: usize = 20;
const CALLS_OF_A_BLOCK: u32 = 30;

/// Runs it in this process.
///
/// # Panics
/// When the world around it fails.
pub async fn run(dir: &Path, plan: Plan) -> Tally {
    let each = plan.tools / (plan.mounts - plan.dead);
    let (mut servers, mut upstreams, mut members) = (Vec::new(), serde_json::Map::new(), Vec::new());
    let (mut expected, mut dead) = (Vec::new(), Vec::new());
    for number in 0..plan.mounts {
        let name = format!("m{number}");
        // Spread over the list, so that each has living neighbours.
        let is_dead = number * plan.dead % plan.mounts < plan.dead;
        let tools: Vec<_> = (0..each).map(|tool| format!("tool-{tool}")).collect();
        let script = Script { page: plan.page, ..Script::of(number % 2 == 0, &[]) };
        let server = MemberServer::start(&name, Script { tools: tools.clone(), ..script }).await;
        upstreams.insert(name.clone(), json!({"http": {"url": server.url()}}));
        match is_dead {
            true if dead.len() % 2 == 0 => drop(server),
            true => {
                server.hold(true);
                servers.push(server);
            }
            false => {
                expected.extend(tools.iter().map(|tool| format!("{name}__{tool}")));
                servers.push(server);
            }
        }
        if is_dead {
            dead.push(name.clone());
        }
        members.push(name);
    }
    let living: Vec<_> = members.iter().filter(|name| !dead.contains(name)).take(2).cloned().collect();
    let bundles = json!({"all": {"mounts": members}, "two": {"mounts": living}});
    let config = json!({"version": 1, "upstreams": upstreams, "bundles": bundles});
    let dataplane = standalone(dir, &config.to_string()).await;
    let addr = dataplane.mcp_addr();
    let mut tally = Tally::default();
    let started = Instant::now();
    let (mut params, mut found, mut missing) = (json!({}), Vec::new(), Value::Null);
    loop {
        let page = modern(addr, "all", 1, "tools/list", params).send().await.json();
        let result = &page["result"];
        let Some(tools) = result["tools"].as_array() else {
            tally.wrong.push(page.to_string());
            break;
        };
        tally.pages += 1;
        if tally.pages == 1 {
            tally.first = started.elapsed();
        }
        found.extend(tools.iter().map(|tool| tool["name"].as_str().unwrap_or_default().to_owned()));
        missing = result["_meta"]["ostler/missing"].clone();
        match result["nextCursor"].as_str() {
            Some(cursor) => params = json!({"cursor": cursor}),
            None => break,
        }
    }
    tally.whole = started.elapsed();
    tally.tools = found.len();
    tally.member_pages = servers.iter().map(|server| server.seen("tools/list").len()).sum();
    if found != expected {
        let differs = found.iter().zip(&expected).find(|(found, expected)| found != expected);
        tally.wrong.push(format!(
            "{} of {} tools; first difference: {differs:?}",
            found.len(),
            expected.len()
        ));
    }
    let named: Vec<_> =
        missing.as_array().into_iter().flatten().filter_map(|it| it["mount"].as_str()).collect();
    if named != dead {
        tally.unmarked.push(format!("named {named:?}, dead {dead:?}"));
    }
    // Legacy members have a session from now on, which is none of a call's.
    let callable: Vec<_> = expected.iter().step_by(each).cloned().collect();
    for name in &callable {
        modern(addr, "all", 1, "tools/call", json!({"name": name})).send().await;
    }
    let before: usize = servers.iter().map(MemberServer::requests).sum();
    for number in 0..plan.calls {
        let Some(name) = expected.get(number * 7919 % expected.len().max(1)) else { break };
        let answer = modern(addr, "all", 1, "tools/call", json!({"name": name})).send().await.json();
        let text = answer["result"]["content"][0]["text"].as_str().unwrap_or("{}");
        let told: Value = serde_json::from_str(text).unwrap_or_default();
        let by = format!(
            "{}__{}",
            told["server"].as_str().unwrap_or_default(),
            told["name"].as_str().unwrap_or_default()
        );
        if by != *name {
            tally.misled.push(format!("{name}: {answer}"));
        }
        tally.called += 1;
    }
    tally.requests = servers.iter().map(MemberServer::requests).sum::<usize>() - before;
    if let Some(name) = expected.first() {
        tally.cpu = cpu_of_a_call(addr, name).await;
    }
    dataplane.shutdown().await;
    tally
}

async fn cpu_of_a_call(addr: SocketAddr, tool: &str) -> Option<[Duration; 2]> {
    let worker = || proc::first_worker(std::process::id());
    let mut least = [Duration::MAX; 2];
    for _ in 0..BLOCKS {
        for (bundle, least) in ["all", "two"].into_iter().zip(&mut least) {
            let before = worker()?.ran;
            for _ in 0..CALLS_OF_A_BLOCK {
                modern(addr, bundle, 1, "tools/call", json!({"name": tool})).send().await;
            }
            *least = (*least).min(worker()?.ran.saturating_sub(before) / CALLS_OF_A_BLOCK);
        }
    }
    Some(least)
}
