use kalamdb_engine::{FixedEnv, Role, UserId};

use super::*;

const LIFETIME: Duration = Duration::from_secs(60);

fn sealer(env: &Arc<FixedEnv>) -> Sealer {
    Sealer::new(LIFETIME, 1_000, Arc::clone(env) as Arc<dyn Env>).unwrap()
}

fn caller(name: &str) -> Caller {
    Caller::new(UserId::new(name).unwrap(), Role::User)
}

fn env() -> Arc<FixedEnv> {
    Arc::new(FixedEnv::new(1_000_000, 1))
}

#[test]
fn what_was_sealed_is_opened() {
    let sealer = sealer(&env());
    let sealed =
        Sealed { parameters: Some(Bytes::from_static(b"rows")), ..Sealed::new("SELECT $1", Some("chat".to_owned())) };
    for purpose in Purpose::TICKETS {
        let fresh = sealer.seal(purpose, sealed.clone(), &caller("ana")).unwrap();
        let opened = sealer.open_ticket(&fresh.bytes, &caller("ana")).unwrap();
        assert_eq!(opened.purpose, purpose);
        assert_eq!((opened.sealed.sql.as_str(), opened.sealed.namespace.as_deref()), ("SELECT $1", Some("chat")));
        assert_eq!(opened.sealed.parameters.as_deref(), Some(&b"rows"[..]));
    }
    let handle = sealer.seal(Purpose::Prepared, sealed, &caller("ana")).unwrap();
    assert_eq!(sealer.open_handle(&handle.bytes, &caller("ana")).unwrap().purpose, Purpose::Prepared);
}

#[test]
fn numbers_are_never_used_twice() {
    let sealer = sealer(&env());
    let seal = || sealer.seal(Purpose::Read, Sealed::new("SELECT 1", None), &caller("ana")).unwrap().bytes;
    let (a, b) = (seal(), seal());
    assert_ne!(a, b);
    let open = |bytes: &Bytes| sealer.open_ticket(bytes, &caller("ana")).unwrap();
    assert!(open(&a).origin < open(&b).origin, "later ones are greater");
    // What is renewed has a number of its own, without which two texts would have one nonce.
    let renewed = sealer.renew(open(&a), &caller("ana")).unwrap().bytes;
    let number = |bytes: &[u8]| split(bytes).unwrap().0;
    assert!(number(&a) < number(&b) && number(&b) < number(&renewed));
}

#[test]
fn what_is_renewed_is_the_same_ticket_for_longer() {
    let env = env();
    let sealer = sealer(&env);
    let ana = caller("ana");
    let first = sealer.seal(Purpose::Read, Sealed::new("SELECT 1", None), &ana).unwrap();
    let origin = sealer.open_ticket(&first.bytes, &ana).unwrap().origin;
    let mut bytes = first.bytes.clone();
    for _ in 0..3 {
        env.advance_us(40_000_000);
        let renewed = sealer.renew(sealer.open_ticket(&bytes, &ana).unwrap(), &ana).unwrap();
        assert_eq!(renewed.expires_at_us, env.now_us() + 60_000_000);
        bytes = renewed.bytes;
        let opened = sealer.open_ticket(&bytes, &ana).unwrap();
        assert_eq!((opened.origin, opened.purpose, opened.sealed.sql.as_str()), (origin, Purpose::Read, "SELECT 1"));
    }
    // A statement that is sealed again, as that of a prepared one is for each run, is another.
    let again = sealer.seal(Purpose::Read, sealer.open_ticket(&bytes, &ana).unwrap().sealed, &ana).unwrap();
    assert_ne!(sealer.open_ticket(&again.bytes, &ana).unwrap().origin, origin);
}

#[test]
fn it_shows_nothing_of_the_statement() {
    let sealer = sealer(&env());
    let sql = "ALTER USER ana PASSWORD 'correct horse battery'";
    let fresh = sealer.seal(Purpose::Prepared, Sealed::new(sql, None), &caller("ana")).unwrap();
    assert!(!fresh.bytes.windows(7).any(|window| window == b"correct"));
}

#[test]
fn nothing_forged_is_opened() {
    let sealer = sealer(&env());
    let ana = caller("ana");
    let fresh = sealer.seal(Purpose::Read, Sealed::new("SELECT 1", None), &ana).unwrap();
    let reason = |bytes: &[u8]| sealer.open_ticket(bytes, &ana).unwrap_err().reason();
    for place in 0..fresh.bytes.len() {
        let mut changed = fresh.bytes.to_vec();
        changed[place] ^= 1;
        assert_eq!(reason(&changed), Reason::TicketInvalid, "byte {place}");
        assert_eq!(reason(&fresh.bytes[..place]), Reason::TicketInvalid, "cut at {place}");
    }
    assert_eq!(reason(b""), Reason::TicketInvalid);
    // A handle is no ticket, nor the other way round.
    let handle = sealer.seal(Purpose::Prepared, Sealed::new("SELECT 1", None), &ana).unwrap();
    assert_eq!(reason(&handle.bytes), Reason::TicketInvalid);
    assert_eq!(sealer.open_handle(&fresh.bytes, &ana).unwrap_err().reason(), Reason::TicketInvalid);
    // Nor is one of another server, or of this one before it was started again.
    let other = Sealer::new(LIFETIME, 1_000, Arc::new(FixedEnv::new(1_000_000, 2))).unwrap();
    let foreign = other.seal(Purpose::Read, Sealed::new("SELECT 1", None), &ana).unwrap();
    assert_eq!(reason(&foreign.bytes), Reason::TicketInvalid);
}

#[test]
fn it_is_good_for_whom_it_was_made() {
    let sealer = sealer(&env());
    let (ana, bob) = (caller("ana"), caller("bob"));
    let fresh = sealer.seal(Purpose::Read, Sealed::new("SELECT 1", None), &ana).unwrap();
    let reason = |caller: &Caller| sealer.open_ticket(&fresh.bytes, caller).unwrap_err().reason();
    assert_eq!(reason(&bob), Reason::PermissionDenied);
    // Neither for whoever acts for that one, nor for that one acting for another.
    assert_eq!(reason(&bob.clone().acting_as(ana.user_id.clone())), Reason::PermissionDenied);
    assert_eq!(reason(&ana.clone().acting_as(bob.user_id.clone())), Reason::PermissionDenied);
}

#[test]
fn it_expires() {
    let env = env();
    let sealer = sealer(&env);
    let ana = caller("ana");
    let fresh = sealer.seal(Purpose::Read, Sealed::new("SELECT 1", None), &ana).unwrap();
    assert_eq!(fresh.expires_at_us, env.now_us() + 60_000_000);
    env.advance_us(59_999_999);
    sealer.open_ticket(&fresh.bytes, &ana).unwrap();
    env.advance_us(1);
    assert_eq!(sealer.open_ticket(&fresh.bytes, &ana).unwrap_err().reason(), Reason::TicketExpired);
    // It can be cancelled still, by whom it was made for.
    sealer.open_old_ticket(&fresh.bytes, &ana).unwrap();
    let foreign = sealer.open_old_ticket(&fresh.bytes, &caller("bob"));
    assert_eq!(foreign.unwrap_err().reason(), Reason::PermissionDenied);
}

#[test]
fn it_is_bounded() {
    let error = sealer(&env()).seal(Purpose::Read, Sealed::new("x".repeat(1_001), None), &caller("ana")).unwrap_err();
    assert_eq!(error.reason(), Reason::StatementTooLarge);
    assert_eq!(error.metadata().get("limit").map(String::as_str), Some("flight.max_handle_bytes"));
}
