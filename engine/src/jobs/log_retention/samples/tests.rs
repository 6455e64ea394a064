use super::*;

const SECOND: i64 = 1_000_000;

fn sample(time_s: i64, seq: u64, bytes: u64) -> Sample {
    Sample { time_us: time_s * SECOND, seq: CommitSeq::new(seq), bytes }
}

fn samples(of: &[Sample]) -> Samples {
    let mut samples = Samples::default();
    of.iter().for_each(|sample| assert!(samples.push(*sample)));
    samples
}

fn wanted(samples: &Samples, now: Sample, floor_bytes: u64, limits: &Limits) -> Option<u64> {
    samples.wanted(&now, floor_bytes, limits).map(CommitSeq::get)
}

#[test]
fn nothing_younger_than_the_age_is_given_up() {
    let limits = Limits::new(100, u64::MAX);
    let samples = samples(&[sample(0, 5, 0), sample(10, 7, 0), sample(20, 9, 0)]);
    for (now_s, expected) in [(99, None), (100, Some(5)), (109, Some(5)), (110, Some(7)), (1_000, Some(9))] {
        assert_eq!(wanted(&samples, sample(now_s, 20, 0), 0, &limits), expected, "at {now_s} s");
    }
}

#[test]
fn no_more_than_the_bytes_are_kept() {
    let limits = Limits::new(1_000_000, 100);
    let samples = samples(&[sample(0, 5, 50), sample(0, 7, 100), sample(0, 9, 180)]);
    for (bytes, floor_bytes, expected) in [
        (100, 0, None),
        // Something must go, and up to 5 is enough.
        (101, 0, Some(5)),
        (150, 0, Some(5)),
        (151, 0, Some(7)),
        (201, 0, Some(9)),
        // Nothing is old enough to leave so little; the best there is.
        (900, 0, Some(9)),
        // It is gone already.
        (150, 50, None),
        (151, 50, Some(7)),
    ] {
        assert_eq!(wanted(&samples, sample(1, 20, bytes), floor_bytes, &limits), expected, "{bytes} bytes");
    }
    assert_eq!(wanted(&Samples::default(), sample(1, 20, 900), 0, &limits), None);
}

#[test]
fn the_later_of_both_counts() {
    let samples = samples(&[sample(0, 5, 50), sample(10, 7, 100), sample(20, 9, 180)]);
    assert_eq!(wanted(&samples, sample(110, 20, 150), 0, &Limits::new(100, 100)), Some(7));
    assert_eq!(wanted(&samples, sample(100, 20, 200), 0, &Limits::new(100, 100)), Some(7));
    assert_eq!(wanted(&samples, sample(100, 20, 281), 0, &Limits::new(100, 100)), Some(9));
    assert_eq!(wanted(&samples, sample(20, 20, 200), 0, &Limits::new(0, 0)), Some(9));
}

#[test]
fn samples_are_a_step_apart() {
    let limits = Limits::new(2_560, 25_600);
    let mut samples = Samples::default();
    assert!(samples.note(sample(0, 1, 0), &limits));
    assert!(!samples.note(sample(9, 2, 99), &limits), "neither ten seconds nor a hundred bytes");
    assert!(samples.note(sample(10, 2, 99), &limits));
    assert!(samples.note(sample(10, 3, 199), &limits));
    assert!(!samples.note(sample(90, 3, 199), &limits), "no commits");
    assert!(samples.note(sample(90, 4, 199), &limits));
}

#[test]
fn their_number_is_bounded_and_the_ends_stay() {
    let mut samples = Samples::default();
    for n in 0..1_000_000 {
        samples.push(sample(n, n as u64 + 1, n as u64));
        assert!(samples.0.len() <= MAX_SAMPLES);
        assert_eq!((samples.0[0].seq.get(), samples.0.last().unwrap().seq.get()), (1, n as u64 + 1));
    }
    assert!(samples.0.len() > MAX_SAMPLES / 4);
    assert!(samples.0.is_sorted_by_key(|sample| sample.seq));
}

#[test]
fn what_was_made_before_the_clock_was_set_back_counts_as_new() {
    let limits = Limits::new(100, u64::MAX);
    let mut samples = samples(&[sample(0, 5, 0), sample(500, 7, 0), sample(900, 9, 0)]);
    samples.not_after(200 * SECOND);
    assert_eq!(samples.0, [sample(0, 5, 0), sample(200, 7, 0), sample(200, 9, 0)]);
    assert_eq!(wanted(&samples, sample(299, 20, 0), 0, &limits), Some(5));
    assert_eq!(wanted(&samples, sample(300, 20, 0), 0, &limits), Some(9));
}

#[test]
fn floors_lie_at_samples() {
    let mut samples = samples(&[sample(0, 5, 50), sample(0, 7, 100), sample(0, 9, 180)]);
    let until = |samples: &Samples, seq| samples.newest_until(CommitSeq::new(seq)).map(|sample| sample.seq.get());
    assert_eq!([4, 5, 8, 100].map(|seq| until(&samples, seq)), [None, Some(5), Some(7), Some(9)]);
    assert_eq!([4, 5, 8, 100].map(|seq| samples.bytes_at(CommitSeq::new(seq))), [50, 50, 100, 180]);
    samples.forget_before(CommitSeq::new(7));
    assert_eq!(samples.0, [sample(0, 7, 100), sample(0, 9, 180)]);
}

#[test]
fn stored_samples_are_read_or_refused_whole() {
    let stored = samples(&[sample(-3, 5, 50), sample(0, 7, 100), sample(0, 9, 100)]);
    let bytes = stored.encode();
    let decode = |bytes: &[u8], last| Samples::decode(bytes, CommitSeq::new(last)).map(|samples| samples.0);
    assert_eq!(decode(&bytes, 9), Some(stored.0.clone()));
    assert_eq!(decode(&bytes, 8), None, "a commit that is not there");
    assert_eq!(decode(&bytes[..bytes.len() - 1], 9), None);
    assert_eq!(decode(&[2; 25], u64::MAX), None);
    assert_eq!(decode(&[], 9), None);
    assert_eq!(decode(&[FORMAT], 9), None);
    let unordered = Samples(vec![sample(0, 7, 100), sample(0, 5, 50)]);
    assert_eq!(decode(&unordered.encode(), 9), None);
}
