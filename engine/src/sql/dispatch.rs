//! From a statement's first words to what parses the rest.

use datafusion::sql::sqlparser::{parser::Parser, tokenizer::Token};

use super::{
    alter, backup, dml,
    errors::Parsed,
    export, flush, name, namespace, query, refused,
    statement::{DropTable, Explain, ShowTableStats, Statement, TableKind},
    storage, subscribe, table, user, words,
};

/// Parses one whole statement.
pub(super) fn statement(parser: &mut Parser<'_>) -> Parsed<Statement> {
    let statement = by_first_word(parser)?;
    words::expect_end(parser)?;
    Ok(statement)
}

/// Whether `$1` may stand in such a statement.
pub(super) fn takes_parameters(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::Query(_)
            | Statement::Explain(_)
            | Statement::Insert(_)
            | Statement::Update(_)
            | Statement::Delete(_)
            | Statement::Subscribe(_)
            | Statement::Export(_)
    )
}

fn by_first_word(parser: &mut Parser<'_>) -> Parsed<Statement> {
    if parser.peek_token_ref().token == Token::LParen {
        return Ok(Statement::Query(query::query(parser)?));
    }
    let Some(word) = words::word_text(parser.peek_token_ref()) else {
        return words::expected(parser, STATEMENTS);
    };
    match word.as_str() {
        "SELECT" | "WITH" | "VALUES" | "FROM" => Ok(Statement::Query(query::query(parser)?)),
        "INSERT" => Ok(Statement::Insert(Box::new(dml::insert(parser)?))),
        "UPDATE" => Ok(Statement::Update(Box::new(dml::update(parser)?))),
        "DELETE" => Ok(Statement::Delete(Box::new(dml::delete(parser)?))),
        "EXPLAIN" => Ok(Statement::Explain(explain(parser)?)),
        "CREATE" => create(parser),
        "ALTER" => alter_object(parser),
        "DROP" => drop_object(parser),
        "SHOW" => show(parser),
        "FLUSH" => {
            parser.advance_token();
            flush::flush(parser)
        }
        "COMPACT" => {
            parser.advance_token();
            Ok(Statement::CompactTable(flush::compact(parser)?))
        }
        "EXPORT" => {
            parser.advance_token();
            Ok(Statement::Export(Box::new(export::export(parser)?)))
        }
        "BACKUP" => {
            parser.advance_token();
            Ok(Statement::BackupDatabase(backup::backup(parser)?))
        }
        "RESTORE" => {
            parser.advance_token();
            Ok(Statement::RestoreDatabase(backup::restore(parser)?))
        }
        "SUBSCRIBE" => {
            parser.advance_token();
            Ok(Statement::Subscribe(subscribe::subscribe(parser)?))
        }
        "REVOKE" if words::comes(parser, &["REVOKE", "API"]) => {
            parser.advance_token();
            words::expect(parser, &["API", "KEY"])?;
            Ok(Statement::RevokeApiKey(user::revoke_api_key(parser)?))
        }
        "KILL" => {
            parser.advance_token();
            Ok(Statement::KillLiveQuery(subscribe::kill(parser)?))
        }
        "DESCRIBE" | "DESC" => {
            parser.advance_token();
            words::accept(parser, &["TABLE"]);
            if words::comes(parser, &["SELECT"]) {
                return Err(refused::here(parser, "DESCRIBE takes a table. Use EXPLAIN to see how a query runs."));
            }
            Ok(Statement::DescribeTable { table: name::whole_table(parser)? })
        }
        other => match refused::statement(other) {
            Some(message) => Err(refused::here(parser, message)),
            None => words::expected(parser, STATEMENTS),
        },
    }
}

fn explain(parser: &mut Parser<'_>) -> Parsed<Explain> {
    parser.advance_token();
    let (mut analyze, mut verbose) = (false, false);
    loop {
        if !analyze && words::accept(parser, &["ANALYZE"]) {
            analyze = true;
        } else if !verbose && words::accept(parser, &["VERBOSE"]) {
            verbose = true;
        } else {
            break;
        }
    }
    let parenthesized = parser.peek_token_ref().token == Token::LParen;
    let word = words::word_text(parser.peek_nth_token_ref(usize::from(parenthesized))).unwrap_or_default();
    match word.as_str() {
        "SELECT" | "WITH" | "VALUES" | "FROM" => {}
        _ if parenthesized && parser.peek_nth_token_ref(1).token == Token::LParen => {}
        "INSERT" | "UPDATE" | "DELETE" => {
            let message = "EXPLAIN takes a query. INSERT, UPDATE and DELETE cannot be explained: EXPLAIN a SELECT with \
                           the same WHERE.";
            return Err(refused::here(parser, message));
        }
        "ANALYZE" | "VERBOSE" | "FORMAT" | "COSTS" | "BUFFERS" | "TIMING" | "TREE" | "QUERY" | "ESTIMATE" => {
            return Err(refused::here(
                parser,
                "Write EXPLAIN [ANALYZE] [VERBOSE] and a query: it takes no other options.",
            ));
        }
        _ => return words::expected(parser, "ANALYZE, VERBOSE or a query that begins with SELECT, WITH or VALUES"),
    }
    Ok(Explain { analyze, verbose, query: query::query(parser)? })
}

fn create(parser: &mut Parser<'_>) -> Parsed<Statement> {
    parser.advance_token();
    if words::accept(parser, &["NAMESPACE"]) {
        return Ok(Statement::CreateNamespace(namespace::create(parser)?));
    }
    if words::accept(parser, &["STORAGE"]) {
        return Ok(Statement::CreateStorage(storage::create(parser)?));
    }
    for (word, kind) in [("USER", TableKind::User), ("SHARED", TableKind::Shared), ("STREAM", TableKind::Stream)] {
        if words::accept(parser, &[word, "TABLE"]) {
            return Ok(Statement::CreateTable(Box::new(table::create(parser, kind)?)));
        }
    }
    if words::accept(parser, &["USER"]) {
        return Ok(Statement::CreateUser(Box::new(user::create(parser)?)));
    }
    if words::accept(parser, &["API", "KEY"]) {
        return Ok(Statement::CreateApiKey(user::create_api_key(parser)?));
    }
    if words::comes(parser, &["OR", "REPLACE"]) {
        return Err(refused::here(parser, "OR REPLACE is not supported. Use IF NOT EXISTS, or DROP first."));
    }
    // Words before the kind of the thing, in other dialects.
    const MODIFIERS: &[&str] =
        &["TEMP", "TEMPORARY", "GLOBAL", "LOCAL", "EXTERNAL", "UNLOGGED", "UNIQUE", "MATERIALIZED", "VIRTUAL"];
    let mut ahead = 0;
    while MODIFIERS.iter().any(|word| words::is_word(&parser.peek_nth_token_ref(ahead).token, word)) {
        ahead += 1;
    }
    let word = words::word_text(parser.peek_nth_token_ref(ahead)).unwrap_or_default();
    if word == "TABLE" {
        let message = "A table has a type. Use CREATE USER TABLE (each user has rows of its own), CREATE SHARED TABLE \
                       (one set of rows for all) or CREATE STREAM TABLE (rows that expire).";
        return Err(refused::here(parser, message));
    }
    match refused::object(&word) {
        Some(message) => Err(refused::here(parser, message)),
        None => words::expected(parser, "NAMESPACE, STORAGE, USER, API KEY, USER TABLE, SHARED TABLE or STREAM TABLE"),
    }
}

fn alter_object(parser: &mut Parser<'_>) -> Parsed<Statement> {
    parser.advance_token();
    if words::accept(parser, &["NAMESPACE"]) {
        return Ok(Statement::AlterNamespace(namespace::alter(parser)?));
    }
    if words::accept(parser, &["TABLE"]) {
        return Ok(Statement::AlterTable(alter::alter(parser)?));
    }
    if words::accept(parser, &["STORAGE"]) {
        return Ok(Statement::AlterStorage(storage::alter(parser)?));
    }
    if words::comes(parser, &["USER"]) && !words::comes(parser, &["USER", "TABLE"]) {
        parser.advance_token();
        return Ok(Statement::AlterUser(Box::new(user::alter(parser)?)));
    }
    other_object(parser, "ALTER")
}

fn drop_object(parser: &mut Parser<'_>) -> Parsed<Statement> {
    parser.advance_token();
    if words::accept(parser, &["NAMESPACE"]) {
        return Ok(Statement::DropNamespace(namespace::drop(parser)?));
    }
    if words::accept(parser, &["STORAGE"]) {
        return Ok(Statement::DropStorage(storage::drop(parser)?));
    }
    if words::comes(parser, &["USER"]) && !words::comes(parser, &["USER", "TABLE"]) {
        parser.advance_token();
        return Ok(Statement::DropUser(user::drop(parser)?));
    }
    if words::comes(parser, &["API", "KEY"]) {
        return Err(refused::here(parser, "Write REVOKE API KEY 'id'."));
    }
    if !words::accept(parser, &["TABLE"]) {
        return other_object(parser, "DROP");
    }
    let if_exists = words::accept(parser, &["IF", "EXISTS"]);
    let table = name::whole_table(parser)?;
    if parser.peek_token_ref().token == Token::Comma {
        return Err(refused::here(parser, "DROP TABLE drops one table. Send a statement for each."));
    }
    if words::comes(parser, &["CASCADE"]) || words::comes(parser, &["RESTRICT"]) {
        return Err(refused::here(parser, "DROP TABLE takes no CASCADE or RESTRICT: nothing depends on a table."));
    }
    Ok(Statement::DropTable(DropTable { table, if_exists }))
}

/// What stands after ALTER or DROP and is none of TABLE, NAMESPACE, STORAGE and USER.
fn other_object<T>(parser: &Parser<'_>, verb: &str) -> Parsed<T> {
    if ["USER", "SHARED", "STREAM"].iter().any(|kind| words::comes(parser, &[kind, "TABLE"])) {
        return Err(refused::here(parser, format!("Write {verb} TABLE without the table's type.")));
    }
    let ahead = usize::from(words::comes(parser, &["MATERIALIZED"]));
    let word = words::word_text(parser.peek_nth_token_ref(ahead)).unwrap_or_default();
    match refused::object(&word) {
        Some(message) => Err(refused::here(parser, message)),
        None => words::expected(parser, "TABLE, NAMESPACE, STORAGE or USER"),
    }
}

fn show(parser: &mut Parser<'_>) -> Parsed<Statement> {
    parser.advance_token();
    let statement = if words::accept(parser, &["NAMESPACES"]) {
        Statement::ShowNamespaces
    } else if words::accept(parser, &["TABLES"]) {
        let named = words::accept(parser, &["IN"]) || words::accept(parser, &["FROM"]);
        let namespace = if named { Some(name::name(parser, "the name of a namespace")?) } else { None };
        Statement::ShowTables { namespace }
    } else if words::accept(parser, &["STORAGES"]) {
        Statement::ShowStorages
    } else if words::accept(parser, &["USERS"]) {
        Statement::ShowUsers
    } else if words::accept(parser, &["API", "KEYS"]) {
        Statement::ShowApiKeys { user: user::shown_keys_of(parser)? }
    } else if words::accept(parser, &["BACKUP"]) || words::accept(parser, &["BACKUPS"]) {
        Statement::ShowBackup(backup::show(parser)?)
    } else if words::accept(parser, &["TABLE"]) {
        words::expect(parser, &["STATS"])?;
        Statement::ShowTableStats(ShowTableStats { table: name::whole_table(parser)? })
    } else {
        let word = words::word_text(parser.peek_token_ref()).unwrap_or_default();
        return match refused::show(&word) {
            Some(message) => Err(refused::here(parser, message)),
            None => words::expected(parser, "NAMESPACES, TABLES, TABLE STATS, STORAGES, USERS, API KEYS or BACKUP"),
        };
    };
    if words::comes(parser, &["LIKE"]) || words::comes(parser, &["WHERE"]) {
        let message = "SHOW takes no filter. Use SELECT … FROM system.tables, system.namespaces, system.storages, \
                       system.segments, system.users or system.api_keys WHERE ….";
        return Err(refused::here(parser, message));
    }
    Ok(statement)
}

const STATEMENTS: &str = "a statement that begins with SELECT, WITH, VALUES, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, \
                          SHOW, DESCRIBE, EXPLAIN, FLUSH, COMPACT, EXPORT, BACKUP, RESTORE, \
                          SUBSCRIBE, KILL or REVOKE";
