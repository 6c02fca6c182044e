//! What a decision costs: processor time of the gate's own question, from a message that has been read to leave to send it, with its permit given back.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use ostler_config::judge_text;
use ostler_dataplane::govern::{Asking, Governance, Offered, Way};
use ostler_dataplane::pipeline::RequestIds;
use ostler_mcp::Envelope;
use ostler_policy::{Caller, Credential};
use serde_json::{Map, Value, json};

use crate::support::proc::thread_cpu;

/// Rules as an operator writes them, and calls that they are asked about.
pub struct Case {
    pub name: &'static str,
    pub governance: Arc<Governance>,
    /// Messages, and whether they are let through.
    calls: Vec<(Bytes, bool)>,
}

/// How often, and what it came to.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub blocks: usize,
    pub calls_of_a_block: usize,
}

/// Of one call.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Of the block in the middle.
    pub median: Duration,
    pub least: Duration,
}

/// Five rules, one of them with an expression. Most calls pass by all of them.
#[must_use]
pub fn five_rules() -> Case {
    let policy = json!({"default": "allow", "rules": [
        {"name": "no-deletions", "match": {"tool": ["delete_*", "*_delete"], "upstreams": ["bank"]}, "action": "deny"},
        {"name": "guests-look", "match": {"identity": "header.x-agent:guest-*", "annotations": {"readOnlyHint": false}}, "action": "deny"},
        {"name": "large", "match": {"tool": "pay", "arguments": {"payment.amount": {"gt": 100}}}, "action": "deny"},
        {"name": "abroad", "match": {"tool": "pay", "when":
            "arguments.payment.currency != 'EUR' || !arguments.payment.iban.startsWith('DE') || 'contractor' in claims.groups"}, "action": "deny"},
        {"name": "nightly", "match": {"claims": {"job": {"eq": "nightly"}}, "tool": "report_*"}, "action": "deny"},
    ]});
    let pay = |amount: u32, currency: &str, iban: &str| json!({"payment": {"amount": amount, "currency": currency, "iban": iban}, "reference": "invoice 4711", "urgent": false});
    let calls = vec![
        (call("pay", &pay(80, "EUR", "DE02120300000000202051")), true),
        (call("pay", &pay(800, "EUR", "DE02120300000000202051")), false),
        (call("pay", &pay(80, "EUR", "FR1420041010050500013M02606")), false),
        (call("list_accounts", &json!({"limit": 20})), true),
        (call("delete_account", &json!({"id": "a-17"})), false),
        (call("pay", &pay(20, "EUR", "DE02100500000054540402")), true),
    ];
    Case::new("5 rules, one of them an expression", &policy, calls)
}

/// So many rules, each of another tool's name; called are the first, the last, one between and one that has none.
#[must_use]
pub fn by_name(name: &'static str, rules: usize) -> Case {
    let rule =
        |index: usize| json!({"match": {"tool": tool(index), "upstreams": ["bank"]}, "action": "deny"});
    let policy = json!({"rules": (0..rules).map(rule).collect::<Vec<_>>()});
    let arguments = json!({"limit": 20, "path": "/srv/data"});
    let calls = [0, rules / 2, rules - 1].map(|index| (call(&tool(index), &arguments), false));
    let calls = calls.into_iter().chain([(call("list_accounts", &arguments), true)]).collect();
    Case::new(name, &policy, calls)
}

/// No rules at all: what asking costs by itself.
#[must_use]
pub fn no_policy() -> Case {
    let calls = vec![(call("list_accounts", &json!({"limit": 20})), true)];
    Case::new("no policy", &Value::Null, calls)
}

fn tool(index: usize) -> String {
    let mut name = String::new();
    // Writing to a String cannot fail.
    let _ = write!(name, "service_{:02}_operation_{index:04}", index % 17);
    name
}

fn call(tool: &str, arguments: &Value) -> Bytes {
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}});
    let params = json!({"name": tool, "arguments": arguments, "_meta": meta});
    json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}).to_string().into()
}

fn caller() -> Caller {
    let claims: Map<String, Value> = [
        ("groups".to_owned(), json!(["eng", "payments"])),
        ("email".to_owned(), json!("agent-7@bank.example")),
        ("job".to_owned(), json!("checkout")),
    ]
    .into_iter()
    .collect();
    let token = Credential::Token {
        issuer: "https://idp.bank.example".into(),
        subject: "agent-7".into(),
        claims: claims.into(),
    };
    Caller::new(token, Some("header.x-agent:agent-7".into()))
}

// === impl Case ===

impl Case {
    /// The policy goes the way of every config.
    fn new(name: &'static str, policy: &Value, calls: Vec<(Bytes, bool)>) -> Self {
        let mut config = json!({
            "version": 1,
            "upstreams": {"bank": {"http": {"url": "http://127.0.0.1:1/mcp"}}},
            "identity": {"sources": [{"header": "x-agent"}]},
        });
        if !policy.is_null() {
            config["policy"] = policy.clone();
        }
        let judged = judge_text(config.to_string().as_bytes()).expect("a config");
        let policy = judged.config.policy().cloned();
        Self { name, governance: Arc::new(Governance { policy, ..Governance::default() }), calls }
    }

    /// Asks about each of its calls in turn, block after block.
    ///
    /// # Panics
    /// When a call is decided otherwise than it should be.
    #[must_use]
    pub fn measure(&self, plan: Plan) -> Cost {
        let (ids, offered, caller) = (RequestIds::from_entropy(), Offered::default(), caller());
        let way = Way { mount: "bank", upstream: Some("bank"), offered: Some(&offered) };
        let messages: Vec<_> = self
            .calls
            .iter()
            .map(|(body, is_allowed)| (body, Envelope::scan(body).expect("a message"), *is_allowed))
            .collect();
        let mut blocks: Vec<_> = (0..=plan.blocks)
            .map(|_| {
                let before = thread_cpu();
                for (body, envelope, is_allowed) in messages.iter().cycle().take(plan.calls_of_a_block) {
                    let asking = Asking {
                        caller: &caller,
                        request_id: ids.next(),
                        way,
                        envelope: Some(envelope),
                        body,
                        session: Some("1f0c9bd2a8e34d6f"),
                    };
                    // Nothing is waited for where no record is written.
                    let asked = self.governance.ask(asking).now_or_never().expect("at once");
                    assert_eq!(asked.is_ok(), *is_allowed, "{}", self.name);
                }
                let took = thread_cpu().saturating_sub(before);
                took / u32::try_from(plan.calls_of_a_block).expect("fewer calls")
            })
            // The first warms caches.
            .skip(1)
            .collect();
        blocks.sort();
        Cost { median: blocks[blocks.len() / 2], least: blocks[0] }
    }
}
