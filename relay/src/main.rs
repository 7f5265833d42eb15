//! The `rejoin-relay` binary.
fn main() {}
