use super::*;

fn manifest() -> Manifest {
    Manifest {
        format: FORMAT,
        kalamdb: "0.1.0".to_owned(),
        backup: BackupId(0x1234),
        mode: BackupMode::Incremental,
        based_on: Some(BackupId(0x1233)),
        database_id: "00000000000000ff".to_owned(),
        namespace: "chat".to_owned(),
        options: BTreeMap::from([("owner".to_owned(), "two\nlines".to_owned())]),
        created_at_us: 1,
        finished_at_us: 2,
        commit_seq: CommitSeq::new(7),
        last_id: Some(0x1235),
        tables: Vec::new(),
        files: vec![ListFile {
            path: "backups/0000000000001234/files-0001.jsonl".to_owned(),
            bytes: 3,
            sha256: sha256(b"abc"),
            entries: 1,
        }],
        marks: Vec::new(),
        totals: Totals::default(),
    }
}

#[test]
fn a_sealed_manifest_is_json_and_comes_back() {
    let sealed = seal(&manifest()).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&sealed).unwrap();
    assert_eq!(json["namespace"], "chat");
    assert_eq!(json["backup"], "0000000000001234");
    let back = unseal(&sealed).unwrap();
    assert_eq!(format!("{back:?}"), format!("{:?}", manifest()));
}

#[test]
fn a_manifest_without_ids_is_read() {
    let sealed = seal(&Manifest { last_id: None, ..manifest() }).unwrap();
    assert!(!String::from_utf8(sealed.clone()).unwrap().contains("last_id"));
    assert_eq!(unseal(&sealed).unwrap().last_id, None);
}

#[test]
fn every_change_of_a_manifest_is_noticed() {
    let sealed = seal(&manifest()).unwrap();
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert!(matches!(unseal(&changed), Err(Unusable::Damaged(_))), "byte {at}");
        assert!(matches!(unseal(&sealed[..at]), Err(Unusable::Damaged(_))), "cut at {at}");
    }
    let longer = [sealed.as_slice(), b" "].concat();
    assert!(matches!(unseal(&longer), Err(Unusable::Damaged(_))));
}

#[test]
fn a_manifest_of_a_later_format_is_named_as_such() {
    let sealed = seal(&Manifest { format: FORMAT + 1, ..manifest() }).unwrap();
    assert_eq!(unseal(&sealed).unwrap_err(), Unusable::Newer(FORMAT + 1));
}

#[test]
fn lines_keep_odd_owners_and_keys() {
    let owner = UserId::new("../\u{0}\"é").unwrap();
    let entry = SegmentEntry {
        id: SegmentId::new(0xabc),
        storage: StorageId::new(3),
        path: "x".to_owned(),
        file_bytes: 5,
        rows: 2,
        row_group_rows: 10,
        schema_version: SchemaVersion::new(4),
        min_key: PrimaryKey::from_i64(-1),
        max_key: PrimaryKey::from_str("z\u{0}"),
        min_seq: CommitSeq::new(1),
        max_seq: CommitSeq::new(2),
        created_at_us: -3,
    };
    let path = "data/t/0000000000000001/0000000000000abc.parquet".to_owned();
    let line = FileLine::of_segment(TableId::new(9), &Owner::User(owner.clone()), &entry, path, sha256(b""), 1);
    let text = serde_json::to_string(&line).unwrap();
    assert!(!text.contains('\n'));
    let back: FileLine = serde_json::from_str(&text).unwrap();
    assert_eq!(back, line);
    assert!(back.is_of(&entry));
    assert!(!back.is_of(&SegmentEntry { rows: 3, ..entry.clone() }));
    assert_eq!(back.partition_owner(), Owner::User(owner));
    let segment = back.segment.clone().unwrap();
    let restored = back.entry(&segment, entry.id, entry.storage, "x".to_owned());
    assert_eq!(restored, entry);
}

#[test]
fn ids_are_sixteen_digits() {
    assert_eq!(BackupId::parse("00000000000000ff"), Some(BackupId(255)));
    for wrong in ["", "ff", "00000000000000FF", "0000000000000 ff", "+00000000000000f", "000000000000000ff"] {
        assert_eq!(BackupId::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn paths_stay_in_the_directory() {
    assert!(is_plain_path("data/t/1/x.parquet"));
    for wrong in ["", "/etc/passwd", "../x", "data/../../x", "data//x", "data/./x", "data\\x"] {
        assert!(!is_plain_path(wrong), "{wrong}");
    }
}
