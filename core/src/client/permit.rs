//! How long what the relay permits lasts, and renewing it before it ends.

use std::future::pending;
use std::time::Duration;

use tokio::sync::watch;

use super::mailbox::Mailbox;
use super::options::Provider;
use crate::codec::v1::Token;
use crate::runtime::{self, Instant};

/// The least time between two attempts to renew.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// What the relay said of how long its permit lasts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Permit {
    since: Instant,
    life: Option<Duration>,
}

impl Permit {
    /// One that ends after so many seconds from now; 0 if it does not.
    pub(super) fn lasting(seconds: u64) -> Self {
        Self { since: runtime::now(), life: (seconds > 0).then(|| Duration::from_secs(seconds)) }
    }

    /// Returns after how long it ends; `None` if it does not.
    pub(super) fn ends_in(&self) -> Option<Duration> {
        self.life.map(|life| life.saturating_sub(runtime::now().saturating_duration_since(self.since)))
    }

    /// Returns after how long it is to be renewed: at 80 % of its life, and if that fails halfway to its end, again and again.
    pub(super) fn renew_in(&self) -> Option<Duration> {
        self.life.map(|life| wait(life, runtime::now().saturating_duration_since(self.since)))
    }
}

fn wait(life: Duration, elapsed: Duration) -> Duration {
    let due = life - life / 5;
    match due.checked_sub(elapsed) {
        Some(wait) if !wait.is_zero() => wait,
        _ => (life.saturating_sub(elapsed) / 2).max(RETRY_MIN),
    }
}

/// Hands tokens to the session: those that the application gives, and where they come from somewhere, one in time before the last
/// one ends. Never returns.
pub(super) async fn keep_renewed(
    provider: Option<&Provider>,
    mut permits: watch::Receiver<Permit>,
    mut tokens: watch::Receiver<Token>,
    mailbox: &Mailbox,
) {
    loop {
        let renew_in = permits.borrow_and_update().renew_in();
        let provider = runtime::select! {
            Ok(()) = permits.changed() => continue,
            Ok(()) = tokens.changed() => {
                mailbox.put_token(tokens.borrow_and_update().clone());
                continue;
            }
            provider = due(provider, renew_in) => provider,
        };
        match provider.ask().await {
            Ok(token) => mailbox.put_token(token),
            Err(reason) => tracing::warn!(%reason, "no token could be got to renew the one that ends"),
        }
    }
}

/// Waits until a token is to be asked for, for ever if there is nobody to ask or nothing ends.
async fn due(provider: Option<&Provider>, renew_in: Option<Duration>) -> &Provider {
    match (provider, renew_in) {
        (Some(provider), Some(renew_in)) => {
            runtime::sleep(renew_in).await;
            provider
        }
        _ => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_begins_at_four_fifths_and_is_tried_faster_towards_the_end() {
        let life = Duration::from_secs(100);
        let waits = [0, 50, 80, 90, 99, 200].map(|elapsed| wait(life, Duration::from_secs(elapsed)).as_secs());
        assert_eq!(waits, [80, 30, 10, 5, 1, 1]);
        assert_eq!(Permit::lasting(0).renew_in(), None);
        assert!(Permit::lasting(100).ends_in() > Some(Duration::from_secs(90)));
    }
    #[tokio::test]
    async fn session_is_handed_what_is_given_and_what_is_got_in_time() {
        let options = crate::ConnectOptions::new().token_with(|| async { Ok::<_, String>("got".to_owned()) });
        let (permit, permits) = watch::channel(Permit::lasting(0));
        let (tokens, given) = watch::channel(Token::default());
        let mailbox = Mailbox::new(0);
        let renewing = keep_renewed(options.provider(), permits, given, &mailbox);
        tokio::pin!(renewing);
        tokens.send_replace(Token::new("given"));
        for (expected, seconds) in [("given", 1), ("got", 0)] {
            let batch = loop {
                tokio::select! {
                    () = &mut renewing => break None,
                    () = tokio::time::sleep(Duration::from_millis(10)) => {}
                }
                if let Some(batch) = mailbox.take_now() {
                    break batch;
                }
            };
            let token = batch.and_then(|batch| batch.token);
            assert_eq!(token.as_ref().map(Token::as_str), Some(expected));
            permit.send_replace(Permit::lasting(seconds));
        }
    }
}
