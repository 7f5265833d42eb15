//! Automerge's sync messages: read and written again, their filters asked, and fed to a session.

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;
use rejoin::ChangeHash;
use rejoin::codec::bloom::Bloom;
use rejoin::codec::classic::Frame;
use rejoin::codec::sync_message::SyncMessage;

use super::classic::{Classic, scene};
use super::gate::RECORDING;
use super::script::Script;
use super::{Seen, Target, digest};
use crate::hostile::message::{RawSync, bloom};
use crate::hostile::mutate::{Mutator, damage};
use crate::hostile::record::record;
use crate::hostile::{Sent, attacks};

/// The longest seed.
const SEED_BYTES_MAX: usize = 16 << 10;

/// A session that is fed sync messages about one document. The head of an input is that of [`Classic`].
pub struct Message {
    sessions: Classic,
    mutator: Mutator,
}

impl Message {
    /// Makes it with a recorded conversation.
    pub fn new() -> Self {
        Self { sessions: Classic::new(), mutator: Mutator::new(record(RECORDING)) }
    }
}

impl Default for Message {
    fn default() -> Self {
        Self::new()
    }
}

impl Target for Message {
    fn seeds(&mut self) -> Vec<Vec<u8>> {
        let mut seeds = Vec::new();
        for input in self.sessions.seeds() {
            let script = Script::read(&input);
            let data = script.items.iter().filter_map(|frame| data_of(&Bytes::copy_from_slice(frame)));
            // What comes after no greeting is not listened to.
            let script = Script::new(&[script.flag(0), 0, script.flag(2)], data);
            seeds.extend((!script.items.is_empty()).then(|| script.write()));
        }
        for attack in attacks::all() {
            for sent in attack.make(&scene(0)) {
                let data = if let Sent::Binary(frame) = sent { data_of(&frame) } else { None };
                seeds.extend(
                    data.filter(|data| data.len() <= SEED_BYTES_MAX)
                        .map(|data| Script::new(&[0, 0, 0], [data]).write()),
                );
            }
        }
        seeds
    }

    fn mutate(&mut self, input: &[u8], other: &[u8], random: &mut StdRng) -> Vec<u8> {
        let (mut script, other) = (Script::read(input), Script::read(other));
        let store = &self.sessions.stores[usize::from(script.flag(2)) % self.sessions.stores.len()];
        let foreign = other.items.first().cloned().unwrap_or_default();
        let mutator = &self.mutator;
        script.mutate(&other, random, |data, random| match random.random_range(0..10) {
            0 => damage(data, |_| &foreign, random),
            1..4 => with_another_filter(data, random),
            _ => mutator.message(&Bytes::copy_from_slice(data), store, random),
        });
        script.write()
    }

    /// As of classic frames; a filter has at most 5 MB, which a frame brings itself.
    fn bound_bytes(&self, input: &[u8]) -> usize {
        self.sessions.bound_bytes(input)
    }

    fn run(&mut self, input: &[u8]) -> Seen {
        let script = Script::read(input);
        let codes: Vec<_> = script.items.iter().map(|data| read_twice(&Bytes::copy_from_slice(data))).collect();
        let scene = scene(script.flag(0));
        let frames = script.items.iter().map(|data| scene.about("sync", scene.document, data.clone()));
        self.sessions.feed(&script, frames).with(&codes)
    }

    fn classes_min(&self) -> usize {
        12
    }
}

fn data_of(frame: &Bytes) -> Option<Vec<u8>> {
    match Frame::decode(frame) {
        Ok(Frame::Sync { data, .. } | Frame::Request { data, .. }) => Some(data.to_vec()),
        _ => None,
    }
}

/// Puts a filter with any numbers in its head behind the heads and wants of a message.
fn with_another_filter(data: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut raw = RawSync::default();
    if let Ok(message) = SyncMessage::decode(&Bytes::copy_from_slice(data)) {
        raw.heads = message.heads.iter().map(|hash| hash.0).collect();
        raw.need = message.need.iter().map(|hash| hash.0).collect();
        raw.changes = message.changes.iter().map(|change| change.to_vec()).collect();
    }
    for _ in 0..random.random_range(0..4) {
        let mut number = || 1u64.wrapping_shl(random.random_range(0..40)).wrapping_add(random.random_range(0..3)) - 1;
        let (entries, bits_per_entry, probes) = (number(), number() % 70, number() % 40);
        // Mostly as long as the head says.
        let bits = usize::try_from(entries.saturating_mul(bits_per_entry).div_ceil(8)).unwrap_or(0).min(4_096);
        let bits = if random.random_bool(0.8) { bits } else { random.random_range(0..64) };
        let bits: Vec<u8> = (0..bits).map(|_| random.random()).collect();
        let last_sync = raw.heads.iter().copied().take(random.random_range(0..3)).collect();
        raw.have.push((last_sync, bloom(entries, bits_per_entry, probes, &bits)));
    }
    raw.encode()
}

/// Reads a message; what is read is written and read again, and its filters answer and come back.
fn read_twice(bytes: &Bytes) -> &'static str {
    let message = match SyncMessage::decode(bytes) {
        Ok(message) => message,
        Err(error) => {
            assert!(error.to_string().len() < 2_000, "a long error");
            return error.code();
        }
    };
    assert_eq!(
        SyncMessage::decode(&message.encode().into()).as_ref(),
        Ok(&message),
        "a message changes when it is written"
    );
    for have in &message.have {
        let hash = ChangeHash([u8::try_from(digest(&bytes) % 256).unwrap_or(0); 32]);
        let is_in = have.bloom.contains(&hash);
        assert!(!is_in || have.bloom.entries() > 0, "an empty filter holds nothing");
        assert_eq!(
            Bloom::parse(&have.bloom.to_bytes()).as_ref(),
            Ok(&have.bloom),
            "a filter changes when it is written"
        );
    }
    "read"
}
