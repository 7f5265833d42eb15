//! Sync: conversations with peers, without sockets.
//!
//! # The driving contract
//!
//! A session is a machine that is driven from outside and never waits. The driver (a client, the relay, a test):
//!
//! 1. hands in what happened: `handle_frame`, `handle_appended`, `handle_heads_changed`, ...;
//! 2. then takes every [`Output`](classic::Output) with `poll_output` and does what it says;
//! 3. takes frames to send with `poll_transmit` for as long as the socket has room.
//!
//! `poll_transmit` makes a frame only when it is asked for one. Between two calls a session holds *which* documents have
//! something to say, never the bytes: a peer that reads slowly costs no memory, and gets the newest state when it reads
//! again.
//!
//! The store is an argument: sessions read from the transaction they are handed, and ask the driver to append.

pub mod classic;
mod conversation;
mod orphans;
mod recent;
pub mod v1;

pub use conversation::{Conversation, WholeDocument, WholeDocuments};
pub use recent::{Recent, RecentChanges};
