//! Taking messages in piece by piece: a change that is checked takes more memory than its bytes, and a compressed one up to
//! a thousand times more. So the rest of a message stays as it came until the changes before it are appended.

use std::collections::VecDeque;

use bytes::Bytes;

use super::whole::Whole;
use crate::gate::{self, CheckedChange, ChunkKind, GateError};
use crate::limits::{INTAKE_BYTES_MAX, INTAKE_CHANGES_MAX, REFUSED_MAX};

/// What messages brought and nobody has looked at yet.
#[derive(Debug, Default)]
pub(super) struct Intake {
    rest: VecDeque<Bytes>,
}

impl Intake {
    /// Puts the changes of a message behind what waits already. Copies none.
    pub(super) fn push(&mut self, changes: Vec<Bytes>) {
        if self.rest.is_empty() {
            self.rest = changes.into();
        } else {
            self.rest.extend(changes);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Checks the next changes, and hands whole documents over. Changes come as long as there are any; of the errors only
    /// the first [`REFUSED_MAX`] are told.
    pub(super) fn next(&mut self, whole: &mut Whole) -> (Vec<CheckedChange>, Vec<GateError>) {
        let (mut changes, mut errors, mut bytes) = (Vec::new(), Vec::new(), 0);
        while changes.len() < INTAKE_CHANGES_MAX && bytes < INTAKE_BYTES_MAX {
            let Some(stream) = self.rest.front_mut() else { break };
            let taken = match gate::chunks(stream).next() {
                None => Ok(()),
                Some(Err(error)) => {
                    // Where the next chunk starts is not known.
                    stream.clear();
                    Err(error)
                }
                Some(Ok(chunk)) => {
                    let length = chunk.raw().len();
                    let outcome = if chunk.kind() == ChunkKind::Document {
                        whole.take(&chunk, stream)
                    } else {
                        CheckedChange::from_chunk(&chunk).map(|change| {
                            bytes += change.bytes().len();
                            changes.push(change);
                        })
                    };
                    *stream = stream.slice(length..);
                    outcome
                }
            };
            if let Err(error) = taken
                && errors.len() < REFUSED_MAX
            {
                errors.push(error);
            }
            if stream.is_empty() {
                self.rest.pop_front();
            }
        }
        if self.rest.is_empty() {
            // A frame of small changes has hundreds of thousands.
            self.rest = VecDeque::new();
        }
        (changes, errors)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests;
