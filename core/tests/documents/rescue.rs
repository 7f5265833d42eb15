//! Damaged files: what can be kept is kept, and what is lost is said.

use rejoin::document::Expand;
use rejoin::{DocHandle, Repo, RepoError};
use serde_json::json;

/// A document of several changes, and its changes as a stream of change chunks.
async fn sample() -> (DocHandle, Vec<Vec<u8>>) {
    let doc = Repo::in_memory().unwrap().create().await.unwrap();
    doc.set("title", "notes").await.unwrap();
    doc.splice_text("body", 0, 0, "a😀b").await.unwrap();
    doc.mark("body", 0..1, "bold", true, Expand::After).await.unwrap();
    doc.list_push("items", 1).await.unwrap();
    let chunks = doc.view(|automerge| {
        automerge.get_changes(&[]).iter().map(|change| change.raw_bytes().to_vec()).collect::<Vec<_>>()
    });
    let chunks = chunks.await.unwrap();
    (doc, chunks)
}

#[tokio::test]
async fn whole_files_are_rescued_whole() {
    let (doc, chunks) = sample().await;
    let mut reversed = chunks.clone();
    reversed.reverse();
    for file in [doc.export().await.unwrap(), chunks.concat(), reversed.concat()] {
        let rescued = Repo::in_memory().unwrap().rescue(file).await.unwrap();
        assert_eq!((rescued.changes, rescued.values_only, rescued.lost.len()), (4, false, 0));
        assert_eq!(rescued.handle.heads().await.unwrap(), doc.heads().await.unwrap());
        assert_eq!(rescued.handle.spans("body").await.unwrap(), doc.spans("body").await.unwrap());
    }
}

#[tokio::test]
async fn changes_before_and_after_a_damaged_place_are_kept() {
    let (_, chunks) = sample().await;
    let other = Repo::in_memory().unwrap().create().await.unwrap();
    other.set("other", true).await.unwrap();
    let apart = other.view(|automerge| automerge.get_changes(&[])[0].raw_bytes().to_vec()).await.unwrap();
    // Two changes, a damaged one, two that depend on it, garbage, one that depends on nothing, a cut one.
    let mut damaged = chunks[2].clone();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let file = [&chunks[0][..], &chunks[1], &damaged, &chunks[3], b"garbage", &apart, &chunks[2][..20]].concat();
    let rescued = Repo::in_memory().unwrap().rescue(file.clone()).await.unwrap();
    assert_eq!(rescued.handle.to_json().await.unwrap(), json!({ "title": "notes", "body": "a😀b", "other": true }));
    assert_eq!((rescued.changes, rescued.values_only), (3, false));
    assert_eq!(rescued.lost.len(), 4, "{:?}", rescued.lost);
    assert_eq!(rescued.lost[0].offset, chunks[0].len() + chunks[1].len());
    assert!(rescued.lost[1].why.contains("depends on one that is lost"), "{:?}", rescued.lost);
    assert!(rescued.lost.iter().all(|lost| lost.offset + lost.length <= file.len()));
}

#[tokio::test]
async fn many_damaged_places_in_a_long_file_cost_only_themselves() {
    let repo = Repo::in_memory().unwrap();
    let mut file = Vec::new();
    let mut count = 0;
    for author in 0..100 {
        let doc = repo.create().await.unwrap();
        doc.set(format!("by {author}"), "x".repeat(1_000)).await.unwrap();
        let mut chunk = doc.view(|automerge| automerge.get_changes(&[])[0].raw_bytes().to_vec()).await.unwrap();
        if author % 3 == 0 {
            chunk[500] ^= 1;
        } else {
            count += 1;
        }
        file.extend(chunk);
    }
    let rescued = repo.rescue(file).await.unwrap();
    assert_eq!((rescued.changes, rescued.lost.len()), (count, 100 - count));
    assert_eq!(rescued.handle.keys(rejoin::FieldPath::root()).await.unwrap().len(), count);
}

#[tokio::test]
async fn no_byte_of_a_document_can_be_changed_unnoticed() {
    let (doc, _) = sample().await;
    let file = doc.export().await.unwrap();
    let repo = Repo::in_memory().unwrap();
    let mut with_values = 0;
    for index in 0..file.len() {
        let mut damaged = file.clone();
        damaged[index] ^= 0x10;
        match repo.rescue(damaged).await {
            Ok(rescued) => {
                assert!(!rescued.lost.is_empty(), "byte {index}");
                rescued.handle.to_json().await.unwrap();
                with_values += usize::from(rescued.values_only);
            }
            Err(error) => assert!(matches!(error, RepoError::Import { .. }), "byte {index}: {error}"),
        }
    }
    assert!(with_values > 0, "a wrong checksum alone must not lose the values");
}

#[tokio::test]
async fn values_of_a_document_with_a_wrong_checksum_are_kept_without_history() {
    let (doc, _) = sample().await;
    let mut file = doc.export().await.unwrap();
    file[4] ^= 1;
    assert!(Repo::in_memory().unwrap().import(file.clone()).await.is_err());
    let rescued = Repo::in_memory().unwrap().rescue(file).await.unwrap();
    assert!(rescued.values_only);
    assert_eq!(rescued.handle.to_json().await.unwrap(), doc.to_json().await.unwrap());
    rescued.handle.splice_text("body", 0, 0, "goes on: ").await.unwrap();
    assert_eq!(rescued.lost.len(), 1);
    assert!(rescued.lost[0].why.contains("without their history"), "{:?}", rescued.lost);
}

#[tokio::test]
async fn files_with_nothing_in_them_say_so() {
    let repo = Repo::in_memory().unwrap();
    for file in [Vec::new(), b"no document".to_vec(), [0x85, 0x6f, 0x4a, 0x83].repeat(20_000)] {
        let error = repo.rescue(file).await.unwrap_err();
        assert!(error.to_string().starts_with("failed to import the file"), "{error}");
    }
    assert!(repo.list().await.unwrap().is_empty());
}
