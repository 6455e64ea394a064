//! Bounds on the depth of a statement, before anything recurses over it.
//!
//! Parsing, planning, rendering, copying and dropping a syntax tree all recurse, so its depth must be bounded by what a
//! thread's stack holds. Depth comes from nesting and from operators: `a AND a AND a` is a tree that leans left. Both
//! are bounded here from the tokens alone, by a count that is never below the depth of the tree.

use datafusion::sql::sqlparser::{
    keywords::Keyword,
    tokenizer::{Token, TokenWithSpan, Word},
};

use super::{errors, normalize};
use crate::error::{Error, Position, Reason, Result};

/// Operators of one expression for each level of `max_nesting_depth`.
pub const OPERATORS_PER_LEVEL: usize = 10;

const RELATIONS_PER_LEVEL: usize = 2;

/// How often a query in parentheses may be parsed: see [`Level::attempts`].
const MAX_ATTEMPTS: usize = 64;

/// Parts of one `a.b.c`, less one.
const MAX_PERIODS: usize = 32;

/// Parameters are numbered up to this.
const MAX_PARAMETER: usize = 65_535;

/// Refuses a statement that is too deep. The tokens hold no white space.
pub(super) fn check(tokens: &[TokenWithSpan], max_nesting_depth: usize) -> Result<()> {
    Guard::new(max_nesting_depth).run(tokens)
}

/// The joins and set operations that one query may have.
pub(super) fn max_relations(max_nesting_depth: usize) -> usize {
    max_nesting_depth.saturating_mul(RELATIONS_PER_LEVEL)
}

/// The recursion that a statement within the limits needs at most in `sqlparser`.
pub(super) fn recursion_limit(max_nesting_depth: usize) -> usize {
    max_nesting_depth.saturating_mul(OPERATORS_PER_LEVEL + 4).saturating_add(64)
}

/// The highest `n` of `$n`; 0 without any.
pub(super) fn parameter_count(tokens: &[TokenWithSpan]) -> Result<usize> {
    let mut count = 0;
    for token in tokens {
        if let Token::Placeholder(text) = &token.token {
            count = count.max(parameter_number(text).map_err(|error| errors::at(error, errors::start(token)))?);
        }
    }
    Ok(count)
}

/// Where the first parameter stands.
pub(super) fn first_parameter(tokens: &[TokenWithSpan]) -> Option<Position> {
    tokens.iter().find(|token| matches!(token.token, Token::Placeholder(_))).and_then(errors::start)
}

/// The number of a parameter as written.
pub(super) fn parameter_number(text: &str) -> Result<usize> {
    let digits = text.strip_prefix('$').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let Some(digits) = digits.filter(|digits| !digits.is_empty()) else {
        return Err(Error::new(
            Reason::InvalidStatement,
            format!("{} is no parameter: write $1, $2 and so on.", errors::clip(text)),
        ));
    };
    match digits.parse::<usize>() {
        Ok(0) => Err(Error::new(Reason::InvalidStatement, "There is no parameter $0: the first one is $1.")),
        Ok(number) if number <= MAX_PARAMETER => Ok(number),
        _ => Err(Error::new(
            Reason::InvalidStatement,
            format!("The parameter ${} is out of range: at most ${MAX_PARAMETER}.", errors::clip(digits)),
        )),
    }
}

/// What lies between an opening token and its closing one.
struct Level {
    /// Whether CASE opened it.
    case: bool,
    /// Operators since the last comma.
    operators: usize,
    /// Depth of the deepest level closed since the last comma.
    deepest: usize,
    /// Depth of the deepest expression before the last comma.
    before: usize,
    /// Joins, commas between tables, and set operations.
    relations: usize,
    /// Inside a FROM clause.
    in_from: bool,
    /// How many parentheses stand directly before this point at the place of a table.
    table_parentheses: usize,
    /// How often `sqlparser` parses what stands here: after FROM, it tries each of several parentheses for the start of
    /// a subquery, then for a join, so that `FROM ((SELECT …) a JOIN b)` is parsed twice, and nesting that multiplies.
    attempts: usize,
}

struct Guard {
    max_nesting: usize,
    levels: Vec<Level>,
    type_brackets: usize,
    periods: usize,
}

impl Guard {
    fn new(max_nesting: usize) -> Self {
        let statement = Level {
            case: false,
            operators: 0,
            deepest: 0,
            before: 0,
            relations: 0,
            in_from: false,
            table_parentheses: 0,
            attempts: 1,
        };
        Self { max_nesting, levels: vec![statement], type_brackets: 0, periods: 0 }
    }

    fn run(mut self, tokens: &[TokenWithSpan]) -> Result<()> {
        let mut previous = &Token::EOF;
        for token in tokens {
            if !self.step(previous, &token.token) {
                return Err(errors::at(self.error(), errors::start(token)));
            }
            previous = &token.token;
        }
        Ok(())
    }

    /// Takes a token; false if it is one too many.
    fn step(&mut self, previous: &Token, token: &Token) -> bool {
        self.periods = match token {
            Token::Period => self.periods + 1,
            Token::Word(_) => self.periods,
            _ => 0,
        };
        match token {
            Token::LParen | Token::LBrace => self.open(previous, false),
            // A subscript, or an array type's suffix, is an operator too.
            Token::LBracket => self.operator() && self.open(previous, false),
            Token::RParen | Token::RBracket | Token::RBrace => {
                while self.top().case && self.close() {}
                self.close();
                self.within()
            }
            Token::Comma => {
                self.comma();
                !self.top().in_from || self.relation()
            }
            Token::Word(word) => self.word(previous, word.keyword),
            // A name has up to three; more are accesses to fields, which `sqlparser` reads in more than linear time.
            Token::Period => self.periods <= MAX_PERIODS && (self.periods <= 3 || self.operator()),
            Token::Lt if normalize::opens_type(previous) => {
                self.type_brackets += 1;
                self.type_brackets <= self.max_nesting && self.operator()
            }
            Token::Gt | Token::ShiftRight if self.type_brackets > 0 => {
                let closed = if *token == Token::Gt { 1 } else { 2 };
                self.type_brackets = self.type_brackets.saturating_sub(closed);
                self.operator()
            }
            Token::VerticalBarRightAngleBracket => self.relation(),
            other if is_operand(other) => true,
            _ => self.operator(),
        }
    }

    fn word(&mut self, previous: &Token, keyword: Keyword) -> bool {
        match keyword {
            Keyword::NoKeyword => true,
            Keyword::CASE => self.open(previous, true),
            Keyword::END => {
                if self.top().case {
                    self.close();
                }
                self.within()
            }
            Keyword::SELECT | Keyword::WITH | Keyword::VALUES => {
                self.top().in_from = false;
                *previous != Token::LParen || self.subquery()
            }
            // Not that of IS DISTINCT FROM.
            Keyword::FROM if !matches!(previous, Token::Word(Word { keyword: Keyword::DISTINCT, .. })) => {
                self.top().in_from = true;
                *previous != Token::LParen || self.subquery()
            }
            Keyword::USING => {
                self.top().in_from = true;
                true
            }
            Keyword::WHERE
            | Keyword::GROUP
            | Keyword::HAVING
            | Keyword::ORDER
            | Keyword::LIMIT
            | Keyword::QUALIFY
            | Keyword::RETURNING
            | Keyword::SET
            | Keyword::WINDOW => {
                self.top().in_from = false;
                true
            }
            Keyword::JOIN => {
                self.top().in_from = true;
                self.relation()
            }
            Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT | Keyword::MINUS => self.relation(),
            Keyword::AND
            | Keyword::AT
            | Keyword::BETWEEN
            | Keyword::COLLATE
            | Keyword::DIV
            | Keyword::ESCAPE
            | Keyword::ILIKE
            | Keyword::IN
            | Keyword::INTERVAL
            | Keyword::IS
            | Keyword::LIKE
            | Keyword::MATCH
            | Keyword::MEMBER
            | Keyword::NOT
            | Keyword::NOTNULL
            | Keyword::OPERATOR
            | Keyword::OR
            | Keyword::OVERLAPS
            | Keyword::REGEXP
            | Keyword::RLIKE
            | Keyword::SIMILAR
            | Keyword::XOR => self.operator(),
            _ => true,
        }
    }

    /// A query begins in parentheses.
    fn subquery(&mut self) -> bool {
        let level = self.top();
        level.attempts = level.attempts.saturating_mul(level.table_parentheses.max(1));
        level.attempts <= MAX_ATTEMPTS
    }

    fn open(&mut self, previous: &Token, case: bool) -> bool {
        if self.levels.len() > self.max_nesting {
            return false;
        }
        let outer = self.top();
        let table_parentheses = match previous {
            _ if case => 0,
            Token::LParen if outer.table_parentheses > 0 => outer.table_parentheses + 1,
            Token::Comma if outer.in_from => 1,
            Token::Word(Word {
                keyword: Keyword::FROM | Keyword::JOIN | Keyword::LATERAL | Keyword::USING, ..
            }) => 1,
            _ => 0,
        };
        let attempts = outer.attempts;
        self.levels.push(Level {
            case,
            operators: 0,
            deepest: 0,
            before: 0,
            relations: 0,
            in_from: table_parentheses > 0,
            table_parentheses,
            attempts,
        });
        true
    }

    /// Closes the innermost level; false if it is the statement itself.
    fn close(&mut self) -> bool {
        if self.levels.len() < 2 {
            return false;
        }
        let Some(closed) = self.levels.pop() else { return false };
        let depth = closed.before.max(closed.operators.saturating_add(closed.deepest)).saturating_add(1);
        let outer = self.top();
        outer.deepest = outer.deepest.max(depth);
        true
    }

    fn comma(&mut self) {
        // The commas of a type such as STRUCT<a INT, b INT> do not end the expression that it stands in.
        if self.type_brackets == 0 {
            let level = self.top();
            level.before = level.before.max(level.operators.saturating_add(level.deepest));
            level.operators = 0;
            level.deepest = 0;
        }
    }

    fn operator(&mut self) -> bool {
        self.top().operators += 1;
        self.within()
    }

    fn relation(&mut self) -> bool {
        let most = max_relations(self.max_nesting);
        let level = self.top();
        level.relations += 1;
        level.relations <= most
    }

    fn within(&mut self) -> bool {
        let most = self.max_nesting.saturating_mul(OPERATORS_PER_LEVEL);
        let level = self.top();
        level.operators.saturating_add(level.deepest) <= most
    }

    fn top(&mut self) -> &mut Level {
        self.levels.last_mut().expect("invariant: the level of the statement is never closed")
    }

    fn error(&self) -> Error {
        Error::new(
            Reason::NestingTooDeep,
            format!(
                "The statement is too deep here: at most {} nested parentheses, brackets and CASEs (the limit \
                 limits.max_nesting_depth), {} operators in one expression, and {} joins and set operations in one query. \
                 Split it, or use a list: x IN (…).",
                self.max_nesting,
                self.max_nesting.saturating_mul(OPERATORS_PER_LEVEL),
                max_relations(self.max_nesting),
            ),
        )
        .with("limit", "limits.max_nesting_depth")
    }
}

fn is_operand(token: &Token) -> bool {
    matches!(
        token,
        Token::EOF
            | Token::Word(_)
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DoubleQuotedByteStringLiteral(_)
            | Token::SingleQuotedRawStringLiteral(_)
            | Token::DoubleQuotedRawStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::Placeholder(_)
            | Token::Whitespace(_)
    )
}
