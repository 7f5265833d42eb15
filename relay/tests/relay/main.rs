//! The relay behind real sockets: few tests, each a story of what somebody on the other side of the wire sees.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![allow(unreachable_pub, reason = "the modules of a test binary are nobody's interface")]

mod admin;
mod auth;
mod backup;
mod bad_input;
mod canary;
mod care;
mod client;
mod deletion;
mod door;
mod fold;
mod folder;
mod http;
mod idle;
mod limits;
mod matrix;
mod metrics;
mod operate;
mod process;
mod ready;
mod relay;
mod rights;
mod sync;
mod tls;
mod v1;
