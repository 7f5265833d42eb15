//! The conformance suite: what proves that a store keeps the laws.
