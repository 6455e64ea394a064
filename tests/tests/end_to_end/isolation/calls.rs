//! What mallory sends as calls: a request for each of the API, filled from its own description.

use kalamdb_tests::access::{ApiField, ApiMethod, FieldKind};
use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::{Map, Value, json};

use super::stage::{ALICE, Stage};

/// What an adversary writes into a text of a request, by the field's name.
fn texts(field: &ApiField, stage: &Stage) -> Vec<String> {
    let of = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    match field.name.as_str() {
        "sql" => of(&["SELECT * FROM n.all_users.notes", "SELECT * FROM n.notes", "SELECT * FROM system.users"]),
        "namespace" => of(&["n", "system", "n.all_users", ""]),
        "table" | "table_name" => of(&["notes", "board", "zqclosed97", "all_users.notes", "users"]),
        // A namespace, a table, a storage or a key, as the call may be.
        "name" => of(&["notes", "board", "n", "zqclosed97", "local"]),
        "user_id" | "user" | "username" => of(&[ALICE, "mallory", "root"]),
        "password" | "new_password" | "current_password" => of(&["", "overwritten by mallory"]),
        "uri" => of(&["/tmp", "file:///", "call.csv", "../zqalice7f3a/call.csv"]),
        "from" => of(&["n.notes", "n.all_users.notes", "n.zqclosed97", "(SELECT * FROM n.board)"]),
        "live_id" => vec![stage.live_id.clone(), "1".to_owned()],
        "job_id" => vec![stage.job_id.clone(), "1".to_owned()],
        "key_id" | "api_key_id" => vec![stage.secured.key(ALICE).split('_').nth(1).unwrap_or_default().to_owned()],
        "session_id" | "refresh_token" | "api_key" | "access_token" => of(&["", "zz"]),
        "backup_id" | "into" => of(&["", "0000000000000001", "zq"]),
        "resume_token" => vec![stage.resume_token.clone()],
        "page_token" => of(&["", ALICE, "a"]),
        "credentials" | "metadata" | "metadata_json" => of(&["", "{}"]),
        "role" | "username_prefix" | "prefix" | "filter" => of(&["", "z"]),
        "permissions" => of(&["*", "n.board"]),
        other => panic!("{other} is a text that the adversary has not thought of: add it here"),
    }
}

/// Requests of a method, each as the bytes of its message and as JSON.
pub fn requests(method: &ApiMethod, stage: &Stage) -> Vec<(Vec<u8>, Value)> {
    let values: Vec<(&ApiField, Vec<String>)> = method
        .fields
        .iter()
        .filter(|field| field.kind == FieldKind::Text)
        .map(|field| (field, texts(field, stage)))
        .collect();
    let rounds = values.iter().map(|(_, texts)| texts.len()).max().unwrap_or(1);
    (0..rounds)
        .map(|round| {
            let (mut bytes, mut json) = (Vec::new(), Map::new());
            for (field, texts) in &values {
                let text = &texts[round % texts.len()];
                encode_key(field.number, WireType::LengthDelimited, &mut bytes);
                encode_varint(text.len() as u64, &mut bytes);
                bytes.extend_from_slice(text.as_bytes());
                let value = if field.repeated { json!([text]) } else { json!(text) };
                json.insert(field.json_name.clone(), value);
            }
            for field in method.fields.iter().filter(|field| field.kind == FieldKind::Boolean && !field.repeated) {
                // In turn, so that IF EXISTS, FORCE and their like are tried both ways.
                encode_key(field.number, WireType::Varint, &mut bytes);
                encode_varint(round as u64 % 2, &mut bytes);
                json.insert(field.json_name.clone(), json!(round % 2 == 1));
            }
            (bytes, Value::Object(json))
        })
        .collect()
}
