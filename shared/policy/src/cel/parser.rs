//! Tokens into a tree, in which every name is resolved and every cost that can be seen beforehand is within its limit.

use ostler_core::limits::{
    POLICY_EXPRESSION_BYTES_MAX, POLICY_EXPRESSION_DEPTH_MAX, POLICY_EXPRESSION_FOLDS_MAX,
};

use super::lexer::{self, Token};
use super::{ExpressionError, Variable};
use crate::fields::Regex;

#[derive(Clone)]
pub(super) enum Expr {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Box<str>),
    List(Vec<Expr>),
    Variable(Variable),
    /// What a comprehension has bound, counted from the outermost.
    Bound(usize),
    Select(Box<Expr>, Box<str>),
    Has(Box<Expr>, Box<str>),
    Index(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    If(Box<Expr>, Box<Expr>, Box<Expr>),
    /// The receiver is the first argument.
    Call(Function, Vec<Expr>),
    Matches(Box<Expr>, Regex),
    Fold(Box<Fold>),
}

/// A comprehension over a list, or the keys of an object.
#[derive(Clone)]
pub(super) struct Fold {
    pub(super) kind: FoldKind,
    pub(super) range: Expr,
    /// Of each item: whether it is meant, or for `map` what becomes of it.
    pub(super) body: Expr,
    /// With `map` of three arguments, which items are meant.
    pub(super) filter: Option<Expr>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FoldKind {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    StartsWith,
    EndsWith,
    Contains,
    LowerAscii,
    UpperAscii,
    Int,
    Double,
    String,
}

const RELATIONS: [(&str, Operator); 6] = [
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
];
const SUMS: [(&str, Operator); 2] = [("+", Operator::Add), ("-", Operator::Subtract)];
const PRODUCTS: [(&str, Operator); 3] =
    [("*", Operator::Multiply), ("/", Operator::Divide), ("%", Operator::Remainder)];
/// Name, function, arguments with the receiver, and whether there is a receiver; `size` is written in both ways.
const FUNCTIONS: [(&str, Function, usize, bool); 10] = [
    ("size", Function::Size, 1, true),
    ("size", Function::Size, 1, false),
    ("startsWith", Function::StartsWith, 2, true),
    ("endsWith", Function::EndsWith, 2, true),
    ("contains", Function::Contains, 2, true),
    ("lowerAscii", Function::LowerAscii, 1, true),
    ("upperAscii", Function::UpperAscii, 1, true),
    ("int", Function::Int, 1, false),
    ("double", Function::Double, 1, false),
    ("string", Function::String, 1, false),
];
const FOLDS: [(&str, FoldKind); 6] = [
    ("all", FoldKind::All),
    ("exists", FoldKind::Exists),
    ("exists_one", FoldKind::ExistsOne),
    ("existsOne", FoldKind::ExistsOne),
    ("filter", FoldKind::Filter),
    ("map", FoldKind::Map),
];

/// The tree, and the variables that it names, each once.
pub(super) fn parse(source: &str) -> Result<(Expr, Vec<Variable>), ExpressionError> {
    if source.len() > POLICY_EXPRESSION_BYTES_MAX {
        let message = format!(
            "the expression has {} bytes; at most {POLICY_EXPRESSION_BYTES_MAX} are allowed",
            source.len()
        );
        let help = "use the other keys of `match`, or write several rules".to_owned();
        return Err(ExpressionError { offset: 0, message, help });
    }
    let tokens = lexer::tokens(source)?;
    let mut parser = Parser { tokens, next: 0, depth: 0, bound: Vec::new(), variables: Vec::new() };
    let expr = parser.expression()?;
    if parser.peek() != &Token::End {
        return Err(parser.unexpected("the expression ends before this"));
    }
    if depth(&expr) > POLICY_EXPRESSION_DEPTH_MAX {
        return Err(parser.too_deep());
    }
    if folds(&expr) > POLICY_EXPRESSION_FOLDS_MAX {
        let message = format!("more than {POLICY_EXPRESSION_FOLDS_MAX} comprehensions stand in one another");
        let help = "its cost would grow with each; look at less".to_owned();
        return Err(ExpressionError { offset: 0, message, help });
    }
    parser.variables.sort_unstable();
    parser.variables.dedup();
    Ok((expr, parser.variables))
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    next: usize,
    depth: usize,
    bound: Vec<String>,
    variables: Vec<Variable>,
}

type Parsed = Result<Expr, ExpressionError>;

// === impl Parser ===

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(token, _)| token)
    }

    fn offset(&self) -> usize {
        self.tokens.get(self.next).or(self.tokens.last()).map_or(0, |(_, at)| *at)
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(found) if *found == sign);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), ExpressionError> {
        match self.take(sign) {
            true => Ok(()),
            false => Err(self.unexpected(&format!("`{sign}` is missing"))),
        }
    }

    fn take_one_of(&mut self, operators: &[(&'static str, Operator)]) -> Option<Operator> {
        operators.iter().find(|(sign, _)| self.take(sign)).map(|(_, operator)| *operator)
    }

    fn unexpected(&self, message: &str) -> ExpressionError {
        let help = match self.peek() {
            Token::End => "the expression ends here",
            _ => "an expression is a comparison, or several joined with `&&` and `||`",
        };
        ExpressionError { offset: self.offset(), message: message.to_owned(), help: help.to_owned() }
    }

    fn too_deep(&self) -> ExpressionError {
        let message = format!("the expression is nested more than {POLICY_EXPRESSION_DEPTH_MAX} levels deep");
        ExpressionError { offset: self.offset(), message, help: "write several rules".to_owned() }
    }

    /// `a ? b : c` and everything that binds more.
    fn expression(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > POLICY_EXPRESSION_DEPTH_MAX {
            return Err(self.too_deep());
        }
        let condition =
            self.joined("||", Expr::Or, |parser| parser.joined("&&", Expr::And, Self::relation))?;
        let expr = if self.take("?") {
            let then = self.expression()?;
            self.expect(":")?;
            Expr::If(Box::new(condition), Box::new(then), Box::new(self.expression()?))
        } else {
            condition
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn joined(
        &mut self,
        sign: &str,
        join: fn(Vec<Expr>) -> Expr,
        part: impl Fn(&mut Self) -> Parsed,
    ) -> Parsed {
        let first = part(self)?;
        let mut parts = vec![first];
        while self.take(sign) {
            parts.push(part(self)?);
        }
        match parts.len() {
            1 => parts.pop().ok_or_else(|| self.unexpected("an expression is missing")),
            _ => Ok(join(parts)),
        }
    }

    fn relation(&mut self) -> Parsed {
        let mut left = self.sum()?;
        loop {
            let operator = match self.take_one_of(&RELATIONS) {
                Some(operator) => operator,
                None if *self.peek() == Token::Name("in".to_owned()) => {
                    self.next += 1;
                    Operator::In
                }
                None => return Ok(left),
            };
            left = Expr::Binary(operator, Box::new(left), Box::new(self.sum()?));
        }
    }

    fn sum(&mut self) -> Parsed {
        let mut left = self.product()?;
        while let Some(operator) = self.take_one_of(&SUMS) {
            left = Expr::Binary(operator, Box::new(left), Box::new(self.product()?));
        }
        Ok(left)
    }

    fn product(&mut self) -> Parsed {
        let mut left = self.unary()?;
        while let Some(operator) = self.take_one_of(&PRODUCTS) {
            left = Expr::Binary(operator, Box::new(left), Box::new(self.unary()?));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parsed {
        let wrap = match self.peek() {
            Token::Sign("!") => Expr::Not,
            Token::Sign("-") => Expr::Negate,
            _ => return self.member(),
        };
        self.next += 1;
        self.depth += 1;
        if self.depth > POLICY_EXPRESSION_DEPTH_MAX {
            return Err(self.too_deep());
        }
        let expr = wrap(Box::new(self.unary()?));
        self.depth -= 1;
        Ok(expr)
    }

    fn member(&mut self) -> Parsed {
        let mut expr = self.primary()?;
        loop {
            if self.take("[") {
                let index = self.expression()?;
                self.expect("]")?;
                expr = Expr::Index(Box::new(expr), Box::new(index));
            } else if self.take(".") {
                let Token::Name(name) = self.peek().clone() else {
                    return Err(self.unexpected("a name is missing behind `.`"));
                };
                let at = self.offset();
                self.next += 1;
                expr = match self.take("(") {
                    true => self.method(expr, &name, at)?,
                    false => Expr::Select(Box::new(expr), name.into()),
                };
            } else {
                return Ok(expr);
            }
        }
    }

    fn primary(&mut self) -> Parsed {
        let (token, at) = (self.peek().clone(), self.offset());
        self.next += 1;
        match token {
            Token::Int(int) => Ok(Expr::Int(int)),
            Token::Float(float) => Ok(Expr::Float(float)),
            Token::Text(text) => Ok(Expr::Text(text.into())),
            Token::Sign("(") => {
                let expr = self.expression()?;
                self.expect(")")?;
                Ok(expr)
            }
            Token::Sign("[") => self.arguments("]").map(Expr::List),
            Token::Name(name) if self.take("(") => self.function(&name, at),
            Token::Name(name) => self.name(&name, at),
            _ => {
                self.next -= 1;
                Err(self.unexpected("an expression is missing"))
            }
        }
    }

    fn name(&mut self, name: &str, at: usize) -> Parsed {
        if let Some(slot) = self.bound.iter().rposition(|bound| bound == name) {
            return Ok(Expr::Bound(slot));
        }
        match name {
            "true" => return Ok(Expr::Bool(true)),
            "false" => return Ok(Expr::Bool(false)),
            "null" => return Ok(Expr::Null),
            _ => {}
        }
        let known = Variable::ALL.into_iter().find(|variable| variable.as_str() == name);
        let variable = known.ok_or_else(|| ExpressionError {
            offset: at,
            message: format!("there is no variable `{name}`"),
            help: format!("the variables are {}", listed(Variable::ALL.map(Variable::as_str).into_iter())),
        })?;
        self.variables.push(variable);
        Ok(Expr::Variable(variable))
    }

    /// Up to the bracket that closes them.
    fn arguments(&mut self, close: &str) -> Result<Vec<Expr>, ExpressionError> {
        let mut arguments = Vec::new();
        while !self.take(close) {
            if !arguments.is_empty() {
                self.expect(",")?;
                if self.take(close) {
                    break;
                }
            }
            arguments.push(self.expression()?);
        }
        Ok(arguments)
    }

    fn function(&mut self, name: &str, at: usize) -> Parsed {
        if name == "has" {
            let argument = self.expression()?;
            self.expect(")")?;
            return match argument {
                Expr::Select(object, field) => Ok(Expr::Has(object, field)),
                _ => Err(misused(at, "`has` asks for a field, such as `has(arguments.path)`")),
            };
        }
        let arguments = self.arguments(")")?;
        call(name, arguments, false, at)
    }

    fn method(&mut self, receiver: Expr, name: &str, at: usize) -> Parsed {
        if let Some((_, kind)) = FOLDS.iter().find(|(fold, _)| *fold == name) {
            return self.fold(*kind, receiver, at);
        }
        let mut arguments = self.arguments(")")?;
        if name == "matches" {
            return match arguments.as_slice() {
                [Expr::Text(pattern)] => match Regex::new(pattern) {
                    Ok(regex) => Ok(Expr::Matches(Box::new(receiver), regex)),
                    Err(why) => Err(misused(at, &format!("the regular expression cannot be read: {why}"))),
                },
                _ => Err(misused(at, "`matches` takes one regular expression, written out")),
            };
        }
        arguments.insert(0, receiver);
        call(name, arguments, true, at)
    }

    fn fold(&mut self, kind: FoldKind, range: Expr, at: usize) -> Parsed {
        let Token::Name(item) = self.peek().clone() else {
            return Err(self.unexpected("a comprehension begins with a name for each item"));
        };
        if Variable::ALL.iter().any(|variable| variable.as_str() == item) {
            return Err(self.unexpected("the name of a variable cannot be given to an item"));
        }
        self.next += 1;
        self.expect(",")?;
        self.bound.push(item);
        let mut parts = self.arguments(")")?;
        self.bound.pop();
        let (filter, body) = match (parts.pop(), parts.pop(), parts.pop()) {
            (Some(body), None, None) => (None, body),
            (Some(body), Some(filter), None) if kind == FoldKind::Map => (Some(filter), body),
            _ => {
                return Err(misused(
                    at,
                    "a comprehension takes a name and an expression: `all(item, item > 0)`",
                ));
            }
        };
        Ok(Expr::Fold(Box::new(Fold { kind, range, body, filter })))
    }
}

fn call(name: &str, arguments: Vec<Expr>, has_receiver: bool, at: usize) -> Parsed {
    let found = FUNCTIONS.iter().filter(|(known, ..)| *known == name).collect::<Vec<_>>();
    if found.is_empty() {
        let names = FUNCTIONS.iter().map(|(name, ..)| *name).chain(FOLDS.iter().map(|(name, _)| *name));
        let mut names: Vec<_> = names.chain(["has", "matches"]).collect();
        names.sort_unstable();
        names.dedup();
        let (offset, message) = (at, format!("there is no function `{name}`"));
        let help = format!("the functions are {}", listed(names.into_iter()));
        return Err(ExpressionError { offset, message, help });
    }
    match found.iter().find(|(_, _, count, receives)| *count == arguments.len() && *receives == has_receiver)
    {
        Some((_, function, ..)) => Ok(Expr::Call(*function, arguments)),
        None => Err(misused(at, &format!("`{name}` is called with other arguments than it takes"))),
    }
}

fn misused(offset: usize, message: &str) -> ExpressionError {
    let help = "docs/reference/policy.md lists the functions and how they are called".to_owned();
    ExpressionError { offset, message: message.to_owned(), help }
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

// === impl Expr ===

impl Expr {
    fn children(&self) -> Vec<&Self> {
        match self {
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::Text(_) => Vec::new(),
            Self::Variable(_) | Self::Bound(_) => Vec::new(),
            Self::List(items) | Self::And(items) | Self::Or(items) | Self::Call(_, items) => {
                items.iter().collect()
            }
            Self::Select(inner, _)
            | Self::Has(inner, _)
            | Self::Not(inner)
            | Self::Negate(inner)
            | Self::Matches(inner, _) => vec![inner],
            Self::Index(one, other) | Self::Binary(_, one, other) => vec![one, other],
            Self::If(condition, then, otherwise) => vec![condition, then, otherwise],
            Self::Fold(fold) => [&fold.range, &fold.body].into_iter().chain(&fold.filter).collect(),
        }
    }
}

/// The longest way down. The parser has bounded how deep this calls itself by the length of the text.
fn depth(expr: &Expr) -> usize {
    1 + expr.children().into_iter().map(depth).max().unwrap_or_default()
}

/// Comprehensions that multiply each other: one in another's body or range.
fn folds(expr: &Expr) -> usize {
    let below = match expr {
        Expr::Fold(fold) => folds(&fold.range) + folds(&fold.body).max(fold.filter.as_ref().map_or(0, folds)),
        other => other.children().into_iter().map(folds).max().unwrap_or_default(),
    };
    below + usize::from(matches!(expr, Expr::Fold(_)))
}
