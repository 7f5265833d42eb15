//! The scenarios: one binary, a module for each story.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod conformance;
mod conformance_frames;
mod copied;
mod crash;
mod crowd;
mod deletion;
mod fold;
mod fuzzing;
mod hostile_client;
mod hostile_mutants;
mod hostile_relay;
mod hostile_session;
mod hostile_v1;
mod interop_auth;
mod interop_native;
mod interop_relay;
mod keystrokes;
mod kill_v1;
mod layers;
mod mixed;
mod notes;
mod presence;
mod restored;
mod samod;
mod simulator;
mod tls;
mod torture;
mod v1;
mod whole;

use std::future::Future;
use std::time::Duration;

use rejoin::{DocHandle, Repo};

/// How long a scenario waits for something that must come. Long, because the machine may be busy: it is never the measure.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a question is answered with yes.
async fn eventually<F: Future<Output = bool>>(what: &str, mut question: impl FnMut() -> F) {
    let asked = async {
        while !question().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Opens a document that the relay has, and waits for it.
async fn fetch(repo: &Repo, url: &str) -> DocHandle {
    let handle = repo.open_or_fetch(url.parse().unwrap()).await.unwrap();
    handle.wait_for_content(PATIENCE).await.unwrap();
    handle
}

/// Returns a document's heads as sorted hexadecimal text.
async fn heads(handle: &DocHandle) -> Vec<String> {
    handle.heads().await.unwrap().iter().map(ToString::to_string).collect()
}
