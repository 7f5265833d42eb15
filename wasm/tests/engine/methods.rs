//! Every method of the contract, asked as a page asks.

use serde_json::json;

use crate::page::{World, id, sorted};
use crate::run;

#[test]
fn documents_are_created_read_and_listed() {
    run(async {
        let world = World::new();
        let page = world.page("a");
        let space = "00112233445566778899aabbccddeeff";
        let made =
            page.call("create", json!([id(1), space, { "a": { "b": [1, { "$counter": 2 }] }, "$$date": 3 }])).await;
        assert_eq!(made["change"].as_str().unwrap().len(), 64);
        let again = page.call("create", json!([id(1), space, { "other": 1 }])).await;
        assert_eq!(again, json!({ "change": null }));
        assert_eq!(page.call("get", json!([id(1), ["a", "b", 1]])).await, json!({ "$counter": 2 }));
        assert_eq!(page.call("get", json!([id(1), ["$date"]])).await, json!(3));
        assert_eq!(page.call("get", json!([id(1), ["nothing"]])).await, json!(null));
        assert_eq!(
            page.call("json", json!([id(1)])).await,
            json!({ "a": { "b": [1, { "$counter": 2 }] }, "$$date": 3 })
        );
        assert_eq!(page.call("heads", json!([id(1)])).await, json!([made["change"]]));
        page.create(2, json!(null)).await;
        assert_eq!(sorted(&page.call("list", json!([])).await), sorted(&json!([id(1), id(2)])));
        assert_eq!(page.call("spaceList", json!([space])).await, json!([id(1)]));
        assert_eq!(page.call("spaceUnfetched", json!([space])).await, json!([]));
        assert_eq!(page.call("following", json!([space])).await, json!("everything"));
        page.call("follow", json!([space, "listing"])).await;
        assert_eq!(page.call("following", json!([space])).await, json!("listing"));
        page.call("follow", json!([space, null])).await;
        assert_eq!(page.call("following", json!([space])).await, json!(null));
        world.event(|event| event["e"] == "list").await;
        assert_eq!(page.fails("json", json!([id(9)])).await, "not_found");
        page.call("delete", json!([id(2)])).await;
        world.event(|event| event["kind"] == "deleted" && event["doc"] == id(2)).await;
        page.call("deleteEverywhere", json!([id(1)])).await;
        assert_eq!(page.fails("json", json!([id(1)])).await, "deleted");
        assert_eq!(page.fails("create", json!([id(1), null, null])).await, "deleted");
        assert_eq!(page.fails("edit", json!([id(1), null, [["set", ["a"], 1]]])).await, "deleted");
    });
}

#[test]
fn one_that_is_not_here_is_opened_to_be_fetched() {
    run(async {
        let world = World::new();
        let page = world.page("a");
        assert_eq!(page.call("open", json!([id(1), false])).await, json!(null));
        let opened = page.call("open", json!([id(1), true])).await;
        assert_eq!((&opened["value"], &opened["heads"], &opened["n"]), (&json!({}), &json!([]), &json!(0)));
        assert_eq!(page.fails("wait", json!([id(1), 1])).await, "timeout");
        page.edit(&id(1), json!([["set", ["a"], 1]])).await;
        page.call("wait", json!([id(1), 1000])).await;
        page.call("close", json!([id(1)])).await;
    });
}

#[test]
fn texts_have_marks_spans_cursors_and_positions() {
    run(async {
        let world = World::new();
        let page = world.page("a");
        let doc = page.create(1, json!({ "body": { "$text": "Buy milk" } })).await;
        let heads = page.call("heads", json!([doc])).await;
        page.edit(
            &doc,
            json!([["mark", ["body"], 4, 8, "bold", true, "both"], ["split", ["body"], 0, { "type": "p" }]]),
        )
        .await;
        assert_eq!(
            page.call("marks", json!([doc, ["body"]])).await,
            json!([{ "start": 5, "end": 9, "name": "bold", "value": true }])
        );
        let spans = page.call("spans", json!([doc, ["body"]])).await;
        assert_eq!(
            spans,
            json!([{ "block": { "type": "p" } }, { "text": "Buy ", "marks": {} }, { "text": "milk", "marks": { "bold": true } }])
        );
        let base = json!({ "heads": heads, "own": [] });
        let cursor = page.call("cursor", json!([doc, ["body"], 4, base, "after"])).await;
        assert_eq!(page.call("position", json!([doc, ["body"], cursor])).await, json!(5));
        let now = page.call("cursor", json!([doc, ["body"], 4, null, "before"])).await;
        assert_eq!(page.call("position", json!([doc, ["body"], now])).await, json!(4));
        assert_eq!(page.fails("position", json!([doc, ["body"], "é"])).await, "bad_argument");
        assert_eq!(page.fails("cursor", json!([doc, ["nobody"], 0, null, "after"])).await, "wrong_path");
        assert_eq!(page.call("spans", json!([doc, ["nobody"]])).await, json!(null));
    });
}

#[test]
fn history_is_read_compared_restored_forked_and_merged() {
    run(async {
        let world = World::new();
        let page = world.page("a");
        let doc = page.create(1, json!({ "title": "x", "rows": [1] })).await;
        let then = page.call("heads", json!([doc])).await;
        let options = json!({ "message": "why", "time": 5_500 });
        page.call(
            "edit",
            json!([doc, null, [["set", ["title"], "y"], ["insert", ["rows"], 1, [{ "a": { "b": 1 } }]]], options]),
        )
        .await;
        let now = page.call("heads", json!([doc])).await;
        let history = page.call("history", json!([doc])).await;
        assert_eq!((&history[1]["message"], &history[1]["time"]), (&json!("why"), &json!(5_000)));
        assert_eq!(history[1]["deps"], then);
        assert_eq!(page.call("at", json!([doc, then, null])).await, json!({ "title": "x", "rows": [1] }));
        assert_eq!(page.call("at", json!([doc, then, ["title"]])).await, json!("x"));
        assert_eq!(page.fails("at", json!([doc, ["11".repeat(32)], null])).await, "unknown_heads");
        let patches = page.call("diff", json!([doc, then, now])).await;
        assert_eq!(
            sorted(&patches),
            sorted(&json!([["set", ["title"], "y"], ["insert", ["rows"], 1, [{ "a": { "b": 1 } }]]]))
        );
        page.call("fork", json!([doc, id(2), then])).await;
        page.edit(&id(2), json!([["set", ["forked"], true]])).await;
        assert_eq!(page.call("merge", json!([doc, id(2)])).await, json!(1));
        page.call("restore", json!([doc, then])).await;
        assert_eq!(page.call("json", json!([doc])).await, json!({ "title": "x", "rows": [1] }));
        page.call("fork", json!([doc, id(3), null])).await;
        assert_eq!(page.call("heads", json!([id(3)])).await, page.call("heads", json!([doc])).await);
    });
}

#[test]
fn conflicts_show_the_winner_first() {
    run(async {
        let world = World::new();
        let mut page = world.page("a");
        let doc = page.create(1, json!({ "x": 0 })).await;
        page.open(&doc).await;
        page.call("fork", json!([doc, id(2), null])).await;
        page.edit(&doc, json!([["set", ["x"], 1]])).await;
        page.edit(&id(2), json!([["set", ["x"], 2]])).await;
        page.call("merge", json!([doc, id(2)])).await;
        let value = page.settle(&doc).await;
        let conflicts = page.call("conflicts", json!([doc, ["x"]])).await;
        assert_eq!(conflicts.as_array().unwrap().len(), 2);
        assert_eq!(conflicts[0]["value"], value["x"]);
        assert!(page.docs[&doc].patches.contains(&json!(["conflict", ["x"]])));
    });
}

#[test]
fn receipts_say_how_far_a_write_has_come() {
    run(async {
        let world = World::new();
        let page = world.page("a");
        let doc = page.create(1, json!({ "x": 0 })).await;
        let change = page.edit(&doc, json!([["set", ["x"], 1]])).await["change"].clone();
        assert_eq!(page.call("receipt", json!([doc, change])).await, json!("local"));
        assert_eq!(page.call("receipt", json!([doc, "00".repeat(32)])).await, json!(null));
        page.call("reached", json!([doc, change, "local", 1])).await;
        assert_eq!(page.fails("reached", json!([doc, change, "relayed", 1])).await, "timeout");
        assert_eq!(page.call("pending", json!([doc, null])).await, json!(2));
        assert_eq!(page.call("pending", json!([null, null])).await, json!(2));
        assert_eq!(page.call("pending", json!([null, "00".repeat(16)])).await, json!(2));
        let event = world.event(|event| event["e"] == "pending" && event["total"] == 2).await;
        assert!(event["docs"][&doc].is_number());
        assert_eq!(page.fails("synced", json!([1])).await, "timeout");
        let refused = page.try_call("signOut", json!([1])).await.unwrap_err();
        assert_eq!((refused.code, &refused.details.unwrap()["changes"]), ("offline_needed", &json!(2)));
        page.call("delete", json!([doc])).await;
        page.call("signOut", json!([1])).await;
        assert_eq!(page.fails("create", json!([id(2), null, null])).await, "signing_out");
    });
}

#[test]
fn rejected_writes_and_branches_are_asked_for() {
    run(async {
        let world = World::new();
        let page = world.page("a");
        let doc = page.create(1, json!({ "x": 0 })).await;
        let hash = "00".repeat(32);
        assert_eq!(page.call("rejected", json!([])).await, json!([]));
        assert_eq!(page.call("branches", json!([doc])).await, json!([]));
        assert_eq!(page.fails("retry", json!([doc, hash])).await, "gone");
        assert_eq!(page.fails("dropRejected", json!([doc, hash])).await, "gone");
        assert_eq!(page.fails("exportBranch", json!([doc, 1])).await, "gone");
        assert_eq!(page.fails("forgetBranch", json!([doc, 1])).await, "gone");
    });
}

#[test]
fn each_page_shows_values_of_its_own() {
    run(async {
        let world = World::new();
        let (first, second) = (world.page("aaaaaaaaaaaa"), world.page("bbbbbbbbbbbb"));
        let doc = first.create(1, json!({})).await;
        assert_eq!(second.call("presenceWatch", json!([doc])).await, json!([]));
        first.call("presenceSet", json!([doc, "cursor", { "at": 3 }, null])).await;
        second.call("presenceSet", json!([doc, "cursor", { "at": 4 }, 60_000])).await;
        let event =
            world.event(|event| event["e"] == "presence" && event["values"].as_array().unwrap().len() == 2).await;
        let own: Vec<_> = event["values"].as_array().unwrap().iter().filter(|value| value["own"] == true).collect();
        assert_eq!((own.len(), &own[0]["key"], &own[0]["value"]), (1, &json!("cursor"), &json!({ "at": 4 })));
        world.host.events.borrow_mut().clear();
        first.engine.detach("aaaaaaaaaaaa");
        world.event(|event| event["e"] == "presence" && event["values"].as_array().unwrap().len() == 1).await;
        second.call("presenceClear", json!([doc, "cursor"])).await;
        world.event(|event| event["e"] == "presence" && event["values"] == json!([])).await;
        second.call("presenceUnwatch", json!([doc])).await;
        assert_eq!(second.fails("presenceSet", json!([doc, "x".repeat(10_000), 1, null])).await, "bad_argument");
    });
}

#[test]
fn one_that_is_made_empty_is_not_waited_for() {
    run(async {
        let world = World::new();
        let page = world.page("a");
        let doc = page.create(1, json!({})).await;
        let opened = page.call("open", json!([doc, true])).await;
        assert_eq!(opened["value"], json!({}));
        assert_eq!(opened["heads"].as_array().unwrap().len(), 1);
        page.call("wait", json!([doc, 1])).await;
    });
}

#[test]
fn presence_begins_before_the_document_is_here() {
    run(async {
        let world = World::new();
        let page = world.page("a");
        assert_eq!(page.call("presenceWatch", json!([id(1)])).await, json!([]));
        page.call("presenceSet", json!([id(1), "cursor", 1, null])).await;
        world.event(|event| event["e"] == "presence" && event["values"].as_array().unwrap().len() == 1).await;
        page.call("deleteEverywhere", json!([id(1)])).await;
        assert_eq!(page.fails("presenceSet", json!([id(1), "cursor", 2, null])).await, "deleted");
    });
}

#[test]
fn the_connection_is_told_of() {
    run(async {
        let world = World::new();
        let page = world.page("a");
        assert_eq!(page.call("status", json!([])).await, json!({ "e": "status", "state": "none", "pending": 0 }));
        assert_eq!(page.fails("connect", json!(["nowhere", null, null])).await, "bad_argument");
        assert_eq!(page.fails("connect", json!(["ws://x", null, "smtp"])).await, "bad_argument");
        page.call("connect", json!(["ws://x", "token", "rejoin.v1"])).await;
        world.event(|event| event["state"] == "waiting" && event["reason"].is_string()).await;
        page.call("setToken", json!(["another"])).await;
        page.call("setOffline", json!([true])).await;
        world.event(|event| event["state"] == "offline").await;
        page.call("setOffline", json!([false])).await;
        page.call("disconnect", json!([])).await;
        assert_eq!(page.call("status", json!([])).await["state"], "none");
    });
}

#[test]
fn a_relay_that_wants_another_token_is_told_by_a_code() {
    run(async {
        let world = World::new();
        let page = world.page("a");
        page.call("connect", json!(["ws://door", "old", null])).await;
        let told = world.event(|event| event["state"] == "waiting").await;
        assert_eq!(told["error"]["code"], "unauthorized", "{told}");
        assert!(told["reason"].as_str().unwrap().contains("the token is expired"));
        page.call("connect", json!(["ws://x", "new", null])).await;
        let told = world.event(|event| event["reason"].as_str().is_some_and(|why| why.contains("nobody"))).await;
        assert_eq!(told.get("error"), None);
    });
}

#[test]
fn a_network_that_comes_back_is_tried_at_once_and_one_that_goes_changes_nothing() {
    run(async {
        let world = World::new();
        let page = world.page("a");
        page.call("connect", json!(["ws://x", null, null])).await;
        let count =
            |state: &str| world.host.events.borrow().iter().filter(|(_, event)| event["state"] == state).count();
        // Twelve waits that double each time take longer than a quarter of an hour.
        for round in 1..=12 {
            world.engine.online(false);
            world.engine.online(true);
            for _ in 0..60_000 {
                if count("waiting") > round {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                if count("waiting") == round {
                    world.engine.online(true);
                }
            }
            assert!(count("waiting") > round);
        }
        let World { engine, repo, .. } = world;
        // Closing waits for everybody who has the repo.
        drop(repo);
        engine.close().await;
        engine.online(true);
    });
}

#[test]
fn whole_documents_go_out_and_come_in() {
    run(async {
        let world = World::new();
        let page = world.page("a");
        let doc = page.create(1, json!({ "x": [1] })).await;
        let rejoin_wasm::Answer::Bytes(bytes) = page.ask("export", json!([doc]), None).await.unwrap() else {
            panic!("no bytes")
        };
        page.ask("import", json!([id(2)]), Some(bytes)).await.unwrap();
        assert_eq!(page.call("json", json!([id(2)])).await, json!({ "x": [1] }));
        let refused = page.ask("import", json!([id(3)]), Some(vec![1, 2, 3])).await.unwrap_err();
        assert_eq!(refused.code, "bad_argument");
        assert_eq!(page.call("quarantined", json!([doc])).await, json!([]));
        assert_eq!(page.call("stats", json!([])).await["documents"], json!(2));
        assert_eq!(page.call("verify", json!([])).await["found"], json!(0));
    });
}

#[test]
fn a_request_that_comes_again_is_not_done_again() {
    run(async {
        let world = World::new();
        let page = world.page("a");
        let doc = page.create(1, json!({ "n": { "$counter": 0 } })).await;
        let args = json!([doc, null, [["increment", ["n"], 1]]]).to_string();
        let call = || page.engine.call("a", 50, 0, "edit", &args, None);
        let (first, second) = futures_util::future::join(call(), call()).await;
        assert_eq!(first.unwrap(), second.unwrap());
        call().await.unwrap();
        assert_eq!(page.call("get", json!([doc, ["n"]])).await, json!({ "$counter": 1 }));
    });
}

#[test]
fn what_does_not_fit_is_refused_with_a_code() {
    run(async {
        let world = World::new();
        let page = world.page("a");
        let doc = page.create(1, json!({ "x": 0, "body": { "$text": "abc" }, "rows": [] })).await;
        let refused = [
            (json!(["set", [], 1]), "wrong_path"),
            (json!(["set", ["x", "y"], 1]), "wrong_path"),
            (json!(["set", ["x"], { "$date": "never" }]), "bad_value"),
            (json!(["increment", ["x"], 1]), "wrong_path"),
            (json!(["splice", ["body"], 2, 2, ""]), "bad_argument"),
            (json!(["remove", ["rows"], 0, 1]), "bad_argument"),
            (json!(["mark", ["body"], 2, 1, "bold", true, "after"]), "bad_argument"),
            (json!(["fly", ["x"]]), "unsupported"),
            (json!("set"), "bad_argument"),
        ];
        for (op, code) in refused {
            assert_eq!(page.fails("edit", json!([doc, null, [op]])).await, code, "{op}");
        }
        assert_eq!(page.fails("edit", json!(["nonsense", null, []])).await, "bad_argument");
        assert_eq!(page.fails("fly", json!([])).await, "unsupported");
        assert_eq!(page.engine.call("a", 90, 0, "list", "{}", None).await.unwrap_err().code, "bad_argument");
    });
}

#[test]
fn a_closed_engine_releases_its_store() {
    run(async {
        let World { engine, host, repo } = World::new();
        drop(repo);
        engine.attach("a");
        let create = json!([id(1), null, { "body": { "$text": "x" } }]).to_string();
        engine.call("a", 1, 0, "create", &create, None).await.unwrap();
        engine.call("a", 2, 0, "open", &json!([id(1), false]).to_string(), None).await.unwrap();
        engine.call("a", 3, 0, "connect", &json!(["ws://x", null, null]).to_string(), None).await.unwrap();
        engine.call("a", 4, 0, "presenceWatch", &json!([id(1)]).to_string(), None).await.unwrap();
        let engine_too = engine.clone();
        let waiting =
            tokio::task::spawn_local(async move { engine_too.call("a", 5, 0, "synced", "[60000]", None).await });
        tokio::task::yield_now().await;
        engine.close().await;
        assert_eq!(waiting.await.unwrap().unwrap_err().code, "closed");
        assert_eq!(engine.call("a", 6, 0, "list", "[]", None).await.unwrap_err().code, "closed");
        drop(host);
    });
}

#[test]
fn indices_are_meant_in_what_the_page_shows_its_own_edits_included() {
    run(async {
        let world = World::new();
        let page = world.page("a");
        let doc = page.create(1, json!({ "list": [1], "body": { "$text": "ab" } })).await;
        let heads = page.call("heads", json!([doc])).await;
        let ops = [
            json!(["insert", ["list"], 1, [2]]),
            json!(["splice", ["body"], 2, 0, "c"]),
            json!(["insert", ["list"], 2, [3]]),
            json!(["splice", ["body"], 3, 0, "d"]),
        ];
        let first = page.id() + 1;
        // None is answered before the last is asked for.
        let own = [json!([]), json!([first]), json!([[first, first + 1]]), json!([first, [first + 1, first + 2]])];
        let all = ops.iter().zip(&own).map(|(op, own)| {
            let (page, args) = (&page, json!([doc, { "heads": heads, "own": own }, [op]]));
            async move { page.call("edit", args).await }
        });
        futures_util::future::join_all(all).await;
        assert_eq!(page.call("json", json!([doc])).await, json!({ "list": [1, 2, 3], "body": "abcd" }));
        // Of an engine before this one: they are in what is stored.
        let base = json!({ "heads": heads, "own": [[first, u64::MAX]] });
        page.call("edit", json!([doc, base, [["insert", ["list"], 3, [4]]]])).await;
        assert_eq!(page.call("get", json!([doc, ["list"]])).await, json!([1, 2, 3, 4]));
        for own in [json!([[1]]), json!([[1, 2, 3]]), json!(["1"]), json!([[1, -1]])] {
            let args = json!([doc, { "heads": heads, "own": own }, [["delete", ["list"]]]]);
            assert_eq!(page.fails("edit", args).await, "bad_argument");
        }
    });
}

#[test]
fn blocks_hold_lists_as_those_of_automerges_editors_do() {
    run(async {
        let world = World::new();
        let page = world.page("a");
        let doc = page.create(1, json!({ "body": { "$text": "text" } })).await;
        let block = json!({ "type": "heading", "parents": ["div"], "attrs": { "level": 1 } });
        page.edit(&doc, json!([["split", ["body"], 0, block]])).await;
        let spans = page.call("spans", json!([doc, ["body"]])).await;
        assert_eq!(spans, json!([{ "block": block }, { "text": "text", "marks": {} }]));
        let block = json!({ "type": "item", "parents": [], "attrs": {} });
        page.edit(&doc, json!([["block", ["body"], 0, block]])).await;
        assert_eq!(page.call("spans", json!([doc, ["body"]])).await[0], json!({ "block": block }));
    });
}
