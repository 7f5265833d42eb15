//! Batches that a client pushes, from their bytes to their answers.

use std::collections::VecDeque;

use bytes::Bytes;

use super::output::{Grants, Offered, OfferedWrite, RelayOutput};
use super::rights::Rights;
use crate::codec::v1::{About, AckRun, Code, Content, ErrorMessage, Outcome, Reject, RelayMessage, Write};
use crate::gate::{CheckedChange, Rule};
use crate::id::{DocumentId, SpaceId};
use crate::limits::{BATCHES_UNDER_WAY_MAX, CHECKED_WRITE_BYTES, INTAKE_BYTES_MAX, REFUSALS_TOLD_MAX};
use crate::store::{ReadTx, StoreError};

/// The batches of one connection that are not answered, the oldest first.
pub(super) struct Pushes {
    batches: VecDeque<Batch>,
    last: u64,
    /// How many of them were offered to the driver as a whole, at the front.
    offered: usize,
    /// How many bytes of changes the driver holds. A compressed change may be 1,000 times as long as its message.
    offered_bytes: usize,
    change_bytes_max: u64,
    refusals: Refusals,
}

/// What was refused before it was offered, to be told.
#[derive(Default)]
struct Refusals(Vec<(DocumentId, Code, Option<Rule>, u64)>);

impl Refusals {
    /// Notes a write. Those beyond the bound count with the last that is told.
    fn note(&mut self, document: DocumentId, code: Code, rule: Option<Rule>) {
        let is_full = self.0.len() >= REFUSALS_TOLD_MAX;
        match self.0.last_mut() {
            Some((last, why, which, count)) if is_full || (*last, *why, *which) == (document, code, rule) => {
                *count += 1
            }
            _ => self.0.push((document, code, rule, 1)),
        }
    }
}

struct Batch {
    number: u64,
    space: SpaceId,
    frame_bytes: u64,
    writes: std::vec::IntoIter<Write>,
    portions: VecDeque<Portion>,
    results: Vec<AckRun>,
    /// So many writes were not stored because the driver failed, and why.
    failed: Option<(u64, Code)>,
    count: u64,
}

/// Some writes of a batch that were offered together.
struct Portion {
    /// What is said of each for want of a right, or by the gate from its bytes alone; nothing if it was offered.
    refused: Vec<Option<Reject>>,
    bytes: usize,
    answer: Option<Answer>,
}

enum Answer {
    Outcomes(Vec<Outcome>),
    Failed(Code),
}

/// What is to be said of a batch that was worked off.
pub(super) struct Answered {
    pub(super) batch: u64,
    pub(super) space: SpaceId,
    pub(super) message: Bytes,
    pub(super) frame_bytes: u64,
    /// The positions that it says are stored: first and count.
    pub(super) stored: Vec<(u64, u64)>,
}

impl Pushes {
    pub(super) fn new(change_bytes_max: u64) -> Self {
        Self {
            batches: VecDeque::new(),
            last: 0,
            offered: 0,
            offered_bytes: 0,
            change_bytes_max,
            refusals: Refusals::default(),
        }
    }

    /// Says whether no more batches should be read now.
    pub(super) fn is_full(&self) -> bool {
        self.batches.len() >= BATCHES_UNDER_WAY_MAX
    }

    /// Takes in a batch. Returns what is wrong with it, for the client.
    pub(super) fn handle(
        &mut self,
        number: u64,
        space: SpaceId,
        writes: Vec<Write>,
        frame_bytes: u64,
    ) -> Result<(), String> {
        let expected = self.last + 1;
        if number != expected {
            return Err(format!(
                "push has the number {number}: number them 1, 2, 3 .. on each connection, {expected} is next"
            ));
        }
        self.last = number;
        let count = writes.len() as u64;
        self.batches.push_back(Batch {
            number,
            space,
            frame_bytes,
            writes: writes.into_iter(),
            portions: VecDeque::new(),
            results: Vec::new(),
            failed: None,
            count,
        });
        Ok(())
    }

    /// Checks what comes next and returns it for the driver, if there is room for it.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store cannot be read, which ends the session.
    pub(super) fn offer(&mut self, grants: &dyn Grants, tx: &dyn ReadTx) -> Result<Option<RelayOutput>, StoreError> {
        while self.offered_bytes < INTAKE_BYTES_MAX {
            let Some(batch) = self.batches.get_mut(self.offered) else { return Ok(None) };
            let rights = Rights::new(grants, &batch.space);
            let (portion, writes) = check(&mut batch.writes, self.change_bytes_max, &rights, tx, &mut self.refusals)?;
            let is_over = batch.writes.len() == 0;
            let (number, space) = (batch.number, batch.space);
            self.offered_bytes += portion.bytes;
            batch.portions.push_back(portion);
            self.offered += usize::from(is_over);
            if !writes.is_empty() {
                return Ok(Some(RelayOutput::Append { batch: number, space, writes }));
            }
        }
        Ok(None)
    }

    /// Returns what was refused since it was last asked: of which document, why, and how often.
    pub(super) fn take_refusals(&mut self) -> impl Iterator<Item = RelayOutput> {
        let told = std::mem::take(&mut self.refusals.0);
        told.into_iter().map(|(document, code, rule, count)| RelayOutput::Refused { document, code, rule, count })
    }

    /// Takes in what became of the oldest portion without an answer.
    pub(super) fn handle_appended(&mut self, number: u64, outcomes: Vec<Outcome>) {
        self.answer(number, Answer::Outcomes(outcomes));
    }

    /// Takes in that the oldest portion without an answer was not stored.
    pub(super) fn handle_failed(&mut self, number: u64, code: Code) {
        self.answer(number, Answer::Failed(code));
    }

    fn answer(&mut self, number: u64, answer: Answer) {
        // They are numbered one by one, so this is where it stands.
        let Some(first) = self.batches.front().map(|batch| batch.number) else { return };
        let place = number.checked_sub(first).and_then(|place| usize::try_from(place).ok());
        let Some(batch) = place.and_then(|place| self.batches.get_mut(place)) else { return };
        let waiting = batch.portions.iter_mut().find(|portion| portion.answer.is_none());
        if let Some(portion) = waiting {
            self.offered_bytes = self.offered_bytes.saturating_sub(portion.bytes);
            portion.answer = Some(answer);
        }
    }

    /// Returns the answer to the oldest batch, if everything in it is settled.
    pub(super) fn poll_answer(&mut self) -> Option<Answered> {
        let batch = self.batches.front_mut()?;
        while batch.portions.front().is_some_and(|portion| portion.answer.is_some()) {
            let portion = batch.portions.pop_front()?;
            batch.settle(portion);
        }
        if batch.writes.len() > 0 || !batch.portions.is_empty() {
            return None;
        }
        let batch = self.batches.pop_front()?;
        self.offered = self.offered.saturating_sub(1);
        Some(batch.into_answer())
    }
}

impl Batch {
    fn settle(&mut self, portion: Portion) {
        let Portion { refused, answer, .. } = portion;
        let (mut outcomes, failure) = match answer {
            Some(Answer::Outcomes(outcomes)) => (outcomes.into_iter(), None),
            Some(Answer::Failed(code)) => (Vec::new().into_iter(), Some(code)),
            None => (Vec::new().into_iter(), None),
        };
        for refused in refused {
            let outcome = refused.map(Outcome::Rejected).or_else(|| outcomes.next());
            if let (None, Some(code)) = (&outcome, failure) {
                self.failed = Some((self.failed.map_or(0, |(count, _)| count) + 1, code));
            }
            // Whatever the driver does not speak of was not stored as far as the client may know.
            self.add(outcome.unwrap_or_else(|| Outcome::Rejected(Reject::new(Code::NotStored))));
        }
    }

    fn add(&mut self, outcome: Outcome) {
        if let Some(run) = self.results.last_mut() {
            let goes_on = match (&run.outcome, &outcome) {
                (Outcome::Stored { first }, Outcome::Stored { first: next }) => {
                    first.checked_add(run.count) == Some(*next)
                }
                (one, next) => one == next,
            };
            if goes_on {
                run.count += 1;
                return;
            }
        }
        self.results.push(AckRun { count: 1, outcome });
    }

    fn into_answer(self) -> Answered {
        let Self { number, space, frame_bytes, results, count, .. } = self;
        let stored = results.iter().filter_map(|run| match run.outcome {
            Outcome::Stored { first } => Some((first, run.count)),
            _ => None,
        });
        let stored: Vec<_> = stored.collect();
        let of_all = match self.failed {
            Some((failed, code)) if failed == count => {
                Some((code, format!("{}: push the batch again later", code.meaning())))
            }
            _ => None,
        };
        let message = match of_all {
            Some((code, text)) => {
                let error = ErrorMessage { code, text, is_fatal: false, about: About::Batch(number) };
                RelayMessage::Error(error).encode()
            }
            None => RelayMessage::Ack { batch: number, results }.encode(),
        };
        Answered { batch: number, space, message, frame_bytes, stored }
    }
}

/// What a client is told of a space that there is not, or that it may not know of.
pub(super) const UNKNOWN_SPACE: &str =
    "there is no such space, or no right to read it: check the id, or ask for a grant and connect again";

/// Checks the next writes by the client's rights and from their bytes alone, as many as may be in memory at a time.
fn check(
    writes: &mut std::vec::IntoIter<Write>,
    change_bytes_max: u64,
    rights: &Rights<'_>,
    tx: &dyn ReadTx,
    refusals: &mut Refusals,
) -> Result<(Portion, Vec<Offered>), StoreError> {
    let mut portion = Portion { refused: Vec::new(), bytes: 0, answer: None };
    let mut offered = Vec::new();
    for write in writes.by_ref() {
        if let Content::Deleted(tombstone) = &write.content
            && rights.may_elsewhere(tx, &write)?
        {
            portion.bytes += CHECKED_WRITE_BYTES;
            let what = OfferedWrite::DeletedElsewhere(tombstone.clone());
            offered.push(Offered { document: write.document, what });
            portion.refused.push(None);
            continue;
        }
        // Before a look at its bytes: who may not write learns nothing of what would be taken.
        if let Some(code) = rights.refusal(tx, &write)? {
            refusals.note(write.document, code, None);
            portion.refused.push(Some(Reject::new(code)));
            continue;
        }
        let Write { document, content } = write;
        match parse(document, content, change_bytes_max) {
            Ok((write, bytes)) => {
                portion.bytes += bytes + CHECKED_WRITE_BYTES;
                offered.push(write);
                portion.refused.push(None);
            }
            Err((reject, rule)) => {
                refusals.note(document, reject.code, rule);
                portion.refused.push(Some(reject));
            }
        }
        if portion.bytes >= INTAKE_BYTES_MAX {
            break;
        }
    }
    if offered.is_empty() {
        portion.answer = Some(Answer::Outcomes(Vec::new()));
    }
    Ok((portion, offered))
}

/// Why a write is not even offered: for the client, and the gate's rule if it is that.
type Refusal = (Reject, Option<Rule>);

/// Returns a write that was checked, and how many bytes it takes in memory.
fn parse(document: DocumentId, content: Content, change_bytes_max: u64) -> Result<(Offered, usize), Refusal> {
    let is_passed_on = matches!(content, Content::PassedOn(_));
    let (what, bytes) = match content {
        Content::Change(bytes) | Content::PassedOn(bytes) => {
            let change = CheckedChange::parse(&bytes).map_err(|error| (Reject::from(&error), Some(error.rule())))?;
            let length = change.bytes().len();
            if length as u64 > change_bytes_max {
                let text = format!("the change has {length} bytes, this relay takes {change_bytes_max}");
                return Err((Reject { code: Code::ChangeLimit, text }, None));
            }
            (if is_passed_on { OfferedWrite::PassedOn(change) } else { OfferedWrite::Change(change) }, length)
        }
        Content::Deleted(tombstone) => (OfferedWrite::Deleted(tombstone), 0),
    };
    Ok((Offered { document, what }, bytes))
}
