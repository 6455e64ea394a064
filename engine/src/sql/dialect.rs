//! What `sqlparser` shall accept.

use std::{any::TypeId, cell::Cell};

use datafusion::sql::sqlparser::{
    ast::{Expr, ObjectName},
    dialect::{Dialect, GenericDialect, Precedence},
    keywords::Keyword,
    parser::{Parser, ParserError},
    tokenizer::{Token, Word},
};

use super::words;

/// DataFusion's SQL (that of `sqlparser`'s generic dialect) with the operator precedence of PostgreSQL.
///
/// `sqlparser` goes back and tries again where SQL is ambiguous, which takes exponential time on nested input made for
/// it, such as `CAST(CAST(CAST(…` without its end. The budget bounds that: a count of expressions begun, far above what
/// a text of its length needs.
#[derive(Debug)]
pub(super) struct KalamDialect {
    budget: Cell<usize>,
    /// The expression to be parsed next is the right side of IS DISTINCT FROM.
    after_distinct_from: Cell<bool>,
}

impl KalamDialect {
    /// A dialect to parse this number of tokens with.
    pub(super) fn with_budget(token_count: usize) -> Self {
        const LEAST: usize = 20_000;
        const PER_TOKEN: usize = 4;
        let budget = LEAST.saturating_add(token_count.saturating_mul(PER_TOKEN));
        Self { budget: Cell::new(budget), after_distinct_from: Cell::new(false) }
    }
}

impl Dialect for KalamDialect {
    /// `sqlparser` asks for the type in places that no method of the trait covers.
    fn dialect(&self) -> TypeId {
        TypeId::of::<GenericDialect>()
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '"' || ch == '`'
    }

    fn identifier_quote_style(&self, _identifier: &str) -> Option<char> {
        Some('"')
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$'
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let Some(left) = self.budget.get().checked_sub(1) else {
            return Some(Err(ParserError::RecursionLimitExceeded));
        };
        self.budget.set(left);
        // `sqlparser` makes a function call of a bare USER; here it is a name like any other, such as a column's.
        if is_keyword(&parser.peek_token_ref().token, Keyword::USER)
            && parser.peek_nth_token_ref(1).token != Token::LParen
        {
            return Some(parser.parse_identifier().map(Expr::Identifier));
        }
        // It knows CURRENT_USER without parentheses only.
        if is_keyword(&parser.peek_token_ref().token, Keyword::CURRENT_USER)
            && parser.peek_nth_token_ref(1).token == Token::LParen
        {
            return Some(
                parser.parse_identifier().and_then(|name| parser.parse_function(ObjectName::from(vec![name]))),
            );
        }
        None
    }

    /// `sqlparser` takes everything after `IS DISTINCT FROM` for its right side, so that `a IS DISTINCT FROM 1 AND b`
    /// would mean `a IS DISTINCT FROM (1 AND b)`. It begins that side with the precedence of [`Self::prec_unknown`].
    fn parse_infix(&self, parser: &mut Parser, _left: &Expr, _precedence: u8) -> Option<Result<Expr, ParserError>> {
        let found = words::comes(parser, &["IS", "DISTINCT", "FROM"])
            || words::comes(parser, &["IS", "NOT", "DISTINCT", "FROM"]);
        self.after_distinct_from.set(found);
        None
    }

    fn prec_unknown(&self) -> u8 {
        if self.after_distinct_from.take() { self.prec_value(Precedence::Is) } else { 0 }
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        match &parser.peek_token_ref().token {
            Token::LBracket => Some(Ok(BRACKET)),
            // Of slices, structs and maps; never an operator.
            Token::Colon => Some(Ok(0)),
            Token::StringConcat | Token::Sharp | Token::ShiftLeft | Token::ShiftRight | Token::CaretAt => {
                Some(Ok(OTHER_OPERATOR))
            }
            _ => None,
        }
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        match precedence {
            Precedence::Period => 200,
            Precedence::DoubleColon => 140,
            Precedence::AtTz => 110,
            Precedence::MulDivModOp => 90,
            Precedence::PlusMinus => 80,
            Precedence::Xor => 75,
            Precedence::Ampersand | Precedence::Caret | Precedence::Pipe | Precedence::Colon | Precedence::PgOther => {
                OTHER_OPERATOR
            }
            Precedence::Between | Precedence::Like => 60,
            Precedence::Eq => 50,
            Precedence::Is => 40,
            Precedence::UnaryNot => 30,
            Precedence::And => 20,
            Precedence::Or => 10,
        }
    }

    /// Words that are never names unless quoted: what follows is parsed once, not a second time as a function's call.
    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        matches!(
            keyword,
            Keyword::CASE
                | Keyword::CAST
                | Keyword::EXISTS
                | Keyword::EXTRACT
                | Keyword::NOT
                | Keyword::OVERLAY
                | Keyword::SAFE_CAST
                | Keyword::STRUCT
                | Keyword::SUBSTRING
                | Keyword::TRIM
                | Keyword::TRY_CAST
        )
    }

    fn allow_extract_custom(&self) -> bool {
        true
    }

    fn allow_extract_single_quotes(&self) -> bool {
        true
    }

    fn support_map_literal_syntax(&self) -> bool {
        true
    }

    fn supports_array_typedef_with_brackets(&self) -> bool {
        true
    }

    fn supports_bitwise_shift_operators(&self) -> bool {
        true
    }

    fn supports_comma_separated_trim(&self) -> bool {
        true
    }

    fn supports_data_type_signed_suffix(&self) -> bool {
        true
    }

    fn supports_dictionary_syntax(&self) -> bool {
        true
    }

    fn supports_empty_projections(&self) -> bool {
        true
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_from_first_select(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    /// Only to refuse it by name.
    fn supports_group_by_with_modifier(&self) -> bool {
        true
    }

    fn supports_interval_options(&self) -> bool {
        true
    }

    fn supports_left_associative_joins_without_parens(&self) -> bool {
        true
    }

    fn supports_limit_comma(&self) -> bool {
        true
    }

    fn supports_named_fn_args_with_assignment_operator(&self) -> bool {
        true
    }

    fn supports_nested_comments(&self) -> bool {
        true
    }

    fn supports_parens_around_table_factor(&self) -> bool {
        true
    }

    fn supports_pipe_operator(&self) -> bool {
        true
    }

    fn supports_select_wildcard_except(&self) -> bool {
        true
    }

    fn supports_select_wildcard_exclude(&self) -> bool {
        true
    }

    fn supports_select_wildcard_ilike(&self) -> bool {
        true
    }

    fn supports_select_wildcard_replace(&self) -> bool {
        true
    }

    fn supports_string_escape_constant(&self) -> bool {
        true
    }

    fn supports_struct_literal(&self) -> bool {
        true
    }

    fn supports_unicode_string_literal(&self) -> bool {
        true
    }

    /// Only to refuse it by name.
    fn supports_update_order_by(&self) -> bool {
        true
    }

    fn supports_values_as_table_factor(&self) -> bool {
        true
    }

    fn supports_window_clause_named_window_reference(&self) -> bool {
        true
    }

    fn supports_window_function_null_treatment_arg(&self) -> bool {
        true
    }
}

const BRACKET: u8 = 130;
const OTHER_OPERATOR: u8 = 70;

fn is_keyword(token: &Token, keyword: Keyword) -> bool {
    matches!(token, Token::Word(Word { keyword: found, .. }) if *found == keyword)
}
