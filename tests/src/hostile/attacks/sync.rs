//! Attacks on sync messages: lists and Bloom filters that claim too much.

use rejoin::limits::{SYNC_HASHES_MAX, SYNC_HAVES_MAX};

use super::{Attack, Sent};
use crate::hostile::base;
use crate::hostile::bytes::unsigned;
use crate::hostile::message::{RawSync, bloom};

/// A hash that names nothing.
fn nowhere(number: u64) -> [u8; 32] {
    let mut hash = [0xab; 32];
    hash[..8].copy_from_slice(&number.to_be_bytes());
    hash
}

fn nowheres(count: usize) -> Vec<[u8; 32]> {
    (0..count as u64).map(nowhere).collect()
}

fn filter(bytes: Vec<u8>) -> RawSync {
    RawSync { have: vec![(Vec::new(), bytes)], ..RawSync::default() }
}

/// A sync message that is nothing but its type and the claim of a list's length.
fn claim(lists_before: usize, length: u64) -> Vec<u8> {
    let mut out = vec![0x42];
    out.extend(vec![0; lists_before]);
    unsigned(&mut out, length);
    out
}

fn raw(name: &'static str, data: impl Fn() -> Vec<u8> + Send + Sync + 'static) -> Attack {
    Attack::frame(name, move |scene| scene.about("sync", scene.document, data()))
}

pub(super) fn attacks() -> Vec<Attack> {
    vec![
        Attack::sync("bloom-bits-0", || filter(bloom(1, 0, 7, &[]))).closes(1002),
        Attack::sync("bloom-probes-2^32", || filter(bloom(1, 10, u32::MAX.into(), &[0, 0]))).closes(1002),
        Attack::sync("bloom-probes-20m", || filter(bloom(1, 10, 20_000_000, &[0, 0]))).closes(1002),
        Attack::sync("bloom-entries-2^32", || filter(bloom(u32::MAX.into(), 10, 7, &[0; 64]))).closes(1002),
        Attack::sync("bloom-entries-4m-missing", || filter(bloom(4_000_000, 10, 7, &[0; 64]))).closes(1002),
        Attack::sync("bloom-everything-2^64", || filter(bloom(u64::MAX, u64::MAX, u64::MAX, &[]))).closes(1002),
        Attack::sync("bloom-bits-65", || filter(bloom(1, 65, 7, &[0; 9]))).closes(1002),
        Attack::sync("bloom-probes-33", || filter(bloom(1, 10, 33, &[0, 0]))).closes(1002),
        Attack::sync("blooms-as-large-as-allowed", || {
            let one = (Vec::new(), bloom(1_600_000, 10, 32, &vec![0xff; 2_000_000]));
            RawSync { have: vec![one; SYNC_HAVES_MAX - 1], ..RawSync::default() }
        }),
        Attack::sync("need-100k", || RawSync { need: nowheres(100_000), ..RawSync::default() }).closes(1002),
        Attack::sync("need-as-many-as-allowed", || RawSync { need: nowheres(SYNC_HASHES_MAX), ..RawSync::default() }),
        Attack::sync("heads-as-many-as-allowed", || RawSync { heads: nowheres(SYNC_HASHES_MAX), ..RawSync::default() }),
        Attack::sync("have-100k", || RawSync { have: vec![Default::default(); 100_000], ..RawSync::default() })
            .closes(1002),
        Attack::sync("have-as-large-as-allowed", || {
            let one = (nowheres(SYNC_HASHES_MAX - 1), Vec::new());
            RawSync { have: vec![one; SYNC_HAVES_MAX - 1], ..RawSync::default() }
        }),
        raw("heads-2^64", || claim(0, u64::MAX)).closes(1002),
        raw("need-2^64", || claim(1, u64::MAX)).closes(1002),
        raw("have-2^64", || claim(2, u64::MAX)).closes(1002),
        raw("changes-2^64", || claim(3, u64::MAX)).closes(1002),
        raw("changes-1m-empty", || [claim(3, 1 << 20), vec![0; 1 << 20]].concat()),
        raw("change-entry-2^64", || [claim(3, 1), claim(0, u64::MAX)[1..].to_vec()].concat()).closes(1002),
        raw("change-entry-of-5-bytes", || [claim(3, 1), vec![5, 1, 2, 3, 4, 5]].concat()).closes(1002),
        raw("version-0x41", || vec![0x41, 0, 0, 0, 0]).closes(1002),
        raw("number-not-minimal", || vec![0x42, 0x80, 0x00]).closes(1002),
        // Each asks for the whole history again.
        Attack::new("need-everything-1000-times", |scene| {
            let need = base::changes().iter().map(|change| change.hash()).collect();
            let message = RawSync { heads: base::heads(), need, ..RawSync::default() };
            (0..1_000).map(|_| scene.sync(&message)).collect()
        }),
        // Each claims to have forgotten everything.
        Attack::new("reset-1000-times", |scene| {
            let message = RawSync { have: vec![Default::default()], ..RawSync::default() };
            let data = [message.encode(), vec![2, 2, 0x81]].concat();
            (0..1_000).map(|_| Sent::Binary(scene.about("sync", scene.document, data.clone()))).collect()
        }),
    ]
}
