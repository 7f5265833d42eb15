//! Lists, and paths that go through them.

use rejoin::document::Element;
use rejoin::limits::JSON_DEPTH_MAX;
use rejoin::{FieldPath, Repo, RepoError, Value};
use serde_json::json;

use super::{merge, pair, value};

#[tokio::test]
async fn elements_come_go_and_are_replaced() {
    let doc = Repo::in_memory().unwrap().create().await.unwrap();
    doc.list_push("items", "b").await.unwrap();
    doc.list_insert("items", 0, "a").await.unwrap();
    doc.list_extend("items", vec!["c".into(), 4.into(), Value::NULL.into()]).await.unwrap();
    assert_eq!(doc.to_json().await.unwrap(), json!({ "items": ["a", "b", "c", 4, null] }));
    assert_eq!(doc.list_len("items").await.unwrap(), Some(5));
    doc.list_set("items", 1, "B").await.unwrap();
    doc.list_delete("items", 0).await.unwrap();
    assert_eq!(doc.list_get("items", 0).await.unwrap().unwrap().as_str(), Some("B"));
    assert_eq!(doc.get(("items", 2)).await.unwrap().unwrap().as_i64(), Some(4));
    assert_eq!(doc.list_get("items", 4).await.unwrap(), None);
    assert_eq!(doc.list_len("none").await.unwrap(), None);
    let heads = doc.heads().await.unwrap();
    doc.list_set("items", 0, "B").await.unwrap();
    assert_eq!(doc.heads().await.unwrap(), heads, "what it holds already is not written again");
}

#[tokio::test]
async fn paths_go_through_lists_to_maps_texts_lists_and_counters() {
    let doc = Repo::in_memory().unwrap().create().await.unwrap();
    for title in ["one", "two"] {
        doc.list_push("cards", value(json!({ "title": title, "at": { "x": 1 } }))).await.unwrap();
    }
    doc.set(("cards", 1, "title"), "zwei").await.unwrap();
    doc.set(("cards", 1, "at", "x"), 2).await.unwrap();
    doc.set(("cards", 1, "votes"), Value::counter(1)).await.unwrap();
    doc.increment(("cards", 1, "votes"), 4).await.unwrap();
    doc.list_push(("cards", 1, "tags"), "t").await.unwrap();
    doc.splice_text(("cards", 1, "body"), 0, 0, "😀x").await.unwrap();
    doc.mark(("cards", 1, "body"), 2..3, "bold", true, Default::default()).await.unwrap();
    doc.delete(("cards", 0, "at")).await.unwrap();
    doc.delete(("cards", 0, "never was")).await.unwrap();
    doc.list_push("grid", Element::List(vec![1.into(), Element::List(vec![2.into()]), Element::Text("t".to_owned())]))
        .await
        .unwrap();
    doc.splice_text(("grid", 0, 2), 1, 0, "ext").await.unwrap();
    assert_eq!(
        doc.to_json().await.unwrap(),
        json!({
            "cards": [
                { "title": "one" },
                { "title": "zwei", "at": { "x": 2 }, "votes": 5, "tags": ["t"], "body": "😀x" },
            ],
            "grid": [[1, [2], "text"]],
        })
    );
    assert_eq!(doc.keys(("cards", 1)).await.unwrap(), ["at", "body", "tags", "title", "votes"]);
    assert_eq!(doc.get(("grid", 0, 1, 0)).await.unwrap().unwrap().as_i64(), Some(2));
    assert_eq!(doc.get(("cards", 9, "title")).await.unwrap(), None);
    assert_eq!(doc.text(FieldPath::from("cards").index(1).key("body")).await.unwrap().unwrap(), "😀x");
}

#[tokio::test]
async fn wrong_paths_and_indices_say_so_and_change_nothing() {
    let doc = Repo::in_memory().unwrap().create().await.unwrap();
    doc.list_push("items", 1).await.unwrap();
    doc.set("title", "t").await.unwrap();
    let heads = doc.heads().await.unwrap();
    for result in [
        doc.list_insert("items", 2, 1).await,
        doc.list_set("items", 1, 1).await,
        doc.list_delete("items", 1).await,
        doc.list_increment("items", 0, 1).await,
        doc.list_push("title", 1).await,
        doc.list_push(("items", 0), 1).await,
        doc.set(("items", 0, "inner"), 1).await,
        doc.set(("title", 0), 1).await,
        doc.set(("items", usize::MAX), 1).await,
    ] {
        assert!(matches!(&result, Err(RepoError::Document(_))), "{result:?}");
    }
    assert_eq!(doc.heads().await.unwrap(), heads);
    assert_eq!(doc.to_json().await.unwrap(), json!({ "items": [1], "title": "t" }));
}

#[tokio::test]
async fn nesting_is_bounded_by_what_can_be_read_again() {
    let nested = |levels: usize| (0..levels).fold(Element::from(1), |inner, _| Element::List(vec![inner]));
    let maps = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!({ "m": inner }));
    for (levels, holds) in [(JSON_DEPTH_MAX - 2, true), (JSON_DEPTH_MAX - 1, true), (JSON_DEPTH_MAX, false)] {
        let doc = Repo::in_memory().unwrap().create().await.unwrap();
        // The list itself is one level.
        assert_eq!(doc.list_push("items", nested(levels)).await.is_ok(), holds, "{levels}");
        assert_eq!(doc.list_push("items", value(maps(levels))).await.is_ok(), holds, "{levels}");
        assert_eq!(doc.list_len("items").await.unwrap().is_some(), holds);
        doc.to_json().await.unwrap();
    }
}

#[tokio::test]
async fn lists_of_two_merge_element_by_element() {
    let (here, there) = pair(async |doc| {
        doc.list_extend("items", vec!["a".into(), "b".into(), Value::counter(0).into()]).await.unwrap();
        doc.list_push("items", value(json!({ "title": "card" }))).await.unwrap();
    })
    .await;
    here.list_insert("items", 1, "here").await.unwrap();
    here.list_increment("items", 3, 2).await.unwrap();
    here.set(("items", 4, "done"), true).await.unwrap();
    there.list_delete("items", 0).await.unwrap();
    there.list_increment("items", 1, 3).await.unwrap();
    there.set(("items", 2, "title"), "renamed").await.unwrap();
    let json = merge(&here, &there).await;
    assert_eq!(json, json!({ "items": ["here", "b", 5, { "title": "renamed", "done": true }] }));
}

#[tokio::test]
async fn conflicts_of_elements_can_be_read() {
    let (here, there) = pair(async |doc| drop(doc.list_push("items", 0).await.unwrap())).await;
    here.list_set("items", 0, "here").await.unwrap();
    there.list_set("items", 0, "there").await.unwrap();
    let json = merge(&here, &there).await;
    let all = here.get_all(("items", 0)).await.unwrap();
    assert_eq!(all.len(), 2);
    assert!(all[0].0 > all[1].0, "the winner first");
    assert_eq!(json["items"][0], all[0].1.as_str().unwrap());
    assert_eq!(all, there.get_all(("items", 0)).await.unwrap());
    here.list_set("items", 0, all[0].1.as_str().unwrap()).await.unwrap();
    assert_eq!(here.get_all(("items", 0)).await.unwrap().len(), 1, "writing the winner resolves the conflict");
}
