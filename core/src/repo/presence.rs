//! Presence: who is here, and what they point at. Values that live for a while, of an author, about a document.
//!
//! A value is sent again while its handle is there, and ends by itself where nothing is heard of it any more. It is never
//! stored. Values go to everyone who has the document open through the same relay, whichever protocol they speak: to classic
//! clients as ephemeral messages, and theirs are values here, with their session as the key.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::runtime::SystemTime;

use bytes::Bytes;
use tokio::sync::watch;

use super::{DocHandle, RepoError};
use crate::engine::Origin;
use crate::id::{DocumentId, PeerId};
use crate::limits::{
    PRESENCE_KEY_BYTES_MAX, PRESENCE_KEYS_MAX, PRESENCE_OWN_BYTES_MAX, PRESENCE_OWN_MAX, PRESENCE_TTL_MS,
    PRESENCE_TTL_MS_MAX, PRESENCE_TTL_MS_MIN, PRESENCE_VALUE_BYTES_MAX,
};

mod board;
mod data;
mod keeper;
mod own;

pub use data::PresenceData;
pub(crate) use keeper::{Ephemerals as EphemeralBatch, Presences};

use keeper::{Keeper, Listening, Version};
use own::{Due, Owner};

impl DocHandle {
    /// Returns who is here, and lets this application show itself. What is set through the handle is taken back when the last
    /// clone of it is dropped.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), rejoin::RepoError> {
    /// use rejoin::{PresenceEvent, Repo};
    /// use serde_json::json;
    ///
    /// let repo = Repo::in_memory()?;
    /// let note = repo.create().await?;
    /// let presence = note.presence();
    /// let mut news = presence.subscribe();
    /// presence.set("cursor", json!({ "line": 3 }), None)?;
    ///
    /// let shown: Vec<_> = presence.values().iter().map(|value| (value.key.clone(), value.json())).collect();
    /// assert_eq!(shown, [("cursor".to_owned(), Some(json!({ "line": 3 })))]);
    /// assert!(matches!(news.next().await, Some(PresenceEvent::Joined(value)) if value.key == "cursor"));
    /// presence.clear("cursor");
    /// assert!(matches!(news.next().await, Some(PresenceEvent::Left(value)) if value.key == "cursor"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn presence(&self) -> Presence {
        let owner = self.repo().inner.presences.keeper().enter();
        Presence { held: Arc::new(Held { document: self.clone(), owner }) }
    }
}

/// Who is here, about one document. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Presence {
    held: Arc<Held>,
}

#[derive(Debug)]
struct Held {
    document: DocHandle,
    owner: Owner,
}

/// A living value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PresenceValue {
    /// Whose it is, by its own word: a name that is new in each process.
    pub author: PeerId,
    /// Which of the author's values: of a classic client, its session.
    pub key: String,
    /// What it holds, in CBOR. What others send is as they sent it.
    pub data: Bytes,
    /// Since when this author shows this key without a break, by this device's clock.
    pub since: SystemTime,
    /// Whether it is this process's own.
    pub origin: Origin,
}

impl PresenceValue {
    /// Reads the value as JSON; `None` if it is not CBOR, or holds what JSON has not, such as bytes.
    pub fn json(&self) -> Option<serde_json::Value> {
        data::to_json(&self.data)
    }
}

/// What happened to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PresenceEvent {
    /// It is there, and was not before.
    Joined(PresenceValue),
    /// It holds something else.
    Changed(PresenceValue),
    /// It was taken back, or has run out. This is how it was last seen.
    Left(PresenceValue),
}

/// Why a value cannot be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PresenceError {
    /// The key is too long.
    #[error("failed to set the presence value: a key has at most {PRESENCE_KEY_BYTES_MAX} bytes, this one has {found}")]
    KeyTooLong {
        /// How many bytes it has.
        found: usize,
    },
    /// The value is no CBOR: it has no bytes.
    #[error(
        "failed to set the presence value: it is to be one CBOR value, and has no bytes (use clear to take one back)"
    )]
    Empty,
    /// The value is too long.
    #[error(
        "failed to set the presence value: it has at most {PRESENCE_VALUE_BYTES_MAX} bytes, this one has {found}: put what is \
         long into the document"
    )]
    TooLong {
        /// How many bytes it has.
        found: usize,
    },
    /// The value would live for too short or too long a time.
    #[error(
        "failed to set the presence value: it lives {PRESENCE_TTL_MS_MIN} to {PRESENCE_TTL_MS_MAX} ms, this one {found_ms}"
    )]
    TimeToLive {
        /// How many milliseconds it was to live.
        found_ms: u64,
    },
    /// There would be too many values, or too much in them.
    #[error(
        "failed to set the presence value: a process has at most {PRESENCE_KEYS_MAX} of a document, {PRESENCE_OWN_MAX} in all \
         and {PRESENCE_OWN_BYTES_MAX} bytes in them"
    )]
    TooMany,
}

impl From<PresenceError> for RepoError {
    fn from(error: PresenceError) -> Self {
        Self::Presence(error)
    }
}

impl Presence {
    /// Shows a value to everyone who has the document open, until it is cleared or the handle is dropped. It stands in the place
    /// of the last with this key.
    ///
    /// `value` is JSON, or the bytes of one CBOR value. `ttl` is how long the others keep it if they hear nothing more of it;
    /// default: 30 seconds. It is sent again in time. Values set within 50 ms go as one message. Returns at once, also without
    /// a connection: one that comes gets what is set then.
    ///
    /// # Errors
    ///
    /// [`PresenceError`] says which bound was exceeded.
    pub fn set(
        &self,
        key: &str,
        value: impl Into<PresenceData>,
        ttl: impl Into<Option<Duration>>,
    ) -> Result<(), PresenceError> {
        let ttl_ms = ttl.into().map_or(PRESENCE_TTL_MS, |ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        let data = value.into().into_bytes();
        let what = Due { document: self.document(), key: key.to_owned(), data, ttl_ms };
        self.keeper().set(self.held.owner, what)
    }

    /// Takes a value of this process back: the others are told at once. Classic clients cannot be told; they keep it for as long
    /// as they do.
    pub fn clear(&self, key: &str) {
        self.keeper().clear(self.document(), key);
    }

    /// Returns everybody's living values about the document, our own too, by author and key. Cost: a copy of each.
    pub fn values(&self) -> Vec<PresenceValue> {
        let (_, values) = self.keeper().look(&self.document(), None).unwrap_or((Version::default(), Vec::new()));
        values.into_iter().map(|(value, _)| value).collect()
    }

    /// Returns the living values of everybody else.
    pub fn others(&self) -> Vec<PresenceValue> {
        self.values().into_iter().filter(|value| value.origin == Origin::Remote).collect()
    }

    /// Subscribes to what comes, changes and goes, our own values too. It begins with those who are there.
    pub fn subscribe(&self) -> PresenceEvents {
        let keeper = self.keeper();
        let changes = keeper.listen();
        keeper.run();
        PresenceEvents {
            listening: Listening(Arc::downgrade(keeper)),
            changes,
            document: self.document(),
            version: None,
            seen: BTreeMap::new(),
            ready: VecDeque::new(),
        }
    }

    /// Returns the name under which others see our values.
    pub fn author(&self) -> &PeerId {
        self.keeper().peer()
    }

    fn document(&self) -> DocumentId {
        self.held.document.id()
    }

    fn keeper(&self) -> &Arc<Keeper> {
        self.held.document.repo().inner.presences.keeper()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.document.repo().inner.presences.keeper().leave(self.owner);
    }
}

/// A subscription to a document's presence. A slow reader sees less of what came and went, and is never wrong about what is.
pub struct PresenceEvents {
    listening: Listening,
    changes: watch::Receiver<u64>,
    document: DocumentId,
    version: Option<Version>,
    /// What the reader knows, with the numbers of the values' data.
    seen: BTreeMap<(PeerId, String), (PresenceValue, u64)>,
    ready: VecDeque<PresenceEvent>,
}

impl std::fmt::Debug for PresenceEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PresenceEvents").field("document", &self.document).finish_non_exhaustive()
    }
}

impl PresenceEvents {
    /// Waits for the next event; `None` when the repo is gone. Cost: a look at each value of the document when one changed.
    pub async fn next(&mut self) -> Option<PresenceEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            self.changes.borrow_and_update();
            let looked = {
                let keeper = self.listening.0.upgrade()?;
                if keeper.is_closed() {
                    return None;
                }
                keeper.look(&self.document, self.version)
            };
            match looked {
                Some((version, values)) => {
                    self.version = Some(version);
                    self.compare(values);
                }
                None => self.changes.changed().await.ok()?,
            }
        }
    }

    /// Makes events of what is different from what the reader knows.
    fn compare(&mut self, values: Vec<(PresenceValue, u64)>) {
        let mut gone = std::mem::take(&mut self.seen);
        let mut news = Vec::new();
        for (value, revision) in values {
            let place = (value.author.clone(), value.key.clone());
            match gone.remove(&place) {
                Some((_, seen)) if seen == revision => {}
                Some(_) => news.push(PresenceEvent::Changed(value.clone())),
                None => news.push(PresenceEvent::Joined(value.clone())),
            }
            self.seen.insert(place, (value, revision));
        }
        self.ready.extend(gone.into_values().map(|(value, _)| PresenceEvent::Left(value)));
        self.ready.extend(news);
    }
}

#[cfg(test)]
mod tests;
