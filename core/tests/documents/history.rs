//! Looking back, differences, forks and merges.

use automerge::transaction::Transactable;
use automerge::{ActorId, Author, Automerge, ROOT};
use rejoin::document::{DocumentError, Expand, PatchAction};
use rejoin::repo::ChangeOptions;
use rejoin::{ChangeHash, Edit, FieldPath, Repo, RepoError, Value};
use serde_json::json;

use super::{merge, pair, value};

#[tokio::test]
async fn messages_times_and_authors_stand_in_the_history() {
    let repo = Repo::in_memory().unwrap();
    let doc = repo.create().await.unwrap();
    let options =
        ChangeOptions { message: Some("first".to_owned()), time_seconds: Some(5), ..ChangeOptions::default() };
    doc.edit_with(options, vec![Edit::set("a", 1)]).await.unwrap();
    doc.change_with(ChangeOptions::message("second"), |tx| Ok(tx.put(ROOT, "b", 2)?)).await.unwrap();
    doc.set("c", 3).await.unwrap();
    let history = doc.history().await.unwrap();
    let messages: Vec<_> = history.iter().map(|entry| entry.message.as_deref()).collect();
    assert_eq!(messages, [Some("first"), Some("second"), None]);
    assert_eq!(history[0].time_seconds, 5);
    assert!(history[1].time_seconds > 1_600_000_000);
    assert_eq!(history[1].deps, [history[0].hash]);
    assert!(history.iter().all(|entry| entry.author.is_none()));

    let mut signed = Automerge::new().with_actor(ActorId::from(&[9; 16]));
    signed.set_author(Some(Author::from(&b"ada"[..]).into_owned()));
    let mut tx = signed.transaction();
    tx.put(ROOT, "by", "ada").unwrap();
    tx.commit();
    let imported = repo.import(signed.save()).await.unwrap();
    assert_eq!(imported.history().await.unwrap()[0].author.as_deref(), Some(&b"ada"[..]));
}

#[tokio::test]
async fn messages_too_long_for_a_change_are_refused() {
    let doc = Repo::in_memory().unwrap().create().await.unwrap();
    let long = ChangeOptions::message("x".repeat(rejoin::limits::CHANGE_MESSAGE_BYTES_MAX + 1));
    assert!(doc.edit_with(long.clone(), vec![Edit::set("a", 1)]).await.is_err());
    assert!(doc.change_with(long, |tx| Ok(tx.put(ROOT, "a", 1)?)).await.is_err());
    assert_eq!(doc.to_json().await.unwrap(), json!({}));
    doc.splice_text("t", 0, 0, "still works").await.unwrap();
    assert_eq!(doc.to_json().await.unwrap(), json!({ "t": "still works" }));
}

#[tokio::test]
async fn every_state_can_be_read_again() {
    let (here, there) = pair(async |doc| {
        doc.set("title", "draft").await.unwrap();
        doc.splice_text("body", 0, 0, "a😀b").await.unwrap();
        doc.list_push("items", value(json!({ "n": 1 }))).await.unwrap();
    })
    .await;
    let draft = here.heads().await.unwrap();
    let json_then = here.to_json().await.unwrap();
    here.set("title", "here").await.unwrap();
    there.set("title", "there").await.unwrap();
    merge(&here, &there).await;
    let conflict = here.heads().await.unwrap();
    here.set("title", "solved").await.unwrap();
    here.splice_text("body", 0, 3, "").await.unwrap();
    here.mark("body", 0..1, "bold", true, Expand::After).await.unwrap();
    here.set(("items", 0, "n"), 2).await.unwrap();
    here.list_push("items", 2).await.unwrap();

    let then = here.at(&draft).await.unwrap();
    assert_eq!(then.heads(), draft);
    assert_eq!(then.to_json().await.unwrap(), json_then);
    assert_eq!(then.get("title").await.unwrap().unwrap().as_str(), Some("draft"));
    assert_eq!(then.text("body").await.unwrap().unwrap(), "a😀b");
    assert_eq!(then.marks("body").await.unwrap().unwrap(), []);
    assert_eq!(then.spans("body").await.unwrap().unwrap().len(), 1);
    assert_eq!(then.list_len("items").await.unwrap(), Some(1));
    assert_eq!(then.get(("items", 0, "n")).await.unwrap().unwrap().as_i64(), Some(1));
    assert_eq!(then.json_of(("items", 0)).await.unwrap(), Some(json!({ "n": 1 })));
    assert_eq!(then.json_of("title").await.unwrap(), Some(json!("draft")));
    assert_eq!(then.keys(FieldPath::root()).await.unwrap(), ["body", "items", "title"]);
    let then = here.at(&conflict).await.unwrap();
    assert_eq!(then.get_all("title").await.unwrap().len(), 2);
    assert_eq!(then.get_all("title").await.unwrap(), there.get_all("title").await.unwrap());
    assert_eq!(here.get_all("title").await.unwrap().len(), 1);
    assert_eq!(here.at(&[]).await.unwrap().to_json().await.unwrap(), json!({}));
    let now = here.at(&here.heads().await.unwrap()).await.unwrap();
    assert_eq!(now.to_json().await.unwrap(), here.to_json().await.unwrap());
}

#[tokio::test]
async fn unknown_heads_are_named() {
    let doc = Repo::in_memory().unwrap().create().await.unwrap();
    doc.set("a", 1).await.unwrap();
    let unknown = ChangeHash([7; 32]);
    let heads = [doc.heads().await.unwrap()[0], unknown];
    let errors = [
        doc.at(&heads).await.map(|_| ()),
        doc.diff(&heads, &[]).await.map(|_| ()),
        doc.diff(&[], &heads).await.map(|_| ()),
        doc.fork_at(&heads).await.map(|_| ()),
        doc.restore(&heads).await.map(|_| ()),
    ];
    for error in errors {
        let Err(RepoError::Document(error)) = &error else { unreachable!("{error:?}") };
        assert!(matches!(&**error, DocumentError::UnknownHeads { missing } if *missing == [unknown]), "{error}");
    }
}

#[tokio::test]
async fn differences_name_paths_and_go_both_ways() {
    let doc = Repo::in_memory().unwrap().create().await.unwrap();
    doc.set("n", Value::counter(1)).await.unwrap();
    doc.set("gone", true).await.unwrap();
    doc.list_push("cards", value(json!({ "title": "a" }))).await.unwrap();
    doc.splice_text("body", 0, 0, "ab😀cd").await.unwrap();
    let before = doc.heads().await.unwrap();
    doc.increment("n", 2).await.unwrap();
    doc.delete("gone").await.unwrap();
    doc.set(("cards", 0, "title"), "b").await.unwrap();
    doc.list_push("cards", 7).await.unwrap();
    doc.splice_text("body", 2, 2, "x").await.unwrap();
    doc.mark("body", 0..1, "bold", true, Expand::After).await.unwrap();
    let after = doc.heads().await.unwrap();

    let patches = doc.diff(&before, &after).await.unwrap();
    let found = |path: FieldPath| -> Vec<&PatchAction> {
        patches.iter().filter(|patch| patch.path == path).map(|patch| &patch.action).collect()
    };
    assert!(matches!(found("gone".into())[..], [PatchAction::DeleteField]), "{patches:?}");
    assert!(matches!(found("n".into())[..], [PatchAction::Increment { by: 2 }]), "{patches:?}");
    let title = found(("cards", 0, "title").into());
    assert!(matches!(title[..], [PatchAction::Put { value, conflict: false }] if value.as_str() == Some("b")));
    assert!(matches!(found(("cards", 1).into())[..], [PatchAction::Insert { values }] if values.len() == 1));
    let text = found(("body", 2).into());
    assert!(text.iter().any(|action| matches!(action, PatchAction::InsertText { text, .. } if text == "x")));
    assert!(patches.iter().any(|patch| matches!(patch.action, PatchAction::Delete { length: 2 })), "{patches:?}");
    assert!(matches!(found("body".into())[..], [PatchAction::Mark { marks }] if marks[0].range == (0..1)));

    assert!(doc.diff(&before, &before).await.unwrap().is_empty());
    let back = doc.diff(&after, &before).await.unwrap();
    assert!(back.iter().any(|patch| patch.path == "gone".into() && matches!(patch.action, PatchAction::Put { .. })));
}

#[tokio::test]
async fn forks_share_history_and_merge_back() {
    let repo = Repo::in_memory().unwrap();
    let main = repo.create().await.unwrap();
    main.set("a", 1).await.unwrap();
    main.splice_text("body", 0, 0, "one").await.unwrap();
    let early = main.heads().await.unwrap();
    main.splice_text("body", 3, 0, " two").await.unwrap();

    let branch = main.fork().await.unwrap();
    assert_ne!(branch.id(), main.id());
    assert_eq!(branch.heads().await.unwrap(), main.heads().await.unwrap());
    let old = main.fork_at(&early).await.unwrap();
    assert_eq!(old.to_json().await.unwrap(), json!({ "a": 1, "body": "one" }));
    assert_eq!(old.heads().await.unwrap(), early);
    assert_eq!(main.fork_at(&[]).await.unwrap().to_json().await.unwrap(), json!({}));

    branch.set("a", 2).await.unwrap();
    branch.splice_text("body", 0, 0, "> ").await.unwrap();
    main.splice_text("body", 7, 0, "!").await.unwrap();
    assert_eq!(main.merge_from(&branch).await.unwrap(), 2);
    assert_eq!(main.merge_from(&branch).await.unwrap(), 0);
    assert_eq!(main.to_json().await.unwrap(), json!({ "a": 2, "body": "> one two!" }));
    assert_eq!(main.get("a").await.unwrap().unwrap().as_i64(), Some(2), "the registers know it too");
    assert_eq!(old.merge_from(&main).await.unwrap(), 4);
    assert_eq!(old.to_json().await.unwrap(), main.to_json().await.unwrap());

    repo.delete(branch.id()).await.unwrap();
    assert!(matches!(branch.fork().await, Err(RepoError::NotFound)));
    assert!(matches!(branch.merge_from(&main).await, Err(RepoError::NotFound)));
    assert!(matches!(main.merge_from(&branch).await, Err(RepoError::NotFound)));
}

#[tokio::test]
async fn restored_states_are_new_changes() {
    let doc = Repo::in_memory().unwrap().create().await.unwrap();
    doc.set("title", "draft").await.unwrap();
    doc.set("deep", value(json!({ "a": { "b": 1 }, "c": 2 }))).await.unwrap();
    doc.set("votes", Value::counter(3)).await.unwrap();
    doc.splice_text("body", 0, 0, "a😀b").await.unwrap();
    doc.splice_text("rich", 0, 0, "bold text").await.unwrap();
    doc.mark("rich", 0..4, "bold", true, Expand::After).await.unwrap();
    doc.list_extend("items", vec![1.into(), 2.into(), value(json!({ "n": 1 })).into(), 4.into()]).await.unwrap();
    doc.splice_text("gone", 0, 0, "comes back").await.unwrap();
    let then = doc.heads().await.unwrap();
    let (json_then, spans_then) = (doc.to_json().await.unwrap(), doc.spans("rich").await.unwrap());

    doc.set("title", "final").await.unwrap();
    doc.set("new", 1).await.unwrap();
    doc.delete(["deep", "a"]).await.unwrap();
    doc.increment("votes", 4).await.unwrap();
    doc.update_text("body", "b😃").await.unwrap();
    doc.splice_text("rich", 4, 0, "er").await.unwrap();
    doc.unmark("rich", 0..6, "bold", Expand::After).await.unwrap();
    doc.list_delete("items", 1).await.unwrap();
    doc.set(("items", 1, "n"), 9).await.unwrap();
    doc.list_insert("items", 0, 0).await.unwrap();
    doc.delete("gone").await.unwrap();
    let count = doc.history().await.unwrap().len();

    doc.restore(&then).await.unwrap();
    assert_eq!(doc.to_json().await.unwrap(), json_then);
    assert_eq!(doc.spans("rich").await.unwrap(), spans_then);
    assert_eq!(doc.get("votes").await.unwrap().unwrap().as_i64(), Some(3));
    assert_eq!(doc.history().await.unwrap().len(), count + 1);
    doc.restore(&then).await.unwrap();
    assert_eq!(doc.history().await.unwrap().len(), count + 1, "an equal state is no change");
    doc.increment("votes", 1).await.unwrap();
    assert_eq!(doc.get("votes").await.unwrap().unwrap().as_i64(), Some(4), "it is still a counter");
    doc.restore(&[]).await.unwrap();
    assert_eq!(doc.to_json().await.unwrap(), json!({}));
}

#[tokio::test]
async fn history_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let repo = Repo::open(&path).await.unwrap();
    let doc = repo.create().await.unwrap();
    let id = doc.id();
    doc.edit_with(ChangeOptions::message("draft"), vec![Edit::set("a", 1)]).await.unwrap();
    let draft = doc.heads().await.unwrap();
    doc.set("a", 2).await.unwrap();
    drop(doc);
    repo.close().await;

    let repo = Repo::open(&path).await.unwrap();
    let doc = repo.find(id).await.unwrap().unwrap();
    assert_eq!(doc.at(&draft).await.unwrap().to_json().await.unwrap(), json!({ "a": 1 }));
    doc.restore(&draft).await.unwrap();
    assert_eq!(doc.to_json().await.unwrap(), json!({ "a": 1 }));
    assert_eq!(doc.history().await.unwrap()[0].message.as_deref(), Some("draft"));
}
