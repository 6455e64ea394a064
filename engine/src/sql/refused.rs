//! What KalamDB does not do, each with what to do instead.

use datafusion::sql::sqlparser::parser::Parser;

use super::errors::{self, Failure};
use crate::error::{Error, Position, Reason};

/// The refusal of what comes next.
pub(super) fn here(parser: &Parser<'_>, message: impl Into<String>) -> Failure {
    at(errors::start(parser.peek_token_ref()), message).into()
}

/// The refusal of what stands at this place.
pub(super) fn at(place: Option<Position>, message: impl Into<String>) -> Error {
    errors::at(Error::new(Reason::NotSupported, message), place)
}

/// Why no statement that begins with this word is supported.
pub(super) fn statement(word: &str) -> Option<&'static str> {
    Some(match word {
        "BEGIN" | "START" | "COMMIT" | "ROLLBACK" | "SAVEPOINT" | "RELEASE" | "ABORT" | "END" => {
            "Transactions of several statements are not supported. Each statement is a transaction of its own; one \
             INSERT can hold many rows."
        }
        "TRUNCATE" => "TRUNCATE is not supported. Use DELETE FROM t.",
        "MERGE" => "MERGE is not supported. Use INSERT INTO t … ON CONFLICT (key) DO UPDATE SET ….",
        "REPLACE" => "REPLACE is not supported. Use INSERT INTO t … ON CONFLICT (key) DO UPDATE SET ….",
        "COPY" | "LOAD" | "UNLOAD" | "IMPORT" => {
            "Reading and writing files on the server is not supported. Send rows with INSERT, many in one statement, \
             and read them with SELECT."
        }
        "GRANT" | "REVOKE" | "DENY" => {
            "Rights are not granted one by one. Who may use a SHARED table is its ACCESS: ALTER TABLE t SET ACCESS { PUBLIC | \
             RESTRICTED | PRIVATE }. What a user may see of RESTRICTED ones are its permissions: ALTER USER u SET PERMISSIONS \
             ('ns.t.owner = CURRENT_USER()')."
        }
        "USE" => {
            "USE is a command of the CLI. Elsewhere set the default namespace of the request, or write namespace.table."
        }
        "SET" | "RESET" => {
            "There are no settings of a session. The server's settings are in its configuration file; SELECT * FROM \
             system.settings shows them."
        }
        "UNSUBSCRIBE" | "LISTEN" | "UNLISTEN" | "NOTIFY" => {
            "Channels are not supported. Use SUBSCRIBE TO table [WHERE …]; it ends when its call is cancelled."
        }
        "CALL" | "EXECUTE" | "EXEC" | "PREPARE" | "DEALLOCATE" | "DO" => {
            "Procedures and statements prepared by name are not supported. Send the statement with parameters $1, $2 \
             and so on: its plan is kept."
        }
        "DECLARE" | "FETCH" | "OPEN" | "CLOSE" => {
            "Cursors are not supported. A streamed SELECT answers any number of rows."
        }
        "ANALYZE" => "ANALYZE is not supported. Use EXPLAIN ANALYZE to see how a query runs.",
        "VACUUM" | "OPTIMIZE" | "REINDEX" | "CHECKPOINT" | "CLUSTER" | "REFRESH" => {
            "Maintenance by statement is not supported: the server does its own. COMPACT TABLE t asks it to begin now."
        }
        "RENAME" => "RENAME is not supported. Use ALTER TABLE t RENAME COLUMN a TO b.",
        "TABLE" => "TABLE t as a statement is not supported. Use SELECT * FROM t.",
        "LOCK" | "UNLOCK" => "Locks are not supported: a statement reads one snapshot and writes atomically.",
        "COMMENT" => "Comments on tables and columns are not supported.",
        "ATTACH" | "DETACH" | "INSTALL" | "PRAGMA" | "CACHE" | "UNCACHE" | "DISCARD" | "PRINT" | "RAISE" | "ASSERT" => {
            "This statement is not supported."
        }
        _ => return None,
    })
}

/// Why things of this kind cannot be created, altered or dropped.
pub(super) fn object(word: &str) -> Option<&'static str> {
    Some(match word {
        "DATABASE" | "SCHEMA" | "CATALOG" => {
            "Databases and schemas are called namespaces. Use CREATE NAMESPACE n, ALTER NAMESPACE n or DROP NAMESPACE n."
        }
        "INDEX" => "Indexes are not supported. The PRIMARY KEY finds and orders a table's rows.",
        "VIEW" => "Views are not supported. Use a common table expression: WITH v AS (SELECT …) SELECT … FROM v.",
        "SEQUENCE" => "Sequences are not supported. Use AUTO_INCREMENT, or DEFAULT SNOWFLAKE_ID().",
        "FUNCTION" | "PROCEDURE" | "MACRO" | "AGGREGATE" | "TRIGGER" => {
            "Functions, procedures and triggers of users are not supported."
        }
        "TYPE" | "DOMAIN" => "Types of users are not supported. Use STRUCT<a BIGINT, b TEXT> as a column's type.",
        "ROLE" => {
            "Roles are fixed: user, service, dba and system. Use CREATE USER u ROLE service, or ALTER USER u SET ROLE dba."
        }
        "GROUP" => "Groups of users are not supported. A user has a role, and permissions of its own.",
        "API" => "Write CREATE API KEY FOR USER u, or REVOKE API KEY 'id'.",
        "EXTENSION" | "POLICY" | "RULE" | "SERVER" | "SECRET" | "STATISTICS" | "CAST" | "OPERATOR" | "COLLATION" => {
            "Things of this kind do not exist here."
        }
        _ => return None,
    })
}

/// Why this cannot be shown.
pub(super) fn show(word: &str) -> Option<&'static str> {
    Some(match word {
        "DATABASES" | "SCHEMAS" | "CATALOGS" => "Databases and schemas are called namespaces. Use SHOW NAMESPACES.",
        "COLUMNS" | "FIELDS" | "CREATE" => "Use DESCRIBE t for the columns and properties of a table.",
        "INDEX" | "INDEXES" | "KEYS" => "There are no indexes besides the PRIMARY KEY. Use DESCRIBE t.",
        "ALL" | "VARIABLES" | "SETTINGS" | "SESSION" | "GLOBAL" | "STATUS" => {
            "Use SELECT * FROM system.settings for the server's settings."
        }
        "ROLES" | "GRANTS" => "Use SELECT username, role, permissions FROM system.users.",
        "FUNCTIONS" | "VIEWS" | "TRIGGERS" | "PROCESSLIST" => "This cannot be shown.",
        _ => return None,
    })
}

/// Why a column cannot have this option.
pub(super) fn column_option(word: &str) -> Option<&'static str> {
    Some(match word {
        "UNIQUE" => "UNIQUE is not supported: only the PRIMARY KEY is unique.",
        "CHECK" => "CHECK constraints are not supported.",
        "REFERENCES" | "FOREIGN" => "Foreign keys are not supported.",
        "GENERATED" | "IDENTITY" | "AS" | "MATERIALIZED" | "ALIAS" => {
            "Generated columns are not supported. Use AUTO_INCREMENT or DEFAULT SNOWFLAKE_ID() for keys."
        }
        "COLLATE" | "CHARACTER" | "CHARSET" => "Collations are not supported: text compares by its UTF-8 bytes.",
        "CONSTRAINT" => "Constraints have no names. Write PRIMARY KEY or NOT NULL without CONSTRAINT.",
        "COMMENT" => "Comments on columns are not supported.",
        "ON" => "ON UPDATE is not supported.",
        "EXCLUDE" => "EXCLUDE constraints are not supported.",
        _ => return None,
    })
}

/// Why a table cannot have this clause.
pub(super) fn table_clause(word: &str) -> Option<&'static str> {
    Some(match word {
        "REPLICAS" | "REPLICA" => "REPLICAS are not supported in this version. Leave the clause out.",
        "AS" | "LIKE" | "CLONE" => {
            "A table cannot be created from a query or another table. Write its columns, then use INSERT INTO t SELECT …."
        }
        "PARTITION" | "PARTITIONED" | "CLUSTER" | "CLUSTERED" | "DISTRIBUTE" => {
            "Partitions cannot be chosen: a USER table has one for each user."
        }
        "INHERITS" => "Inheritance is not supported.",
        "WITH" | "OPTIONS" | "ENGINE" | "TABLESPACE" | "COMMENT" | "COLLATE" | "CHARSET" | "DEFAULT"
        | "TBLPROPERTIES" => {
            "A table takes the clauses STORAGE or LOCATION, FLUSH POLICY, ACCESS (SHARED tables) and TTL (STREAM tables) \
             only."
        }
        _ => return None,
    })
}
