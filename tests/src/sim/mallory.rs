//! Somebody hostile with a good token: damaged frames that were overheard, and changes that no honest engine makes.

use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::SmallRng;
use rejoin::codec::v1::{ClientMessage, Content, Hello, Token, VERSION, Write};
use rejoin::limits::CREDIT_BYTES;
use rejoin::{DocumentId, PeerId, ledger};

use super::node::TEAM;
use super::world::World;
use crate::hostile::change::{RawChange, RawOp};

/// How many frames one visit brings.
const FRAMES: usize = 6;

impl World {
    /// Lets somebody hostile visit a relay. Whatever he sends, the relay goes on, and nothing of what is honest is lost.
    pub(super) fn mallory(&mut self, relay: usize, chance: &mut SmallRng) {
        let hello = ClientMessage::Hello(Hello {
            lowest: VERSION,
            highest: VERSION,
            peer: PeerId::new("mallory").unwrap(),
            storage: None,
            takes_snapshots: false,
            token: Token::new(self.mallory[relay].clone()),
            credit: CREDIT_BYTES,
            subscriptions: Vec::new(),
        });
        let frames: Vec<Bytes> = (0..FRAMES).map(|number| self.hostile_frame(relay, number, chance)).collect();
        let Some(running) = &mut self.relays[relay].relay else { return };
        let mut visit = running.connect();
        visit.receive(&hello.encode());
        visit.advance();
        let mut answers = 0;
        for frame in frames {
            if visit.is_listening() {
                visit.receive(&frame);
                visit.advance();
                while running.commit() {}
                visit.advance();
            }
            while visit.send().is_some() {
                answers += 1;
            }
        }
        self.model.has_mallory = true;
        self.note(format_args!("mallory got {answers} answers from relay {relay}"));
        self.pump(relay);
    }

    fn hostile_frame(&self, relay: usize, number: usize, chance: &mut SmallRng) -> Bytes {
        // What was said here a while ago: it is stored, or refused.
        let now = self.now();
        let heard = self.overheard.iter().filter(|(at, time, _)| *at == relay && *time + Duration::from_secs(1) < now);
        let heard: Vec<&Bytes> = heard.map(|(_, _, frame)| frame).collect();
        if !heard.is_empty() && chance.random_range(0..2) == 0 {
            let mut frame = heard[chance.random_range(0..heard.len())].to_vec();
            for _ in 0..chance.random_range(1..4) {
                let at = chance.random_range(0..frame.len().max(1));
                match (chance.random_range(0..4), frame.get_mut(at)) {
                    (0, _) => frame.truncate(at),
                    (1, _) => frame.insert(at.min(frame.len()), chance.random()),
                    (_, Some(byte)) => *byte ^= 1 << chance.random_range(0..8),
                    _ => {}
                }
            }
            return frame.into();
        }
        let known: Vec<DocumentId> = self.model.documents.keys().copied().collect();
        let document = match known.len() {
            0 => DocumentId::from_bytes([0xbb; 16]),
            some => known[chance.random_range(0..some)],
        };
        let change = self.hostile_change(relay, &document, chance);
        let space = self.model.documents.get(&document).copied().unwrap_or(TEAM);
        let content = Content::Change(change.chunk().into());
        ClientMessage::Push { batch: number as u64 + 1, space, writes: vec![Write { document, content }] }.encode()
    }

    /// A change that stands on what the relay has, and is wrong in one way; or right, by somebody nobody knows.
    fn hostile_change(&self, relay: usize, document: &DocumentId, chance: &mut SmallRng) -> RawChange {
        let tx = self.relays[relay].store().and_then(|store| store.read().ok());
        let state = tx.and_then(|tx| ledger::state(&*tx, document).ok().flatten()).unwrap_or_default();
        let actor: [u8; 16] = chance.random();
        let mut change = RawChange::new(&actor);
        change.deps = state.head_hashes().iter().map(|hash| hash.0).collect();
        change.deps.sort_unstable();
        change.start_op = state.max_op + 1;
        change.ops = vec![RawOp::put("a", "mallory was here")];
        match chance.random_range(0..8) {
            0 => change.seq = 5,
            1 => change.start_op = 4_294_967_294,
            2 => change.deps.push([7; 32]),
            3 => change.start_op = 1,
            4 => change.time = i64::MAX,
            5 => change.extra = vec![1, 2, 3],
            6 => change.ops = vec![RawOp::put("a", "x").over(&[(0, 99)])],
            _ => {}
        }
        change
    }
}
