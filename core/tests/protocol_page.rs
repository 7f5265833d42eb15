//! `docs/protocol.md` shows the bytes that we write and the limits that we keep, or this fails.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use rejoin::limits::*;

const PAGE: &str = include_str!("../docs/protocol.md");
const GOLDEN_OURS: &str = include_str!("../src/codec/classic/golden_ours.txt");

#[test]
fn every_message_we_write_is_shown_as_we_write_it() {
    let blocks: Vec<String> =
        PAGE.split("```").map(|block| block.trim_start_matches("text").split_whitespace().collect()).collect();
    for (name, hex) in GOLDEN_OURS.lines().filter_map(|line| line.split_once(' ')).filter(|(name, _)| *name != "#") {
        assert!(blocks.iter().any(|block| block == hex), "the bytes of {name} are not on the page");
    }
}

#[test]
fn every_limit_is_told_with_its_value() {
    let limits = [
        ("FRAME_BYTES_MAX", FRAME_BYTES_MAX as u64),
        ("CBOR_DEPTH_MAX", CBOR_DEPTH_MAX as u64),
        ("PEER_ID_BYTES_MAX", PEER_ID_BYTES_MAX as u64),
        ("DOCUMENT_ID_TEXT_BYTES_MAX", DOCUMENT_ID_TEXT_BYTES_MAX as u64),
        ("DELETED_BY_BYTES_MAX", DELETED_BY_BYTES_MAX as u64),
        ("STORAGE_ID_BYTES_MAX", STORAGE_ID_BYTES_MAX as u64),
        ("SESSION_ID_BYTES_MAX", SESSION_ID_BYTES_MAX as u64),
        ("PROTOCOL_VERSIONS_MAX", PROTOCOL_VERSIONS_MAX as u64),
        ("PROTOCOL_VERSION_BYTES_MAX", PROTOCOL_VERSION_BYTES_MAX as u64),
        ("CLASSIC_INTEGER_MAX", CLASSIC_INTEGER_MAX),
        ("EPHEMERAL_BYTES_MAX", EPHEMERAL_BYTES_MAX as u64),
        ("EPHEMERAL_SESSIONS_MAX", EPHEMERAL_SESSIONS_MAX as u64),
        ("GOSSIP_ENTRIES_MAX", GOSSIP_ENTRIES_MAX as u64),
        ("GOSSIP_HEADS_MAX", GOSSIP_HEADS_MAX as u64),
        ("PEER_ERROR_BYTES_MAX", PEER_ERROR_BYTES_MAX as u64),
        ("UNKNOWN_TYPE_BYTES_MAX", UNKNOWN_TYPE_BYTES_MAX as u64),
        ("SYNC_HASHES_MAX", SYNC_HASHES_MAX as u64),
        ("SYNC_HAVES_MAX", SYNC_HAVES_MAX as u64),
        ("SYNC_CHANGES_MAX", SYNC_CHANGES_MAX as u64),
        ("BLOOM_ENTRIES_MAX", u64::from(BLOOM_ENTRIES_MAX)),
        ("BLOOM_BITS_PER_ENTRY_MAX", u64::from(BLOOM_BITS_PER_ENTRY_MAX)),
        ("BLOOM_PROBES_MAX", u64::from(BLOOM_PROBES_MAX)),
        ("SNAPSHOT_BYTES_MAX", SNAPSHOT_BYTES_MAX as u64),
        ("SESSION_DOCUMENTS_MAX", SESSION_DOCUMENTS_MAX as u64),
    ];
    for (name, value) in limits {
        let row = PAGE.lines().find(|line| line.starts_with(&format!("| {name} |")));
        let row = row.unwrap_or_else(|| panic!("{name} is not in the table"));
        assert_eq!(row.split('|').nth(2).unwrap().trim().replace(',', ""), value.to_string(), "{name}");
        // The same name in the text, written `NAME = value`, must not disagree.
        for told in PAGE.split(&format!("{name} = ")).skip(1) {
            let digits: String = told.chars().take_while(|c| c.is_ascii_digit() || *c == ',').collect();
            assert_eq!(digits.replace(',', ""), value.to_string(), "{name} in the text");
        }
    }
}
