//! Marks, blocks, cursors, and text that is typed into by two.

use std::collections::BTreeMap;

use rejoin::document::{Cursor, CursorMove, DocumentError, Element, Expand, Mark, Span};
use rejoin::{Repo, RepoError, ScalarValue};
use serde_json::json;

use super::{merge, pair};

fn mark(range: std::ops::Range<usize>, name: &str, value: impl Into<ScalarValue>) -> Mark {
    Mark { range, name: name.to_owned(), value: value.into() }
}

fn plain(text: &str) -> Span {
    Span::Text { text: text.to_owned(), marks: BTreeMap::new() }
}

fn marked(text: &str, name: &str, value: impl Into<ScalarValue>) -> Span {
    Span::Text { text: text.to_owned(), marks: BTreeMap::from([(name.to_owned(), value.into())]) }
}

fn block(kind: &str) -> Span {
    let json = json!({ "type": kind });
    Span::Block(json.as_object().unwrap().clone())
}

fn fields(kind: &str) -> Vec<(String, Element)> {
    vec![("type".to_owned(), kind.into())]
}

#[tokio::test]
async fn marks_count_utf16_and_grow_as_they_were_told() {
    let doc = Repo::in_memory().unwrap().create().await.unwrap();
    doc.splice_text("body", 0, 0, "a😀b link").await.unwrap();
    doc.mark("body", 1..4, "bold", true, Expand::After).await.unwrap();
    doc.mark("body", 5..9, "link", "https://a.example", Expand::None).await.unwrap();
    assert_eq!(
        doc.marks("body").await.unwrap().unwrap(),
        [mark(1..4, "bold", true), mark(5..9, "link", "https://a.example")]
    );
    // Right after the bold text: it grows. Right after the link: it does not. Before either: they move.
    doc.splice_text("body", 9, 0, "!").await.unwrap();
    doc.splice_text("body", 4, 0, "c").await.unwrap();
    doc.splice_text("body", 1, 0, "😀").await.unwrap();
    assert_eq!(
        doc.marks("body").await.unwrap().unwrap(),
        [mark(3..7, "bold", true), mark(8..12, "link", "https://a.example")]
    );
    assert_eq!(
        doc.spans("body").await.unwrap().unwrap(),
        [
            plain("a😀"),
            marked("😀bc", "bold", true),
            plain(" "),
            marked("link", "link", "https://a.example"),
            plain("!")
        ]
    );
    assert_eq!(doc.marks_at("body", 6).await.unwrap().unwrap(), BTreeMap::from([("bold".to_owned(), true.into())]));
    assert!(doc.marks_at("body", 2).await.unwrap().unwrap().is_empty());
    doc.unmark("body", 5..7, "bold", Expand::After).await.unwrap();
    assert_eq!(doc.marks("body").await.unwrap().unwrap()[0], mark(3..5, "bold", true));
    assert!(doc.marks_at("body", 6).await.unwrap().unwrap().is_empty(), "an unmark is no mark");
}

#[tokio::test]
async fn wrong_marks_blocks_and_cursors_say_so_and_change_nothing() {
    let doc = Repo::in_memory().unwrap().create().await.unwrap();
    doc.splice_text("body", 0, 0, "abc").await.unwrap();
    let heads = doc.heads().await.unwrap();
    #[expect(clippy::reversed_empty_ranges, reason = "it must be refused")]
    for range in [0..0, 2..1, 0..4, 4..5, 0..usize::MAX] {
        assert!(matches!(
            doc.mark("body", range.clone(), "bold", true, Expand::After).await,
            Err(RepoError::Document(_))
        ));
        assert!(doc.unmark("body", range, "bold", Expand::After).await.is_err());
    }
    assert!(doc.mark("none", 0..1, "bold", true, Expand::After).await.is_err());
    assert!(doc.split_block("body", 4, fields("p")).await.is_err());
    assert!(doc.join_block("body", 1).await.is_err(), "a character is no block");
    assert!(doc.replace_block("body", 1, fields("p")).await.is_err());
    assert!(doc.join_block("body", 3).await.is_err());
    assert!(doc.marks_at("body", 3).await.is_err());
    assert_eq!(doc.heads().await.unwrap(), heads);
    assert!(doc.cursor("body", 4, CursorMove::After).await.is_err());
    assert!(doc.cursor("none", 0, CursorMove::After).await.is_err());
    let foreign: Cursor = "1@00ff".parse().unwrap();
    assert!(matches!(doc.cursor_position("body", &foreign).await, Err(RepoError::Document(_))));
    // A cursor of another text, and one to an operation that made no character.
    doc.splice_text("other", 0, 0, "xyz").await.unwrap();
    let other = doc.cursor("other", 1, CursorMove::Before).await.unwrap();
    let actor = other.to_string().split_once('@').unwrap().1.to_owned();
    for text in [other.to_string(), format!("1@{actor}"), format!("-1@{actor}"), format!("2000000000@{actor}")] {
        let result = doc.cursor_position("body", &text.parse().unwrap()).await;
        let Err(RepoError::Document(error)) = &result else { unreachable!("{text}: {result:?}") };
        assert!(matches!(**error, DocumentError::Cursor), "{text}: {error}");
    }
    doc.delete("other").await.unwrap();
    let heads = doc.heads().await.unwrap();
    assert_eq!(doc.marks("none").await.unwrap(), None);
    assert_eq!(doc.heads().await.unwrap(), heads);
    assert_eq!(doc.text("body").await.unwrap().unwrap(), "abc");
}

#[tokio::test]
async fn marks_and_typing_of_two_merge() {
    let (here, there) = pair(async |doc| drop(doc.splice_text("body", 0, 0, "one two").await.unwrap())).await;
    here.mark("body", 0..3, "bold", true, Expand::After).await.unwrap();
    there.splice_text("body", 1, 0, "😀").await.unwrap();
    there.mark("body", 6..9, "em", true, Expand::After).await.unwrap();
    let json = merge(&here, &there).await;
    assert_eq!(json, json!({ "body": "o😀ne two" }));
    for doc in [&here, &there] {
        assert_eq!(doc.marks("body").await.unwrap().unwrap(), [mark(0..5, "bold", true), mark(6..9, "em", true)]);
    }
}

#[tokio::test]
async fn blocks_split_join_and_change_their_kind() {
    let doc = Repo::in_memory().unwrap().create().await.unwrap();
    doc.splice_text("body", 0, 0, "HeadText").await.unwrap();
    doc.split_block("body", 0, fields("heading")).await.unwrap();
    doc.split_block("body", 5, fields("paragraph")).await.unwrap();
    assert_eq!(
        doc.spans("body").await.unwrap().unwrap(),
        [block("heading"), plain("Head"), block("paragraph"), plain("Text")]
    );
    assert_eq!(doc.text("body").await.unwrap().unwrap(), "\u{fffc}Head\u{fffc}Text");
    doc.replace_block("body", 5, fields("quote")).await.unwrap();
    assert_eq!(doc.spans("body").await.unwrap().unwrap()[2], block("quote"));
    doc.join_block("body", 5).await.unwrap();
    assert_eq!(doc.spans("body").await.unwrap().unwrap(), [block("heading"), plain("HeadText")]);
}

#[tokio::test]
async fn blocks_of_two_merge() {
    let (here, there) = pair(async |doc| drop(doc.splice_text("body", 0, 0, "abcd").await.unwrap())).await;
    here.split_block("body", 2, fields("left")).await.unwrap();
    there.split_block("body", 4, fields("right")).await.unwrap();
    merge(&here, &there).await;
    assert_eq!(here.spans("body").await.unwrap(), Some(vec![plain("ab"), block("left"), plain("cd"), block("right")]));
    assert_eq!(here.spans("body").await.unwrap(), there.spans("body").await.unwrap());
}

#[tokio::test]
async fn blocks_nested_beyond_the_bound_are_refused_and_overflow_no_stack() {
    use automerge::ObjType;
    use automerge::transaction::Transactable;
    let doc = Repo::in_memory().unwrap().create().await.unwrap();
    doc.splice_text("body", 0, 0, "abcd").await.unwrap();
    let deep = doc.change(|tx| {
        let (_, text) = automerge::ReadDoc::get(tx, automerge::ROOT, "body")?.unwrap();
        let mut at = tx.split_block(&text, 2)?;
        for _ in 0..5_000 {
            at = tx.put_object(&at, "m", ObjType::Map)?;
        }
        Ok(())
    });
    deep.await.unwrap();
    assert!(matches!(doc.spans("body").await, Err(RepoError::Document(_))));
    assert!(doc.to_json().await.is_ok(), "the text's own characters can be read");
    assert_eq!(doc.text("body").await.unwrap().unwrap(), "ab\u{fffc}cd");
}

#[tokio::test]
async fn cursors_stay_at_their_character() {
    let doc = Repo::in_memory().unwrap().create().await.unwrap();
    doc.splice_text("body", 0, 0, "a😀bcd").await.unwrap();
    let after = doc.cursor("body", 4, CursorMove::After).await.unwrap();
    let before = doc.cursor("body", 4, CursorMove::Before).await.unwrap();
    let end = doc.cursor("body", 6, CursorMove::After).await.unwrap();
    assert_eq!(end, Cursor::END);
    doc.splice_text("body", 0, 0, "😀").await.unwrap();
    assert_eq!(doc.cursor_position("body", &after).await.unwrap(), 6);
    // The character goes: one cursor moves on, the other one back.
    doc.splice_text("body", 6, 1, "").await.unwrap();
    assert_eq!(doc.text("body").await.unwrap().unwrap(), "😀a😀bd");
    assert_eq!(doc.cursor_position("body", &after).await.unwrap(), 6);
    assert_eq!(doc.cursor_position("body", &before).await.unwrap(), 5);
    assert_eq!(doc.cursor_position("body", &end).await.unwrap(), 7);
    assert_eq!(doc.cursor_position("body", &Cursor::START).await.unwrap(), 0);
    // Through its text form, in another repo.
    let there = Repo::in_memory().unwrap().import(doc.export().await.unwrap()).await.unwrap();
    let sent: Cursor = before.to_string().parse().unwrap();
    assert_eq!(sent, before);
    assert_eq!(there.cursor_position("body", &sent).await.unwrap(), 5);
}

#[tokio::test]
async fn updated_texts_merge_what_both_changed() {
    let (here, there) = pair(async |doc| drop(doc.update_text("body", "The 😀 quick fox").await.unwrap())).await;
    here.update_text("body", "The 😀 very quick fox").await.unwrap();
    there.update_text("body", "The 😃 quick fox jumps").await.unwrap();
    let json = merge(&here, &there).await;
    assert_eq!(json, json!({ "body": "The 😃 very quick fox jumps" }));
    let heads = here.heads().await.unwrap();
    here.update_text("body", "The 😃 very quick fox jumps").await.unwrap();
    assert_eq!(here.heads().await.unwrap(), heads, "an equal text is no change");
}

#[tokio::test]
async fn index_inside_a_surrogate_pair_never_tears_it() {
    let doc = Repo::in_memory().unwrap().create().await.unwrap();
    doc.splice_text("body", 0, 0, "a😀b").await.unwrap();
    doc.splice_text("body", 2, 0, "x").await.unwrap();
    let text = doc.text("body").await.unwrap().unwrap();
    assert!(text.contains('😀') && text.contains('x') && text.chars().count() == 4, "{text}");
    doc.splice_text("body", 2, 1, "").await.unwrap();
    let text = doc.text("body").await.unwrap().unwrap();
    assert!(text.starts_with('a') && text.ends_with('b'), "{text}");
}

#[tokio::test]
async fn rich_text_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let repo = Repo::open(&path).await.unwrap();
    let doc = repo.create().await.unwrap();
    let id = doc.id();
    doc.splice_text("body", 0, 0, "a😀b").await.unwrap();
    doc.mark("body", 1..3, "bold", true, Expand::Both).await.unwrap();
    doc.split_block("body", 3, fields("p")).await.unwrap();
    let cursor = doc.cursor("body", 4, CursorMove::After).await.unwrap().to_string();
    let spans = doc.spans("body").await.unwrap();
    drop(doc);
    repo.close().await;

    let repo = Repo::open(&path).await.unwrap();
    let doc = repo.find(id).await.unwrap().unwrap();
    assert_eq!(doc.spans("body").await.unwrap(), spans);
    assert_eq!(doc.cursor_position("body", &cursor.parse().unwrap()).await.unwrap(), 4);
    doc.splice_text("body", 0, 0, "new ").await.unwrap();
    assert_eq!(doc.cursor_position("body", &cursor.parse().unwrap()).await.unwrap(), 8);
}
