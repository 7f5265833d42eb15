//! The rules of a client, one by one, with hand-made messages of a relay.
