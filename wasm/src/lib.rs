//! The engine's face for JavaScript.
//!
//! What a page asks for comes in as a request of plain values and goes out as one; what happens comes out as events. All
//! of that is the same on every target and is tested natively. Only the last step to JavaScript is made for `wasm32`
//! alone: the class that is exported, the file, the socket, and where warnings go.

#[cfg(target_family = "wasm")]
pub mod bindings;
#[cfg(target_family = "wasm")]
pub mod file;
#[cfg(target_family = "wasm")]
mod report;
#[cfg(target_family = "wasm")]
pub mod socket;
