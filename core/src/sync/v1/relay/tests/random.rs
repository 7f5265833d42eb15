//! A reader with random credit among random writers ends with exactly the log; and nothing that a client may send does harm.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::*;
use crate::codec::v1::{Content, DocumentHeads, EntriesBuilder, Presence, Write};
use crate::gate::tests::Dice;
use crate::ledger::log::What;

/// The last commits, as a relay keeps them.
struct Last<'s>(&'s MemoryStore);

impl LiveFrames for Last<'_> {
    fn frame(&self, space: &SpaceId, first: u64, until: u64) -> Option<LiveFrame> {
        let tx = self.0.read().unwrap();
        if first + 5 <= log::end(tx.as_ref(), space).unwrap() {
            return None;
        }
        let mut entries = EntriesBuilder::new(space, first);
        log::read(tx.as_ref(), space, first - 1, u64::MAX, &mut |entry| {
            if entry.position > until {
                return ControlFlow::Break(());
            }
            entries.skip(entry.position - entries.next_position());
            let taken = match entry.what {
                What::Change { bytes, .. } => entries.change(&entry.document, bytes),
                _ => entries.deleted(&entry.document, &tombstone()),
            };
            assert!(taken);
            ControlFlow::Continue(())
        })
        .unwrap();
        let last = entries.next_position().checked_sub(1).filter(|last| *last >= first)?;
        Some(LiveFrame { last, bytes: entries.finish() })
    }
}

/// What the reader knows of each position: a write, or that there is nothing.
#[derive(Default)]
struct Reader {
    next: BTreeMap<SpaceId, u64>,
    told: BTreeMap<(SpaceId, u64), Option<Content>>,
    pushed: BTreeMap<u64, (SpaceId, Vec<Content>)>,
    caught_up: usize,
}

impl Reader {
    fn read(&mut self, messages: Vec<RelayMessage>) {
        for message in messages {
            match message {
                RelayMessage::Entries { space, first, entries } => self.entries(space, first, entries),
                RelayMessage::Ack { batch, results } => {
                    let (space, contents) = self.pushed.remove(&batch).unwrap();
                    let mut contents = contents.into_iter();
                    for run in results {
                        for at in 0..run.count {
                            let content = contents.next().unwrap();
                            if let Outcome::Stored { first } = run.outcome {
                                assert!(self.told.insert((space, first + at), Some(content)).is_none());
                            }
                        }
                    }
                }
                RelayMessage::CaughtUp { .. } => self.caught_up += 1,
                RelayMessage::Error(error) => panic!("{error:?}"),
                _ => {}
            }
        }
    }

    fn entries(&mut self, space: SpaceId, first: u64, entries: Vec<Entry>) {
        let next = self.next.entry(space).or_insert(1);
        assert!(first >= *next, "{first} after {next}");
        for left_out in *next..first {
            assert!(self.told.contains_key(&(space, left_out)), "{left_out} was never told");
        }
        let mut position = first;
        for entry in entries {
            let positions = entry.positions();
            match entry {
                Entry::Write(write) => {
                    let before = self.told.insert((space, position), Some(write.content));
                    assert!(before.is_none(), "{position} was told twice");
                }
                Entry::Skipped { .. } => (position..position + positions).for_each(|position| {
                    self.told.entry((space, position)).or_insert(None);
                }),
            }
            position += positions;
        }
        *next = position;
    }

    /// Asserts that what is in the log now was told, at its place.
    fn assert_has_log(&self, store: &MemoryStore, context: &str) {
        let tx = store.read().unwrap();
        for space in [TEAM, OTHER] {
            for position in 1..=log::end(tx.as_ref(), &space).unwrap() {
                assert!(self.told.contains_key(&(space, position)), "{context}: {position} was not told");
            }
            log::read(tx.as_ref(), &space, 0, u64::MAX, &mut |entry| {
                let told = self.told[&(space, entry.position)].as_ref();
                match entry.what {
                    What::Change { bytes, .. } => {
                        assert!(matches!(told, Some(Content::Change(told)) if told == bytes), "{context}")
                    }
                    _ => assert!(matches!(told, Some(Content::Deleted(_))), "{context}"),
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        }
    }
}

#[test]
fn reader_with_random_credit_ends_with_exactly_the_log() {
    for seed in 1..=60 {
        let mut dice = Dice::new(seed);
        let mut first = hello(vec![everything(TEAM), everything(OTHER)]);
        first.credit = dice.roll(2_000);
        let (mut rig, answers) = Rig::greeted(first, |tx| drop(write(tx, &TEAM, document(1), b"bob", 20)));
        let mut reader = Reader::default();
        reader.read(answers);
        let (mut batch, mut deps, mut seq) = (0, Vec::new(), 0);
        for _ in 0..120 {
            let space = [TEAM, OTHER][dice.roll(2) as usize];
            let number = if space == TEAM { 1 } else { 100 } + dice.roll(8) as u8;
            let is_buried = tombstone::is_buried(&*rig.store.read().unwrap(), &document(number)).unwrap();
            match dice.roll(10) {
                0 => rig.bury(space, number),
                1..=4 if !is_buried => drop(rig.others(space, number, 1 + dice.roll(9) as usize)),
                5..=7 => {
                    batch += 1;
                    let mut writes = Vec::new();
                    for _ in 0..=dice.roll(4) {
                        seq += 1;
                        let change = encode(&field_draft(b"alice", seq, seq, std::mem::take(&mut deps))).unwrap();
                        deps = vec![change.hash()];
                        writes.push(Write { document: document(50), content: Content::Change(change.bytes().clone()) });
                    }
                    let contents = writes.iter().map(|write| write.content.clone()).collect();
                    reader.pushed.insert(batch, (TEAM, contents));
                    rig.hand_in(&ClientMessage::Push { batch, space: TEAM, writes }.encode());
                }
                _ => rig.hand_in(&ClientMessage::Credit { bytes: dice.roll(3_000) }.encode()),
            }
            let got = if dice.roll(2) == 0 { rig.hear() } else { hear_live(&mut rig) };
            reader.read(got);
        }
        reader.read(rig.say(ClientMessage::Credit { bytes: CREDIT_BYTES }));
        reader.assert_has_log(&rig.store, &format!("seed {seed}"));
        assert_eq!(reader.caught_up, 2, "seed {seed}");
        assert!(reader.pushed.is_empty());
    }
}

fn hear_live(rig: &mut Rig) -> Vec<RelayMessage> {
    // What waits is done first: the frames are made of the store as it is then.
    let mut got = Vec::new();
    rig.serve(&mut got);
    let store = std::mem::take(&mut rig.store);
    loop {
        let tx = store.read().unwrap();
        let Some(message) = rig.session.poll_transmit(tx.as_ref(), &Last(&store)).unwrap() else { break };
        got.push(RelayMessage::decode(&message).unwrap());
    }
    rig.store = store;
    rig.serve(&mut got);
    got
}

fn any_message(dice: &mut Dice, batch: &mut u64) -> ClientMessage {
    let space = [TEAM, OTHER, HIDDEN, READABLE][dice.roll(4) as usize];
    let named = |dice: &mut Dice| {
        let mut numbers: Vec<u8> = (0..dice.roll(6)).map(|_| dice.roll(9) as u8).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let heads = |number: u8| if number.is_multiple_of(2) { vec![] } else { vec![crate::ChangeHash([number; 32])] };
        numbers
            .into_iter()
            .map(|number| DocumentHeads { document: document(number), heads: heads(number) })
            .collect::<Vec<_>>()
    };
    match dice.roll(12) {
        0..=2 => {
            let mode = if dice.roll(2) == 0 { Mode::Everything } else { Mode::Listing };
            let cursor = Start::Cursor { epoch: EPOCH, position: dice.roll(30) };
            let start = [Start::Beginning, Start::Compare, cursor][dice.roll(3) as usize];
            ClientMessage::Subscribe { subscriptions: vec![want(space, mode, start)] }
        }
        3 => ClientMessage::Unsubscribe { spaces: vec![space] },
        4 => ClientMessage::Cursor { space, position: dice.roll(3) },
        5 => ClientMessage::Compare { space, documents: named(dice), is_last: dice.roll(3) == 0 },
        6 => {
            let mut documents = named(dice);
            documents.push(DocumentHeads { document: document(3), heads: vec![] });
            ClientMessage::Open { space, documents }
        }
        7 => ClientMessage::Close { space, documents: vec![document(dice.roll(9) as u8)] },
        8 => ClientMessage::Credit { bytes: dice.roll(100_000) },
        9 => {
            let (author, document) = (PeerId::new("alice").unwrap(), document(1));
            let data = Bytes::from_static(b"data");
            let value = Presence { author, document, key: String::new(), sequence: 1, ttl_ms: 1, data };
            ClientMessage::Presence { space, values: vec![value] }
        }
        _ => {
            *batch += 1;
            let bytes = encode(&field_draft(b"alice", 1 + dice.roll(3), 1, vec![])).unwrap().bytes().clone();
            let content = if dice.roll(8) == 0 { Content::Deleted(tombstone()) } else { Content::Change(bytes) };
            ClientMessage::Push {
                batch: *batch,
                space,
                writes: vec![Write { document: document(dice.roll(9) as u8), content }],
            }
        }
    }
}

#[test]
fn no_message_does_harm_whole_or_broken() {
    let mut alive = 0;
    for seed in 1..=400 {
        let mut dice = Dice::new(seed);
        let (mut rig, _) = Rig::subscribed(vec![everything(TEAM)], |tx| {
            (1..=4).for_each(|number| drop(write(tx, &TEAM, document(number), b"bob", 3)));
            write(tx, &OTHER, document(7), b"bob", 3);
        });
        let mut batch = 0;
        for _ in 0..40 {
            if rig.session.is_closed() {
                break;
            }
            let mut frame = any_message(&mut dice, &mut batch).encode().to_vec();
            match dice.roll(60) {
                0 => frame.truncate(dice.roll(frame.len() as u64) as usize),
                1 => {
                    let at = dice.roll(frame.len() as u64) as usize;
                    frame[at] = dice.roll(256) as u8;
                }
                2 => frame = (0..dice.roll(80)).map(|_| dice.roll(256) as u8).collect(),
                _ => {}
            }
            rig.hand_in(&frame.into());
            assert!(rig.session.outputs.len() <= OUTPUTS_WAITING_MAX);
            let messages = rig.hear();
            assert!(messages.len() < 100, "seed {seed}: {:?}", told(&messages));
            let session = &rig.session;
            assert!(session.queue.len() <= session.spaces.len(), "seed {seed}");
        }
        alive += usize::from(!rig.session.is_closed());
        assert_eq!(rig.session.is_closed(), rig.closed.is_some());
    }
    assert!((5..395).contains(&alive), "{alive} of 400 lived through it");
}
