//! A long paper, typed one character at a time, and fetched by somebody who has nothing.

use futures_util::stream::{FuturesOrdered, StreamExt};
use rejoin::Repo;
use rejoin_tests::relay::RelayProcess;
use rejoin_tests::trace::{EDITS, Keystroke, keystrokes};

use crate::{PATIENCE, heads};

/// How many keystrokes are under way at once: they share the flushes.
const UNDER_WAY: usize = 512;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_keystroke_trace_is_typed_and_reaches_a_fresh_client() {
    let edits = std::env::var("REJOIN_KEYSTROKES").ok().and_then(|count| count.parse().ok()).unwrap_or(EDITS);
    let folder = tempfile::tempdir().unwrap();
    let relay = RelayProcess::start(&folder.path().join("relay"));
    let repo = Repo::open(folder.path().join("author.redb")).await.unwrap();
    let paper = repo.create().await.unwrap();
    let mut expected: Vec<char> = Vec::new();
    let mut typing = FuturesOrdered::new();
    for keystroke in keystrokes(1, edits) {
        let (index, delete, insert) = match keystroke {
            Keystroke::Insert(index, character) => {
                expected.insert(index, character);
                (index, 0, character.to_string())
            }
            Keystroke::Delete(index) => {
                expected.remove(index);
                (index, 1, String::new())
            }
        };
        let paper = paper.clone();
        typing.push_back(async move { paper.splice_text("text", index, delete, insert).await });
        if typing.len() >= UNDER_WAY {
            typing.next().await.unwrap().unwrap();
        }
    }
    while let Some(typed) = typing.next().await {
        typed.unwrap();
    }
    let expected: String = expected.into_iter().collect();
    assert_eq!(paper.text("text").await.unwrap().unwrap(), expected);

    let _author = repo.connect(&relay.url()).unwrap();
    repo.wait_synced(PATIENCE * 3).await.unwrap();
    let reader = Repo::in_memory().unwrap();
    let mut connection = reader.connect(&relay.url()).unwrap();
    let copy = reader.open_or_fetch(paper.id()).await.unwrap();
    let wanted = heads(&paper).await;
    let mut events = copy.subscribe();
    while heads(&copy).await != wanted {
        tokio::time::timeout(PATIENCE * 3, events.next()).await.unwrap().unwrap().ok();
    }
    assert_eq!(copy.text("text").await.unwrap().unwrap(), expected);
    connection.wait_caught_up(PATIENCE).await.unwrap();
}
