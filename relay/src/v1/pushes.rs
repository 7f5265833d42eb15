//! A connection's pushes on their way to the disk: begun in their order, several at once, and answered in their order.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rejoin::SpaceId;
use rejoin::codec::v1::Outcome;
use rejoin::sync::v1::Offered;

use crate::log::{AppendError, Author, Log, Pushed};

/// What became of a push: its number, when it was received, and what became of each of its writes.
pub(crate) type Answer = (u64, Instant, Result<Vec<Outcome>, AppendError>);

/// A push that waits for room in the queue of the log.
type Entering = BoxFuture<'static, Result<Pushed, AppendError>>;

/// The pushes of one connection. How many there are is the session's to bound.
pub(crate) struct Pushes {
    log: Arc<dyn Log>,
    waiting: VecDeque<(u64, Instant, Author, SpaceId, Vec<Offered>)>,
    /// The one that waits for room in the queue of the log.
    entering: Option<(u64, Instant, Entering)>,
    /// Those in the queue, oldest first.
    entered: VecDeque<(u64, Instant, Result<Pushed, AppendError>)>,
}

impl Pushes {
    pub(crate) fn new(log: Arc<dyn Log>) -> Self {
        Self { log, waiting: VecDeque::new(), entering: None, entered: VecDeque::new() }
    }

    /// Takes a push in. It is begun when [`Pushes::answered`] is next awaited.
    pub(crate) fn push(&mut self, batch: u64, received: Instant, author: Author, space: SpaceId, writes: Vec<Offered>) {
        self.waiting.push_back((batch, received, author, space, writes));
    }

    /// Says whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.entering.is_none() && self.entered.is_empty()
    }

    /// Waits for what became of the oldest push, for ever if there is none. It may be given up at any time.
    pub(crate) async fn answered(&mut self) -> Answer {
        poll_fn(|cx| self.poll_answered(cx)).await
    }

    fn poll_answered(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        self.enter(cx);
        let answer = match self.entered.front_mut() {
            None => return Poll::Pending,
            Some((batch, received, Err(error))) => (*batch, *received, Err(*error)),
            Some((batch, received, Ok(pushed))) => match pushed.poll_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(answer) => (*batch, *received, answer.unwrap_or(Err(AppendError::Stopped))),
            },
        };
        self.entered.pop_front();
        Poll::Ready(answer)
    }

    /// Puts what waits into the queue, one after the other, as far as there is room.
    fn enter(&mut self, cx: &mut Context<'_>) {
        loop {
            if let Some((batch, received, entering)) = &mut self.entering {
                let Poll::Ready(entered) = entering.poll_unpin(cx) else { return };
                self.entered.push_back((*batch, *received, entered));
                self.entering = None;
            }
            let Some((batch, received, author, space, writes)) = self.waiting.pop_front() else { return };
            self.entering = Some((batch, received, self.log.push(author, space, writes)));
        }
    }
}
