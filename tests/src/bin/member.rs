//! A device of a space that writes into its documents by `rejoin.v1`, and says of each write how far it has come. Made to be
//! killed.
//!
//! Arguments: the store, the relay's address, the space, a seed; or `torture` and the orders of a client of such a run, which
//! tells its history in a file. Each line is a stage, the document, the change, and a full
//! stop, so that a line that was cut short is known by it: `Relayed 3f.. 9c.. .`

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a helper of tests: its output is its purpose")]

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rejoin::{ConnectOptions, DocHandle, Protocol, Receipt, Repo, Written};
use rejoin_tests::torture::member::{self, Orders};

/// How many documents are written to by turns.
const DOCUMENTS: usize = 3;
/// How long a write is followed. Whoever kills this process does so long before.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((_, orders)) = arguments.split_first().filter(|(first, _)| *first == "torture") {
        return member::run(Orders::read(orders)).await;
    }
    let [store, relay, space, seed] = arguments.as_slice() else { return };
    let mut random = StdRng::seed_from_u64(seed.parse().unwrap());
    let repo = Repo::open(store).await.unwrap();
    let space = repo.space(space.parse().unwrap());
    space.follow().await.unwrap();
    let _connection = repo.connect_with(relay, &ConnectOptions::new().protocol(Protocol::RejoinV1)).unwrap();

    let mut documents: Vec<DocHandle> = Vec::new();
    if random.random_ratio(1, 4) {
        documents.push(space.create().await.unwrap());
    }
    let known = space.list().await.unwrap();
    while !known.is_empty() && documents.len() < DOCUMENTS {
        let document = known[random.random_range(0..known.len())];
        documents.push(repo.find(document).await.unwrap().unwrap());
    }
    for number in 0_i64.. {
        for document in &documents {
            let written = match random.random_range(0..3) {
                0 => document.set(seed.as_str(), number).await,
                1 => document.set("last", number).await,
                _ => document.splice_text("text", 0, 0, "x").await,
            };
            follow(written.unwrap());
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(1..20))).await;
    }
}

/// Says how far a write has come, each time that it has.
fn follow(written: Written) {
    // The value was there before, and nothing was written.
    if written.change().is_none() {
        return;
    }
    say("Local", &written);
    tokio::spawn(async move {
        written.wait(Receipt::Relayed, PATIENCE).await.unwrap();
        say("Relayed", &written);
        written.wait(Receipt::Seen, PATIENCE).await.unwrap();
        say("Seen", &written);
    });
}

fn say(stage: &str, written: &Written) {
    println!("{stage} {} {} .", written.document(), written.change().unwrap());
}
