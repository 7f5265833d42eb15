//! The engine's face for JavaScript.
//!
//! A page asks by `(method, JSON array)` and is told of events as JSON: [`engine::Engine`] turns both into calls of
//! [`rejoin::Repo`]. All of that is the same on every target and is tested natively. Only the last step to JavaScript is made
//! for `wasm32` alone: the class that is exported, the file, the socket, and where warnings go.

#[cfg(target_family = "wasm")]
pub mod bindings;
mod calls;
pub mod edit;
pub mod engine;
pub mod errors;
#[cfg(target_family = "wasm")]
pub mod file;
mod flush;
mod gate;
mod news;
pub mod patches;
mod presence;
#[cfg(target_family = "wasm")]
mod report;
pub mod requests;
mod session;
#[cfg(target_family = "wasm")]
pub mod socket;
mod status;
pub mod tree;
pub mod values;
pub mod watch;

pub use engine::{Answer, Engine, Host, Task};
pub use errors::Failure;
