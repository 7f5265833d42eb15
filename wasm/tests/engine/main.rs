//! The engine as pages see it: JSON in, JSON out, patches applied to what they show.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::future_not_send, reason = "tests")]

mod methods;
mod page;
mod patches;
mod random;

/// Runs a test where tasks need not be `Send`.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}
