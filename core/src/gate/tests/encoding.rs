//! The encoder writes what Automerge writes, byte for byte.

use std::num::NonZeroU64;

use automerge::ExpandedChange;
use proptest::prelude::*;

use super::*;
use crate::id::OpId;

fn draft(seed: u64) -> ChangeDraft<'static> {
    let mut dice = Dice::new(seed);
    let actors: Vec<_> = (0..4).map(|_| actor(&mut dice)).collect();
    let start_op = 200 + dice.roll(1 << 20);
    let pick = |dice: &mut Dice| OpId { counter: 1 + dice.roll(199), actor: actors[dice.index(4)].clone() };
    let count = [1, 1, 2, 5, 40][dice.index(5)];
    let ops = (0..count).map(|_| {
        let mut preds: Vec<_> = (0..dice.roll(4)).map(|_| pick(&mut dice)).collect();
        preds.sort_unstable();
        preds.dedup();
        let action = match dice.roll(8) {
            0 => Action::MakeMap,
            1 => Action::MakeText,
            2 if !preds.is_empty() => Action::Delete,
            3 if !preds.is_empty() => Action::Increment,
            4 => Action::MakeList,
            _ => Action::Put,
        };
        let value = if action == Action::Increment { ScalarValue::Int(-3) } else { any_scalar(&mut dice) };
        preds.reverse();
        DraftOp {
            object: if dice.roll(2) == 0 { DraftObject::Root } else { DraftObject::Op(pick(&mut dice)) },
            key: ["", "title", "é", "k"][dice.index(4)].to_owned(),
            action,
            value,
            preds,
        }
    });
    let ops = ops.collect();
    let deps = (0..dice.roll(4)).map(|_| automerge::ChangeHash([dice.roll(256) as u8; 32]));
    let mut deps: Vec<_> = deps.collect();
    deps.sort_unstable();
    deps.dedup();
    deps.reverse();
    ChangeDraft {
        actor: actors[0].clone(),
        seq: 1 + dice.roll(1000),
        start_op,
        timestamp: dice.roll(1 << 40).cast_signed() - (1 << 20),
        message: [None, Some("because é")][dice.index(2)],
        deps,
        ops,
    }
}

/// Lets Automerge encode the same change.
fn by_automerge(draft: &ChangeDraft<'_>) -> Change {
    let id = |id: &OpId| LegacyOpId::new(id.counter, &id.actor);
    let operations = draft.ops.iter().map(|op| LegacyOp {
        action: match op.action {
            Action::MakeMap => OpType::Make(ObjType::Map),
            Action::MakeText => OpType::Make(ObjType::Text),
            Action::MakeList => OpType::Make(ObjType::List),
            Action::Delete => OpType::Delete,
            Action::Increment => OpType::Increment(op.value.as_i64().unwrap()),
            _ => OpType::Put(op.value.clone()),
        },
        obj: match &op.object {
            DraftObject::Root => ObjectId::Root,
            DraftObject::Op(op) => ObjectId::Id(id(op)),
        },
        key: Key::Map(op.key.as_str().into()),
        pred: op.preds.iter().map(id).collect(),
        insert: false,
    });
    Change::from(ExpandedChange {
        operations: operations.collect(),
        actor_id: draft.actor.clone(),
        hash: None,
        seq: draft.seq,
        start_op: NonZeroU64::new(draft.start_op).unwrap(),
        time: draft.timestamp,
        message: draft.message.map(str::to_owned),
        deps: draft.deps.clone(),
        extra_bytes: vec![],
        author: None,
    })
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn encoder_writes_the_bytes_that_automerge_writes(seed: u64) {
        let draft = draft(seed);
        let ours = encode(&draft).unwrap();
        let theirs = by_automerge(&draft);
        prop_assert_eq!(&ours.bytes()[..], theirs.raw_bytes());
        prop_assert_eq!(ours.hash(), theirs.hash());
        prop_assert_eq!(CheckedChange::parse(ours.bytes()).unwrap(), ours);
    }
}

#[test]
fn encoder_writes_the_bytes_of_a_transaction() {
    let me = ActorId::from(&[9u8; 16][..]);
    let mut doc = AutoCommit::new().with_actor(me.clone());
    doc.put(ROOT, "a", 1).unwrap();
    doc.commit();
    let first = doc.get_last_local_change().unwrap().clone();
    doc.put(ROOT, "a", "two").unwrap();
    doc.put(ROOT, "n", ScalarValue::counter(5)).unwrap();
    doc.delete(ROOT, "a").unwrap();
    doc.commit_with(CommitOptions::default().with_time(77).with_message("m"));
    let expected = doc.get_last_local_change().unwrap().clone();
    let id = |counter| OpId { counter, actor: me.clone() };
    let op = |key: &str, action, value, preds| DraftOp {
        object: DraftObject::Root,
        key: key.to_owned(),
        action,
        value,
        preds,
    };
    let ours = encode(&ChangeDraft {
        actor: me.clone(),
        seq: 2,
        start_op: 2,
        timestamp: 77,
        message: Some("m"),
        deps: vec![first.hash()],
        ops: vec![
            op("a", Action::Put, "two".into(), vec![id(1)]),
            op("n", Action::Put, ScalarValue::counter(5), vec![]),
            op("a", Action::Delete, ScalarValue::Null, vec![id(2)]),
        ],
    });
    assert_eq!(&ours.unwrap().bytes()[..], expected.raw_bytes());
}

#[test]
fn encoder_refuses_what_the_gate_would_refuse() {
    let verdict = |change: fn(&mut ChangeDraft<'_>)| {
        let mut draft = field_draft(&[1; 16], 1, 1, vec![]);
        change(&mut draft);
        encode(&draft).map_or_else(|error| error.rule().code(), |_| "ok")
    };
    assert_eq!(verdict(|_| {}), "ok");
    assert_eq!(verdict(|draft| draft.seq = 0), "seq-zero");
    assert_eq!(verdict(|draft| draft.start_op = 0), "start-op");
    assert_eq!(verdict(|draft| draft.ops[0].action = Action::Delete), "operation");
    assert_eq!(verdict(|draft| draft.ops[0].action = Action::MarkEnd), "operation");
    assert_eq!(verdict(|draft| draft.actor = ActorId::from(&[][..])), "actor-length");
    assert_eq!(verdict(|draft| draft.ops[0].value = ScalarValue::Unknown { type_code: 3, bytes: vec![1] }), "value");
    assert_eq!(
        verdict(|draft| draft.ops[0].preds = vec![OpId { counter: 1, actor: draft.actor.clone() }]),
        "reference"
    );
}
