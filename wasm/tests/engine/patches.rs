//! What a page shows follows what is, patch by patch.

use serde_json::json;

use crate::page::{World, id};
use crate::run;

#[test]
fn field_edits_come_as_sets_and_the_document_is_not_loaded() {
    run(async {
        let world = World::new();
        let mut page = world.page("a");
        let doc =
            page.create(1, json!({ "title": "x", "inner": { "deep": { "n": 1 } }, "count": { "$counter": 1 } })).await;
        let opened = page.open(&doc).await;
        assert_eq!(opened["value"]["count"], json!({ "$counter": 1 }));
        page.edit(
            &doc,
            json!([["set", ["title"], "y"], ["set", ["inner", "deep", "n"], 2], ["increment", ["count"], 4]]),
        )
        .await;
        let value = page.settle(&doc).await;
        assert_eq!(value["count"], json!({ "$counter": 5 }));
        page.edit(&doc, json!([["delete", ["inner"]], ["set", ["$date"], { "$$date": 1 }]])).await;
        page.settle(&doc).await;
        page.edit(&doc, json!([["set", ["inner"], { "again": { "m": 1 } }], ["set", ["inner", "again", "m"], 2]]))
            .await;
        let value = page.settle(&doc).await;
        assert_eq!(value["inner"], json!({ "again": { "m": 2 } }));
        let kinds: Vec<_> = page.docs[&doc].patches.iter().map(|patch| patch[0].clone()).collect();
        assert!(kinds.iter().all(|kind| kind == "set" || kind == "delete"), "{kinds:?}");
        assert_eq!(world.repo.loaded_documents().await.unwrap(), []);
        assert_eq!(page.docs[&doc].up_to, page.id() - 3, "settling asks twice");
    });
}

#[test]
fn typing_comes_as_splices_and_lists_as_inserts_and_removes() {
    run(async {
        let world = World::new();
        let mut page = world.page("a");
        let doc = page.create(1, json!({ "body": { "$text": "h😀llo" }, "rows": [1, { "x": [2] }] })).await;
        page.open(&doc).await;
        page.edit(&doc, json!([["splice", ["body"], 3, 1, "ell"]])).await;
        page.settle(&doc).await;
        assert_eq!(page.docs[&doc].patches.len(), 2, "{:?}", page.docs[&doc].patches);
        page.edit(
            &doc,
            json!([["insert", ["rows"], 1, ["new", { "$date": 3 }]], ["set", ["rows", 3, "x", 0], { "a": {} }]]),
        )
        .await;
        page.settle(&doc).await;
        page.edit(&doc, json!([["remove", ["rows"], 0, 2], ["set", ["body"], "hello there"]])).await;
        let value = page.settle(&doc).await;
        assert_eq!(value, json!({ "body": "hello there", "rows": [{ "$date": 3 }, { "x": [{ "a": {} }] }] }));
        assert!(page.docs[&doc].patches.iter().all(|patch| patch[0] != "all"));
        page.edit(&doc, json!([["set", ["title"], "plain"], ["split", ["body"], 5, { "type": "p" }]])).await;
        page.edit(&doc, json!([["mark", ["body"], 0, 3, "bold", true, "after"]])).await;
        page.edit(&doc, json!([["block", ["body"], 5, { "type": "h1" }]])).await;
        let value = page.settle(&doc).await;
        assert_eq!(value["body"], "hello\u{fffc} there");
        page.edit(&doc, json!([["join", ["body"], 5], ["unmark", ["body"], 0, 1, "bold", "after"]])).await;
        let value = page.settle(&doc).await;
        assert_eq!(value["body"], "hello there");
    });
}

#[test]
fn a_document_of_maps_that_gets_a_list_goes_on_without_a_gap() {
    run(async {
        let world = World::new();
        let mut page = world.page("a");
        let doc = page.create(1, json!({ "title": "x" })).await;
        page.open(&doc).await;
        page.edit(&doc, json!([["set", ["title"], "y"]])).await;
        page.edit(&doc, json!([["set", ["rows"], [1, 2]]])).await;
        page.edit(&doc, json!([["set", ["title"], "z"]])).await;
        page.settle(&doc).await;
        assert!(page.docs[&doc].patches.iter().all(|patch| patch[0] != "all"));
    });
}

#[test]
fn one_who_opens_later_and_one_who_had_it_open_show_the_same() {
    run(async {
        let world = World::new();
        let (mut first, mut second) = (world.page("a"), world.page("b"));
        let doc = first.create(1, json!({ "body": { "$text": "x" } })).await;
        first.open(&doc).await;
        first.edit(&doc, json!([["splice", ["body"], 1, 0, "y"]])).await;
        let opened = second.open(&doc).await;
        assert_eq!(opened["value"]["body"], "xy");
        second.edit(&doc, json!([["splice", ["body"], 2, 0, "z"]])).await;
        assert_eq!(first.settle(&doc).await, second.settle(&doc).await);
        second.call("close", json!([doc])).await;
        first.edit(&doc, json!([["splice", ["body"], 0, 3, ""]])).await;
        first.settle(&doc).await;
        let (_, to) =
            world.host.events.borrow().last().map(|(session, event)| (session.clone(), event.clone())).unwrap();
        assert_ne!(to["doc"], json!(id(2)));
    });
}

#[test]
fn an_edit_that_changes_nothing_is_told_all_the_same() {
    run(async {
        let world = World::new();
        let mut page = world.page("a");
        let doc = page.create(1, json!({ "title": "x" })).await;
        page.open(&doc).await;
        assert_eq!(page.edit(&doc, json!([["set", ["title"], "x"]])).await, json!({ "change": null }));
        let wanted = page.id() - 1;
        world.event(|event| event["e"] == "patch" && event["upTo"] == wanted).await;
    });
}

#[test]
fn edits_under_way_together_keep_their_order_and_their_indices() {
    run(async {
        let world = World::new();
        let mut page = world.page("a");
        let doc = page.create(1, json!({ "body": { "$text": "" } })).await;
        let heads = page.open(&doc).await["heads"].clone();
        let first = page.id() + 1;
        let typed = (0..50_u64).map(|at| {
            let own: Vec<u64> = (first..first + at).collect();
            let ops = match at % 10 {
                9 => json!([["set", ["at"], at]]),
                _ => json!([["splice", ["body"], at - at / 10, 0, format!("{}", at % 10)]]),
            };
            page.call("edit", json!([doc, { "heads": heads, "own": own }, ops]))
        });
        futures_util::future::join_all(typed).await;
        let value = page.settle(&doc).await;
        assert_eq!(value["body"], "012345678".repeat(5));
        assert_eq!(value["at"], 49);
    });
}

#[test]
fn two_pages_that_type_at_indices_of_before_never_garble_each_other() {
    run(async {
        let world = World::new();
        let (mut first, mut second) = (world.page("a"), world.page("b"));
        let doc = first.create(1, json!({ "body": { "$text": "[][]" } })).await;
        let heads = first.open(&doc).await["heads"].clone();
        second.open(&doc).await;
        // Neither sees what the other types: each names the state it had at first and its own edits.
        let mut own: [Vec<u64>; 2] = [Vec::new(), Vec::new()];
        for (at, (left, right)) in ["a", "b", "c", "d"].into_iter().zip(["w", "x", "y", "z"]).enumerate() {
            let base = |own: &[u64]| json!({ "heads": heads, "own": own });
            let ops = json!([["splice", ["body"], 1 + at, 0, left]]);
            let (here, there) = (base(&own[0]), base(&own[1]));
            own[0].push(first.id() + 1);
            first.call("edit", json!([doc, here, ops])).await;
            let ops = json!([["splice", ["body"], 3 + at, 0, right]]);
            own[1].push(second.id() + 1);
            second.call("edit", json!([doc, there, ops])).await;
        }
        assert_eq!(first.settle(&doc).await["body"], "[abcd][wxyz]");
        second.settle(&doc).await;
        assert_eq!(
            first
                .fails("edit", json!([doc, { "heads": ["00".repeat(32)], "own": [] }, [["update", ["body"], "x"]]]))
                .await,
            "unknown_heads"
        );
    });
}
