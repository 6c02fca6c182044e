//! Kill switches: what an operator has stopped, whatever the rules say.
//!
//! A set belongs to a fleet and is replaced whole. It has an order of its own, so that an older one never takes a newer one's
//! place; it is no part of a config and needs no version. What cannot be understood of a set stops everything.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// What is stopped in a fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillSet {
    /// Of the store that made it, and its place among the sets of that store.
    pub epoch: u64,
    pub counter: u64,
    pub switches: Vec<Switch>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    #[serde(flatten)]
    pub target: Target,
    /// Why, for people.
    #[serde(default)]
    pub reason: String,
    /// Who.
    #[serde(default)]
    pub by: String,
    #[serde(default)]
    pub since_unix_ms: u64,
}

/// What one stops.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "scope", rename_all = "snake_case")]
pub enum Target {
    /// All calls.
    Fleet,
    /// All calls to a mount, by whatever door.
    Mount { mount: String },
    /// Calls of a tool by its own name, on one mount or on all of them.
    Tool {
        tool: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mount: Option<String>,
    },
    /// All calls of a caller, by the governance identity.
    Identity { identity: String },
}

/// A set as each message asks it.
#[derive(Debug, Default)]
pub struct Killed {
    set: KillSet,
    fleet: Option<usize>,
    mounts: HashMap<Box<str>, usize>,
    identities: HashMap<Box<str>, usize>,
    /// By tool, with the mounts on which it is stopped; an empty name for all.
    tools: HashMap<Box<str>, HashMap<Box<str>, usize>>,
}

// === impl KillSet ===

impl KillSet {
    /// Whether it may take the other's place.
    #[must_use]
    pub fn is_after(&self, other: &Self) -> bool {
        (self.epoch, self.counter) > (other.epoch, other.counter)
    }

    /// The targets of this set that the other does not have.
    pub fn beyond<'s>(&'s self, other: &Self) -> impl Iterator<Item = &'s Switch> {
        let known: HashSet<_> = other.switches.iter().map(|switch| switch.target.clone()).collect();
        self.switches.iter().filter(move |switch| !known.contains(&switch.target))
    }
}

// === impl Target ===

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fleet => f.write_str("the whole fleet"),
            Self::Mount { mount } => write!(f, "mount {mount}"),
            Self::Tool { tool, mount: Some(mount) } => write!(f, "tool {tool} of mount {mount}"),
            Self::Tool { tool, mount: None } => write!(f, "tool {tool} of every mount"),
            Self::Identity { identity } => write!(f, "identity {identity}"),
        }
    }
}

// === impl Killed ===

impl Killed {
    #[must_use]
    pub fn new(set: KillSet) -> Self {
        let mut killed = Self::default();
        for (index, switch) in set.switches.iter().enumerate() {
            match &switch.target {
                Target::Fleet => killed.fleet = Some(index),
                Target::Mount { mount } => {
                    killed.mounts.insert(mount.as_str().into(), index);
                }
                Target::Identity { identity } => {
                    killed.identities.insert(identity.as_str().into(), index);
                }
                Target::Tool { tool, mount } => {
                    let on = killed.tools.entry(tool.as_str().into()).or_default();
                    on.insert(mount.as_deref().unwrap_or_default().into(), index);
                }
            }
        }
        Self { set, ..killed }
    }

    /// Everything, because a set cannot be read.
    #[must_use]
    pub fn everything(why: &str) -> Self {
        let switch =
            Switch { target: Target::Fleet, reason: why.to_owned(), by: String::new(), since_unix_ms: 0 };
        Self::new(KillSet { epoch: 0, counter: 0, switches: vec![switch] })
    }

    #[must_use]
    pub fn set(&self) -> &KillSet {
        &self.set
    }

    /// The switch that stops a message to a mount by a caller; `tool` where the message calls one.
    #[must_use]
    pub fn stops(&self, mount: &str, tool: Option<&str>, identity: Option<&str>) -> Option<&Switch> {
        if self.set.switches.is_empty() {
            return None;
        }
        let of_identity = || identity.and_then(|identity| self.identities.get(identity));
        let of_tool = || {
            let on = self.tools.get(tool?)?;
            on.get(mount).or_else(|| on.get(""))
        };
        let index =
            self.fleet.as_ref().or_else(|| self.mounts.get(mount)).or_else(of_identity).or_else(of_tool)?;
        self.set.switches.get(*index)
    }

    /// Whether some tool is stopped, so that a call must say of which it is.
    #[must_use]
    pub fn stops_tools(&self) -> bool {
        !self.tools.is_empty()
    }

    /// The switch that stops a caller by name, whatever they ask for.
    #[must_use]
    pub fn stops_identity(&self, identity: Option<&str>) -> Option<&Switch> {
        self.set.switches.get(*self.identities.get(identity?)?)
    }

    /// Whether some caller is stopped by name.
    #[must_use]
    pub fn stops_identities(&self) -> bool {
        !self.identities.is_empty()
    }

    /// The switch that stops all of a mount.
    #[must_use]
    pub fn stops_mount(&self, mount: &str) -> Option<&Switch> {
        let index = self.fleet.as_ref().or_else(|| self.mounts.get(mount))?;
        self.set.switches.get(*index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn killed(targets: &[Target]) -> Killed {
        let switch = |target: &Target| Switch {
            target: target.clone(),
            reason: String::new(),
            by: String::new(),
            since_unix_ms: 0,
        };
        Killed::new(KillSet { epoch: 1, counter: 1, switches: targets.iter().map(switch).collect() })
    }

    #[test]
    fn each_scope_stops_what_it_names_and_nothing_beside_it() {
        let tool = |mount: Option<&str>| Target::Tool { tool: "rm".into(), mount: mount.map(Into::into) };
        for (target, stopped) in [
            (Target::Fleet, [true, true, true, true]),
            (Target::Mount { mount: "files".into() }, [true, true, false, false]),
            (tool(Some("files")), [true, false, false, false]),
            (tool(None), [true, false, true, false]),
            (Target::Identity { identity: "ci".into() }, [true, false, false, true]),
        ] {
            let killed = killed(std::slice::from_ref(&target));
            let asked = [
                killed.stops("files", Some("rm"), Some("ci")),
                killed.stops("files", None, None),
                killed.stops("other", Some("rm"), Some("dev")),
                killed.stops("other", Some("ls"), Some("ci")),
            ];
            assert_eq!(asked.map(|switch| switch.is_some()), stopped, "{target}");
            assert_eq!(
                killed.stops_mount("files").is_some(),
                matches!(target, Target::Fleet | Target::Mount { .. }),
                "{target}"
            );
        }
        assert!(killed(&[]).stops("files", Some("rm"), None).is_none());
    }

    #[test]
    fn a_set_follows_by_epoch_and_counter_alone() {
        let set = |epoch, counter| KillSet { epoch, counter, switches: Vec::new() };
        assert!(set(1, 2).is_after(&set(1, 1)) && set(2, 1).is_after(&set(1, 9)));
        assert!(!set(1, 1).is_after(&set(1, 1)) && !set(1, 9).is_after(&set(2, 1)));
    }

    #[test]
    fn a_set_reads_back_as_it_was_written() {
        let set = killed(&[Target::Fleet, Target::Tool { tool: "rm".into(), mount: None }]).set.clone();
        let text = serde_json::to_string(&set).unwrap();
        assert!(text.contains(r#"{"scope":"tool","tool":"rm","reason""#), "{text}");
        assert_eq!(serde_json::from_str::<KillSet>(&text).unwrap(), set);
        assert!(serde_json::from_str::<KillSet>(&text.replace("fleet", "planet")).is_err());
    }
}
