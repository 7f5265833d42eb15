//! The Rejoin relay as a library: it stores, validates and forwards document changes, and never materialises one.
//!
//! ```text
//! socket -> connection -> session (rejoin::sync) -> log (group commit) -> store
//!              ^                                      |
//!              +-------------- hub <- "changed" ------+
//! ```
//!
//! * [`server`] accepts sockets, answers HTTP, and drains on shutdown.
//! * `connection` drives one classic session over one WebSocket, `v1` one of `rejoin.v1`; `shared` is what both do alike.
//! * `log` makes what is written durable, many connections' in one commit, gives it a position, and answers only then.
//! * `fold` has long histories made into snapshots by a child process, for peers that have nothing.
//! * [`auth`] says who somebody is and what that one may do.
//! * `deletion` carries out that documents are deleted everywhere; `rights` says who may have that done.
//! * `registry` knows every connection, for the operator.
//! * `audit` keeps what administrators did and what was refused; `quarantine` has the documents that were put aside.
//! * `quota` holds everybody to what they may send and store.
//! * `hub` knows who takes part in which document, and passes hints and ephemeral messages on; `followers` does so for whole
//!   spaces, and `live` has the frames that all followers share. `presence` passes ephemeral messages across the protocols,
//!   and `departure` tells who is gone.
//!
//! The binary does nothing but parse arguments: see [`config`], [`start`] and [`care`].

pub mod admin;
mod audit;
pub mod auth;
pub mod backup;
pub mod care;
mod clock;
pub mod config;
mod connection;
mod deletion;
mod demo;
mod departure;
mod door;
mod ending;
mod fold;
mod followers;
mod furthest;
mod glance;
mod health;
mod hub;
pub mod limits;
mod live;
mod log;
pub mod logging;
pub mod metrics;
pub mod operate;
mod outbound;
mod pace;
mod pages;
mod presence;
mod quarantine;
mod quota;
mod recent;
mod registry;
pub mod reload;
pub mod remote;
mod rights;
pub mod server;
mod shared;
mod show;
mod socket;
pub mod start;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tls;
mod unfinished;
mod v1;

pub use config::{Config, RawConfig};
pub use deletion::purge;
pub use server::{RunError, run, run_reloading, run_with_metrics};
