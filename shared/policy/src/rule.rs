//! One rule: what it matches, and what becomes of it.

use ostler_core::limits::POLICY_ITEMS_MAX;
use ostler_core::name::ResourceName;

use crate::cel::{self, Expression, Outcome};
use crate::fields::{Field, Test, Untestable};
use crate::json::{Node, View};
use crate::message::{Arguments, Found, Message, TargetKind, down};
use crate::pattern::Patterns;

/// A rule of a policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Unique among the rules that have one.
    pub name: Option<Box<str>>,
    pub matches: Match,
    pub action: Action,
    pub feedback: Feedback,
}

/// What a message must be like. All of what is given must hold; nothing given matches every call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Match {
    /// What the message acts on.
    pub target: Option<(TargetKind, Patterns)>,
    /// Without it the rule is about calls alone.
    pub methods: Option<Patterns>,
    /// The governance identity; anonymous callers have none, and match no pattern.
    pub identity: Option<Patterns>,
    /// One of them; never empty.
    pub upstreams: Option<Box<[ResourceName]>>,
    /// The config's own, so that a rule of another environment is no rule here.
    pub environment: Option<Box<str>>,
    /// Annotations of a tool, by the names of [`Annotations::NAMES`](crate::message::Annotations::NAMES).
    pub annotations: Box<[(&'static str, bool)]>,
    pub arguments: Box<[Field]>,
    pub claims: Box<[Field]>,
    pub when: Option<Expression>,
}

/// What becomes of a message that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Allow,
    Deny,
    /// Noted as what would have been denied. The rules below it go on judging, so that trying a rule out opens nothing.
    DryRun,
}

/// What a denied caller, which may be a model, is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Feedback {
    pub message: Option<Box<str>>,
    /// What to do instead.
    pub suggestion: Option<Box<str>>,
}

/// How a rule stands to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Matches,
    /// The part of `match` that does not hold.
    Differs(&'static str),
    /// It depends on arguments that are not known.
    Depends,
    /// It cannot be said, and so the message is denied: why, in a sentence.
    Fails(String),
}

// === impl Action ===

impl Action {
    pub const ALL: [Self; 3] = [Self::Allow, Self::Deny, Self::DryRun];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::DryRun => "dry_run",
        }
    }
}

// === impl Match ===

impl Match {
    /// What is cheap is looked at first; one part that does not hold outweighs others that cannot be judged.
    pub fn judge(&self, message: &Message<'_>) -> Verdict {
        if let Some(part) = self.differs(message) {
            return Verdict::Differs(part);
        }
        let claims = message.caller.claims().map_or(Node::Raw("{}"), Node::Object);
        let claim = |field: &Field| down(claims, field.path.steps());
        let mut verdict = Verdict::Matches;
        let fields = self.claims.iter().map(|field| ("claims", field, claim(field)));
        let arguments = self.arguments.iter();
        let arguments = arguments.map(|field| ("arguments", field, message.arguments.find(&field.path)));
        for (part, field, found) in fields.chain(arguments) {
            match judge_field(part, field, found, message.arguments) {
                Verdict::Matches => {}
                Verdict::Differs(part) => return Verdict::Differs(part),
                undecided => verdict = worse(verdict, undecided),
            }
        }
        let said = self.when.as_ref().map(|when| cel::evaluate(when, Some(message)));
        match said {
            None | Some(Outcome::True) => verdict,
            Some(Outcome::False) => Verdict::Differs("when"),
            Some(Outcome::Unknown) => worse(verdict, Verdict::Depends),
            Some(Outcome::Error(why)) => {
                worse(verdict, Verdict::Fails(format!("`when` cannot be evaluated: {why}")))
            }
        }
    }

    /// Whether it could match a message like this that acts on something else of its kind, and is made with something else.
    pub(crate) fn bears_on(&self, message: &Message<'_>) -> bool {
        let is_of_kind = |(kind, _): &(TargetKind, Patterns)| {
            message.target.named().is_some_and(|(found, _)| found == *kind)
        };
        self.target.as_ref().is_none_or(is_of_kind)
            && self.method_differs(message).is_none()
            && self.caller_or_place_differs(message).is_none()
    }

    /// The first part that does not hold, of those that are plain names.
    fn differs(&self, message: &Message<'_>) -> Option<&'static str> {
        if let Some(part) = self.method_differs(message) {
            return Some(part);
        }
        if let Some((kind, patterns)) = &self.target {
            let named = message.target.named().filter(|(found, _)| found == kind);
            if !named.is_some_and(|(_, name)| patterns.matches(name)) {
                return Some(kind.as_str());
            }
        }
        if let Some(part) = self.caller_or_place_differs(message) {
            return Some(part);
        }
        if !self.annotations.is_empty() {
            let is_tool = message.target.named().is_some_and(|(kind, _)| kind == TargetKind::Tool);
            let holds = |(name, wanted): &(&str, bool)| message.annotations.get(name) == Some(*wanted);
            if !is_tool || !self.annotations.iter().all(holds) {
                return Some("annotations");
            }
        }
        None
    }

    fn method_differs(&self, message: &Message<'_>) -> Option<&'static str> {
        let holds = match &self.methods {
            Some(methods) => methods.matches(message.method),
            None => message.is_call,
        };
        (!holds).then_some("method")
    }

    fn caller_or_place_differs(&self, message: &Message<'_>) -> Option<&'static str> {
        if let Some(upstreams) = &self.upstreams
            && !message.upstream.is_some_and(|found| upstreams.iter().any(|name| name.as_str() == found))
        {
            return Some("upstreams");
        }
        if let Some(identity) = &self.identity
            && !message.caller.identity().is_some_and(|found| identity.matches(found))
        {
            return Some("identity");
        }
        None
    }
}

fn judge_field(part: &'static str, field: &Field, found: Found<'_>, arguments: Arguments<'_>) -> Verdict {
    let path = field.path.as_str();
    let fails = |why: Untestable| Verdict::Fails(format!("`{part}.{path}` {why}"));
    let node = match found {
        Found::Unknown => return Verdict::Depends,
        Found::Untestable(why) => return fails(why),
        Found::Absent => {
            let is_meant = field.tests.iter().all(|test| *test == Test::Exists(false));
            return if is_meant { Verdict::Matches } else { Verdict::Differs(part) };
        }
        Found::There(node) => node,
    };
    if let Err(why) = arguments.charge(node.len()) {
        return fails(why);
    }
    let Some(view) = node.view() else { return fails("cannot be read") };
    let has_item = |part: &str| {
        let items = node.items(POLICY_ITEMS_MAX).map_err(|_| "has more items than are looked at")?;
        let is_it = |item: Node<'_>| matches!(item.view(), Some(View::Text(text)) if text == part);
        Ok(items.unwrap_or_default().into_iter().any(is_it))
    };
    let mut verdict = Verdict::Matches;
    for test in &field.tests {
        match arguments.charge(test.price(node.len())).and_then(|()| test.holds(&view, has_item)) {
            Ok(true) => {}
            Ok(false) => return Verdict::Differs(part),
            Err(why) => verdict = fails(why),
        }
    }
    verdict
}

/// Of two that do not decide by themselves. What depends on arguments may not match at all with some of them, whatever cannot be evaluated beside it.
fn worse(one: Verdict, other: Verdict) -> Verdict {
    let rank = |verdict: &Verdict| match verdict {
        Verdict::Matches => 0,
        Verdict::Fails(_) => 1,
        Verdict::Depends => 2,
        Verdict::Differs(_) => 3,
    };
    if rank(&other) > rank(&one) { other } else { one }
}
