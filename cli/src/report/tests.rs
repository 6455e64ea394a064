use super::{Style, excerpt};

const PLAIN: Style = Style::PLAIN;

fn marked(sql: &str, line: usize, column: usize) -> String {
    excerpt(sql, line, column, PLAIN).unwrap_or_default()
}

#[test]
fn the_mark_is_under_the_place() {
    assert_eq!(marked("SELECT *\nFORM t", 2, 1), "   2 | FORM t\n       ^");
    assert_eq!(marked("SELECT x FROM t", 1, 8), "   1 | SELECT x FROM t\n              ^");
    assert_eq!(marked("SELECT", 1, 7), "   1 | SELECT\n             ^");
}

#[test]
fn wide_and_hidden_characters_do_not_move_it() {
    assert_eq!(marked("SELECT '日本' x", 1, 13), "   1 | SELECT '日本' x\n                     ^");
    assert_eq!(marked("\tx", 1, 2), "   1 |     x\n           ^");
    assert_eq!(marked("'\x1b' x", 1, 5), "   1 | '\\x1b' x\n              ^");
}

#[test]
fn a_long_line_is_cut_around_the_place() {
    let sql = format!("SELECT {} oops {}", "a,".repeat(500), "b,".repeat(500));
    let column = sql.find("oops").unwrap() + 1;
    let shown = marked(&sql, 1, column);
    let mut lines = shown.lines();
    let (source, mark) = (lines.next().unwrap(), lines.next().unwrap());
    assert!(source.chars().count() < 120, "{source}");
    let at = mark.chars().position(|character| character == '^').unwrap();
    assert_eq!(source.chars().skip(at).take(4).collect::<String>(), "oops");
}

#[test]
fn a_place_outside_the_statement_is_not_marked() {
    for (line, column) in [(0, 1), (1, 0), (2, 1), (1, 9), (usize::MAX, usize::MAX)] {
        assert_eq!(marked("SELECT 1", line, column + usize::from(column == 9)), "");
    }
}
