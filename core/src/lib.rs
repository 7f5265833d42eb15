//! Rejoin: work apart, rejoin later.
//!
//! An application keeps its data as Automerge documents in an embedded store on every device, reads and writes it with
//! no network at all, and merges it through a self-hosted relay when the network comes back.

pub mod care;
#[cfg(feature = "repo")]
pub mod client;
pub mod codec;
pub mod deletion;
pub mod document;
pub mod engine;
pub mod fields;
#[cfg(feature = "fold")]
pub mod fold;
pub mod gate;
pub mod id;
pub mod ledger;
pub mod limits;
pub mod migrate;
pub mod pack;
#[cfg(feature = "repo")]
pub mod repo;
#[cfg(feature = "repo")]
mod runtime;
#[cfg(all(feature = "repo", feature = "testing", not(target_family = "wasm")))]
pub use runtime::simulated as simulation;
pub mod store;
pub mod sync;
pub mod value;

pub use automerge::{ActorId, ChangeHash, ScalarValue};
#[cfg(feature = "repo")]
pub use client::{ConnectOptions, Connection, ConnectionState, Progress, Protocol};
pub use fields::{Edit, FieldValue};
pub use id::{DocumentId, Epoch, OpId, PeerId, SpaceId, StorageId};
#[cfg(feature = "repo")]
pub use repo::{
    DocHandle, Event, FieldPath, Presence, PresenceData, PresenceError, PresenceEvent, PresenceValue, Receipt, Repo,
    RepoError, SpaceHandle, Written,
};
pub use value::Value;

/// The README's Rust compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
