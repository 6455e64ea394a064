//! The grammar of rules.

use std::fmt;

use datafusion::sql::sqlparser::{
    dialect::GenericDialect,
    tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Word},
};

use crate::error::{Error, Position, Reason};

/// The longest rule, in bytes.
const MAX_RULE_BYTES: usize = 16 * 1024;

/// How much of a rule an error shows, in characters.
const SHOWN_CHARS: usize = 100;

/// A rule that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) target: Target,
}

/// What a rule grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Everything,
    Namespace(Named),
    Table { namespace: Named, table: Named },
    Rows { namespace: Named, table: Named, condition: Condition },
}

/// A name as the rule has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) text: String,
    pub(super) position: Position,
}

/// A condition on a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) column: Named,
    pub(super) test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Test {
    Compare(Comparison, Operand),
    In { operands: Vec<Operand>, negated: bool },
    IsNull { negated: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What a column is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Operand {
    pub(super) value: Value,
    pub(super) position: Position,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    CurrentUser,
    Text(String),
    /// As it was written, with its sign.
    Number(String),
    Boolean(bool),
}

/// What is wrong with a rule, and where.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) error: Error,
    pub(super) position: Position,
}

pub(super) type Parsed<T> = Result<T, Wrong>;

impl Wrong {
    pub(super) fn new(reason: Reason, message: impl Into<String>, position: Position) -> Self {
        Self { error: Error::new(reason, message), position }
    }

    fn syntax(message: impl Into<String>, position: Position) -> Self {
        Self::new(Reason::SyntaxError, message, position)
    }

    /// The error that says which rule it is.
    pub(super) fn of_rule(self, index: usize, text: &str) -> Error {
        let Self { error, position: Position { line, column } } = self;
        let number = index + 1;
        let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        let place = if line == 1 { format!("column {column}") } else { format!("line {line}, column {column}") };
        let message = format!("Permission {number} is wrong at {place} ({shown}): {}", error.message());
        let mut described = Error::new(error.reason(), message);
        for (name, value) in error.metadata() {
            described = described.with(name, value.as_str());
        }
        described
            .with("permission", number.to_string())
            .with("permission_line", line.to_string())
            .with("permission_column", column.to_string())
    }
}

/// Reads a rule.
pub(super) fn rule(text: &str) -> Parsed<Rule> {
    let start = Position { line: 1, column: 1 };
    if text.len() > MAX_RULE_BYTES {
        let message = format!("it has {} bytes; the most is {MAX_RULE_BYTES}. Split it into several.", text.len());
        return Err(Wrong::new(Reason::InvalidRequest, message, start));
    }
    let tokens = Tokenizer::new(&GenericDialect {}, text)
        .tokenize_with_location()
        .map_err(|e| Wrong::syntax(format!("{}.", e.message.trim_end_matches('.')), position(e.location, start)))?;
    let mut parser = Parser::new(tokens, start);
    let path = parser.path()?;
    let target = if parser.is_at_end() { pattern(path)? } else { parser.rows(path)? };
    parser.expect_end()?;
    Ok(Rule { target })
}

/// One part of the path at the beginning of a rule.
enum Part {
    Any(Position),
    Name(Named),
}

impl Part {
    fn position(&self) -> Position {
        match self {
            Part::Any(position) => *position,
            Part::Name(name) => name.position,
        }
    }
}

fn pattern(path: Vec<Part>) -> Parsed<Target> {
    let first = path.first().map_or(Position { line: 1, column: 1 }, Part::position);
    let last = path.last().map_or(first, Part::position);
    let mut path = path.into_iter();
    match (path.next(), path.next(), path.next()) {
        (Some(Part::Any(_)), None | Some(Part::Any(_)), None | Some(Part::Any(_))) => Ok(Target::Everything),
        (Some(Part::Name(namespace)), Some(Part::Any(_)), None | Some(Part::Any(_))) => {
            Ok(Target::Namespace(namespace))
        }
        (Some(Part::Name(namespace)), Some(Part::Name(table)), None | Some(Part::Any(_))) => {
            Ok(Target::Table { namespace, table })
        }
        (Some(Part::Name(name)), None, _) => Err(Wrong::syntax(
            format!("'{0}' alone is no rule. For every table of namespace {0} write {0}.*.", name.text),
            first,
        )),
        (Some(Part::Name(namespace)), Some(Part::Name(table)), Some(Part::Name(column))) => Err(Wrong::syntax(
            format!(
                "a rule on a column needs a condition, such as {0}.{1}.{2} = CURRENT_USER(). For all rows write {0}.{1}.*.",
                namespace.text, table.text, column.text
            ),
            column.position,
        )),
        _ => Err(Wrong::syntax("after * there can only be *. Name the namespace and the table.", last)),
    }
}

/// Tokens without white space and comments.
struct Parser {
    tokens: Vec<TokenWithSpan>,
    next: usize,
    end: Position,
}

impl Parser {
    fn new(tokens: Vec<TokenWithSpan>, start: Position) -> Self {
        let end = tokens.last().map_or(start, |token| position(token.span.end, start));
        let tokens = tokens.into_iter().filter(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF)).collect();
        Self { tokens, next: 0, end }
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|token| &token.token)
    }

    fn position(&self) -> Position {
        self.tokens.get(self.next).map_or(self.end, |token| position(token.span.start, self.end))
    }

    fn is_at_end(&self) -> bool {
        self.next >= self.tokens.len()
    }

    fn accept(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        self.next += usize::from(found);
        found
    }

    fn accept_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(found)) if is_word(found, word));
        self.next += usize::from(found);
        found
    }

    fn expected<T>(&self, what: &str) -> Parsed<T> {
        let found = self.peek().map_or_else(|| "the end".to_owned(), |token| format!("{token}"));
        let found: String = found.chars().take(60).collect();
        Err(Wrong::syntax(format!("expected {what}, found {found}."), self.position()))
    }

    fn expect(&mut self, token: &Token, what: &str) -> Parsed<()> {
        if self.accept(token) { Ok(()) } else { self.expected(what) }
    }

    fn expect_end(&self) -> Parsed<()> {
        let Some(token) = self.peek() else { return Ok(()) };
        let joins = |word: &str| matches!(token, Token::Word(found) if is_word(found, word));
        if joins("and") {
            let message = "AND is not supported: a rule is one condition on one column. Keep what must hold together in a \
                           column of its own.";
            return Err(Wrong::new(Reason::NotSupported, message, self.position()));
        }
        if joins("or") {
            let message = "OR is not supported: write each alternative as a permission of its own; they combine by OR.";
            return Err(Wrong::new(Reason::NotSupported, message, self.position()));
        }
        self.expected("the end of the rule")
    }

    fn path(&mut self) -> Parsed<Vec<Part>> {
        let mut parts = vec![self.part()?];
        while self.accept(&Token::Period) {
            if parts.len() == 3 {
                let message = "a rule names namespace.table.column at most.";
                return Err(Wrong::syntax(message, self.position()));
            }
            parts.push(self.part()?);
        }
        Ok(parts)
    }

    fn part(&mut self) -> Parsed<Part> {
        let position = self.position();
        let part = match self.peek() {
            Some(Token::Mul) => Part::Any(position),
            Some(Token::Word(word)) if word.quote_style.is_none_or(|quote| quote == '"') => {
                let text =
                    if word.quote_style.is_some() { word.value.clone() } else { word.value.to_ascii_lowercase() };
                Part::Name(Named { text, position })
            }
            _ => return self.expected("a name or *"),
        };
        self.next += 1;
        Ok(part)
    }

    fn rows(&mut self, path: Vec<Part>) -> Parsed<Target> {
        let first_any = path.iter().find_map(|part| match part {
            Part::Any(position) => Some(*position),
            Part::Name(_) => None,
        });
        let mut path = path.into_iter();
        let (Some(Part::Name(namespace)), Some(Part::Name(table)), Some(Part::Name(column))) =
            (path.next(), path.next(), path.next())
        else {
            return match first_any {
                Some(at) => Err(Wrong::syntax("a condition is on a column of one table: name it instead of *.", at)),
                None => self.expected("a condition on namespace.table.column, or the end of the rule"),
            };
        };
        let test = self.test()?;
        Ok(Target::Rows { namespace, table, condition: Condition { column, test } })
    }

    fn test(&mut self) -> Parsed<Test> {
        let comparison = match self.peek() {
            Some(Token::Eq) => Some(Comparison::Equal),
            Some(Token::Neq) => Some(Comparison::NotEqual),
            Some(Token::Lt) => Some(Comparison::Less),
            Some(Token::LtEq) => Some(Comparison::LessOrEqual),
            Some(Token::Gt) => Some(Comparison::Greater),
            Some(Token::GtEq) => Some(Comparison::GreaterOrEqual),
            _ => None,
        };
        if let Some(comparison) = comparison {
            self.next += 1;
            return Ok(Test::Compare(comparison, self.operand()?));
        }
        if self.accept_word("is") {
            let negated = self.accept_word("not");
            return if self.accept_word("null") { Ok(Test::IsNull { negated }) } else { self.expected("NULL") };
        }
        let negated = self.accept_word("not");
        if !self.accept_word("in") {
            return self.expected(if negated { "IN" } else { "=, <>, <, <=, >, >=, IN, NOT IN or IS [NOT] NULL" });
        }
        self.expect(&Token::LParen, "(")?;
        let mut operands = vec![self.operand()?];
        while self.accept(&Token::Comma) {
            operands.push(self.operand()?);
        }
        self.expect(&Token::RParen, "a comma or )")?;
        Ok(Test::In { operands, negated })
    }

    fn operand(&mut self) -> Parsed<Operand> {
        let position = self.position();
        if self.accept_word("current_user") {
            // As in SQL, the parentheses may be left out.
            if self.accept(&Token::LParen) {
                self.expect(&Token::RParen, ")")?;
            }
            return Ok(Operand { value: Value::CurrentUser, position });
        }
        if self.accept_word("null") {
            let message = "nothing is equal to NULL, or greater or less. Write IS NULL or IS NOT NULL.";
            return Err(Wrong::syntax(message, position));
        }
        let sign = match self.peek() {
            Some(Token::Minus) => Some("-"),
            Some(Token::Plus) => Some(""),
            _ => None,
        };
        self.next += usize::from(sign.is_some());
        let value = match self.peek() {
            Some(Token::Number(digits, false)) => Value::Number(format!("{}{digits}", sign.unwrap_or_default())),
            _ if sign.is_some() => return self.expected("a number"),
            Some(Token::SingleQuotedString(text)) => Value::Text(text.clone()),
            Some(Token::Word(word)) if is_word(word, "true") => Value::Boolean(true),
            Some(Token::Word(word)) if is_word(word, "false") => Value::Boolean(false),
            _ => return self.expected("a constant or CURRENT_USER()"),
        };
        self.next += 1;
        Ok(Operand { value, position })
    }
}

fn is_word(found: &Word, word: &str) -> bool {
    found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word)
}

fn position(location: Location, otherwise: Position) -> Position {
    if location.line == 0 { otherwise } else { Position { line: location.line, column: location.column } }
}

impl Comparison {
    fn as_str(self) -> &'static str {
        match self {
            Comparison::Equal => "=",
            Comparison::NotEqual => "<>",
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
        }
    }
}

/// One text for one meaning: columns in quotes, since a name in quotes may hold anything.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" ", self.column.text.replace('"', "\"\""))?;
        match &self.test {
            Test::Compare(comparison, operand) => write!(f, "{} {}", comparison.as_str(), operand.value),
            Test::In { operands, negated } => {
                f.write_str(if *negated { "NOT IN (" } else { "IN (" })?;
                for (i, operand) in operands.iter().enumerate() {
                    write!(f, "{}{}", if i == 0 { "" } else { ", " }, operand.value)?;
                }
                f.write_str(")")
            }
            Test::IsNull { negated } => f.write_str(if *negated { "IS NOT NULL" } else { "IS NULL" }),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::CurrentUser => f.write_str("CURRENT_USER()"),
            Value::Text(text) => write!(f, "'{}'", text.replace('\'', "''")),
            Value::Number(number) => f.write_str(number),
            Value::Boolean(value) => f.write_str(if *value { "TRUE" } else { "FALSE" }),
        }
    }
}
