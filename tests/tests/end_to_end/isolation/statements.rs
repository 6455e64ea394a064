//! What mallory sends as SQL: every statement, with every way to name what is alice's.

use super::stage::{ALICE, LIVE, Stage};

/// Ways to name alice's rows in a USER table called `{t}`.
const NAMES: [&str; 15] = [
    "{t}",
    "n.{t}",
    "n.user.{t}",
    "n.all_users.{t}",
    "n . all_users . {t}",
    "N.ALL_USERS.{T}",
    "n.\"all_users\".{t}",
    "\"n\".\"all_users\".\"{t}\"",
    "n.\"ALL_USERS\".{t}",
    "n.zqalice7f3a.{t}",
    "n.\"user\".{t}",
    "kalamdb.n.{t}",
    "kalamdb.n.all_users.{t}",
    "\"n.all_users\".{t}",
    "all_users.{t}",
];

/// Statements of each kind, `{name}` being any of [`NAMES`] of `notes`.
fn attempts(kind: &str, stage: &Stage) -> Vec<String> {
    let of = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let live_id = &stage.live_id;
    match kind {
        "SELECT" => of(&[
            "SELECT * FROM {name}",
            "SELECT count(*), sum(n), min(body), max(id) FROM {name}",
            "SELECT _seq, _updated, _deleted, id FROM {name}",
            "SELECT * FROM {name} WHERE id = 'zqkey93-5'",
            "SELECT * FROM {name} WHERE id IN ('zqkey93-5', 'mine')",
            "SELECT * FROM {name} WHERE _user_id = 'zqalice7f3a'",
            "SELECT 1 / (n - 5) FROM {name}",
            "SELECT CAST(body AS INT) FROM {name}",
            "SELECT a.body FROM {name} AS a JOIN {name} AS b ON a.id = b.id",
            "WITH RECURSIVE r AS (SELECT * FROM {name}) SELECT * FROM r",
            "SELECT (SELECT max(body) FROM {name}), row_number() OVER (ORDER BY 1)",
            "SELECT * FROM notes UNION ALL SELECT * FROM {name}",
            "SELECT EXISTS (SELECT 1 FROM {name} WHERE body LIKE 'zq%')",
            "VALUES ((SELECT max(id) FROM {name}))",
        ]),
        "EXPLAIN" => of(&[
            "EXPLAIN SELECT * FROM {name} WHERE n > 3",
            "EXPLAIN VERBOSE SELECT count(*) FROM {name}",
            "EXPLAIN ANALYZE SELECT count(*) FROM {name}",
            "EXPLAIN ANALYZE VERBOSE SELECT * FROM {name} WHERE id = 'zqkey93-5'",
        ]),
        "INSERT" => of(&[
            "INSERT INTO {name} VALUES ('x1', 'x', 1)",
            "INSERT INTO {name} VALUES ('common-5', 'x', 1) RETURNING *",
            "INSERT INTO {name} VALUES ('common-6', 'x', 1) ON CONFLICT DO NOTHING RETURNING *",
            "INSERT INTO {name} VALUES ('common-7', 'x', 1) ON CONFLICT (id) DO UPDATE SET body = concat(excluded.body, body) RETURNING *",
            "INSERT INTO notes SELECT concat('c', id), body, n FROM {name} ON CONFLICT DO NOTHING RETURNING *",
        ]),
        "UPDATE" => of(&[
            "UPDATE {name} SET body = 'overwritten' RETURNING *",
            "UPDATE {name} SET n = 1 / (n - 5)",
            "UPDATE {name} SET body = 'overwritten' WHERE id = 'zqkey93-5' RETURNING *",
            "UPDATE notes SET body = (SELECT max(body) FROM {name}) RETURNING body",
        ]),
        "DELETE" => of(&[
            "DELETE FROM {name} RETURNING *",
            "DELETE FROM {name} WHERE id = 'zqkey93-5' RETURNING *",
            "DELETE FROM notes WHERE id IN (SELECT id FROM {name}) RETURNING *",
        ]),
        "CREATE NAMESPACE" => of(&["CREATE NAMESPACE n", "CREATE NAMESPACE IF NOT EXISTS system"]),
        "ALTER NAMESPACE" => of(&["ALTER NAMESPACE n SET OPTIONS (owner = 'mallory')"]),
        "DROP NAMESPACE" => of(&["DROP NAMESPACE n", "DROP NAMESPACE IF EXISTS n", "DROP NAMESPACE zq"]),
        "SHOW NAMESPACES" => of(&["SHOW NAMESPACES"]),
        "CREATE TABLE" => of(&[
            "CREATE USER TABLE n.notes (id TEXT PRIMARY KEY, body TEXT)",
            "CREATE SHARED TABLE n.zqclosed97 (id BIGINT PRIMARY KEY)",
            "CREATE SHARED TABLE IF NOT EXISTS n.notes (id TEXT PRIMARY KEY) LOCATION 'n/users/{userId}/notes'",
        ]),
        "ALTER TABLE" => of(&[
            "ALTER TABLE {name} ADD COLUMN x INT",
            "ALTER TABLE {name} DROP COLUMN body",
            "ALTER TABLE n.zqclosed97 SET ACCESS public",
            "ALTER TABLE n.board SET ACCESS public",
        ]),
        "DROP TABLE" => of(&["DROP TABLE {name}", "DROP TABLE IF EXISTS n.zqclosed97", "DROP TABLE n.board"]),
        "SHOW TABLES" => of(&["SHOW TABLES", "SHOW TABLES IN n", "SHOW TABLES IN system"]),
        "DESCRIBE TABLE" => of(&["DESCRIBE {name}", "DESCRIBE n.board", "DESCRIBE system.users"]),
        "SHOW TABLE STATS" => of(&["SHOW TABLE STATS {name}", "SHOW TABLE STATS n.board", "SHOW TABLE STATS n.typing"]),
        "CREATE STORAGE" => {
            let root = stage.secured.data_dir();
            vec![format!("CREATE STORAGE mine TYPE FILESYSTEM URI '{}'", root.join("storage").display())]
        }
        "ALTER STORAGE" => of(&["ALTER STORAGE local SET URI '/tmp'"]),
        "DROP STORAGE" => of(&["DROP STORAGE local"]),
        "SHOW STORAGES" => of(&["SHOW STORAGES"]),
        "FLUSH TABLE" => of(&["FLUSH TABLE {name}", "FLUSH TABLE n.board FORCE"]),
        "FLUSH ALL TABLES" => of(&["FLUSH ALL TABLES", "FLUSH ALL TABLES IN n FORCE"]),
        "COMPACT TABLE" => of(&["COMPACT TABLE {name}"]),
        // As text: what leaks must be found in the files.
        "EXPORT" => of(&[
            "EXPORT FROM {name} TO 'export-{i}.csv'",
            "EXPORT FROM (SELECT * FROM {name} WHERE 1 / (n - 5) > 0) TO 'export-{i}.json'",
            "EXPORT FROM n.board TO 'export-{i}.csv'",
            "EXPORT FROM n.zqclosed97 TO 'export-{i}.csv'",
            "EXPORT FROM system.users TO 'export-{i}.json'",
            "EXPORT FROM system.jobs TO 'export-{i}.json'",
            "EXPORT FROM notes TO '../zqalice7f3a/export-{i}.csv'",
            "EXPORT FROM notes TO '../../export-{i}.csv'",
            "EXPORT FROM notes TO '/tmp/export-{i}.csv'",
        ]),
        "BACKUP DATABASE" => of(&["BACKUP DATABASE n TO 'b'", "BACKUP DATABASE n TO '/tmp/zqb' MODE INCREMENTAL"]),
        "RESTORE DATABASE" => of(&["RESTORE DATABASE n FROM 'b' AS zq", "RESTORE DATABASE n FROM '/tmp/zqb' AS mine"]),
        "SHOW BACKUP" => of(&["SHOW BACKUP 'b'", "SHOW BACKUP '/tmp/zqb'"]),
        "SUBSCRIBE" => {
            let mut all = of(&["SUBSCRIBE TO {name}", "SUBSCRIBE SELECT id, body FROM {name} WHERE n < 11"]);
            all.push(LIVE.to_owned());
            all
        }
        "KILL LIVE QUERY" => vec![format!("KILL LIVE QUERY {live_id}"), "KILL LIVE QUERY 1".to_owned()],
        "CREATE USER" => vec![
            format!("CREATE USER {ALICE} PASSWORD 'overwritten by mallory'"),
            "CREATE USER mallory2 ROLE system".to_owned(),
            format!("CREATE USER IF NOT EXISTS {ALICE} ROLE user"),
        ],
        "ALTER USER" => vec![
            format!("ALTER USER {ALICE} SET PASSWORD 'overwritten by mallory'"),
            format!("ALTER USER {ALICE} DISABLE"),
            "ALTER USER mallory SET ROLE system".to_owned(),
            "ALTER USER mallory SET PERMISSIONS ('*')".to_owned(),
        ],
        "DROP USER" => vec![format!("DROP USER {ALICE} CASCADE"), format!("DROP USER IF EXISTS {ALICE}")],
        "SHOW USERS" => of(&["SHOW USERS"]),
        "CREATE API KEY" => vec![format!("CREATE API KEY FOR USER {ALICE}")],
        "REVOKE API KEY" => {
            let key = stage.secured.key(ALICE);
            let id = key.split('_').nth(1).unwrap_or_default();
            vec![format!("REVOKE API KEY '{id}'")]
        }
        "SHOW API KEYS" => vec!["SHOW API KEYS".to_owned(), format!("SHOW API KEYS FOR USER {ALICE}")],
        other => panic!("{other} is a statement that the adversary has not tried: add it here"),
    }
}

/// Every attempt of a kind of statement.
pub fn of_kind(kind: &str, stage: &Stage) -> Vec<String> {
    let mut all = Vec::new();
    for attempt in attempts(kind, stage) {
        if !attempt.contains("{name}") {
            all.push(attempt);
            continue;
        }
        for name in NAMES {
            for table in ["notes", "typing"] {
                // Columns of `typing` are others: its own statements are few.
                if table == "typing" && (kind != "SELECT" || attempt != "SELECT * FROM {name}") {
                    continue;
                }
                let name = name.replace("{t}", table).replace("{T}", &table.to_uppercase());
                all.push(attempt.replace("{name}", &name));
            }
        }
    }
    all.iter().enumerate().map(|(index, sql)| sql.replace("{i}", &index.to_string())).collect()
}

/// What reads a table of the system.
pub fn of_system_table(table: &str) -> Vec<String> {
    [
        "SELECT * FROM {t}",
        "SELECT count(*) FROM {t}",
        "EXPLAIN ANALYZE VERBOSE SELECT * FROM {t}",
        "SELECT a.* FROM {t} AS a CROSS JOIN (SELECT 1) AS b",
        "SELECT * FROM {t} WHERE 1 = 1 OR CURRENT_USER() = 'zqalice7f3a'",
        "INSERT INTO notes (id, body) SELECT 'copied', max(arrow_typeof(t)) FROM {t} AS t RETURNING *",
        "DELETE FROM {t}",
    ]
    .map(|sql| sql.replace("{t}", table))
    .to_vec()
}

/// Functions, and tables that are functions or files.
pub fn of_functions(stage: &Stage) -> Vec<String> {
    let mut all: Vec<String> = [
        "SELECT CURRENT_USER(), current_user, version(), now()",
        "SELECT CURRENT_USER('zqalice7f3a')",
        "SELECT current_database(), current_schema()",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT * FROM generate_series(1, 3)",
        "SELECT * FROM range(1, 3)",
        "SELECT * FROM parquet_metadata('x.parquet')",
        "SELECT * FROM metadata_cache()",
        "SELECT * FROM statistics_cache()",
        "SELECT * FROM list_files_cache()",
        "SELECT getvariable('x'), @@version",
        "SHOW ALL",
        "SHOW FUNCTIONS",
        "SET search_path = n",
        "COPY notes TO '/tmp/zq.csv'",
        "CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION '/'",
        "EXPORT FROM notes TO '/tmp/zq.csv'",
        "BACKUP DATABASE n TO '/tmp/zq'",
        "RESTORE DATABASE n FROM '/tmp/zq'",
        "PREPARE p AS SELECT * FROM notes",
        "EXECUTE p",
        "BEGIN; SELECT * FROM notes; COMMIT",
    ]
    .map(str::to_owned)
    .to_vec();
    for file in &stage.files {
        all.push(format!("SELECT * FROM '{file}'"));
        all.push(format!("SELECT * FROM \"{file}\""));
        for function in ["read_parquet", "read_csv", "parquet_metadata"] {
            all.push(format!("SELECT * FROM {function}('{file}')"));
        }
    }
    all
}

/// Rows of a SHARED table that its rules do not show.
pub fn of_rules() -> Vec<String> {
    [
        "SELECT * FROM board",
        "SELECT count(*), sum(n), min(id), max(body), min(owner) FROM board",
        "SELECT * FROM board WHERE id = 'zqalice7f3a-1'",
        "SELECT * FROM board WHERE owner = 'zqalice7f3a' OR 1 = 1",
        "SELECT 1 / (n - 42) FROM board WHERE owner <> 'mallory'",
        "SELECT CAST(body AS INT) FROM board WHERE owner <> 'mallory'",
        "SELECT body FROM board WHERE CASE WHEN owner = 'mallory' THEN true ELSE 1 / 0 = 1 END",
        "SELECT b.body FROM board AS a RIGHT JOIN board AS b ON a.owner <> b.owner",
        "SELECT owner, count(*) FROM board GROUP BY ROLLUP (owner)",
        "SELECT lag(body) OVER (ORDER BY id), body FROM board",
        "EXPLAIN ANALYZE VERBOSE SELECT * FROM board",
        "UPDATE board SET body = 'taken' RETURNING *",
        "UPDATE board SET owner = 'mallory' WHERE id = 'zqalice7f3a-1' RETURNING *",
        "UPDATE board SET owner = 'zqalice7f3a'",
        "DELETE FROM board WHERE owner <> 'mallory' RETURNING *",
        "INSERT INTO board VALUES ('new-1', 'zqalice7f3a', 'planted', 1)",
        "INSERT INTO board VALUES ('zqalice7f3a-1', 'mallory', 'x', 1) ON CONFLICT (id) DO UPDATE SET body = concat('x', board.body) RETURNING *",
        "INSERT INTO board VALUES ('zqalice7f3a-1', 'mallory', 'x', 1) ON CONFLICT DO NOTHING RETURNING *",
        "SUBSCRIBE TO board",
        "SELECT * FROM zqclosed9",
        "SELECT * FROM zqclosed97",
        "SELECT * FROM n.zqclosed97 WHERE id = 1",
        "SHOW TABLE STATS zqclosed97",
        "DESCRIBE zqclosed97",
        "INSERT INTO zqclosed97 VALUES (2, 'x')",
    ]
    .map(str::to_owned)
    .to_vec()
}
