//! What a client says, read and written.

use bytes::Bytes;

use super::shared::{not_empty, wire_bytes, write_credit, write_error, write_presence};
use super::wire::{Reader, Writer};
use super::{ClientMessage, DecodeError, DocumentHeads, Hello, Mode, Start, Subscription, Token, VERSION, batch, kind};
use crate::id::{DocumentId, Epoch, SpaceId, StorageId};
use crate::limits::{DOCUMENT_LIST_MAX, SUBSCRIPTIONS_MAX, TOKEN_BYTES_MAX};

/// The least bytes of a subscription: a space, a mode and a start.
const SUBSCRIPTION_BYTES_MIN: usize = 16 + 1 + 1;

pub(super) fn decode(bytes: &Bytes) -> Result<ClientMessage, DecodeError> {
    let mut reader = Reader::new(bytes)?;
    let reader = &mut reader;
    let message = match reader.byte("kind")? {
        kind::HELLO => return hello(reader),
        kind::ERROR => return reader.error().map(ClientMessage::Error),
        kind::CREDIT => ClientMessage::Credit { bytes: reader.credit()? },
        kind::SUBSCRIBE => {
            ClientMessage::Subscribe { subscriptions: not_empty("subscriptions", subscriptions(reader)?)? }
        }
        kind::UNSUBSCRIBE => {
            let spaces = reader.list("spaces", SUBSCRIPTIONS_MAX, 16, Reader::space)?;
            ClientMessage::Unsubscribe { spaces: not_empty("spaces", spaces)? }
        }
        kind::PUSH => {
            let batch = reader.positive("batch")?;
            ClientMessage::Push { batch, space: reader.space()?, writes: batch::read_writes(reader, true)? }
        }
        kind::CURSOR => ClientMessage::Cursor { space: reader.space()?, position: reader.number("position")? },
        kind::COMPARE => {
            let (space, documents) = (reader.space()?, reader.document_heads()?);
            ClientMessage::Compare { space, documents, is_last: reader.flag("last")? }
        }
        kind::OPEN => {
            let (space, documents) = (reader.space()?, reader.document_heads()?);
            ClientMessage::Open { space, documents: not_empty("documents", documents)? }
        }
        kind::CLOSE => {
            let space = reader.space()?;
            let documents = reader.list("documents", DOCUMENT_LIST_MAX, 16, Reader::document)?;
            ClientMessage::Close { space, documents: not_empty("documents", documents)? }
        }
        kind::PRESENCE => {
            let (space, values) = reader.presence()?;
            ClientMessage::Presence { space, values }
        }
        kind::RENEW => ClientMessage::Renew { token: Token::new(reader.text("token", TOKEN_BYTES_MAX)?) },
        kind @ (kind::WELCOME
        | kind::SUBSCRIBED
        | kind::ACK
        | kind::ENTRIES
        | kind::CAUGHT_UP
        | kind::LACKING
        | kind::FILL
        | kind::SNAPSHOT
        | kind::OPENED
        | kind::LISTING
        | kind::RENEWED
        | kind::SEEN
        | kind::HINT) => return Err(DecodeError::WrongDirection { kind }),
        kind => return Err(DecodeError::UnknownKind { kind }),
    };
    reader.finish()?;
    Ok(message)
}

/// Reads a hello. It comes before a version is agreed on: one that offers a later version too may have later fields.
fn hello(reader: &mut Reader<'_>) -> Result<ClientMessage, DecodeError> {
    let (lowest, highest) = (reader.positive("lowest version")?, reader.positive("highest version")?);
    if lowest > highest {
        return Err(DecodeError::Invalid { field: "highest version", expected: "at least the lowest" });
    }
    if !(lowest..=highest).contains(&VERSION) {
        return Err(DecodeError::Version { lowest, highest });
    }
    let hello = Hello {
        lowest,
        highest,
        peer: reader.peer("peer id")?,
        storage: match reader.flag("storage id")? {
            true => Some(StorageId::from_bytes(reader.array("storage id")?)),
            false => None,
        },
        takes_snapshots: reader.flag("takes snapshots")?,
        token: Token::new(reader.text("token", TOKEN_BYTES_MAX)?),
        credit: reader.credit()?,
        subscriptions: subscriptions(reader)?,
    };
    if highest == VERSION {
        reader.finish()?;
    }
    Ok(ClientMessage::Hello(hello))
}

fn subscriptions(reader: &mut Reader<'_>) -> Result<Vec<Subscription>, DecodeError> {
    reader.list("subscriptions", SUBSCRIPTIONS_MAX, SUBSCRIPTION_BYTES_MIN, |reader| {
        let space = reader.space()?;
        let mode = match reader.byte("mode")? {
            0 => Mode::Everything,
            1 => Mode::Listing,
            2 => Mode::Chosen,
            _ => return Err(DecodeError::Invalid { field: "mode", expected: "0, 1 or 2" }),
        };
        let start = match reader.byte("start")? {
            0 => Start::Beginning,
            1 => {
                let epoch = Epoch::from_bytes(reader.array("epoch")?);
                Start::Cursor { epoch, position: reader.number("position")? }
            }
            2 => Start::Compare,
            _ => return Err(DecodeError::Invalid { field: "start", expected: "0, 1 or 2" }),
        };
        Ok(Subscription { space, mode, start })
    })
}

pub(super) fn encode(message: &ClientMessage) -> Bytes {
    let writer = match message {
        ClientMessage::Hello(hello) => write_hello(hello),
        ClientMessage::Error(error) => write_error(error),
        ClientMessage::Credit { bytes } => write_credit(*bytes),
        ClientMessage::Subscribe { subscriptions } => {
            let mut writer = Writer::new(kind::SUBSCRIBE, 16 + 48 * subscriptions.len());
            write_subscriptions(&mut writer, subscriptions);
            writer
        }
        ClientMessage::Unsubscribe { spaces } => {
            let mut writer = Writer::new(kind::UNSUBSCRIBE, 16 + 16 * spaces.len());
            writer.list(spaces, |writer, space| {
                writer.space(space);
            });
            writer
        }
        ClientMessage::Push { batch, space, writes } => return batch::encode_push(*batch, space, writes),
        ClientMessage::Cursor { space, position } => {
            let mut writer = Writer::new(kind::CURSOR, 32);
            writer.space(space).number(*position);
            writer
        }
        ClientMessage::Compare { space, documents, is_last } => {
            let mut writer = write_documents(kind::COMPARE, space, documents);
            writer.flag(*is_last);
            writer
        }
        ClientMessage::Open { space, documents } => write_documents(kind::OPEN, space, documents),
        ClientMessage::Close { space, documents } => write_close(space, documents),
        ClientMessage::Presence { space, values } => write_presence(space, values),
        ClientMessage::Renew { token } => {
            let mut writer = Writer::new(kind::RENEW, 16 + token.as_str().len());
            writer.text(token.as_str());
            writer
        }
    };
    writer.into_bytes()
}

fn write_hello(hello: &Hello) -> Writer {
    let texts = hello.peer.as_str().len() + hello.token.as_str().len();
    let mut writer = Writer::new(kind::HELLO, 64 + texts + 48 * hello.subscriptions.len());
    writer.number(hello.lowest).number(hello.highest).text(hello.peer.as_str()).flag(hello.storage.is_some());
    if let Some(storage) = &hello.storage {
        writer.raw(storage.as_bytes());
    }
    writer.flag(hello.takes_snapshots).text(hello.token.as_str()).number(hello.credit);
    write_subscriptions(&mut writer, &hello.subscriptions);
    writer
}

fn write_subscriptions(writer: &mut Writer, subscriptions: &[Subscription]) {
    writer.list(subscriptions, |writer, subscription| {
        writer.space(&subscription.space).byte(match subscription.mode {
            Mode::Everything => 0,
            Mode::Listing => 1,
            Mode::Chosen => 2,
        });
        match &subscription.start {
            Start::Beginning => writer.byte(0),
            Start::Cursor { epoch, position } => writer.byte(1).raw(epoch.as_bytes()).number(*position),
            Start::Compare => writer.byte(2),
        };
    });
}

fn write_documents(kind: u8, space: &SpaceId, documents: &[DocumentHeads]) -> Writer {
    let mut writer = Writer::new(kind, wire_bytes(documents));
    writer.space(space).document_heads(documents);
    writer
}

fn write_close(space: &SpaceId, documents: &[DocumentId]) -> Writer {
    let mut writer = Writer::new(kind::CLOSE, 32 + 16 * documents.len());
    writer.space(space).list(documents, |writer, document| {
        writer.document(document);
    });
    writer
}
