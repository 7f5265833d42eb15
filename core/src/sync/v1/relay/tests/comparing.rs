//! Comparing by heads: what each side lacks, in any number of messages, and what is refused.

use super::*;
use crate::ChangeHash;
use crate::codec::v1::{Content, DocumentHeads};
use crate::ledger::snapshot;

fn compare(documents: Vec<(u8, Vec<ChangeHash>)>, is_last: bool) -> ClientMessage {
    let documents = documents.into_iter().map(|(number, heads)| DocumentHeads { document: document(number), heads });
    ClientMessage::Compare { space: TEAM, documents: documents.collect(), is_last }
}

fn comparing() -> Vec<Subscription> {
    vec![want(TEAM, Mode::Everything, Start::Compare)]
}

const ELSE: ChangeHash = ChangeHash([0xcc; 32]);

#[test]
fn both_sides_learn_what_they_lack() {
    let mut half = Vec::new();
    let (mut rig, answers) = Rig::subscribed(comparing(), |tx| {
        for number in [1, 2, 3, 5] {
            write(tx, &TEAM, document(number), b"bob", 2);
        }
        half = ledger::heads(tx, &document(3)).unwrap();
        write(tx, &TEAM, document(3), b"bob", 2);
        tombstone::bury(tx, &document(5), &tombstone()).unwrap();
        write(tx, &OTHER, document(6), b"bob", 1);
        write(tx, &TEAM, document(7), b"bob", 3);
    });
    assert_eq!(told(&answers), ["subscribed 14..14 compared"]);
    // The same, one that has something else, one that lacks two, one that was deleted, one of another space.
    let (same, both) = (rig.heads(1), {
        let mut heads = rig.heads(2);
        heads.push(ELSE);
        heads.sort();
        heads
    });
    assert_eq!(told(&rig.say(compare(vec![(1, same), (2, both), (3, half)], false))), ["fill 2", "lacking 1"]);
    rig.others(TEAM, 1, 1);
    let answers = rig.say(compare(vec![(4, vec![ELSE]), (5, vec![ELSE]), (6, vec![ELSE])], true));
    assert_eq!(told(&answers), ["fill 4", "lacking 2 last", "caught-up 14", "entries 15..15 with 1"]);
    let RelayMessage::Fill { writes, .. } = &answers[0] else { panic!() };
    assert_eq!((writes[0].document, &writes[0].content), (document(5), &Content::Deleted(tombstone())));
    assert!(writes[1..].iter().all(|write| write.document == document(7)));
    let RelayMessage::Lacking { documents, .. } = &answers[1] else { panic!() };
    assert!(documents.iter().all(|lacking| lacking.heads.is_empty()));
    assert_eq!(told(&rig.say(compare(vec![], true))), ["error unexpected fatal"]);
}

#[test]
fn client_that_has_nothing_gets_everything_in_frames() {
    let (mut rig, _) = Rig::subscribed(comparing(), |tx| {
        (1..=40).for_each(|number| drop(write(tx, &TEAM, document(number), b"bob", 300)));
    });
    let answers = rig.say(compare(vec![], true));
    let (mut writes, mut fills) = (0, 0);
    for message in &answers {
        if let RelayMessage::Fill { writes: filled, .. } = message {
            (writes, fills) = (writes + filled.len(), fills + 1);
            assert!(message.encode().len() <= BATCH_BYTES);
        }
    }
    assert!(fills > 2, "{fills}");
    assert_eq!(writes, 12_000);
    assert_eq!(told(&answers)[fills..], ["lacking 0 last", "caught-up 12000"]);
}

#[test]
fn changes_come_behind_those_they_stand_on_and_each_once() {
    let mut first = Vec::new();
    let mut rich = hello(comparing());
    rich.credit = CREDIT_BYTES_MAX;
    let (mut rig, _) = Rig::greeted(rich, |tx| {
        write(tx, &TEAM, document(1), b"bob", 10);
        first = ledger::heads(tx, &document(1)).unwrap();
        // More than are looked up at a time.
        write(tx, &TEAM, document(1), b"eve", FILL_POSITIONS_MAX + 10);
    });
    let answers = rig.say(compare(vec![(1, first.clone())], true));
    let mut have = first;
    for message in &answers {
        let RelayMessage::Fill { writes, .. } = message else { continue };
        for write in writes {
            let Content::Change(bytes) = &write.content else { panic!() };
            let change = crate::gate::CheckedChange::parse(bytes).unwrap();
            assert_eq!(change.deps(), have);
            have = vec![change.hash()];
        }
    }
    assert_eq!(have, rig.heads(1));
}

#[test]
fn snapshot_goes_to_who_takes_it_and_has_nothing_of_the_document() {
    let mut taking = hello(comparing());
    taking.takes_snapshots = true;
    let (mut rig, _) = Rig::greeted(taking, |tx| {
        for number in [1, 2] {
            write(tx, &TEAM, document(number), b"bob", 3);
            let state = ledger::state(tx, &document(number)).unwrap().unwrap();
            assert!(snapshot::put(tx, &document(number), 3, &state.head_hashes(), b"chunk").unwrap());
            write(tx, &TEAM, document(number), b"bob", 1);
        }
    });
    let answers = rig.say(compare(vec![(1, vec![])], true));
    assert_eq!(
        told(&answers),
        ["snapshot 5 at 0", "fill 1", "snapshot 5 at 0", "fill 1", "lacking 0 last", "caught-up 8"]
    );
}

#[test]
fn documents_that_do_not_rise_end_the_connection() {
    for wrong in [vec![(2, vec![]), (1, vec![])], vec![(2, vec![]), (2, vec![])]] {
        let (mut rig, _) = Rig::subscribed(comparing(), |_| ());
        assert_eq!(told(&rig.say(compare(wrong, true))), ["error unexpected fatal"]);
    }
    let (mut rig, _) = Rig::subscribed(comparing(), |_| ());
    assert_eq!(rig.say(compare(vec![(2, vec![])], false)), []);
    assert_eq!(told(&rig.say(compare(vec![(2, vec![])], true))), ["error unexpected fatal"]);
}

#[test]
fn compare_that_nobody_asked_for_ends_the_connection() {
    let (mut rig, _) = Rig::subscribed(vec![everything(TEAM)], |_| ());
    assert_eq!(told(&rig.say(compare(vec![], true))), ["error unexpected fatal"]);
    let (mut rig, _) = Rig::subscribed(vec![], |_| ());
    assert_eq!(told(&rig.say(compare(vec![], true))), ["error not-subscribed"]);
}

#[test]
fn compare_waits_for_credit_and_gives_back_what_it_cost() {
    let mut poor = hello(comparing());
    poor.credit = 0;
    let (mut rig, _) = Rig::greeted(poor, |tx| drop(write(tx, &TEAM, document(1), b"bob", 3)));
    assert_eq!(told(&rig.say(compare(vec![], true))), ["hint 3"]);
    assert_eq!(told(&rig.say(ClientMessage::Credit { bytes: 1 })), ["fill 3", "hint 3"]);
    assert_eq!(told(&rig.say(ClientMessage::Credit { bytes: 1_000 })), ["lacking 0 last", "caught-up 3"]);
    let before = rig.session.giving;
    rig.session.unsubscribe(&[TEAM]);
    assert_eq!(rig.session.giving, before);
    let mut all = rig.session.giving;
    all.work_off(CREDIT_BYTES);
    assert!(all.give_back().unwrap() > CREDIT_BYTES, "the compare was counted");
}
