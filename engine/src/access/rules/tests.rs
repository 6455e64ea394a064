use super::{RuleSet, Said, parse};
use crate::error::Reason;

fn set(rules: &[&str]) -> RuleSet {
    RuleSet::parse(&rules.iter().map(|rule| (*rule).to_owned()).collect::<Vec<_>>()).unwrap()
}

fn says(rules: &[&str], table: &str) -> String {
    let set = set(rules);
    let (namespace, table) = table.split_once('.').unwrap();
    match set.says_of(namespace, table) {
        Said::Nothing => "nothing".to_owned(),
        Said::Everything => "everything".to_owned(),
        Said::Conditions(rules) => rules.text.to_string(),
    }
}

#[test]
fn patterns_grant_all_rows() {
    for rule in
        ["*", "*.*", "*.*.*", "shop.*", "shop.*.*", "shop.orders", "shop.orders.*", "Shop.ORDERS", " shop . orders "]
    {
        assert_eq!(says(&[rule], "shop.orders"), "everything", "{rule}");
    }
    for rule in ["other.*", "shop.order", "shop.ordersx", "\"Shop\".orders", "shop.orders2.id = 1"] {
        assert_eq!(says(&[rule], "shop.orders"), "nothing", "{rule}");
    }
    assert_eq!(says(&[], "shop.orders"), "nothing");
    assert_eq!(says(&["shop.orders.id = 1", "shop.*"], "shop.orders"), "everything");
}

#[test]
fn the_same_conditions_have_the_same_text() {
    let text = r#""level" >= -5 OR "owner" = CURRENT_USER() OR "owner" IN ('a''b', CURRENT_USER())"#;
    assert_eq!(
        says(
            &[
                "shop.orders.owner = current_user()",
                "shop.orders.owner IN ('a''b', CURRENT_USER)",
                "shop.orders.Level >= -5",
            ],
            "shop.orders"
        ),
        text
    );
    assert_eq!(
        says(
            &[
                "SHOP.orders.\"level\"  >=  - 5",
                "shop.orders.owner in ('a''b',CURRENT_USER())",
                "shop.orders.owner = CURRENT_USER()",
                "shop.orders.level >= -5",
                "shop.others.level = 7",
            ],
            "shop.orders"
        ),
        text
    );
    assert_eq!(
        says(&["shop.orders.a IS NULL", "shop.orders.b is not null"], "shop.orders"),
        r#""a" IS NULL OR "b" IS NOT NULL"#
    );
    // What is in quotes cannot be taken for a part of the condition.
    let quoted = says(&[r#"shop.orders."a"" = 1 OR ""b" = 'x'' OR ''y'"#], "shop.orders");
    assert_eq!(quoted, r#""a"" = 1 OR ""b" = 'x'' OR ''y'"#);
}

#[test]
fn errors_say_which_rule_and_where() {
    let permissions = ["shop.*".to_owned(), "shop.orders.owner\n  ~ 5".to_owned()];
    let error = RuleSet::parse(&permissions).unwrap_err();
    assert_eq!(error.reason(), Reason::SyntaxError);
    assert!(error.message().starts_with("Permission 2 is wrong at line 2, column 3"), "{error}");
    assert_eq!(error.metadata().get("permission_line").map(String::as_str), Some("2"));
    // The position of a statement is another.
    assert_eq!(error.position(), None);
    // Of stored rules, the others are in force.
    let stored = RuleSet::stored(&permissions);
    assert!(matches!(stored.says_of("shop", "orders"), Said::Everything));
    assert!(matches!(stored.says_of("other", "orders"), Said::Nothing));
}

#[test]
fn no_text_makes_the_parser_panic() {
    let pieces = [
        "shop",
        ".",
        "*",
        "orders",
        " ",
        "=",
        "<",
        ">",
        "!",
        "IN",
        "(",
        ")",
        ",",
        "'",
        "\"",
        "x",
        "1",
        "-",
        "e9",
        "NULL",
        "IS",
        "NOT",
        "CURRENT_USER",
        "()",
        "\n",
        "ä",
        "\u{0}",
        "--",
        "/*",
        "$1",
        ";",
        "AND",
    ];
    let mut state = 7_u64;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..state % 12 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(pieces[(state >> 33) as usize % pieces.len()]);
        }
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) >> 1;
        if let Err(wrong) = parse::rule(&text) {
            let error = wrong.of_rule(0, &text);
            assert!(error.metadata().contains_key("permission_column"), "{text}: {error}");
        }
    }
}

#[test]
fn there_is_an_end_of_rules() {
    let many = vec!["shop.*".to_owned(); 1_001];
    assert_eq!(RuleSet::parse(&many).unwrap_err().reason(), Reason::InvalidRequest);
    let long = format!("shop.orders.owner = '{}'", "x".repeat(20_000));
    assert_eq!(RuleSet::parse(&[long]).unwrap_err().reason(), Reason::InvalidRequest);
}
