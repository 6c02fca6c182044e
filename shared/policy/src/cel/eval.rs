//! What an expression says of a message. Each step is counted, and each byte that is looked through; what is not known makes unknown what
//! depends on it.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::rc::Rc;

use ostler_core::limits::POLICY_EXPRESSION_STEPS_MAX;

use super::parser::{Expr, Fold, FoldKind, Function, Operator};
use super::value::Value;
use super::{Expression, Variable};
use crate::json::Node;
use crate::message::{Arguments, Known, Message, Target, steps_of};

/// What comes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    True,
    False,
    /// It depends on arguments that are not known.
    Unknown,
    /// It is neither: why, in a sentence.
    Error(String),
}

/// Without a message nothing is known.
pub(crate) fn evaluate(expression: &Expression, message: Option<&Message<'_>>) -> Outcome {
    let mut run = Run { message, bound: Vec::new(), left: POLICY_EXPRESSION_STEPS_MAX };
    match run.eval(&expression.expr) {
        Ok(Value::Bool(true)) => Outcome::True,
        Ok(Value::Bool(false)) => Outcome::False,
        Ok(Value::Unknown) => Outcome::Unknown,
        Ok(other) => Outcome::Error(format!("it is {}, neither true nor false", other.kind())),
        Err(why) => Outcome::Error(why),
    }
}

struct Run<'m, 'a> {
    message: Option<&'m Message<'a>>,
    /// What comprehensions have bound, the outermost first.
    bound: Vec<Value<'m>>,
    left: u32,
}

type Evaluated<'m> = Result<Value<'m>, String>;

// === impl Run ===

impl<'m, 'a> Run<'m, 'a> {
    /// For looking through so many bytes, or making a copy of them; each step has its own price.
    fn charge(&mut self, bytes: usize) -> Result<(), String> {
        self.charge_steps(steps_of(bytes).saturating_sub(1))
    }

    fn charge_steps(&mut self, steps: u32) -> Result<(), String> {
        // Out of steps, nothing decides any more.
        let left = self.left.checked_sub(steps);
        self.left = left.unwrap_or_default();
        left.ok_or("it takes more steps than it may")?;
        match self.arguments() {
            Some(known) => known.charge(steps).map_err(|why| format!("the message {why}")),
            None => Ok(()),
        }
    }

    fn eval<'e: 'm>(&mut self, expr: &'e Expr) -> Evaluated<'m> {
        self.charge_steps(1)?;
        match expr {
            Expr::Null => Ok(Value::Null),
            Expr::Bool(value) => Ok(Value::Bool(*value)),
            Expr::Int(int) => Ok(Value::Int(*int)),
            Expr::Float(float) => Ok(Value::Float(*float)),
            Expr::Text(text) => Ok(Value::Text(Cow::Borrowed(text))),
            Expr::List(items) => {
                let items: Vec<_> = items.iter().map(|item| self.eval(item)).collect::<Result<_, _>>()?;
                let is_unknown = items.iter().any(Value::is_unknown);
                Ok(if is_unknown { Value::Unknown } else { Value::List(items.into()) })
            }
            Expr::Variable(variable) => Ok(self.variable(*variable)),
            Expr::Bound(slot) => {
                let bound = self.bound.get(*slot).ok_or("a name is bound to nothing")?;
                let bytes = bound.copied();
                self.charge(bytes)?;
                self.bound.get(*slot).cloned().ok_or_else(|| "a name is bound to nothing".to_owned())
            }
            Expr::Select(object, field) => {
                let object = self.eval(object)?;
                self.member(&object, field)?.ok_or_else(|| format!("there is no `{field}`"))
            }
            Expr::Has(object, field) => {
                let object = self.eval(object)?;
                let found = self.member(&object, field)?;
                Ok(if object.is_unknown() { Value::Unknown } else { Value::Bool(found.is_some()) })
            }
            Expr::Index(of, index) => self.index(of, index),
            Expr::Not(inner) => match self.eval(inner)? {
                Value::Bool(value) => Ok(Value::Bool(!value)),
                Value::Unknown => Ok(Value::Unknown),
                other => Err(format!("`!` is of {}", other.kind())),
            },
            Expr::Negate(inner) => match self.eval(inner)? {
                Value::Int(int) => int.checked_neg().map(Value::Int).ok_or_else(overflow),
                Value::Float(float) => Ok(Value::Float(-float)),
                Value::Unknown => Ok(Value::Unknown),
                other => Err(format!("`-` is of {}", other.kind())),
            },
            Expr::And(parts) => self.joined(parts, false),
            Expr::Or(parts) => self.joined(parts, true),
            Expr::Binary(operator, one, other) => {
                let (one, other) = (self.eval(one)?, self.eval(other)?);
                self.binary(*operator, &one, &other)
            }
            Expr::If(condition, then, otherwise) => match self.eval(condition)? {
                Value::Bool(true) => self.eval(then),
                Value::Bool(false) => self.eval(otherwise),
                Value::Unknown => Ok(Value::Unknown),
                other => Err(format!("`?` is of {}", other.kind())),
            },
            Expr::Call(function, arguments) => self.call(*function, arguments),
            Expr::Matches(text, regex) => match self.eval(text)? {
                Value::Unknown => Ok(Value::Unknown),
                Value::Text(text) => {
                    self.charge(regex.price(text.len()))?;
                    regex.matches(&text).map(Value::Bool).map_err(|why| format!("a text {why}"))
                }
                other => Err(format!("`matches` is of {}", other.kind())),
            },
            Expr::Fold(fold) => self.fold(fold),
        }
    }

    fn variable(&self, variable: Variable) -> Value<'m> {
        let Some(message) = self.message else { return Value::Unknown };
        let text = |text: Option<&'m str>| text.map_or(Value::Null, |text| Value::Text(Cow::Borrowed(text)));
        match (variable, message.target) {
            (Variable::Method, _) => text(Some(message.method)),
            (Variable::Tool, Target::Tool(name)) => text(Some(name)),
            (Variable::Prompt, Target::Prompt(name)) => text(Some(name)),
            (Variable::Resource, Target::Resource(uri)) => text(Some(uri)),
            (Variable::Tool | Variable::Prompt | Variable::Resource, _) => Value::Null,
            (Variable::Arguments, _) => match message.arguments {
                Arguments::Unknown => Value::Unknown,
                Arguments::Known(known) => Value::Json(known.node()),
            },
            (Variable::Annotations, _) => Value::Annotations(message.annotations),
            (Variable::Identity, _) => text(message.caller.identity()),
            (Variable::Claims, _) => {
                Value::Json(message.caller.claims().map_or(Node::Raw("{}"), Node::Object))
            }
            (Variable::Mount, _) => text(Some(message.mount)),
            (Variable::Upstream, _) => text(message.upstream),
            (Variable::Environment, _) => text(message.environment),
        }
    }

    /// Nothing where an object has no such member. Of what is unknown, something unknown.
    fn member(&mut self, object: &Value<'m>, field: &str) -> Result<Option<Value<'m>>, String> {
        match object {
            Value::Unknown => Ok(Some(Value::Unknown)),
            // What is asked most is read once for all rules, and its price with it.
            Value::Json(Node::Raw(raw)) if self.is_arguments(raw) => {
                let found = self.arguments().map_or(Ok(None), |known| known.member(field));
                self.value(found.map_err(|why| format!("`{field}` {why}"))?)
            }
            Value::Json(node) if !object.is_list() => {
                self.charge(node.len())?;
                self.value(node.member(field))
            }
            Value::Annotations(annotations) => Ok(annotations.get(field).map(Value::Bool)),
            other => Err(format!("`{field}` is looked for in {}", other.kind())),
        }
    }

    /// A part of the message as a value. What is there and cannot be read is an error, and not nothing.
    fn value(&mut self, node: Option<Node<'m>>) -> Result<Option<Value<'m>>, String> {
        let Some(node) = node else { return Ok(None) };
        self.charge(node.len())?;
        Value::of(node).map(Some).ok_or_else(|| "a value cannot be read".to_owned())
    }

    fn arguments(&self) -> Option<&'a Known<'a>> {
        match self.message?.arguments {
            Arguments::Known(known) => Some(known),
            Arguments::Unknown => None,
        }
    }

    fn is_arguments(&self, raw: &str) -> bool {
        let node = self.arguments().map(|known| known.node());
        matches!(node, Some(Node::Raw(all)) if std::ptr::eq(all, raw))
    }

    fn index<'e: 'm>(&mut self, of: &'e Expr, index: &'e Expr) -> Evaluated<'m> {
        let (of, index) = (self.eval(of)?, self.eval(index)?);
        match (&of, &index) {
            (Value::Unknown, _) | (_, Value::Unknown) => Ok(Value::Unknown),
            (_, Value::Text(key)) if !of.is_list() => {
                self.member(&of, key)?.ok_or_else(|| "there is no such key".to_owned())
            }
            (_, Value::Int(at)) if of.is_list() => {
                let items = self.items(&of)?;
                let item = usize::try_from(*at).ok().and_then(|at| items.into_iter().nth(at));
                item.ok_or_else(|| "the list has no such item".to_owned())
            }
            _ => Err(format!("{} is no index of {}", index.kind(), of.kind())),
        }
    }

    fn items(&mut self, of: &Value<'m>) -> Result<Vec<Value<'m>>, String> {
        self.charge(of.looked_through())?;
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let items = of.items(most).map_err(|_| "a list is longer than may be looked through".to_owned())?;
        let items = items.ok_or_else(|| format!("{} has no items", of.kind()))?;
        self.charge_steps(u32::try_from(items.len()).unwrap_or(u32::MAX))?;
        Ok(items)
    }

    /// Values of different kinds are not equal.
    fn equal(&mut self, one: &Value<'m>, other: &Value<'m>) -> Result<bool, String> {
        self.charge(one.looked_through().min(other.looked_through()))?;
        if let Some(equal) = one.equals_plainly(other) {
            return Ok(equal);
        }
        if one.is_list() {
            let (one, other) = (self.items(one)?, self.items(other)?);
            if one.len() != other.len() {
                return Ok(false);
            }
            for (one, other) in one.iter().zip(&other) {
                if !self.equal(one, other)? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        let (one, other) = (self.members(one)?, self.members(other)?);
        if one.len() != other.len() {
            return Ok(false);
        }
        for ((key, one), (other_key, other)) in one.iter().zip(&other) {
            if key != other_key || !self.equal(one, other)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Of an object, in the order of their keys.
    fn members(&mut self, of: &Value<'m>) -> Result<Vec<(Cow<'m, str>, Value<'m>)>, String> {
        self.charge(of.looked_through())?;
        let mut members = of.members().ok_or("an object cannot be read")?;
        self.charge_steps(u32::try_from(members.len()).unwrap_or(u32::MAX))?;
        members.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Ok(members)
    }

    /// `&&`, or `||`: whichever part decides does so, whatever the others are.
    fn joined<'e: 'm>(&mut self, parts: &'e [Expr], decides: bool) -> Evaluated<'m> {
        let mut undecided = Ok(Value::Bool(!decides));
        for part in parts {
            match self.eval(part) {
                Ok(Value::Bool(value)) if value == decides => return Ok(Value::Bool(decides)),
                Ok(Value::Bool(_)) => {}
                // It may decide, whatever cannot be evaluated beside it.
                Ok(Value::Unknown) => undecided = Ok(Value::Unknown),
                Ok(_) | Err(_) if matches!(undecided, Ok(Value::Unknown)) => {}
                Ok(other) => undecided = Err(format!("a part of `&&` or `||` is {}", other.kind())),
                Err(why) => undecided = Err(why),
            }
        }
        undecided
    }

    fn binary(&mut self, operator: Operator, one: &Value<'m>, other: &Value<'m>) -> Evaluated<'m> {
        if one.is_unknown() || other.is_unknown() {
            return Ok(Value::Unknown);
        }
        let ordered = |run: &mut Self, holds: fn(Ordering) -> bool| {
            let order = match (one, other) {
                (Value::Text(one), Value::Text(other)) => {
                    run.charge(one.len().min(other.len()))?;
                    Some(one.cmp(other))
                }
                _ => one.number().zip(other.number()).and_then(|(one, other)| one.compare(other)),
            };
            let order = order.ok_or_else(|| format!("{} and {} are compared", one.kind(), other.kind()))?;
            Ok(Value::Bool(holds(order)))
        };
        match operator {
            Operator::Equal | Operator::NotEqual => {
                Ok(Value::Bool(self.equal(one, other)? == (operator == Operator::Equal)))
            }
            Operator::Less => ordered(self, Ordering::is_lt),
            Operator::LessOrEqual => ordered(self, Ordering::is_le),
            Operator::Greater => ordered(self, Ordering::is_gt),
            Operator::GreaterOrEqual => ordered(self, Ordering::is_ge),
            Operator::In => self.is_in(one, other),
            Operator::Add
            | Operator::Subtract
            | Operator::Multiply
            | Operator::Divide
            | Operator::Remainder => self.arithmetic(operator, one, other),
        }
    }

    fn is_in(&mut self, one: &Value<'m>, other: &Value<'m>) -> Evaluated<'m> {
        if other.is_list() {
            let items = self.items(other)?;
            for item in &items {
                if self.equal(item, one)? {
                    return Ok(Value::Bool(true));
                }
            }
            return Ok(Value::Bool(false));
        }
        match one {
            Value::Text(key) => self.member(other, key).map(|found| Value::Bool(found.is_some())),
            _ => Err(format!("{} is looked for in {}", one.kind(), other.kind())),
        }
    }

    fn arithmetic(&mut self, operator: Operator, one: &Value<'m>, other: &Value<'m>) -> Evaluated<'m> {
        match (operator, one, other) {
            (Operator::Add, Value::Text(one), Value::Text(other)) => {
                self.charge(one.len() + other.len())?;
                Ok(Value::Text(Cow::Owned(format!("{one}{other}"))))
            }
            (Operator::Add, one, other) if one.is_list() && other.is_list() => {
                let items: Vec<_> = self.items(one)?.into_iter().chain(self.items(other)?).collect();
                self.charge_steps(u32::try_from(items.len()).unwrap_or(u32::MAX))?;
                Ok(Value::List(items.into()))
            }
            (_, Value::Int(one), Value::Int(other)) => {
                let result = match operator {
                    Operator::Add => one.checked_add(*other),
                    Operator::Subtract => one.checked_sub(*other),
                    Operator::Multiply => one.checked_mul(*other),
                    Operator::Divide => one.checked_div(*other),
                    _ => one.checked_rem(*other),
                };
                result.map(Value::Int).ok_or_else(overflow)
            }
            _ => {
                let (Some(left), Some(right)) = (float(one), float(other)) else {
                    return Err(format!("{} and {} are reckoned with", one.kind(), other.kind()));
                };
                match operator {
                    Operator::Add => Ok(Value::Float(left + right)),
                    Operator::Subtract => Ok(Value::Float(left - right)),
                    Operator::Multiply => Ok(Value::Float(left * right)),
                    Operator::Divide => Ok(Value::Float(left / right)),
                    _ => Err("`%` is of whole numbers".to_owned()),
                }
            }
        }
    }

    fn call<'e: 'm>(&mut self, function: Function, arguments: &'e [Expr]) -> Evaluated<'m> {
        let values: Vec<_> =
            arguments.iter().map(|argument| self.eval(argument)).collect::<Result<_, _>>()?;
        if values.iter().any(Value::is_unknown) {
            return Ok(Value::Unknown);
        }
        self.charge(values.iter().map(Value::looked_through).fold(0, usize::saturating_add))?;
        let done = match (function, values.as_slice()) {
            (Function::Size, [Value::Text(text)]) => count(text.chars().count()),
            (Function::Size, [of]) => of.count().and_then(count),
            (Function::StartsWith, [Value::Text(text), Value::Text(part)]) => {
                Some(Value::Bool(text.starts_with(&**part)))
            }
            (Function::EndsWith, [Value::Text(text), Value::Text(part)]) => {
                Some(Value::Bool(text.ends_with(&**part)))
            }
            (Function::Contains, [Value::Text(text), Value::Text(part)]) => {
                Some(Value::Bool(text.contains(&**part)))
            }
            (Function::LowerAscii, [Value::Text(text)]) => {
                Some(Value::Text(text.to_ascii_lowercase().into()))
            }
            (Function::UpperAscii, [Value::Text(text)]) => {
                Some(Value::Text(text.to_ascii_uppercase().into()))
            }
            (Function::Int, [Value::Int(int)]) => Some(Value::Int(*int)),
            (Function::Int, [Value::Float(float)]) => whole(*float).map(Value::Int),
            (Function::Int, [Value::Text(text)]) => text.parse().ok().map(Value::Int),
            (Function::Double, [Value::Text(text)]) => text.parse().ok().map(Value::Float),
            (Function::Double, [of]) => float(of).map(Value::Float),
            (Function::String, [Value::Text(text)]) => Some(Value::Text(text.clone())),
            (Function::String, [Value::Int(int)]) => Some(Value::Text(int.to_string().into())),
            (Function::String, [Value::Float(float)]) => Some(Value::Text(float.to_string().into())),
            (Function::String, [Value::Bool(value)]) => Some(Value::Text(value.to_string().into())),
            _ => None,
        };
        let kinds = || values.iter().map(Value::kind).collect::<Vec<_>>().join(" and ");
        done.ok_or_else(|| format!("a function is given {}", kinds()))
    }

    fn fold<'e: 'm>(&mut self, fold: &'e Fold) -> Evaluated<'m> {
        let range = self.eval(&fold.range)?;
        if range.is_unknown() {
            return Ok(Value::Unknown);
        }
        let items = self.items(&range)?;
        let (mut kept, mut found, mut is_unknown, mut failed) = (Vec::new(), 0_usize, false, None);
        for item in items {
            self.charge(item.copied())?;
            self.bound.push(item.clone());
            let meant = fold.filter.as_ref().map_or(Ok(Value::Bool(true)), |filter| self.eval(filter));
            let said = match meant {
                Ok(Value::Bool(true)) => Some(self.eval(&fold.body)),
                Ok(Value::Bool(false)) => None,
                other => Some(other),
            };
            self.bound.pop();
            let Some(said) = said else { continue };
            match (fold.kind, said) {
                (_, Ok(Value::Unknown)) => is_unknown = true,
                (FoldKind::Map, Ok(value)) => kept.push(value),
                (FoldKind::All, Ok(Value::Bool(false))) => return Ok(Value::Bool(false)),
                (FoldKind::Exists, Ok(Value::Bool(true))) => return Ok(Value::Bool(true)),
                (FoldKind::Filter, Ok(Value::Bool(true))) => kept.push(item),
                (FoldKind::ExistsOne, Ok(Value::Bool(true))) => found += 1,
                (_, Ok(Value::Bool(_))) => {}
                (_, Ok(other)) => failed = Some(format!("a comprehension's part is {}", other.kind())),
                (_, Err(why)) => failed = Some(why),
            }
        }
        // It may decide, whatever cannot be evaluated beside it.
        if is_unknown {
            return Ok(Value::Unknown);
        }
        if let Some(why) = failed {
            return Err(why);
        }
        Ok(match fold.kind {
            FoldKind::All => Value::Bool(true),
            FoldKind::Exists => Value::Bool(false),
            FoldKind::ExistsOne => Value::Bool(found == 1),
            FoldKind::Filter | FoldKind::Map => Value::List(Rc::from(kept)),
        })
    }
}

fn overflow() -> String {
    "a number is too large, or divided by zero".to_owned()
}

fn count<'a>(count: usize) -> Option<Value<'a>> {
    i64::try_from(count).ok().map(Value::Int)
}

fn float(value: &Value<'_>) -> Option<f64> {
    match value {
        #[allow(clippy::cast_precision_loss, reason = "as CEL's double() does")]
        Value::Int(int) => Some(*int as f64),
        Value::Float(float) => Some(*float),
        _ => None,
    }
}

fn whole(float: f64) -> Option<i64> {
    #[allow(clippy::cast_possible_truncation, reason = "the range is looked at first")]
    (float.abs() < 9.2e18).then_some(float as i64)
}
