//! Presence across the two protocols: a value of `rejoin.v1` is an ephemeral message to classic peers, and the other way round.
//!
//! `core/docs/protocol-v1.md` says which field is which. Nothing of it is stored. Who is gone, [`departure`](crate::departure) tells.

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

/// Passes on what a classic peer said: to those who take part in the document, and to those who follow its space. Returns as what, if
/// there may be any of the latter.
pub(crate) fn from_classic(
    shared: &Shared,
    message: Ephemeral,
    from: ConnectionId,
) -> Result<Option<(SpaceId, Presence)>, StoreError> {
    let Some(message) = shared.hub.forward(message, from) else { return Ok(None) };
    if !shared.hub.followers().are_there() {
        return Ok(None);
    }
    let space = space_of(shared, &message.document)?;
    let Some(value) = value_of(&message) else { return Ok(None) };
    let frame = RelayMessage::Presence { space, values: vec![value.clone()] }.encode();
    shared.hub.followers().publish_presence(&space, &frame, None);
    shared.hub.followers().publish_presence_about(&space, &message.document, &frame, None);
    Ok(Some((space, value)))
}

/// Tells those who follow a space, or a document in it, that values are taken back. Classic peers cannot be told.
pub(crate) fn take_back(shared: &Shared, space: &SpaceId, values: &[Presence]) -> Result<(), StoreError> {
    let followers = shared.hub.followers();
    if !followers.are_there() {
        return Ok(());
    }
    let frame = RelayMessage::Presence { space: *space, values: values.to_vec() }.encode();
    followers.publish_presence(space, &frame, None);
    values.iter().try_for_each(|value| publish_about(shared, space, value, None))
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
        publish_about(shared, space, &value, Some(from))?;
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

/// Passes a value on to those who chose its document, if that is in the space: they are not told of others.
fn publish_about(
    shared: &Shared,
    space: &SpaceId,
    value: &Presence,
    except: Option<ConnectionId>,
) -> Result<(), StoreError> {
    let (followers, document) = (shared.hub.followers(), &value.document);
    if followers.has_document(document) && space_of(shared, document)? == *space {
        let alone = RelayMessage::Presence { space: *space, values: vec![value.clone()] }.encode();
        followers.publish_presence_about(space, document, &alone, except);
    }
    Ok(())
}

fn space_of(shared: &Shared, document: &DocumentId) -> Result<SpaceId, StoreError> {
    spaces::of(&*shared.store.read()?, document)
}

/// Makes a presence value of a classic message, if it is within the bounds.
fn value_of(message: &Ephemeral) -> Option<Presence> {
    let Ephemeral { document, sender, session_id, count, data } = message;
    let fits =
        session_id.len() <= PRESENCE_KEY_BYTES_MAX && *count <= V1_NUMBER_MAX && data.len() <= PRESENCE_BYTES_MAX;
    fits.then(|| Presence {
        author: sender.clone(),
        document: *document,
        key: session_id.clone(),
        sequence: *count,
        ttl_ms: CLASSIC_TTL_MS,
        data: data.clone(),
    })
}
