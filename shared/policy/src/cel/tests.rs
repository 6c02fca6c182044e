//! What expressions say; what they say beside another implementation of CEL; what they may cost.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::*;
use crate::caller::{Caller, Credential};
use crate::message::{Annotations, Arguments, Known, Message, Target};

fn said(source: &str, arguments: Option<&str>) -> Outcome {
    let expression = Expression::new(source).unwrap_or_else(|error| panic!("{source}: {error:?}"));
    let claims: Map<String, Value> =
        [("groups".to_owned(), json!(["eng", "ops"])), ("level".to_owned(), json!(3))].into_iter().collect();
    let token =
        Credential::Token { issuer: "i".into(), subject: "s".into(), claims: std::sync::Arc::new(claims) };
    let known = Known::new(arguments);
    let message = Message {
        method: "tools/call",
        is_call: true,
        target: Target::Tool("db.query"),
        arguments: if arguments.is_some() { Arguments::Known(&known) } else { Arguments::Unknown },
        annotations: Annotations::default(),
        caller: &Caller::new(token, Some("agent-7".into())),
        mount: "db",
        upstream: Some("db"),
        environment: None,
    };
    evaluate(&expression, Some(&message))
}

fn outcome(source: &str, arguments: &str) -> Option<bool> {
    match said(source, Some(arguments)) {
        Outcome::True => Some(true),
        Outcome::False => Some(false),
        Outcome::Unknown => panic!("{source} is unknown"),
        Outcome::Error(_) => None,
    }
}

const ARGUMENTS: &str = r#"{"path":"/tmp/x","amount":120,"rate":1.5,"tags":["a","b"],"nested":{"deep":[1,2,3]},"none":null,"on":true,"text":"caf\u00e9"}"#;

#[test]
fn an_expression_sees_the_message_and_the_caller() {
    for (source, expected) in [
        ("tool == 'db.query' && method == \"tools/call\"", Some(true)),
        ("arguments.path.startsWith('/tmp/') && arguments.amount > 100", Some(true)),
        ("'eng' in claims.groups && claims.groups.exists(g, g == 'ops')", Some(true)),
        ("has(claims.missing) || has(arguments.nested.deep)", Some(true)),
        ("has(claims.missing)", Some(false)),
        ("identity in ['agent-6', 'agent-7'] && upstream == mount", Some(true)),
        ("environment == null && prompt == null && resource == null", Some(true)),
        ("annotations.destructiveHint && !annotations.readOnlyHint", Some(true)),
        ("arguments.text == 'café' && size(arguments.text) == 4", Some(true)),
        ("arguments.nested.deep.map(n, n * 2) == [2, 4, 6]", Some(true)),
        ("arguments.nested.deep.map(n, n > 1, n)[1] == 3", Some(true)),
        ("arguments['nested']['deep'][0] == 1.0", Some(true)),
        ("arguments.tags.all(t, t.matches('^[a-c]$'))", Some(true)),
        ("arguments.path.matches('(/[a-z]+)+$')", Some(true)),
        ("arguments.amount * 1.1 > 131", Some(true)),
        ("(arguments.on ? 1 : 2) == 1", Some(true)),
        // What cannot be said is said by nobody, unless the other side decides.
        ("arguments.missing == 1", None),
        ("arguments.missing == 1 || true", Some(true)),
        ("arguments.missing == 1 && false", Some(false)),
        ("arguments.path", None),
        ("arguments.path > 3", None),
        ("prompt.startsWith('x')", None),
        ("9223372036854775807 + arguments.amount > 0", None),
        ("arguments.amount / 0 == 1", None),
        ("-(-9223372036854775807 - 1) > 0", None),
        ("(-9223372036854775807 - 1) / -1 > 0", None),
        ("(-9223372036854775807 - 1) % -1 == 0", None),
        ("int(1e300) > 0", None),
        ("has(arguments.path.x)", None),
        ("arguments.nested == arguments.nested && arguments.nested != arguments.tags", Some(true)),
        ("annotations == annotations && annotations != arguments", Some(true)),
    ] {
        assert_eq!(outcome(source, ARGUMENTS), expected, "{source}: {:?}", said(source, Some(ARGUMENTS)));
    }
}

#[test]
fn what_depends_on_unknown_arguments_is_unknown_and_nothing_else_is() {
    for (source, expected) in [
        ("arguments.a == 1", Outcome::Unknown),
        ("tool == 'db.query' && arguments.a.startsWith('x')", Outcome::Unknown),
        ("tool == 'other' && arguments.a == 1", Outcome::False),
        ("tool == 'db.query' || arguments.a == 1", Outcome::True),
        ("arguments.list.all(x, x > 1)", Outcome::Unknown),
        ("has(arguments.a)", Outcome::Unknown),
        ("size(arguments) == 0 ? true : true", Outcome::Unknown),
        ("claims.level > 2", Outcome::True),
        // It may decide, whatever cannot be evaluated beside it.
        ("claims.none == 1 && arguments.a == 1", Outcome::Unknown),
        ("arguments.a == 1 || claims.none == 1", Outcome::Unknown),
        ("claims.groups.all(g, g == 'eng' ? claims.none == 1 : arguments.a == g)", Outcome::Unknown),
    ] {
        assert_eq!(said(source, None), expected, "{source}");
    }
    assert_eq!(Expression::new("1 > 2 && tool == 'x'").unwrap().constant(), Some(Ok(false)));
    assert_eq!(Expression::new("tool == 'x' || tool != 'x'").unwrap().constant(), None);
    assert!(matches!(Expression::new("'text'").unwrap().constant(), Some(Err(_))));
}

#[test]
fn arguments_that_are_no_object_have_no_members_that_could_be_missing() {
    for arguments in ["[1]", "\"{}\"", "7", "true"] {
        for source in
            ["has(arguments.path)", "!has(arguments.path)", "arguments.path == 1", "'path' in arguments.path"]
        {
            assert!(matches!(said(source, Some(arguments)), Outcome::Error(_)), "{source} {arguments}");
        }
    }
    assert_eq!(said("!has(arguments.path)", Some("{}")), Outcome::True);
}

#[test]
fn what_is_no_expression_is_refused_with_its_place() {
    for (source, offset, part) in [
        ("", 0, "an expression is missing"),
        ("tool ==", 7, "an expression is missing"),
        ("tool == 'x' tool", 12, "ends before this"),
        ("toool == 'x'", 0, "there is no variable `toool`"),
        ("tool.startWith('x')", 5, "there is no function `startWith`"),
        ("tool.startsWith()", 5, "other arguments"),
        ("tool.matches(identity)", 5, "written out"),
        ("tool.matches('(')", 5, "cannot be read"),
        ("tool == 'x", 8, "no end"),
        ("tool == \"a\\qb\"", 10, "escape"),
        ("1u == 1", 0, "ends in letters"),
        ("tool # 1", 5, "`#` means nothing"),
        ("has(tool)", 0, "asks for a field"),
        ("[1].all(tool, true)", 8, "cannot be given"),
        ("[1].all(x, true, false)", 4, "takes a name"),
        ("99999999999999999999 > 1", 0, "too large"),
    ] {
        let error = Expression::new(source).unwrap_err();
        assert_eq!(error.offset, offset, "{source}: {error:?}");
        assert!(error.message.contains(part), "{source}: {error:?}");
    }
    let deep = format!("{}true{}", "(".repeat(500), ")".repeat(500));
    let long = format!("tool == '{}'", "x".repeat(4_000));
    let folds = "[1].all(a, [1].all(b, [1].all(c, true)))";
    let chained = "[1].map(a, [1]).map(b, b).all(c, true)";
    let signs = "!".repeat(1_000);
    let (fields, sums) = (format!("arguments{}", ".a".repeat(40)), format!("1{} > 0", "+1".repeat(40)));
    for source in [&*deep, &long, folds, chained, &signs, &fields, &sums] {
        assert!(Expression::new(source).is_err(), "{source}");
    }
}

#[test]
fn no_arguments_make_an_expression_cost_more_than_it_may() {
    let many = format!(r#"{{"list":[{}]}}"#, vec!["1"; 100_000].join(","));
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(4_000_000));
    for (source, arguments) in [
        ("arguments.list.all(a, a > 0)", &many),
        ("arguments.list.exists(a, arguments.list.exists(b, a + b == 3))", &many),
        ("arguments.list.map(a, arguments.list).all(c, true)", &many),
        (
            "arguments.text + arguments.text + arguments.text + arguments.text + arguments.text + arguments.text == ''",
            &large,
        ),
        ("arguments.text.matches('x*y')", &large),
    ] {
        assert!(matches!(said(source, Some(arguments)), Outcome::Error(_)), "{source}");
    }
    // What is read, unescaped, copied or compared again and again costs each time.
    let escaped =
        |bytes: usize, list: &str| format!(r#"{{"root":"\\u0061{}","list":{list}}}"#, "x".repeat(bytes));
    let items = format!("[{}]", vec!["\"y\""; 3_000].join(","));
    let object = |keys: usize, is_turned: bool| {
        let mut members: Vec<_> = (0..keys).map(|key| format!("\"k{key}\":{key}")).collect();
        if is_turned {
            members.reverse();
        }
        format!("{{{}}}", members.join(","))
    };
    let two = |keys| format!(r#"{{"a":{},"b":{}}}"#, object(keys, false), object(keys, true));
    let nested = format!("{}\"{}\"{}", "[".repeat(100), "x".repeat(300_000), "]".repeat(100));
    let deep = format!("{}\"{}\"{}", r#"{"k":"#.repeat(100), "x".repeat(300_000), "}".repeat(100));
    let numbers = format!(r#"{{"list":[{}]}}"#, vec!["0"; 15_000].join(","));
    for (source, arguments) in [
        ("arguments.list.all(p, !p.startsWith(arguments.root))", &escaped(100_000, &items)),
        ("arguments.list.all(p, has(arguments.root))", &escaped(100_000, &items)),
        ("size(arguments.list.map(p, arguments.root)) > 0", &escaped(100_000, &items)),
        ("[arguments.root].all(r, arguments.list.all(p, p != r))", &escaped(100_000, &items)),
        ("arguments.a == arguments.b", &two(20_000)),
        ("arguments.a in [arguments.b]", &two(20_000)),
        ("arguments.a == arguments.b", &format!(r#"{{"a":{nested},"b":{nested}}}"#)),
        ("arguments.a == arguments.b", &format!(r#"{{"a":{deep},"b":{deep}}}"#)),
        ("arguments.a.all(k, k in arguments.b)", &two(3_000)),
        ("1 in arguments.list || 2 in arguments.list", &numbers),
        // Out of steps, the other side decides nothing.
        ("arguments.root == arguments.root + arguments.root || true", &escaped(4_000_000, "[]")),
    ] {
        assert!(matches!(said(source, Some(arguments)), Outcome::Error(_)), "{source}");
    }
    for (source, arguments) in [
        ("arguments.a == arguments.b && !(arguments.a != arguments.b)", &two(2_000)),
        ("size(arguments.list) == 3000 && size(arguments) == 2", &escaped(10, &items)),
        ("arguments.list.all(p, !p.startsWith(arguments.root))", &escaped(10, &items)),
    ] {
        assert_eq!(said(source, Some(arguments)), Outcome::True, "{source}");
    }
    assert_eq!(said("1 in arguments.list || true", Some(&numbers)), Outcome::True);
    let Outcome::Error(why) = said("arguments.list.all(a, a > 0)", Some(&many)) else { panic!("it is said") };
    assert!(why.contains("longer"), "no room was made for its items: {why}");
    assert_eq!(said("size(arguments.list) == 100000", Some(&many)), Outcome::True, "counting makes no room");
    // What is not named costs nothing.
    assert_eq!(
        said("arguments.path == '/tmp'", Some(&large.replace('}', r#","path":"/tmp"}"#))),
        Outcome::True
    );
}

/// A value of the other implementation's, which has signed whole numbers where JSON does not say.
fn theirs(value: &Value) -> ::cel::Value {
    match value {
        Value::Null => ::cel::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => match number.as_i64() {
            Some(int) => int.into(),
            None => number.as_f64().unwrap().into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(theirs).collect::<Vec<_>>().into(),
        Value::Object(map) => {
            let map: HashMap<String, ::cel::Value> =
                map.iter().map(|(key, value)| (key.clone(), theirs(value))).collect();
            map.into()
        }
    }
}

/// The other implementation's word.
fn oracle(source: &str, arguments: &Value) -> Option<bool> {
    let program = ::cel::Program::compile(source).ok()?;
    let mut context = ::cel::Context::default();
    context.add_variable_from_value("arguments", theirs(arguments));
    context.add_variable("tool", "db.query").ok()?;
    match program.execute(&context) {
        Ok(::cel::Value::Bool(value)) => Some(value),
        _ => None,
    }
}

/// Expressions of one shape after another, with whatever fits.
struct Writer(fastrand::Rng);

impl Writer {
    fn truth(&mut self, depth: usize) -> String {
        match self.0.usize(..if depth == 0 { 6 } else { 12 }) {
            0 => "arguments.on".to_owned(),
            1 => ["true", "false"][self.0.usize(..2)].to_owned(),
            2 => format!(
                "{} {} {}",
                self.number(1),
                ["<", "<=", ">", ">=", "==", "!="][self.0.usize(..6)],
                self.number(1)
            ),
            3 => format!(
                "{}.{}({})",
                self.text(1),
                ["startsWith", "endsWith", "contains"][self.0.usize(..3)],
                self.text(0)
            ),
            4 => format!("{} in {}", self.any(), self.list()),
            5 => format!("has(arguments.{})", ["path", "gone", "none", "nested"][self.0.usize(..4)]),
            6 | 7 => format!("({} && {})", self.truth(depth - 1), self.truth(depth - 1)),
            8 | 9 => format!("({} || {})", self.truth(depth - 1), self.truth(depth - 1)),
            10 => format!("!({})", self.truth(depth - 1)),
            _ => format!(
                "{}.{}(x, x {} {})",
                self.list(),
                ["all", "exists", "exists_one"][self.0.usize(..3)],
                ["<", ">", "==", "!="][self.0.usize(..4)],
                self.number(0)
            ),
        }
    }

    fn number(&mut self, depth: usize) -> String {
        match self.0.usize(..if depth == 0 { 4 } else { 7 }) {
            0 => self.0.i8(..).to_string(),
            1 => "arguments.amount".to_owned(),
            2 => "arguments.nested.deep[1]".to_owned(),
            3 => "9007199254740993".to_owned(),
            4 => format!(
                "({} {} {})",
                self.number(0),
                ["+", "-", "*", "/", "%"][self.0.usize(..5)],
                self.number(0)
            ),
            5 => format!("size({})", self.list()),
            _ => "arguments.gone".to_owned(),
        }
    }

    fn text(&mut self, depth: usize) -> String {
        match self.0.usize(..if depth == 0 { 4 } else { 5 }) {
            0 => "'/tmp'".to_owned(),
            1 => "arguments.path".to_owned(),
            2 => "tool".to_owned(),
            3 => "r'\\x'".to_owned(),
            _ => format!("({} + {})", self.text(0), self.text(0)),
        }
    }

    fn list(&mut self) -> String {
        match self.0.usize(..4) {
            0 => "[1, 2, 120]".to_owned(),
            1 => "arguments.nested.deep".to_owned(),
            2 => "arguments.nested.deep.filter(y, y > 1)".to_owned(),
            _ => "arguments.nested.deep.map(y, y + 1)".to_owned(),
        }
    }

    fn any(&mut self) -> String {
        match self.0.usize(..3) {
            0 => self.number(0),
            1 => self.text(0),
            _ => "arguments.none".to_owned(),
        }
    }
}

#[test]
fn expressions_say_what_another_implementation_of_cel_says() {
    let arguments: Value = serde_json::from_str(ARGUMENTS).unwrap();
    let mut writer = Writer(fastrand::Rng::with_seed(11));
    let (mut decided, mut failed) = (0, 0);
    for _ in 0..3_000 {
        let source = writer.truth(3);
        let (ours, theirs) = (outcome(&source, ARGUMENTS), oracle(&source, &arguments));
        assert_eq!(ours, theirs, "{source}: {:?}", said(&source, Some(ARGUMENTS)));
        *(if ours.is_some() { &mut decided } else { &mut failed }) += 1;
    }
    assert!(decided > 1_000 && failed > 50, "{decided} {failed}");
}
