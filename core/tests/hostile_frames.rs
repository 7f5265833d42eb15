//! Golden frames and sync messages, damaged at random: whatever a peer sends, the codecs answer with a value or an error.
//!
//! The seeds are fixed, so that a failure repeats. A panic is the failure, and so is a frame that is taken but does not
//! survive being written and read again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rejoin::ChangeHash;
use rejoin::codec::classic::{DecodeError, Frame};
use rejoin::codec::sync_message::SyncMessage;
use rejoin::limits::{FRAME_BYTES_MAX, PEER_ERROR_BYTES_MAX, UNKNOWN_TYPE_BYTES_MAX};

/// How many damaged inputs each test tries.
const ROUNDS: u64 = 40_000;

/// What other implementations wrote, and what we write.
fn golden_frames() -> Vec<Vec<u8>> {
    let texts = [include_str!("../src/codec/classic/golden.txt"), include_str!("../src/codec/classic/golden_ours.txt")];
    let lines = texts.iter().flat_map(|text| text.lines()).filter(|line| !line.starts_with('#'));
    lines.map(|line| unhex(line.split_once(' ').unwrap().1)).collect()
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// The sync messages inside the golden frames.
fn golden_messages() -> Vec<Vec<u8>> {
    let data = |frame: Vec<u8>| match Frame::decode(&frame.into()).unwrap() {
        Frame::Sync { data, .. } | Frame::Request { data, .. } => Some(data.to_vec()),
        _ => None,
    };
    golden_frames().into_iter().filter_map(data).collect()
}

/// Heads of CBOR values that announce more than follows, or that should not stand where they are put.
const HEADS: [&str; 14] = [
    "5bffffffffffffffff",
    "7b7fffffffffffffff",
    "9bffffffffffffffff",
    "bbffffffffffffffff",
    "9f",
    "bf",
    "5f",
    "7f",
    "ff",
    "c0",
    "d840",
    "f6",
    "f7",
    "fb7ff8000000000000",
];

/// Numbers that sync messages use as lengths, far too large or badly written.
const LENGTHS: [&str; 6] = ["ffffffffffffffffff01", "ffffffff0f", "8000", "80808008", "7f", "ffff03"];

/// Damages bytes in one to four places.
fn damage(bytes: &mut Vec<u8>, others: &[Vec<u8>], random: &mut StdRng) {
    for _ in 0..random.random_range(1..=4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.random_range(0..bytes.len());
        let end = random.random_range(at..=bytes.len()).min(at + 40);
        match random.random_range(0..8) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = random.random(),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            5 => {
                let other = &others[random.random_range(0..others.len())];
                let from = random.random_range(0..other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            6 => drop(bytes.splice(at..at, unhex(HEADS[random.random_range(0..HEADS.len())]))),
            _ => drop(bytes.splice(at..end, unhex(LENGTHS[random.random_range(0..LENGTHS.len())]))),
        }
    }
}

/// Asserts what holds of any answer to any bytes.
fn check_frame(bytes: &Bytes) -> bool {
    match Frame::decode(bytes) {
        Ok(frame) => {
            assert_eq!(Frame::decode(&frame.encode()).as_ref(), Ok(&frame), "from {bytes:02x?}");
            if let Frame::Error { message, .. } = &frame {
                assert!(message.len() <= PEER_ERROR_BYTES_MAX);
            }
            true
        }
        Err(error) => {
            assert_eq!(error.is_fatal(), !error.code().starts_with("frame-unknown") && !is_soft(&error), "{error}");
            assert!(error.to_string().len() < 2_000, "{error}");
            false
        }
    }
}

fn is_soft(error: &DecodeError) -> bool {
    if let DecodeError::UnknownType(kind) = error {
        assert!(kind.len() <= UNKNOWN_TYPE_BYTES_MAX);
    }
    matches!(error, DecodeError::UnsupportedDocumentId { .. } | DecodeError::UnsupportedHead)
}

#[test]
fn damaged_frames_never_panic() {
    let golden = golden_frames();
    let mut random = StdRng::seed_from_u64(0x0063_6c61_7373_6963);
    let mut taken = 0u64;
    for _ in 0..ROUNDS {
        let mut bytes = golden[random.random_range(0..golden.len())].clone();
        damage(&mut bytes, &golden, &mut random);
        taken += u64::from(check_frame(&bytes.into()));
    }
    // Where nothing is taken, or everything, the damage tests nothing.
    assert!(taken > ROUNDS / 100 && taken < ROUNDS / 2, "{taken} of {ROUNDS} were taken");
}

#[test]
fn damaged_sync_messages_never_panic() {
    let golden = golden_messages();
    let mut random = StdRng::seed_from_u64(0x7379_6e63);
    let mut taken = 0u64;
    for round in 0..ROUNDS {
        let mut bytes = golden[random.random_range(0..golden.len())].clone();
        damage(&mut bytes, &golden, &mut random);
        let bytes = Bytes::from(bytes);
        let Ok(message) = SyncMessage::decode(&bytes) else { continue };
        taken += 1;
        assert_eq!(SyncMessage::decode(&message.encode().into()).as_ref(), Ok(&message), "from {bytes:02x?}");
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&round.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        let claimed = message.have.iter().filter(|have| have.bloom.contains(&ChangeHash(hash))).count();
        assert!(claimed <= message.have.len());
    }
    assert!(taken > ROUNDS / 100 && taken < ROUNDS, "{taken} of {ROUNDS} were taken");
}

#[test]
fn a_frame_full_of_the_costliest_values_is_answered() {
    // Each fills one frame with what makes a careless reader slow, deep or fat.
    let frame_of = |head: &[u8], filler: &[u8]| {
        let mut bytes = head.to_vec();
        let room = (1 << 22) - bytes.len();
        bytes.extend(filler.iter().copied().cycle().take(room));
        Bytes::from(bytes)
    };
    const { assert!(1 << 22 < FRAME_BYTES_MAX) };
    for (head, filler) in [
        (&[0x9f][..], &[0x9f][..]),
        (&[0xbf], &[0xbf]),
        (&[0x81], &[0x81]),
        (&[0xc1], &[0xc1]),
        (&[0xbf], &[0x9f, 0xff]),
        (&[0xbf], &[0x60, 0xf6]),
        (&[0xbf], &[0x64, b't', b'y', b'p', b'e', 0x60]),
        (&[0xbf, 0x63, b'a', b'd', b'd', 0x9f], &[0x60]),
        (&[0xbf, 0x60, 0x7f], &[0x60]),
        (&[0xbf, 0x60, 0x5f], &[0x41, 0x00]),
        (&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], &[0x00]),
    ] {
        assert!(!check_frame(&frame_of(head, filler)));
    }
    for head in [&[0x42, 0, 0, 0][..], &[0x42, 0, 0, 16], &[0x43, 0x80, 0x80, 0x04]] {
        for filler in [&[0x00][..], &[0x01], &[0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[0xff], &[0x7f]] {
            let _ = SyncMessage::decode(&frame_of(head, filler));
        }
    }
}
