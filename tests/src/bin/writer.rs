//! Writes as fast as it can, and says after each write that returned which one it was. Made to be killed.
//!
//! Arguments: the store, the document, the first number to write.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a helper of tests: its output is its purpose")]

use rejoin::{DocumentId, Repo};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let store = arguments.next().unwrap();
    let document: DocumentId = arguments.next().unwrap().parse().unwrap();
    let first: i64 = arguments.next().unwrap().parse().unwrap();
    let repo = Repo::open(store).await.unwrap();
    let handle = repo.find(document).await.unwrap().unwrap();
    for number in first.. {
        // A field, a counter and a text take the two ways a write can go.
        handle.set("last", number).await.unwrap();
        println!("field {number}");
        handle.increment("count", 1).await.unwrap();
        handle.splice_text("text", 0, 0, "x").await.unwrap();
        println!("text {number}");
    }
}
