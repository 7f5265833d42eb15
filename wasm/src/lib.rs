//! The engine's face to JavaScript.
//!
//! A page asks by `(method, JSON array)` and is told of events as JSON: [`engine::Engine`] turns both into calls of
//! [`rejoin::Repo`]. Everything but the bindings compiles natively too, and is tested there.

mod calls;
pub mod edit;
pub mod engine;
pub mod errors;
mod flush;
mod gate;
mod news;
pub mod patches;
mod presence;
pub mod requests;
mod session;
mod status;
pub mod tree;
pub mod values;
pub mod watch;

pub use engine::{Answer, Engine, Host, Task};
pub use errors::Failure;
