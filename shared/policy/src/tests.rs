//! What rules together say of a message: order, defaults, trials, lists, and what none of it may cost.

use std::sync::{Arc, LazyLock};

use serde_json::json;

use super::*;
use crate::fields::{Field, Path, Regex, Scalar, Test};
use crate::pattern::{Pattern, Patterns};

fn patterns(texts: &[&str]) -> Option<Patterns> {
    Patterns::new(texts.iter().map(|text| Pattern::new(text)).collect())
}

fn on_tools(tools: &[&str]) -> Match {
    Match { target: patterns(tools).map(|patterns| (TargetKind::Tool, patterns)), ..Match::default() }
}

fn rule(matches: Match, action: Action) -> Rule {
    Rule { name: None, matches, action, feedback: Feedback::default() }
}

fn with_field(path: &str, test: Test) -> Match {
    let field = Field { path: Path::new(path), tests: [test].into() };
    Match { arguments: [field].into(), ..Match::default() }
}

fn when(source: &str) -> Match {
    Match { when: Some(Expression::new(source).unwrap()), ..Match::default() }
}

static NOBODY: LazyLock<Caller> = LazyLock::new(Caller::default);

fn message<'a>(tool: &'a str, arguments: Arguments<'a>) -> Message<'a> {
    Message {
        method: "tools/call",
        is_call: true,
        target: Target::Tool(tool),
        arguments,
        annotations: Annotations::default(),
        caller: &NOBODY,
        mount: "m",
        upstream: Some("u"),
        environment: None,
    }
}

fn policy(rules: Vec<Rule>) -> Policy {
    Policy::new(rules, Settings::default())
}

/// Whether a call is allowed, and the place of the rule that decided.
fn decided(policy: &Policy, tool: &str, arguments: &str) -> (bool, Option<usize>) {
    let known = Known::new(Some(arguments));
    let decision = policy.judge(&message(tool, Arguments::Known(&known)));
    (decision.is_allowed, decision.rule().map(|rule| rule.index))
}

fn is_shown(policy: &Policy, tool: &str) -> bool {
    policy.could_allow(&message(tool, Arguments::Unknown))
}

#[test]
fn the_first_rule_that_matches_decides_whether_it_is_found_by_name_or_by_pattern() {
    let mut random = fastrand::Rng::with_seed(7);
    let names = ["a", "b", "ab", "abc", "c"];
    let shapes = ["a", "b", "ab", "a*", "*c", "?", "*", "abc"];
    for _ in 0..400 {
        let rules: Vec<_> = (0..random.usize(..12))
            .map(|_| {
                let of: Vec<_> =
                    (0..random.usize(1..4)).map(|_| shapes[random.usize(..shapes.len())]).collect();
                let action = [Action::Allow, Action::Deny, Action::DryRun][random.usize(..3)];
                let target = if random.bool() { on_tools(&of) } else { Match::default() };
                let target = if random.u8(..5) == 0 { when("tool.startsWith('a')") } else { target };
                rule(target, action)
            })
            .collect();
        let policy = policy(rules.clone());
        for name in names {
            let known = Known::new(None);
            let message = message(name, Arguments::Known(&known));
            let matches = |rule: &Rule| rule.matches.judge(&message) == Verdict::Matches;
            let expected = rules.iter().position(|rule| rule.action != Action::DryRun && matches(rule));
            let tried: Vec<_> = rules
                .iter()
                .enumerate()
                .take(expected.unwrap_or(usize::MAX))
                .filter(|(_, rule)| rule.action == Action::DryRun && matches(rule))
                .map(|(place, _)| place)
                .collect();
            let decision = policy.judge(&message);
            assert_eq!(decision.rule().map(|rule| rule.index), expected, "{name}: {rules:?}");
            assert_eq!(
                decision.is_allowed,
                expected.is_none_or(|place| rules[place].action == Action::Allow)
            );
            let noted: Vec<_> = decision.would_deny.iter().map(|rule| rule.index).collect();
            assert_eq!(noted, tried, "{name}: {rules:?}");
            assert_eq!(decision.is_dry_run(), decision.is_allowed && !tried.is_empty());
            // The explanation is of the same decision, and ends with the rule that decided.
            let explained = policy.explain(&message);
            assert_eq!(explained.decision.rule().map(|rule| rule.index), expected);
            assert_eq!(explained.steps.len(), expected.map_or(rules.len(), |place| place + 1));
            // No expression here depends on arguments, so what is shown is what is allowed.
            let unknown = Message { arguments: Arguments::Unknown, ..message };
            assert_eq!(policy.could_allow(&unknown), decision.is_allowed, "{name}: {rules:?}");
        }
    }
}

#[test]
fn a_pattern_matches_as_it_is_written() {
    for (pattern, text, is_match) in [
        ("?", "a", true),
        ("?", "ab", false),
        ("a?c", "abc", true),
        ("a*", "a", true),
        ("*_delete", "repo_delete", true),
        ("*_delete", "repo_Delete", false),
        ("pay", "payment", false),
    ] {
        assert_eq!(Pattern::new(pattern).matches(text), is_match, "{pattern} {text}");
        let by_pattern = policy(vec![rule(on_tools(&[pattern]), Action::Deny)]);
        assert_eq!(decided(&by_pattern, text, "{}").0, !is_match, "{pattern} {text}");
    }
}

#[test]
fn what_no_rule_matches_is_decided_by_the_default_and_destructive_tools_by_their_flag() {
    let settings = |allows_by_default, flag_destructive| {
        Policy::new(Vec::new(), Settings { allows_by_default, flag_destructive, dry_run: false })
    };
    let known = Known::new(None);
    let harmless = Annotations { read_only: true, ..Annotations::default() };
    for (policy, annotations, is_allowed, is_flagged) in [
        (settings(true, None), Annotations::default(), true, false),
        (settings(false, None), Annotations::default(), false, false),
        (settings(true, Some(Flag::Log)), Annotations::default(), true, true),
        (settings(true, Some(Flag::Log)), harmless, true, false),
        (settings(true, Some(Flag::Deny)), Annotations::default(), false, false),
        (settings(true, Some(Flag::Deny)), harmless, true, false),
    ] {
        let asked = Message { annotations, ..message("t", Arguments::Known(&known)) };
        let decision = policy.judge(&asked);
        assert_eq!((decision.is_allowed, decision.is_flagged), (is_allowed, is_flagged), "{policy:?}");
        assert_eq!(policy.could_allow(&asked), is_allowed);
        // A prompt destroys nothing.
        let prompt = Message { target: Target::Prompt("t"), ..asked };
        assert_eq!(policy.judge(&prompt).is_allowed, policy.settings().allows_by_default);
        assert!(!policy.judge(&prompt).is_flagged);
        // What is no call is not the default's to deny.
        let list = Message { method: "tools/list", is_call: false, target: Target::Nothing, ..asked };
        assert!(policy.judge(&list).is_allowed);
    }
    let by_method = Match { methods: patterns(&["tools/*"]), ..Match::default() };
    let policy = self::policy(vec![rule(by_method, Action::Deny)]);
    let list = Message {
        method: "tools/list",
        is_call: false,
        target: Target::Nothing,
        ..message("t", Arguments::Known(&known))
    };
    assert!(!policy.judge(&list).is_allowed, "a rule that names its method is about that");
    let about_calls = self::policy(vec![rule(Match::default(), Action::Deny)]);
    assert!(about_calls.judge(&list).is_allowed, "and one that names none is about calls alone");
    // Annotations are of tools.
    let hints = Match { annotations: [("destructiveHint", true)].into(), ..Match::default() };
    let careful = self::policy(vec![rule(hints, Action::Deny)]);
    assert!(!careful.judge(&message("t", Arguments::Known(&known))).is_allowed);
    let prompt = Message { target: Target::Prompt("t"), ..message("t", Arguments::Known(&known)) };
    assert!(careful.judge(&prompt).is_allowed);
    // A tool that a rule allows is not flagged.
    let flagging = Settings { flag_destructive: Some(Flag::Log), ..Settings::default() };
    let named = Policy::new(vec![rule(on_tools(&["t"]), Action::Allow)], flagging);
    assert!(!named.judge(&message("t", Arguments::Known(&known))).is_flagged);
}

#[test]
fn what_cannot_be_evaluated_denies_but_for_rules_that_are_tried_out() {
    let fails = || when("arguments.missing == 1");
    for action in [Action::Allow, Action::Deny] {
        let (is_allowed, by) = decided(&policy(vec![rule(fails(), action)]), "t", "{}");
        assert_eq!((is_allowed, by), (false, Some(0)), "{action:?}");
    }
    assert_eq!(decided(&policy(vec![rule(fails(), Action::DryRun)]), "t", "{}"), (true, None));
    // One part that does not hold outweighs one that cannot be judged.
    let elsewhere = Match { target: on_tools(&["other"]).target, ..fails() };
    assert_eq!(decided(&policy(vec![rule(elsewhere, Action::Deny)]), "t", "{}"), (true, None));
    let dry = Settings { dry_run: true, allows_by_default: false, flag_destructive: None };
    let known = Known::new(None);
    let decision =
        Policy::new(vec![rule(fails(), Action::Deny)], dry).judge(&message("t", Arguments::Known(&known)));
    assert!(decision.is_allowed && decision.is_spared && decision.is_dry_run());
    assert_eq!(decision.would_deny.len(), 1);
    let denies_all = Policy::new(vec![rule(Match::default(), Action::Deny)], dry);
    assert!(denies_all.could_allow(&message("t", Arguments::Unknown)), "it hides nothing");
    let decision = Policy::new(Vec::new(), dry).judge(&message("t", Arguments::Known(&known)));
    assert!(decision.is_allowed && decision.is_dry_run() && decision.would_deny.is_empty());
}

#[test]
fn a_path_through_something_else_than_objects_and_lists_denies() {
    let large = || policy(vec![rule(with_field("payment.amount", Test::Gt(100)), Action::Deny)]);
    for (arguments, is_allowed) in [
        (r#"{"payment":{"amount":100}}"#, true),
        (r#"{"payment":{"amount":101}}"#, false),
        (r#"{"payment":{}}"#, true),
        (r#"{"payment":null}"#, true),
        (r#"{"payment":{"amount":null}}"#, true),
        ("{}", true),
        // A server may take text for the object that is written in it.
        (r#"{"payment":"{\"amount\":101}"}"#, false),
        (r#"{"payment":101}"#, false),
        (r#""{\"payment\":{\"amount\":101}}""#, false),
        (r#"{"payment":{"amount":"101"}}"#, false),
        (r#"{"payment":[{"amount":101}]}"#, false),
    ] {
        assert_eq!(decided(&large(), "t", arguments).0, is_allowed, "{arguments}");
    }
    let field = Field { path: Path::new("x"), tests: [Test::Exists(false), Test::Eq(Scalar::Int(1))].into() };
    let both = Match { arguments: [field].into(), ..Match::default() };
    assert!(
        decided(&policy(vec![rule(both, Action::Deny)]), "t", "{}").0,
        "nothing else holds of what is not there"
    );
    let exists = policy(vec![
        rule(with_field("payment", Test::Exists(false)), Action::Allow),
        rule(Match::default(), Action::Deny),
    ]);
    assert!(decided(&exists, "t", "{}").0);
    assert!(
        !decided(&exists, "t", "[1]").0 && !decided(&exists, "t", r#""text""#).0,
        "it cannot be said what is not in them"
    );
}

#[test]
fn no_test_of_a_field_holds_or_fails_where_the_way_to_it_is_blocked() {
    let tests = [
        Test::Eq(Scalar::Int(1)),
        Test::Neq(Scalar::Int(1)),
        Test::Gt(0),
        Test::Gte(0),
        Test::Lt(0),
        Test::Lte(0),
        Test::Contains("1".into()),
        Test::Regex(Regex::new("1").unwrap()),
        Test::Exists(true),
        Test::Exists(false),
    ];
    for held in [r#""{\"b\":1}""#, "7", "true", r#"[{"b":1}]"#, "null", "{}"] {
        let (is_blocked, object) = (!matches!(held, "null" | "{}"), format!(r#"{{"a":{held}}}"#));
        let claims = Arc::new(serde_json::from_str(&object).unwrap());
        let token = Credential::Token { issuer: "i".into(), subject: "s".into(), claims };
        let (by_token, known) = (Caller::new(token, None), Known::new(Some(&object)));
        let asked = Message { caller: &by_token, ..message("t", Arguments::Known(&known)) };
        for test in &tests {
            let of_claims = || {
                let field = Field { path: Path::new("a.b"), tests: [test.clone()].into() };
                Match { claims: [field].into(), ..Match::default() }
            };
            for (matches, is_known) in [(with_field("a.b", test.clone()), false), (of_claims(), true)] {
                for action in [Action::Allow, Action::Deny] {
                    let policy =
                        policy(vec![rule(matches.clone(), action), rule(Match::default(), Action::Allow)]);
                    let decision = policy.judge(&asked);
                    let what = format!("{object} {test:?} {action:?} {is_known}: {decision:?}");
                    let failed = matches!(&decision.why, Why::Failed(rule, _) if rule.index == 0);
                    assert_eq!((failed, decision.is_allowed && failed), (is_blocked, false), "{what}");
                    if is_blocked {
                        // No arguments make a claim another one.
                        let unknown = Message { arguments: Arguments::Unknown, ..asked };
                        assert_eq!(policy.could_allow(&unknown), !is_known, "{what}");
                        continue;
                    }
                    // Of what is not there nothing holds but that it is not.
                    let decider = usize::from(*test != Test::Exists(false));
                    assert_eq!(decision.rule().map(|rule| rule.index), Some(decider), "{what}");
                }
            }
        }
    }
}

#[test]
fn a_tool_is_shown_if_some_arguments_could_be_allowed() {
    let by_argument = || with_field("x", Test::Eq(Scalar::Int(1)));
    for (rules, expected) in [
        (vec![rule(by_argument(), Action::Deny)], true),
        (vec![rule(by_argument(), Action::Allow), rule(Match::default(), Action::Deny)], true),
        (vec![rule(Match::default(), Action::Deny), rule(by_argument(), Action::Allow)], false),
        (vec![rule(when("arguments.x == 1"), Action::Deny), rule(Match::default(), Action::Deny)], false),
        (vec![rule(Match::default(), Action::DryRun), rule(on_tools(&["t"]), Action::Deny)], false),
        (vec![rule(when("claims.none == 1"), Action::Deny)], false),
        // With other arguments the rule does not match, whatever cannot be evaluated beside them.
        (vec![rule(when("claims.none == 1 && arguments.x == 1"), Action::Deny)], true),
        (vec![rule(when("arguments.x == 1 && claims.none == 1"), Action::Deny)], true),
        (vec![rule(Match { when: when("claims.none == 1").when, ..by_argument() }, Action::Deny)], true),
    ] {
        assert_eq!(is_shown(&policy(rules.clone()), "t"), expected, "{rules:?}");
    }
}

#[test]
fn rules_bear_equally_where_they_differ_for_others_alone() {
    let upstream = |name: &str| Match {
        upstreams: Some([ostler_core::name::ResourceName::parse(name).unwrap()].into()),
        ..Match::default()
    };
    let named = |who: &str| Match { identity: patterns(&[who]), ..Match::default() };
    let prompt = Match { target: patterns(&["p"]).map(|it| (TargetKind::Prompt, it)), ..Match::default() };
    let method = Match { methods: patterns(&["prompts/get"]), ..Match::default() };
    let asked = message("", Arguments::Unknown);
    let nothing = policy(Vec::new());
    for (matches, action, is_same) in [
        (upstream("other"), Action::Deny, true),
        (upstream("u"), Action::Deny, false),
        (named("root"), Action::Deny, true),
        (prompt, Action::Deny, true),
        (method, Action::Deny, true),
        (on_tools(&["x"]), Action::Deny, false),
        (on_tools(&["x"]), Action::DryRun, true),
        (when("arguments.x == 1"), Action::Allow, false),
    ] {
        let other = policy(vec![rule(matches.clone(), action)]);
        assert_eq!(other.bearing_on(&asked) == nothing.bearing_on(&asked), is_same, "{matches:?}");
    }
    let closed = Policy::new(Vec::new(), Settings { allows_by_default: false, ..Settings::default() });
    assert!(closed.bearing_on(&asked) != nothing.bearing_on(&asked));
    let tried =
        Policy::new(Vec::new(), Settings { allows_by_default: false, dry_run: true, ..Settings::default() });
    assert!(tried.bearing_on(&asked) == nothing.bearing_on(&asked), "it hides nothing");
}

#[test]
fn many_rules_read_large_arguments_once_and_what_they_cost_together_is_bounded() {
    let large = format!(r#"{{"payment":{{"note":"{}","amount":7}}}}"#, "n".repeat(3_000_000));
    // Each would read three megabytes on its own.
    let rules = |count: usize, test: Test| {
        policy((0..count).map(|_| rule(with_field("payment.amount", test.clone()), Action::Deny)).collect())
    };
    assert_eq!(decided(&rules(4_000, Test::Gt(100)), "t", &large), (true, None));
    // What has to be looked through anew by each costs each anew, until it is denied.
    let regex = Test::Regex(Regex::new("m").unwrap());
    let look = |count: usize| {
        let rule = |_| rule(with_field("payment.note", regex.clone()), Action::Deny);
        policy((0..count).map(rule).collect())
    };
    let text = format!(r#"{{"payment":{{"note":"{}"}}}}"#, "n".repeat(200_000));
    assert_eq!(decided(&look(20), "t", &text), (true, None));
    let (is_allowed, by) = decided(&look(4_000), "t", &text);
    assert!(!is_allowed && by.is_some_and(|place| place < 400), "{by:?}");
    let many = format!(r#"{{"tags":[{}]}}"#, vec!["\"a\""; 30_000].join(","));
    let contains = policy(vec![rule(with_field("tags", Test::Contains("b".into())), Action::Deny)]);
    assert_eq!(decided(&contains, "t", &many), (false, Some(0)));
    assert_eq!(decided(&contains, "t", &json!({"tags": vec!["a"; 100]}).to_string()), (true, None));
}

#[test]
fn of_a_message_about_several_things_the_worst_is_said_with_all_that_is_tried_out() {
    let rules = || vec![rule(on_tools(&["a"]), Action::DryRun), rule(on_tools(&["b"]), Action::Deny)];
    let dry = Settings { dry_run: true, ..Settings::default() };
    for (policy, is_allowed, tried) in
        [(policy(rules()), false, &[0][..]), (Policy::new(rules(), dry), true, &[0, 1])]
    {
        let known = Known::new(None);
        let say = |tool| policy.judge(&message(tool, Arguments::Known(&known)));
        for said in [say("a").and(say("b")), say("b").and(say("a")), say("c").and(say("a")).and(say("b"))] {
            let noted: Vec<_> = said.would_deny.iter().map(|rule| rule.index).collect();
            assert_eq!((said.is_allowed, &*noted), (is_allowed, tried), "{said:?}");
            assert_eq!(said.rule().map(|rule| rule.index), Some(1), "{said:?}");
            assert_eq!(said.is_dry_run(), is_allowed);
        }
    }
}

#[test]
fn a_regular_expression_costs_by_what_it_repeats_and_too_much_of_it_denies() {
    use crate::fields::Regex;
    let places = |pattern: &str| Regex::new(pattern).unwrap().places();
    for (pattern, expected) in [
        ("^a$", 3),
        ("refund|delete|drop table", 1),
        (r"\b(?:refund|delete)\b", 4),
        ("[a-z]{3}", 3),
        (r"\w+@\w+", 5),
        ("select[a-z ]{0,500}from", 502),
        ("[ab]*a[ab]{400}", 402),
        ("(?:[ab]{0,40}c){40}", 1640),
        ("(?:ab){3,}", 8),
    ] {
        assert_eq!(places(pattern), expected, "{pattern}");
    }
    let rule = |pattern: &str| {
        let path = crate::fields::Path::new("text");
        let tests = [crate::fields::Test::Regex(Regex::new(pattern).unwrap())].into();
        let matches = Match { arguments: [crate::fields::Field { path, tests }].into(), ..Match::default() };
        Rule { name: None, matches, action: Action::Deny, feedback: Feedback::default() }
    };
    let ask = |pattern: &str, bytes: usize| {
        let policy = Policy::new(vec![rule(pattern)], Settings::default());
        let arguments = format!(r#"{{"text":"{}"}}"#, "ab".repeat(bytes / 2));
        let known = Known::new(Some(&arguments));
        let caller = Caller::default();
        policy.judge(&call_with(&caller, &known)).is_allowed
    };
    // As many places as bytes of one step: what is tried at each byte is charged, not what is looked through alone.
    assert!(ask("x[ab]c", 1024 * 1024 - 64));
    assert!(ask("[ab]*a[ab]{400}c", 8 * 1024));
    assert!(!ask("[ab]*a[ab]{400}c", 32 * 1024), "what would take too long denies");
    let expression = |pattern: &str, bytes: usize| {
        let expression = Expression::new(&format!("arguments.text.matches('{pattern}')")).unwrap();
        let matches = Match { when: Some(expression), ..Match::default() };
        let rule = Rule { name: None, matches, action: Action::Deny, feedback: Feedback::default() };
        let policy = Policy::new(vec![rule], Settings::default());
        let arguments = format!(r#"{{"text":"{}"}}"#, "ab".repeat(bytes / 2));
        let (known, caller) = (Known::new(Some(&arguments)), Caller::default());
        policy.judge(&call_with(&caller, &known)).is_allowed
    };
    assert!(expression("x[ab]c", 128 * 1024));
    assert!(expression("[ab]*a[ab]{400}c", 1024));
    assert!(!expression("[ab]*a[ab]{400}c", 8 * 1024));
}

fn call_with<'a>(caller: &'a Caller, known: &'a Known<'a>) -> Message<'a> {
    Message {
        method: "tools/call",
        is_call: true,
        target: Target::Tool("run"),
        arguments: Arguments::Known(known),
        annotations: Annotations::default(),
        caller,
        mount: "a",
        upstream: Some("a"),
        environment: None,
    }
}
