//! Random writers on two devices: every state they went through can be seen, forked and restored.

use automerge::{Automerge, LoadOptions, TextEncoding};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rejoin::document::{Element, Expand};
use rejoin::repo::Written;
use rejoin::{DocHandle, FieldPath, RepoError, Value};

use super::{merge, pair, value};

/// Makes one random write. That it does not fit the document is fine: then it must change nothing.
async fn write(doc: &DocHandle, rng: &mut StdRng) -> Result<Written, RepoError> {
    let list = ["list", "other"][rng.random_range(0..2)];
    let index = rng.random_range(0..4_usize);
    let card = FieldPath::from((list, index));
    match rng.random_range(0..14) {
        0 => doc.set("title", rng.random_range(0..9)).await,
        1 => doc.delete("title").await,
        2 => doc.list_insert(list, index, rng.random_range(0..9)).await,
        3 => doc.list_push(list, value(serde_json::json!({ "n": index, "deep": { "x": index } }))).await,
        4 => doc.list_push(list, Value::counter(1)).await,
        5 => doc.list_push(list, Element::Text("text".to_owned())).await,
        6 => doc.list_delete(list, index).await,
        7 => doc.list_increment(list, index, 3).await,
        8 => doc.set(card.key("n"), "set").await,
        9 => doc.splice_text(card, index, 1, "😀").await,
        10 => doc.splice_text("body", index, index % 2, ["a😀", "b", ""][index % 3]).await,
        11 => doc.mark("body", index..index + 2, "bold", true, Expand::Both).await,
        12 => doc.split_block("body", index, vec![("type".to_owned(), "p".into())]).await,
        _ => doc.update_text("body", ["x", "a😀b", "😀😃"][index % 3]).await,
    }
}

#[tokio::test]
async fn every_state_of_random_histories_can_be_seen_forked_and_restored() {
    for seed in 0..12 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (here, there) = pair(async |doc| drop(doc.list_push("list", 0).await.unwrap())).await;
        let mut states = Vec::new();
        for _ in 0..40 {
            let doc = [&here, &there][rng.random_range(0..2)];
            let before = doc.heads().await.unwrap();
            if let Err(error) = write(doc, &mut rng).await {
                assert!(!error.to_string().contains("panicked"), "seed {seed}: {error}");
                assert_eq!(doc.heads().await.unwrap(), before, "seed {seed}: {error}");
            }
            if rng.random_range(0..6) == 0 {
                merge(&here, &there).await;
                assert_eq!(here.spans("body").await.unwrap(), there.spans("body").await.unwrap());
            }
            if rng.random_range(0..4) == 0 {
                states.push((
                    doc.heads().await.unwrap(),
                    doc.to_json().await.unwrap(),
                    doc.spans("body").await.unwrap(),
                ));
            }
        }
        merge(&here, &there).await;
        let options = || LoadOptions::new().text_encoding(TextEncoding::Utf16CodeUnit);
        let loaded = Automerge::load_with_options(&here.export().await.unwrap(), options()).unwrap();
        let json = here.to_json().await.unwrap();
        assert_eq!(rejoin::document::json::to_json(&loaded).unwrap(), json, "seed {seed}");
        for (heads, json, spans) in states {
            let then = here.at(&heads).await.unwrap();
            assert_eq!(then.to_json().await.unwrap(), json, "seed {seed}");
            assert_eq!(then.spans("body").await.unwrap(), spans, "seed {seed}");
            let fork = here.fork_at(&heads).await.unwrap();
            assert_eq!(fork.to_json().await.unwrap(), json, "seed {seed}");
            let now = here.heads().await.unwrap();
            here.diff(&heads, &now).await.unwrap();
            here.diff(&now, &heads).await.unwrap();
            here.restore(&heads).await.unwrap();
            assert_eq!(here.to_json().await.unwrap(), json, "seed {seed}");
            assert_eq!(here.spans("body").await.unwrap(), spans, "seed {seed}");
        }
        merge(&here, &there).await;
        assert!(here.quarantined().await.unwrap().is_empty());
    }
}
