//! Each SQL type: what goes in comes out.

use kalamdb_engine::{Reason, SqlType};

use crate::harness::{Client, Db, table, text};

/// Types, with values as literals and as they are answered.
pub(crate) const TYPES: &[(&str, &[(&str, &str)])] = &[
    ("BOOLEAN", &[("true", "true"), ("false", "false"), ("'yes'", "true")]),
    ("SMALLINT", &[("-32768", "-32768"), ("32767", "32767")]),
    ("INT", &[("-2147483648", "-2147483648"), ("2147483647", "2147483647")]),
    ("BIGINT", &[("-9223372036854775808", "-9223372036854775808"), ("9223372036854775807", "9223372036854775807")]),
    ("SMALLINT UNSIGNED", &[("0", "0"), ("65535", "65535")]),
    ("INT UNSIGNED", &[("4294967295", "4294967295")]),
    ("BIGINT UNSIGNED", &[("18446744073709551615", "18446744073709551615")]),
    ("REAL", &[("1.5", "1.5"), ("-0.25", "-0.25"), ("'NaN'", "NaN"), ("'-inf'", "-inf")]),
    ("DOUBLE", &[("0.1", "0.1"), ("1e308", "1e308"), ("'inf'", "inf")]),
    ("DECIMAL(10, 2)", &[("0.10", "0.10"), ("-99999999.99", "-99999999.99"), ("'7'", "7.00"), ("1e3", "1000.00")]),
    (
        "DECIMAL(76, 10)",
        &[(
            "'123456789012345678901234567890123456789012345678.0123456789'",
            "123456789012345678901234567890123456789012345678.0123456789",
        )],
    ),
    (
        "TEXT",
        &[
            ("''", ""),
            ("'it''s'", "it's"),
            ("'émile 🙂'", "émile 🙂"),
            (
                "'a much longer text than the twelve bytes of a view'",
                "a much longer text than the twelve bytes of a view",
            ),
        ],
    ),
    ("BYTES", &[("'\\x00ff10'", "00ff10"), ("'abc'", "616263"), ("X'0a0b'", "0a0b")]),
    ("DATE", &[("'2026-02-28'", "2026-02-28"), ("'0001-01-01'", "0001-01-01"), ("'1969-12-31'", "1969-12-31")]),
    ("TIME", &[("'23:59:59.999999'", "23:59:59.999999"), ("'00:00:00'", "00:00:00")]),
    (
        "TIMESTAMP",
        &[("'2026-01-02 03:04:05.678901'", "2026-01-02T03:04:05.678901"), ("'1900-01-01'", "1900-01-01T00:00:00")],
    ),
    (
        "TIMESTAMP WITH TIME ZONE",
        &[("'2026-01-02T03:04:05+02:00'", "2026-01-02T01:04:05Z"), ("'2026-01-02T03:04:05Z'", "2026-01-02T03:04:05Z")],
    ),
    ("INTERVAL", &[("INTERVAL '1 month 2 days'", "1 mons 2 days"), ("'3 hours'", "3 hours")]),
    ("UUID", &[("'6BA7B810-9DAD-11D1-80B4-00C04FD430C8'", "6ba7b810-9dad-11d1-80b4-00c04fd430c8")]),
    ("JSON", &[(r#"'{"a": [1, null, "x"]}'"#, r#"{"a": [1, null, "x"]}"#), ("'5'", "5")]),
    ("BIGINT[]", &[("[1, NULL, 3]", "[1, NULL, 3]"), ("[]", "[]")]),
    ("TEXT[][]", &[("[['a'], [], NULL]", "[[a], [], NULL]")]),
    ("STRUCT<a BIGINT, b TEXT[]>", &[("named_struct('a', 5, 'b', ['x'])", "{a: 5, b: [x]}")]),
];

async fn each_type(db: &mut Db, reopens: bool) {
    for (i, (sql_type, _)) in TYPES.iter().enumerate() {
        db.admin().run(format!("CREATE USER TABLE t{i} (id BIGINT PRIMARY KEY, v {sql_type})")).await;
    }
    for (i, (sql_type, values)) in TYPES.iter().enumerate() {
        let ana = db.user("ana");
        for (id, (literal, _)) in values.iter().enumerate() {
            ana.run(format!("INSERT INTO t{i} VALUES ({id}, {literal})")).await;
        }
        ana.run(format!("INSERT INTO t{i} VALUES (1000, NULL)")).await;
        let described = ana.rows(format!("DESCRIBE t{i}")).await;
        assert_eq!(described[1][2], *sql_type, "the type is shown as it was written");
    }
    if reopens {
        db.reopen();
    }
    for (i, (sql_type, values)) in TYPES.iter().enumerate() {
        let ana = db.user("ana");
        let mut expected: Vec<Vec<String>> =
            values.iter().enumerate().map(|(id, (_, shown))| vec![id.to_string(), (*shown).to_owned()]).collect();
        expected.push(vec!["1000".to_owned(), "NULL".to_owned()]);
        assert_eq!(ana.rows(format!("SELECT * FROM t{i} ORDER BY id")).await, expected, "{sql_type}");
        // By key, without a plan, too.
        assert_eq!(ana.rows(format!("SELECT * FROM t{i} WHERE id = 0")).await, expected[..1], "{sql_type}");
        let column = ana.run(format!("SELECT v FROM t{i} WHERE id = 0")).await.columns.remove(0);
        assert_eq!(column.sql_type.to_string(), *sql_type);
        // Through expressions and writes that copy it.
        ana.run(format!("INSERT INTO t{i} SELECT id + 2000, v FROM t{i}")).await;
        ana.run(format!("UPDATE t{i} SET v = v WHERE id >= 2000")).await;
        let copied = ana.rows(format!("SELECT id - 2000, v FROM t{i} WHERE id >= 2000 ORDER BY id")).await;
        assert_eq!(copied, expected, "{sql_type} copied");
        assert_eq!(ana.value(format!("SELECT count(*) FROM t{i} WHERE v IS NULL")).await, "2", "{sql_type}");
    }
}

#[tokio::test]
async fn every_type_round_trips_in_memory() {
    each_type(&mut Db::memory().await, false).await;
}

#[tokio::test]
async fn every_type_round_trips_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    each_type(&mut Db::on_disk(dir.path()).await, true).await;
}

async fn one(column: &str) -> (Db, Client) {
    let db = Db::memory().await;
    db.admin().run(format!("CREATE USER TABLE t (id BIGINT PRIMARY KEY, {column})")).await;
    let ana = db.user("ana");
    (db, ana)
}

#[tokio::test]
async fn names_of_types_are_synonyms() {
    let (db, ana) = one("a STRING, b VARCHAR, c INTEGER, d FLOAT, e NUMERIC(4, 1), f BYTEA, g JSONB, h ARRAY<INT>, i TIMESTAMPTZ, j DECIMAL, k BOOL").await;
    let types: Vec<String> =
        ana.rows("DESCRIBE t").await.into_iter().filter(|r| r[1] == "column").map(|r| r[2].clone()).collect();
    assert_eq!(
        types,
        [
            "BIGINT",
            "TEXT",
            "TEXT",
            "INT",
            "DOUBLE",
            "DECIMAL(4, 1)",
            "BYTES",
            "JSON",
            "INT[]",
            "TIMESTAMP WITH TIME ZONE",
            "DECIMAL(38, 10)",
            "BOOLEAN"
        ]
    );
    for column in [
        "x VARCHAR(10)",
        "x TINYINT",
        "x MONEY",
        "x TEXXT",
        "x MAP<TEXT, INT>",
        "x DECIMAL(77, 2)",
        "x DECIMAL(5, 6)",
        "x ENUM('a')",
    ] {
        let error = db
            .admin()
            .try_run(format!("CREATE USER TABLE bad (id BIGINT PRIMARY KEY, {column})"))
            .await
            .expect_err(column);
        assert!(
            matches!(error.reason(), Reason::NotSupported | Reason::InvalidStatement | Reason::SyntaxError),
            "{column}: {error}"
        );
    }
}

#[tokio::test]
async fn decimals_are_exact() {
    let (_db, ana) = one("d DECIMAL(20, 4)").await;
    ana.run("INSERT INTO t SELECT value, 0.1 FROM generate_series(1, 1000)").await;
    assert_eq!(ana.value("SELECT sum(d) FROM t").await, "100.0000");
    ana.run("UPDATE t SET d = 9999999999999999.9999 WHERE id = 1").await;
    assert_eq!(ana.value("SELECT d FROM t WHERE d = 9999999999999999.9999").await, "9999999999999999.9999");
    assert_eq!(ana.value("SELECT count(*) FROM t WHERE d = 0.1").await, "999");
    ana.run("UPDATE t SET d = d + 0.0001 WHERE id = 2").await;
    assert_eq!(ana.value("SELECT d FROM t WHERE id = 2").await, "0.1001");
    assert_eq!(ana.value("SELECT 0.1 + 0.2 = 0.3").await, "true");
    assert_eq!(ana.run("SELECT 1.50").await.columns[0].sql_type, SqlType::Decimal { precision: 3, scale: 2 });
}

#[tokio::test]
async fn unsigned_and_signed_compare() {
    let (_db, ana) = one("u BIGINT UNSIGNED, s BIGINT").await;
    ana.run("INSERT INTO t VALUES (1, 18446744073709551615, -1), (2, 5, 5)").await;
    assert_eq!(ana.rows("SELECT id FROM t WHERE u = s").await, table(&[["2"]]));
    assert_eq!(ana.rows("SELECT id FROM t WHERE u > 5").await, table(&[["1"]]));
    assert_eq!(ana.rows("SELECT id FROM t WHERE s < 0").await, table(&[["1"]]));
}

#[tokio::test]
async fn times_compare_and_compute() {
    let (_db, ana) = one("at TIMESTAMP, tz TIMESTAMP WITH TIME ZONE, d DATE").await;
    ana.run("INSERT INTO t VALUES (1, '2026-01-31 12:00:00', '2026-01-31T12:00:00+01:00', '2026-01-31')").await;
    assert_eq!(ana.value("SELECT at + INTERVAL '1 month' FROM t").await, "2026-02-28T12:00:00");
    assert_eq!(
        ana.value(
            "SELECT count(*) FROM t WHERE at >= '2026-01-31' AND tz < '2026-01-31T11:00:01Z' AND d = '2026-01-31'"
        )
        .await,
        "1"
    );
    assert_eq!(ana.value("SELECT CAST(at AS DATE) = d FROM t").await, "true");
    ana.run("UPDATE t SET at = d, d = at + INTERVAL '1 day'").await;
    assert_eq!(ana.rows("SELECT at, d FROM t").await, table(&[["2026-01-31T00:00:00", "2026-02-01"]]));
}

#[tokio::test]
async fn nested_values_are_reached() {
    let (_db, ana) = one("l BIGINT[], s STRUCT<a BIGINT, b TEXT>").await;
    ana.run("INSERT INTO t VALUES (1, [3, 4], named_struct('a', 1, 'b', 'x')), (2, [], NULL)").await;
    assert_eq!(
        ana.rows("SELECT l[1], s['b'], s.a FROM t ORDER BY id").await,
        table(&[["3", "x", "1"], ["NULL", "NULL", "NULL"]])
    );
    assert_eq!(ana.value("SELECT id FROM t WHERE array_has(l, 4)").await, "1");
    assert_eq!(ana.rows("SELECT id, unnest(l) FROM t").await, table(&[["1", "3"], ["1", "4"]]));
    ana.run("UPDATE t SET l = array_append(l, 9)").await;
    assert_eq!(ana.rows("SELECT l FROM t ORDER BY id").await, table(&[["[3, 4, 9]"], ["[9]"]]));
}

#[tokio::test]
async fn uuids_are_compared_in_any_form() {
    const KEPT: &str = "0190163d-8694-739b-aea5-966c26f8ad91";
    const CAPITALS: &str = "0190163D-8694-739B-AEA5-966C26F8AD91";
    const BRACES: &str = "{0190163D-8694-739B-AEA5-966C26F8AD91}";
    const PLAIN: &str = "0190163d8694739baea5966c26f8ad91";
    let db = Db::memory().await;
    db.admin().run("CREATE USER TABLE t (id BIGINT PRIMARY KEY, u UUID, us UUID[], s TEXT)").await;
    let ana = db.user("ana");
    ana.run(format!("INSERT INTO t VALUES (1, '{BRACES}', ['{PLAIN}'], '{CAPITALS}')")).await;
    ana.run("INSERT INTO t VALUES (2, '00000000-0000-0000-0000-000000000001', [], 'x'), (3, NULL, NULL, 'y')").await;
    assert_eq!(ana.value("SELECT u FROM t WHERE id = 1").await, KEPT);
    for form in [KEPT, CAPITALS, BRACES, PLAIN] {
        let conditions = [
            "u = $1",
            "$1 = u",
            "t.u IS NOT DISTINCT FROM $1",
            "u IN ($1)",
            "u IN ($1, $1, '00000000000000000000000000000000', $1, $1)",
            "$1 IN (u, u)",
            "u BETWEEN $1 AND $1",
            "u >= $1",
            "$1 BETWEEN u AND u",
            "NOT u <> $1",
            "CASE u WHEN $1 THEN true END",
            "$1 = ANY (us)",
            "u = ANY ([$1])",
            "u = ANY (['00000000000000000000000000000000', $1])",
            "u = ANY (['{ABCDEF00-0000-0000-0000-000000000000}', $1, 'ABCDEF00000000000000000000000000', $1])",
            "id IN (SELECT id FROM t WHERE u = $1)",
            "EXISTS (SELECT 1 FROM t AS o WHERE t.u = $1 AND o.id = t.id)",
            "id = 1 AND u = $1",
            "u = $1 OR s = $1",
        ];
        for condition in conditions {
            let literal = format!("SELECT id FROM t WHERE {}", condition.replace("$1", &format!("'{form}'")));
            assert_eq!(ana.rows(&literal).await, table(&[["1"]]), "{literal}");
            let sql = format!("SELECT id FROM t WHERE {condition}");
            assert_eq!(ana.run_with(&sql, &[text(form)]).await.rows, table(&[["1"]]), "{sql} of {form}");
        }
        assert_eq!(ana.rows(format!("SELECT id FROM t WHERE u <> '{form}'")).await, table(&[["2"]]));
        let joined = format!("SELECT a.id FROM t AS a JOIN t AS b ON a.id = b.id AND b.u = '{form}'");
        assert_eq!(ana.rows(joined).await, table(&[["1"]]));
        let derived = format!("SELECT id FROM (SELECT id, u AS v FROM t) AS d WHERE v = '{form}'");
        assert_eq!(ana.rows(derived).await, table(&[["1"]]));
        let counted = ana.run_with("SELECT count(*) FILTER (WHERE u = $1), u = $1 FROM t GROUP BY 2", &[text(form)]);
        assert_eq!(counted.await.row_count, 3);
        assert_eq!(
            ana.run_with("UPDATE t SET s = 'z' WHERE u = $1 RETURNING u = $1", &[text(form)]).await.row_count,
            1
        );
        assert_eq!(ana.run(format!("UPDATE t SET s = 'z' WHERE id = 1 AND u = '{form}'")).await.row_count, 1);
        ana.run(format!("UPDATE t SET s = '{CAPITALS}' WHERE u = '{form}'")).await;
        let upsert =
            format!("INSERT INTO t (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET s = t.s WHERE t.u = '{form}'");
        assert_eq!(ana.run(upsert).await.row_count, 1);
    }
    ana.run_with("INSERT INTO t (id, us) VALUES (4, ['{}', $1])".replace("{}", BRACES), &[text(PLAIN)]).await;
    assert_eq!(ana.value("SELECT us FROM t WHERE id = 4").await, format!("[{KEPT}, {KEPT}]"));
    // Text is still compared as it is.
    assert_eq!(ana.rows(format!("SELECT id FROM t WHERE s = '{PLAIN}'")).await, table::<1>(&[]));
    assert_eq!(ana.rows(format!("SELECT id FROM t WHERE s = '{CAPITALS}'")).await, table(&[["1"]]));
    assert_eq!(ana.rows("SELECT id FROM t WHERE u = NULL").await, table::<1>(&[]));
    assert_eq!(ana.rows("SELECT id FROM t WHERE u LIKE '0190163d%'").await, table(&[["1"]]));
    assert_eq!(ana.rows("SELECT id FROM t WHERE CAST(u AS TEXT) = 'x'").await, table::<1>(&[]));
    let both = [text(CAPITALS)];
    assert_eq!(ana.run_with("SELECT id FROM t WHERE u = $1 AND s = $1", &both).await.rows, table(&[["1"]]));

    for condition in ["u = 'x'", "u <> ''", "u IN ('x')", "u BETWEEN 'a' AND 'b'", "id = 9 AND u = 'x'"] {
        let sql = format!("SELECT id FROM t WHERE {condition}");
        let error = ana.fails(Reason::InvalidValue, sql).await;
        assert!(error.message().contains("is not a valid UUID"), "{condition}: {error}");
        ana.fails(Reason::InvalidValue, format!("DELETE FROM t WHERE {condition}")).await;
    }
    let error = ana.fails_with(Reason::InvalidValue, "SELECT id FROM t WHERE u = $1", &[text("x")]).await;
    assert!(error.message().contains("is not a valid UUID"), "{error}");
    ana.fails_with(Reason::InvalidValue, "SELECT id FROM t WHERE u = $1 OR s = $1", &[text("x")]).await;
    let among = format!("SELECT id FROM t WHERE u = ANY (['{KEPT}', $1])");
    ana.fails_with(Reason::InvalidValue, among, &[text("x")]).await;
}
