//! When what a connection was let in with is over, the connection is.

use std::future::pending;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep_until};

use crate::auth::{Ended, Permit};
use crate::clock::now_seconds;

/// How long a connection whose permit is over has to take what was said to it before: with the second in which a permit notices
/// that it is over, no one lasts longer than two.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Waits for the end of a permit, and then for the end of the connection.
pub(crate) struct Ending {
    over: Option<BoxFuture<'static, Ended>>,
    cut_at: Option<Instant>,
}

/// What is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// The permit: say why, and close.
    Permit(Ended),
    /// The time for that.
    Connection,
}

impl Ending {
    /// Waits for nothing.
    pub(crate) fn never() -> Self {
        Self { over: None, cut_at: None }
    }

    /// Waits for the end of a permit.
    pub(crate) fn of(permit: &Permit) -> Self {
        let permit = permit.clone();
        Self { over: Some(Box::pin(async move { permit.ended().await })), cut_at: None }
    }

    /// Waits for what is over next, for ever if nothing will be. It may be given up at any time.
    pub(crate) async fn over(&mut self) -> Over {
        if let Some(at) = self.cut_at {
            sleep_until(at).await;
            self.cut_at = None;
            return Over::Connection;
        }
        let Some(over) = &mut self.over else { return pending().await };
        let ended = over.await;
        self.over = None;
        self.cut_at = Some(Instant::now() + LAST_WORDS);
        Over::Permit(ended)
    }
}

/// Returns what the other side is told when its permit is over.
pub(crate) fn reason(ended: Ended) -> &'static str {
    match ended {
        Ended::Expired => "the token has expired: connect again with a new one",
        Ended::Revoked => "the token was revoked: connect again with a new one",
    }
}

/// Returns after how many seconds a permit ends by itself, 1 or more; 0 if it does not.
pub(crate) fn seconds_left(permit: &Permit) -> u64 {
    permit.expires().map_or(0, |expires| expires.saturating_sub(now_seconds()).max(1))
}
