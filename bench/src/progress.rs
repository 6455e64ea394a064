//! How far something long is, on standard error, for whoever waits for it.

use std::time::{Duration, Instant};

/// The shortest time between two lines; what ends sooner prints none.
const INTERVAL: Duration = Duration::from_secs(2);

/// Something under way.
pub(crate) struct Progress {
    what: String,
    unit: &'static str,
    /// How much there is to do, if that is known.
    total: Option<u64>,
    done: u64,
    begin: Instant,
    told: Instant,
}

impl Progress {
    /// Something with so many parts.
    pub(crate) fn new(what: String, unit: &'static str, total: u64) -> Self {
        let now = Instant::now();
        Self { what, unit, total: Some(total), done: 0, begin: now, told: now }
    }

    /// Something that may take any time.
    pub(crate) fn endless(what: &str) -> Self {
        Self { total: None, ..Self::new(what.to_owned(), "", 0) }
    }

    /// So many parts more are done.
    pub(crate) fn add(&mut self, parts: u64) {
        self.done += parts;
        self.tell();
    }

    /// Prints a line, if the last one is long enough ago.
    pub(crate) fn tell(&mut self) {
        if self.told.elapsed() >= INTERVAL {
            self.told = Instant::now();
            eprintln!("{}", self.line());
        }
    }

    fn line(&self) -> String {
        let Self { what, unit, done, .. } = self;
        let part = self.total.map(|total| format!(": {done} of {total} {unit}")).unwrap_or_default();
        format!("{what}{part}, {:.0} s", self.begin.elapsed().as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far() {
        let mut progress = Progress::new("filling t".to_owned(), "rows", 10);
        progress.add(4);
        assert_eq!(progress.line(), "filling t: 4 of 10 rows, 0 s");
        assert_eq!(Progress::endless("waiting").line(), "waiting, 0 s");
    }
}
