//! What a relay says, read and written.

use bytes::Bytes;

use super::shared::{not_empty, wire_bytes, write_credit, write_error, write_presence};
use super::wire::{Reader, Writer, at_most};
use super::{
    Access, AckRun, Code, DecodeError, Limits, Listed, ListedState, Outcome, Reject, RelayMessage, VERSION, Welcome,
    batch, cut, kind,
};
use crate::id::{Epoch, StorageId};
use crate::limits::{BATCH_ENTRIES_MAX, DOCUMENT_LIST_MAX, REJECT_TEXT_BYTES_MAX, SNAPSHOT_BYTES_MAX, V1_NUMBER_MAX};

/// The least bytes of a run of results: a count and what became of them.
const RUN_BYTES_MIN: usize = 1 + 1;

/// The least bytes of a listed document: its id, a head count and a deletion's fields.
const LISTED_BYTES_MIN: usize = 16 + 1 + 3;

pub(super) fn decode(bytes: &Bytes) -> Result<RelayMessage, DecodeError> {
    let mut reader = Reader::new(bytes)?;
    let reader = &mut reader;
    let message = match reader.byte("kind")? {
        kind::WELCOME => RelayMessage::Welcome(welcome(reader)?),
        kind::ERROR => return reader.error().map(RelayMessage::Error),
        kind::CREDIT => RelayMessage::Credit { bytes: reader.credit()? },
        kind::SUBSCRIBED => subscribed(reader)?,
        kind::ACK => RelayMessage::Ack { batch: reader.positive("batch")?, results: results(reader)? },
        kind::ENTRIES => {
            let (space, first) = (reader.space()?, reader.positive("first position")?);
            RelayMessage::Entries { space, first, entries: batch::read_entries(reader, first)? }
        }
        kind::CAUGHT_UP => RelayMessage::CaughtUp { space: reader.space()?, position: reader.number("position")? },
        kind::LACKING => {
            let (space, documents) = (reader.space()?, reader.document_heads()?);
            RelayMessage::Lacking { space, documents, is_last: reader.flag("last")? }
        }
        kind::FILL => RelayMessage::Fill { space: reader.space()?, writes: batch::read_writes(reader, false)? },
        kind::SNAPSHOT => snapshot(reader)?,
        kind::OPENED => {
            let (space, position) = (reader.space()?, reader.number("position")?);
            let documents = not_empty("documents", reader.document_heads()?)?;
            RelayMessage::Opened { space, position, documents }
        }
        kind::LISTING => {
            let (space, position) = (reader.space()?, reader.number("position")?);
            let documents = reader.list("documents", DOCUMENT_LIST_MAX, LISTED_BYTES_MIN, listed)?;
            RelayMessage::Listing { space, position, documents: not_empty("documents", documents)? }
        }
        kind::PRESENCE => {
            let (space, values) = reader.presence()?;
            RelayMessage::Presence { space, values }
        }
        kind::SEEN => {
            let (space, storage) = (reader.space()?, StorageId::from_bytes(reader.array("storage id")?));
            RelayMessage::Seen { space, storage, position: reader.number("position")? }
        }
        kind::HINT => RelayMessage::Hint { space: reader.space()?, end: reader.number("end")? },
        kind::RENEWED => RelayMessage::Renewed { seconds: reader.number("seconds")? },
        kind @ (kind::HELLO
        | kind::SUBSCRIBE
        | kind::UNSUBSCRIBE
        | kind::PUSH
        | kind::CURSOR
        | kind::COMPARE
        | kind::OPEN
        | kind::CLOSE
        | kind::RENEW) => return Err(DecodeError::WrongDirection { kind }),
        kind => return Err(DecodeError::UnknownKind { kind }),
    };
    reader.finish()?;
    Ok(message)
}

fn welcome(reader: &mut Reader<'_>) -> Result<Welcome, DecodeError> {
    let version = reader.positive("version")?;
    if version != VERSION {
        return Err(DecodeError::Version { lowest: version, highest: version });
    }
    Ok(Welcome {
        version,
        storage: StorageId::from_bytes(reader.array("storage id")?),
        epoch: Epoch::from_bytes(reader.array("epoch")?),
        limits: Limits {
            frame_bytes: reader.positive("limit of frame bytes")?,
            change_bytes: reader.positive("limit of change bytes")?,
            batch_entries: reader.positive("limit of batch entries")?,
            presence_bytes: reader.number("limit of presence bytes")?,
        },
        credit: reader.credit()?,
        permit_seconds: reader.number("seconds")?,
    })
}

fn subscribed(reader: &mut Reader<'_>) -> Result<RelayMessage, DecodeError> {
    Ok(RelayMessage::Subscribed {
        space: reader.space()?,
        access: match reader.byte("access")? {
            1 => Access::Read,
            2 => Access::Write,
            3 => Access::Admin,
            _ => return Err(DecodeError::Invalid { field: "access", expected: "1, 2 or 3" }),
        },
        is_compared: reader.flag("compared")?,
        after: reader.number("position")?,
        end: reader.number("end")?,
        documents: reader.number("documents to come")?,
        bytes: reader.number("bytes to come")?,
    })
}

/// Reads the results of a push. Together they are about as many writes as a push may have.
fn results(reader: &mut Reader<'_>) -> Result<Vec<AckRun>, DecodeError> {
    let mut writes = 0;
    let runs = reader.list("results", BATCH_ENTRIES_MAX, RUN_BYTES_MIN, |reader| {
        let count = reader.positive("results")?;
        // The sum of what was taken so far and a number does not overflow.
        writes += count;
        at_most("results", writes, BATCH_ENTRIES_MAX as u64)?;
        let outcome = match reader.byte("outcome")? {
            0 => {
                let first = reader.positive("position")?;
                at_most("last position", first + count - 1, V1_NUMBER_MAX)?;
                Outcome::Stored { first }
            }
            1 => Outcome::Duplicate,
            2 => {
                let number = reader.number_up_to("code", u16::MAX.into())?;
                let code = Code::from_number(u16::try_from(number).unwrap_or(u16::MAX));
                Outcome::Rejected(Reject { code, text: reader.text("reason", REJECT_TEXT_BYTES_MAX)? })
            }
            _ => return Err(DecodeError::Invalid { field: "outcome", expected: "0, 1 or 2" }),
        };
        Ok(AckRun { count, outcome })
    })?;
    not_empty("results", runs)
}

fn snapshot(reader: &mut Reader<'_>) -> Result<RelayMessage, DecodeError> {
    Ok(RelayMessage::Snapshot {
        space: reader.space()?,
        document: reader.document()?,
        position: reader.number("position")?,
        heads: not_empty("heads", reader.heads()?)?,
        chunk: reader.bytes("chunk", SNAPSHOT_BYTES_MAX)?,
    })
}

/// Reads a listed document. No document that is there has no heads, so that none says that it was deleted.
fn listed(reader: &mut Reader<'_>) -> Result<Listed, DecodeError> {
    let (document, heads) = (reader.document()?, reader.heads()?);
    let state = if heads.is_empty() {
        ListedState::Deleted(reader.tombstone()?)
    } else {
        ListedState::Present { heads, changes: reader.number("changes")?, bytes: reader.number("bytes")? }
    };
    Ok(Listed { document, state })
}

pub(super) fn encode(message: &RelayMessage) -> Bytes {
    let writer = match message {
        RelayMessage::Welcome(welcome) => write_welcome(welcome),
        RelayMessage::Error(error) => write_error(error),
        RelayMessage::Credit { bytes } => write_credit(*bytes),
        RelayMessage::Presence { space, values } => write_presence(space, values),
        RelayMessage::Entries { space, first, entries } => return batch::encode_entries(space, *first, entries),
        RelayMessage::Fill { space, writes } => return batch::encode_fill(space, writes),
        RelayMessage::Ack { batch, results } => write_ack(*batch, results),
        RelayMessage::Subscribed { space, access, is_compared, after, end, documents, bytes } => {
            let mut writer = Writer::new(kind::SUBSCRIBED, 64);
            let access = match access {
                Access::Read => 1,
                Access::Write => 2,
                Access::Admin => 3,
            };
            writer.space(space).byte(access).flag(*is_compared);
            writer.number(*after).number(*end).number(*documents).number(*bytes);
            writer
        }
        RelayMessage::Snapshot { space, document, position, heads, chunk } => {
            let mut writer = Writer::new(kind::SNAPSHOT, 64 + 32 * heads.len() + chunk.len());
            writer.space(space).document(document).number(*position).heads(heads).bytes(chunk);
            writer
        }
        RelayMessage::Lacking { space, documents, is_last } => {
            let mut writer = Writer::new(kind::LACKING, wire_bytes(documents));
            writer.space(space).document_heads(documents).flag(*is_last);
            writer
        }
        RelayMessage::Opened { space, position, documents } => {
            let mut writer = Writer::new(kind::OPENED, wire_bytes(documents));
            writer.space(space).number(*position).document_heads(documents);
            writer
        }
        RelayMessage::Listing { space, position, documents } => {
            let mut writer = Writer::new(kind::LISTING, 64 + documents.iter().map(Listed::wire_bytes).sum::<usize>());
            writer.space(space).number(*position).list(documents, write_listed);
            writer
        }
        RelayMessage::CaughtUp { space, position } => write_position(kind::CAUGHT_UP, space, *position),
        RelayMessage::Hint { space, end } => write_position(kind::HINT, space, *end),
        RelayMessage::Renewed { seconds } => {
            let mut writer = Writer::new(kind::RENEWED, 16);
            writer.number(*seconds);
            writer
        }
        RelayMessage::Seen { space, storage, position } => {
            let mut writer = Writer::new(kind::SEEN, 48);
            writer.space(space).raw(storage.as_bytes()).number(*position);
            writer
        }
    };
    writer.into_bytes()
}

fn write_position(kind: u8, space: &crate::id::SpaceId, position: u64) -> Writer {
    let mut writer = Writer::new(kind, 32);
    writer.space(space).number(position);
    writer
}

fn write_welcome(welcome: &Welcome) -> Writer {
    let Limits { frame_bytes, change_bytes, batch_entries, presence_bytes } = welcome.limits;
    let mut writer = Writer::new(kind::WELCOME, 88);
    writer.number(welcome.version).raw(welcome.storage.as_bytes()).raw(welcome.epoch.as_bytes());
    writer.number(frame_bytes).number(change_bytes).number(batch_entries).number(presence_bytes);
    writer.number(welcome.credit).number(welcome.permit_seconds);
    writer
}

fn write_ack(batch: u64, results: &[AckRun]) -> Writer {
    let mut writer = Writer::new(kind::ACK, 16 + 16 * results.len());
    writer.number(batch).list(results, |writer, run| {
        writer.number(run.count);
        match &run.outcome {
            Outcome::Stored { first } => writer.byte(0).number(*first),
            Outcome::Duplicate => writer.byte(1),
            Outcome::Rejected(reject) => {
                let mut text = reject.text.clone();
                cut(&mut text, REJECT_TEXT_BYTES_MAX);
                writer.byte(2).number(reject.code.number().into()).text(&text)
            }
        };
    });
    writer
}

fn write_listed(writer: &mut Writer, listed: &Listed) {
    writer.document(&listed.document);
    match &listed.state {
        ListedState::Present { heads, changes, bytes } => writer.heads(heads).number(*changes).number(*bytes),
        ListedState::Deleted(tombstone) => writer.number(0).tombstone(tombstone),
    };
}
