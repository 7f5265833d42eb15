//! The laws that everything else stands on, for histories and deliveries that chance makes: merging commutes, associates and
//! is idempotent; the order of a register's values is total and transitive; a log holds what a change stands on before it; and
//! whatever part of a delivery arrived, the rest can be had.
//!
//! A case that fails is shrunk, and its seed is printed and kept beside this file by proptest.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![allow(dead_code, reason = "the worlds are those of other tests, which use more of them")]

#[path = "registers/historic.rs"]
mod historic;
#[path = "registers/histories.rs"]
mod histories;
#[path = "laws/log.rs"]
mod log;
#[path = "laws/merge.rs"]
mod merge;
#[path = "laws/order.rs"]
mod order;
#[path = "v1_sessions/world.rs"]
mod sessions;
#[path = "registers/world.rs"]
mod world;
