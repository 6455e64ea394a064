use super::*;

#[test]
fn user_ids_are_bounded_in_characters_not_bytes() {
    assert_eq!(UserId::new(""), Err(InvalidUserId::Empty));
    assert!(UserId::new(&"a".repeat(256)).is_ok());
    assert_eq!(UserId::new(&"a".repeat(257)), Err(InvalidUserId::TooLong));
    assert!(UserId::new(&"🦀".repeat(256)).is_ok());
    assert_eq!(UserId::new(&"🦀".repeat(257)), Err(InvalidUserId::TooLong));
    for odd in ["../../etc", "\0", "a\0b", "ünï", "all_users"] {
        assert_eq!(UserId::new(odd).unwrap().as_str(), odd);
    }
}

#[test]
fn serde_validates_user_ids_and_writes_numbers_plainly() {
    let id = UserId::new("a\0b").unwrap();
    let json = serde_json::to_string(&id).unwrap();
    assert_eq!(serde_json::from_str::<UserId>(&json).unwrap(), id);
    assert!(serde_json::from_str::<UserId>("\"\"").is_err());
    assert_eq!(serde_json::to_string(&TableId::new(7)).unwrap(), "7");
    assert_eq!(serde_json::from_str::<CommitSeq>("9").unwrap(), CommitSeq::new(9));
}
