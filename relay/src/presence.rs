//! Presence across the two protocols: a value of `rejoin.v1` is an ephemeral message to classic peers, and the other way round.
//!
//! `core/docs/protocol-v1.md` says which field is which. Nothing of it is stored.

use bytes::Bytes;
use rejoin::codec::v1::{Presence, RelayMessage};
use rejoin::ledger::spaces;
use rejoin::limits::{PRESENCE_BYTES_MAX, PRESENCE_KEY_BYTES_MAX, V1_NUMBER_MAX};
use rejoin::store::StoreError;
use rejoin::{DocumentId, SpaceId};

use crate::hub::{ConnectionId, Ephemeral};
use crate::shared::Shared;

/// How long the value of a classic peer, which does not say it, is good for: 30 s, in milliseconds.
const CLASSIC_TTL_MS: u64 = 30_000;

/// Passes on what a classic peer said: to those who take part in the document, and to those who follow its space.
pub(crate) fn from_classic(shared: &Shared, message: Ephemeral, from: ConnectionId) -> Result<(), StoreError> {
    let Some(message) = shared.hub.forward(message, from) else { return Ok(()) };
    if !shared.hub.followers().are_there() {
        return Ok(());
    }
    let space = space_of(shared, &message.document)?;
    if let Some(frame) = frame_of(&message, space) {
        shared.hub.followers().publish_presence(&space, &frame, None);
        shared.hub.followers().publish_presence_about(&space, &message.document, &frame, None);
    }
    Ok(())
}

/// Passes on what a peer of `rejoin.v1` said: the message as it is to those who follow the space, and each value to those who
/// chose its document and to the classic peers that take part in it, if that is in the space.
pub(crate) fn from_v1(
    shared: &Shared,
    space: &SpaceId,
    frame: &Bytes,
    values: Vec<Presence>,
    from: ConnectionId,
) -> Result<(), StoreError> {
    let followers = shared.hub.followers();
    followers.publish_presence(space, frame, Some(from));
    for value in values {
        // Who chooses documents is not told of others.
        if followers.has_document(&value.document) && space_of(shared, &value.document)? == *space {
            let document = value.document;
            let alone = RelayMessage::Presence { space: *space, values: vec![value.clone()] }.encode();
            followers.publish_presence_about(space, &document, &alone, Some(from));
        }
        let Presence { author, document, key, sequence, ttl_ms, data } = value;
        // Classic peers have no way to take a value back, and their own end by themselves.
        if ttl_ms == 0 || !shared.hub.has_members(&document) || space_of(shared, &document)? != *space {
            continue;
        }
        // It would keep the whole message alive.
        let data = if data.len() < frame.len() / 2 { Bytes::copy_from_slice(&data) } else { data };
        shared.hub.announce(Ephemeral { document, sender: author, session_id: key, count: sequence, data }, from);
    }
    Ok(())
}

fn space_of(shared: &Shared, document: &DocumentId) -> Result<SpaceId, StoreError> {
    spaces::of(&*shared.store.read()?, document)
}

/// Makes a presence message of a classic one, if it is within the bounds.
fn frame_of(message: &Ephemeral, space: SpaceId) -> Option<Bytes> {
    let Ephemeral { document, sender, session_id, count, data } = message;
    let fits =
        session_id.len() <= PRESENCE_KEY_BYTES_MAX && *count <= V1_NUMBER_MAX && data.len() <= PRESENCE_BYTES_MAX;
    fits.then(|| {
        let value = Presence {
            author: sender.clone(),
            document: *document,
            key: session_id.clone(),
            sequence: *count,
            ttl_ms: CLASSIC_TTL_MS,
            data: data.clone(),
        };
        RelayMessage::Presence { space, values: vec![value] }.encode()
    })
}
