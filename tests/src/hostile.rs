//! What a hostile peer sends: every known attack on Automerge and on its sync protocol, written by hand, and a mutator of
//! honest traffic that repairs lengths and checksums, so that its damage gets past the outer layers.
//!
//! Nothing here is built with the engine's own encoders where it matters: an attack that the engine's encoder cannot
//! express is exactly what has to be tried.
//!
//! * [`bytes`], [`change`], [`message`]: changes, sync messages and frames of which any part can be wrong.
//! * [`base`]: a small honest history that most attacks continue.
//! * [`attacks`]: the catalogue; each attack with its bytes and what must become of it.
//! * [`record`], [`mutate`], [`run`]: honest sessions, recorded, damaged, and fed to victims.
//! * [`peer`]: a hostile peer on a real WebSocket.
//! * [`session`]: a session over a memory store without a socket, which tells the verdict on what it is fed.
//! * [`oracle`]: what real Automerge says of a document, and an independent reading of the rules about references.

pub mod attacks;
pub mod base;
pub mod bytes;
pub mod change;
pub mod measure;
pub mod message;
pub mod mutate;
pub mod oracle;
pub mod peer;
pub mod record;
pub mod run;
pub mod session;

pub use attacks::{Attack, Expect, Opening, PENDING, PENDING_COMPLAINTS, Scene, Sent};
