use std::net::Ipv4Addr;

use super::*;

const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// No limit but those that a test sets.
fn unlimited() -> LimitsSection {
    LimitsSection {
        user_calls_per_s: 0,
        user_concurrent_calls: 0,
        user_streams: 0,
        address_calls_per_s: 0,
        address_concurrent_calls: 0,
        address_streams: 0,
        address_connections: 0,
        ..LimitsSection::default()
    }
}

fn user(id: &str) -> Caller {
    Caller::new(UserId::new(id).unwrap(), Role::User)
}

fn limit(refused: Result<Option<Share>, Error>) -> String {
    let error = refused.unwrap_err();
    assert_eq!(error.reason(), Reason::TooManyRequests);
    assert!(error.metadata()[RETRY_AFTER_MS].parse::<u64>().unwrap() > 0, "{error}");
    assert!(error.message().contains(&error.metadata()["limit"]), "{error}");
    error.metadata()["limit"].clone()
}

#[test]
fn nothing_is_limited_without_limits() {
    let shares = FairShares::new(&unlimited());
    for _ in 0..1_000 {
        assert!(shares.call_from(ELSEWHERE, false).unwrap().is_none());
        assert!(shares.call_of(&user("ana"), ELSEWHERE, true).unwrap().is_none());
        assert!(shares.connection(ELSEWHERE).unwrap().is_none());
    }
}

#[test]
fn the_burst_may_come_at_once_and_no_more() {
    // So slow that nothing comes back while the test runs.
    let limits = LimitsSection { user_calls_per_s: 1, user_call_burst: 5, ..unlimited() };
    let shares = FairShares::new(&limits);
    for _ in 0..5 {
        shares.call_of(&user("ana"), ELSEWHERE, false).unwrap();
    }
    assert_eq!(limit(shares.call_of(&user("ana"), ELSEWHERE, false)), "limits.user_calls_per_s");
    shares.call_of(&user("bob"), ELSEWHERE, false).unwrap();
    let service = Caller::new(UserId::new("bot").unwrap(), Role::Service);
    for _ in 0..100 {
        assert!(shares.call_of(&service, ELSEWHERE, false).unwrap().is_none(), "services are not limited as users");
    }
}

#[test]
fn places_are_free_again_when_what_had_them_ends() {
    let limits = LimitsSection {
        address_concurrent_calls: 2,
        address_streams: 1,
        address_connections: 1,
        user_streams: 1,
        ..unlimited()
    };
    let shares = FairShares::new(&limits);
    let calls: Vec<_> = (0..2).map(|_| shares.call_from(ELSEWHERE, false).unwrap()).collect();
    assert_eq!(limit(shares.call_from(ELSEWHERE, false)), "limits.address_concurrent_calls");
    // A stream is no call, and a connection neither.
    let stream = shares.call_from(ELSEWHERE, true).unwrap();
    let connection = shares.connection(ELSEWHERE).unwrap();
    assert_eq!(limit(shares.call_from(ELSEWHERE, true)), "limits.address_streams");
    assert_eq!(limit(shares.connection(ELSEWHERE)), "limits.address_connections");
    let _of_user = shares.call_of(&user("ana"), ELSEWHERE, true).unwrap();
    assert_eq!(limit(shares.call_of(&user("ana"), ELSEWHERE, true)), "limits.user_streams");
    drop((calls, stream, connection));
    shares.call_from(ELSEWHERE, false).unwrap();
    shares.call_from(ELSEWHERE, true).unwrap();
    shares.connection(ELSEWHERE).unwrap();
}

#[test]
fn this_machine_is_exempt_unless_a_proxy_is_on_it() {
    let limits = LimitsSection { address_calls_per_s: 1, address_call_burst: 1, ..unlimited() };
    let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
    let shares = FairShares::new(&limits);
    for address in [HERE, mapped, HERE, mapped] {
        assert!(shares.call_from(address, false).unwrap().is_none());
    }
    let shares = FairShares::new(&LimitsSection { exempt_loopback: false, ..limits });
    shares.call_from(HERE, false).unwrap();
    assert_eq!(limit(shares.call_from(mapped, false)), "limits.address_calls_per_s");
}

#[test]
fn a_network_of_ipv6_is_one_address() {
    let limits = LimitsSection { address_calls_per_s: 1, address_call_burst: 2, ..unlimited() };
    let shares = FairShares::new(&limits);
    let from = |text: &str| shares.call_from(text.parse().unwrap(), false);
    from("2001:db8:1:2::1").unwrap();
    from("2001:db8:1:2:ffff:ffff:ffff:ffff").unwrap();
    limit(from("2001:db8:1:2::3"));
    from("2001:db8:1:3::1").unwrap();
}

#[test]
fn the_book_is_bounded_and_forgets_who_is_idle() {
    let bounds = Bounds { whose: "user", calls_per_s: 1_000_000_000, burst: 1, under_way: [1, 0, 0] };
    let book: Book<u32> = Book::new(bounds, 10);
    let held: Vec<_> = (0..10).map(|key| book.take(&key, Thing::Call, true).unwrap()).collect();
    // Everybody in it has something: those who come now share an entry.
    let _first = book.take(&10, Thing::Call, true).unwrap();
    assert!(book.take(&11, Thing::Call, true).is_err(), "who is not in the book shares its places");
    assert_eq!(book.len(), 10);
    drop(held);
    // The sweep that found nobody was just now; the next may be in a second.
    book.pages.lock().swept_at = None;
    let _own = book.take(&12, Thing::Call, true).unwrap();
    let _other = book.take(&13, Thing::Call, true).unwrap();
    assert!(book.len() < 10, "{}", book.len());
}

#[test]
fn who_has_spent_its_burst_is_not_forgotten() {
    let bounds = Bounds { whose: "user", calls_per_s: 1, burst: 3, under_way: [0; 3] };
    let book: Book<u32> = Book::new(bounds, 1);
    drop(book.take(&1, Thing::Call, true).unwrap());
    assert!(!book.pages.lock().sweep(&bounds));
    // To forget it would have given it three calls more.
    for _ in 0..2 {
        book.take(&1, Thing::Call, true).unwrap();
    }
    assert!(book.take(&1, Thing::Call, true).is_err());
}
