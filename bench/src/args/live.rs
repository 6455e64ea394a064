//! Options of the workloads of live queries.

/// Options of the workloads of live queries.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Live queries")]
pub(crate) struct LiveArgs {
    /// Numbers of subscriptions, such as 1,1000 (default: the workload's)
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=200_000))]
    subscriptions: Vec<u32>,

    /// Commits a second of live-latency and live-soak
    #[arg(long, value_name = "N", default_value = "500", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,

    /// Changes a second that they deliver at most: with many subscribers of each row they commit fewer
    #[arg(
        long,
        value_name = "N",
        default_value = "50000",
        value_parser = clap::value_parser!(u32).range(1..=100_000_000)
    )]
    deliveries: u32,

    /// live-resume: all subscribers listen to the rows of one user
    #[arg(long)]
    pub(crate) same_user: bool,
}

impl LiveArgs {
    /// The numbers of subscriptions to run a workload with.
    pub(crate) fn subscriptions(&self, default: &[usize]) -> Vec<usize> {
        if self.subscriptions.is_empty() {
            default.to_vec()
        } else {
            self.subscriptions.iter().map(|n| *n as usize).collect()
        }
    }

    /// Commits a second where each reaches so many subscribers.
    pub(crate) fn commits_per_s(&self, subscribers: usize) -> f64 {
        f64::from(self.rate).min(f64::from(self.deliveries) / subscribers.max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        live: LiveArgs,
    }

    fn parse(words: &[&str]) -> Result<LiveArgs, clap::Error> {
        Only::try_parse_from(std::iter::once(&"bench").chain(words)).map(|only| only.live)
    }

    #[test]
    fn many_subscribers_of_a_row_lower_the_rate() {
        let args = parse(&[]).unwrap();
        assert_eq!([1, 100, 1_000].map(|subscribers| args.commits_per_s(subscribers)), [500.0, 500.0, 50.0]);
        let args = parse(&["--rate", "20", "--deliveries", "100"]).unwrap();
        assert_eq!([1, 1_000].map(|subscribers| args.commits_per_s(subscribers)), [20.0, 0.1]);
    }

    #[test]
    fn subscriptions_default_to_the_workloads_own() {
        assert_eq!(parse(&[]).unwrap().subscriptions(&[1, 10]), [1, 10]);
        assert_eq!(parse(&["--subscriptions", "5,7"]).unwrap().subscriptions(&[1, 10]), [5, 7]);
        assert!(parse(&["--subscriptions", "0"]).is_err());
    }
}
