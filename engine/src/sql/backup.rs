//! BACKUP DATABASE, RESTORE DATABASE and SHOW BACKUP.

use datafusion::sql::sqlparser::{parser::Parser, tokenizer::Token};

use super::{
    errors::{self, Parsed},
    name, refused,
    statement::{BackupDatabase, RestoreDatabase, ShowBackup, Uri},
    words,
};

/// After BACKUP: `DATABASE ns TO 'uri' [MODE { FULL | INCREMENTAL }]`.
pub(super) fn backup(parser: &mut Parser<'_>) -> Parsed<BackupDatabase> {
    if words::comes(parser, &["TABLE"]) {
        return Err(refused::here(
            parser,
            "A backup is of a whole namespace: BACKUP DATABASE ns TO '…'. EXPORT writes tables.",
        ));
    }
    words::expect(parser, &["DATABASE"])?;
    let namespace = name::name(parser, NAMESPACE)?;
    words::expect(parser, &["TO"])?;
    let uri = uri(parser)?;
    let mut incremental = false;
    if words::accept(parser, &["MODE"]) {
        incremental = words::accept(parser, &["INCREMENTAL"]);
        if !incremental && !words::accept(parser, &["FULL"]) {
            return words::expected(parser, "FULL or INCREMENTAL");
        }
    }
    Ok(BackupDatabase { namespace, uri, incremental })
}

/// After RESTORE: `DATABASE ns FROM 'uri' [BACKUP 'id'] [AS other]`.
pub(super) fn restore(parser: &mut Parser<'_>) -> Parsed<RestoreDatabase> {
    words::expect(parser, &["DATABASE"])?;
    let namespace = name::name(parser, NAMESPACE)?;
    words::expect(parser, &["FROM"])?;
    let uri = uri(parser)?;
    let backup = if words::accept(parser, &["BACKUP"]) {
        let Token::SingleQuotedString(id) = &parser.peek_token_ref().token else {
            return words::expected(parser, "the id of a backup, as a text that SHOW BACKUP shows");
        };
        let id = id.clone();
        parser.advance_token();
        Some(id)
    } else {
        None
    };
    let into = if words::accept(parser, &["AS"]) { Some(name::name(parser, NAMESPACE)?) } else { None };
    Ok(RestoreDatabase { namespace, uri, backup, into })
}

/// After SHOW BACKUP.
pub(super) fn show(parser: &mut Parser<'_>) -> Parsed<ShowBackup> {
    Ok(ShowBackup { uri: uri(parser)? })
}

fn uri(parser: &mut Parser<'_>) -> Parsed<Uri> {
    let token = parser.peek_token_ref();
    let position = errors::start(token);
    let Token::SingleQuotedString(text) = &token.token else {
        return words::expected(parser, "the place of backups, as a text: '/srv/backups/chat'");
    };
    let text = text.clone();
    parser.advance_token();
    Ok(Uri { text, position })
}

const NAMESPACE: &str = "the name of a namespace";
