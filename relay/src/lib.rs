//! The Rejoin relay as a library.
