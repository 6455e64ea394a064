//! `SUBSCRIBE`: the rows of a query, and then every change of them as it happens.

mod keys;

use std::{
    io::{self, Stdout, Write, stdout},
    pin::pin,
    time::Duration,
};

use futures::StreamExt;
use kalam_link::{
    CommitChanges, Error, Subscription, SubscriptionEvent,
    sql::{TokenKind, tokens},
};
use tokio::time::Instant;

use self::keys::{Keys, Typed};
use crate::{
    escape,
    exit::Failure,
    render::{LiveRender, local_time},
    report::Place,
    session::{Flow, Session},
};

/// What is written reaches the terminal this often at the most: a thousand changes a second need no thousand writes.
const FLUSH_INTERVAL: Duration = Duration::from_millis(30);
const BUFFER_BYTES: usize = 64 << 10;

/// When a subscription ends by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// After so many changes.
    pub(crate) changes: Option<u64>,
    /// After this time.
    pub(crate) time: Option<Duration>,
}

/// Whether a statement is one that subscribes.
pub(crate) fn is_subscription(sql: &str) -> bool {
    let first = tokens(sql).find(|token| !matches!(token.kind, TokenKind::Space | TokenKind::Comment));
    first.is_some_and(|token| token.kind == TokenKind::Word && token.text.eq_ignore_ascii_case("subscribe"))
}

/// What the loop does next.
enum Step {
    Show(SubscriptionEvent),
    Flush,
    Obey(Typed),
    /// The subscription is over, with an error or because it was to end.
    End(Option<Error>),
}

/// Subscribes, and shows what comes until Ctrl+C, an error, or a bound.
pub(crate) async fn run(session: &Session, sql: &str, place: Option<&Place>) -> Result<Flow, Failure> {
    // One for the whole time, so that no Ctrl+C falls between two.
    let mut interrupt = pin!(tokio::signal::ctrl_c());
    let deadline = session.live.time.and_then(|time| Instant::now().checked_add(time));
    let mut over = pin!(async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    });
    let opened = tokio::select! {
        opened = session.client.subscribe(sql).report_reconnects(true).open() => opened,
        _ = &mut interrupt => return Ok(Flow::Continue),
        () = &mut over => return Ok(Flow::Continue),
    };
    let mut events = match opened {
        Ok(events) => events,
        Err(error) => return Ok(session.fail(&error, sql, place)),
    };

    let mut view = View::new(session);
    let mut keys = Keys::new(session.interactive);
    let mut paused = false;
    loop {
        // In this order: under a flood of changes, the user and the terminal still have their turn.
        let step = tokio::select! {
            biased;
            _ = &mut interrupt => Step::End(None),
            () = &mut over => Step::End(None),
            typed = keys.next() => Step::Obey(typed),
            () = tokio::time::sleep_until(view.flush_at), if view.unflushed => Step::Flush,
            event = events.next(), if !paused => match event {
                Some(Ok(event)) => Step::Show(event),
                Some(Err(error)) => Step::End(Some(error)),
                None => Step::End(None),
            },
        };
        match step {
            Step::Flush => view.flush()?,
            Step::Show(event) => {
                if view.show(&event)? {
                    return end(view, events);
                }
            }
            Step::Obey(Typed::Pause) if !paused => {
                paused = true;
                view.remark("paused; \\continue goes on where this is")?;
            }
            Step::Obey(Typed::Continue) if paused => {
                paused = false;
                view.remark("continued")?;
            }
            Step::Obey(Typed::Pause | Typed::Continue) => {}
            Step::Obey(Typed::Quit) => {
                end(view, events)?;
                return Ok(Flow::Quit);
            }
            Step::Obey(Typed::End) | Step::End(None) => return end(view, events),
            Step::Obey(Typed::Other) => view.remark("\\pause, \\continue, \\q; Ctrl+C ends the subscription")?,
            Step::End(Some(error)) => {
                view.abandon()?;
                return Ok(session.fail(&error, sql, place));
            }
        }
    }
}

fn end(mut view: View, mut events: Subscription) -> Result<Flow, Failure> {
    events.close();
    let text = match view.changes {
        1 => "ended after 1 change".to_owned(),
        changes => format!("ended after {changes} changes"),
    };
    if view.renderer.takes_remarks() {
        view.remark(&text)?;
    }
    view.abandon()?;
    Ok(Flow::Continue)
}

/// What is shown, and how far it is.
struct View {
    renderer: Box<dyn LiveRender>,
    out: io::BufWriter<Stdout>,
    interactive: bool,
    /// Changes to show at the most.
    limit: u64,
    /// Changes shown.
    changes: u64,
    unflushed: bool,
    flush_at: Instant,
    live_id: String,
    /// The commit after which it can go on.
    commit_seq: Option<u64>,
    /// What was said about the break that it has not recovered from.
    broken: Option<String>,
    begun: bool,
}

impl View {
    fn new(session: &Session) -> Self {
        View {
            renderer: session.live_renderer(),
            out: io::BufWriter::with_capacity(BUFFER_BYTES, stdout()),
            interactive: session.interactive,
            limit: session.live.changes.unwrap_or(u64::MAX),
            changes: 0,
            unflushed: false,
            flush_at: Instant::now(),
            live_id: String::new(),
            commit_seq: None,
            broken: None,
            begun: false,
        }
    }

    /// Shows an event. Answers whether that was the last one.
    fn show(&mut self, event: &SubscriptionEvent) -> io::Result<bool> {
        let out = &mut self.out;
        match event {
            SubscriptionEvent::Started { live_id, columns, node_id } => {
                self.live_id.clone_from(live_id);
                self.renderer.started(live_id, columns, out)?;
                if !std::mem::replace(&mut self.begun, true) && self.renderer.takes_remarks() {
                    let keys = if self.interactive { "; \\pause holds it, Ctrl+C ends it" } else { "" };
                    self.remark(&format!("live query {live_id} on node {node_id}{keys}"))?;
                }
            }
            SubscriptionEvent::Rows(rows) => self.renderer.rows(rows, out)?,
            SubscriptionEvent::Ready { commit_seq, row_count, .. } => {
                self.commit_seq = Some(*commit_seq);
                if self.broken.take().is_none() {
                    self.renderer.ready(*commit_seq, *row_count, out)?;
                } else {
                    if !self.renderer.takes_remarks() {
                        self.renderer.ready(*commit_seq, *row_count, out)?;
                    }
                    let text = format!("{} resumed at seq {commit_seq} as live query {}", local_time(), self.live_id);
                    self.remark(&text)?;
                }
            }
            SubscriptionEvent::Reset { reason, message } => {
                self.commit_seq = None;
                self.renderer.reset(reason, message, out)?;
            }
            SubscriptionEvent::Changes(commit) => return self.commit(commit),
            SubscriptionEvent::Progress { commit_seq, .. } => {
                self.commit_seq = Some(*commit_seq);
                return Ok(false);
            }
            SubscriptionEvent::Disconnected { error, .. } => self.disconnected(error)?,
            _ => return Ok(false),
        }
        self.wrote();
        Ok(false)
    }

    fn commit(&mut self, commit: &CommitChanges) -> io::Result<bool> {
        self.commit_seq = Some(commit.commit_seq);
        for change in &commit.changes {
            self.renderer.change(commit, change, &mut self.out)?;
            self.changes += 1;
            if self.changes >= self.limit {
                return Ok(true);
            }
        }
        self.wrote();
        Ok(false)
    }

    /// Says that it broke: once, and again when the cause is another.
    fn disconnected(&mut self, error: &Error) -> io::Result<()> {
        let cause = error.to_string();
        if self.broken.as_ref() == Some(&cause) {
            return Ok(());
        }
        let what = match error {
            Error::Connection { .. } | Error::ConnectionLost { .. } => "connection lost",
            _ => "interrupted",
        };
        let then = match self.commit_seq {
            Some(seq) => format!("resuming at seq {seq}"),
            None => "beginning again".to_owned(),
        };
        let text = format!("{} {what}: {cause}; {then}", local_time());
        self.broken = Some(cause);
        self.remark(&text)
    }

    /// Between the events where people read them, on standard error otherwise.
    fn remark(&mut self, text: &str) -> io::Result<()> {
        if self.renderer.takes_remarks() {
            self.renderer.remark(text, &mut self.out)?;
            self.wrote();
            Ok(())
        } else {
            self.flush()?;
            eprintln!("-- {} --", escape::visible(text));
            Ok(())
        }
    }

    fn wrote(&mut self) {
        self.unflushed = true;
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unflushed = false;
        self.flush_at = Instant::now() + FLUSH_INTERVAL;
        self.out.flush()
    }

    fn abandon(&mut self) -> io::Result<()> {
        self.renderer.abandon(&mut self.out)?;
        self.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::is_subscription;

    #[test]
    fn subscriptions_are_told_from_other_statements() {
        for sql in ["SUBSCRIBE TO t", "/* a */ subscribe -- b\n select id FROM t", "Subscribe"] {
            assert!(is_subscription(sql), "{sql}");
        }
        for sql in ["SELECT subscribe", "KILL LIVE QUERY 7", "\"SUBSCRIBE\" TO t", "SUBSCRIBER", ""] {
            assert!(!is_subscription(sql), "{sql}");
        }
    }
}
