//! `docs/protocol.md` and `docs/protocol-v1.md` show the bytes that we write and the limits that we keep, or this fails.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use rejoin::codec::v1::Code;
use rejoin::gate::Rule;
use rejoin::limits::*;

const PAGE: &str = include_str!("../docs/protocol.md");
const PAGE_V1: &str = include_str!("../docs/protocol-v1.md");
const GOLDEN_OURS: &str = include_str!("../src/codec/classic/golden_ours.txt");
const GOLDEN_V1: &str = include_str!("../src/codec/v1/golden.txt");

/// Returns the blocks of a page without white space.
fn blocks(page: &str) -> Vec<String> {
    page.split("```").map(|block| block.trim_start_matches("text").split_whitespace().collect()).collect()
}

/// Asserts that the table of a page has these limits with their values, and that its text does not disagree.
fn assert_limits(page: &str, limits: &[(&str, u64)]) {
    for (name, value) in limits {
        let row = page.lines().find(|line| line.starts_with(&format!("| {name} |")));
        let row = row.unwrap_or_else(|| panic!("{name} is not in the table"));
        assert_eq!(row.split('|').nth(2).unwrap().trim().replace(',', ""), value.to_string(), "{name}");
        // The same name in the text, written `NAME = value`, must not disagree.
        for told in page.split(&format!("{name} = ")).skip(1) {
            let digits: String = told.chars().take_while(|c| c.is_ascii_digit() || *c == ',').collect();
            assert_eq!(digits.replace(',', ""), value.to_string(), "{name} in the text");
        }
    }
}

#[test]
fn every_message_of_our_own_protocol_is_shown_as_we_write_it() {
    let blocks = blocks(PAGE_V1);
    for line in GOLDEN_V1.lines().filter(|line| !line.starts_with('#')) {
        let (name, hex) = line.rsplit_once(' ').unwrap();
        assert!(blocks.iter().any(|block| block == hex), "the bytes of {name} are not on the page");
    }
}

#[test]
fn every_limit_of_our_own_protocol_is_told_with_its_value() {
    let limits = [
        ("V1_FRAME_BYTES_MAX", V1_FRAME_BYTES_MAX as u64),
        ("V1_NUMBER_MAX", V1_NUMBER_MAX),
        ("PEER_ID_BYTES_MAX", PEER_ID_BYTES_MAX as u64),
        ("TOKEN_BYTES_MAX", TOKEN_BYTES_MAX as u64),
        ("SUBSCRIPTIONS_MAX", SUBSCRIPTIONS_MAX as u64),
        ("BATCH_ENTRIES_MAX", BATCH_ENTRIES_MAX as u64),
        ("BATCH_BYTES", BATCH_BYTES as u64),
        ("CHANGE_BYTES_MAX", CHANGE_BYTES_MAX as u64),
        ("DELETED_BY_BYTES_MAX", DELETED_BY_BYTES_MAX as u64),
        ("SNAPSHOT_BYTES_MAX", SNAPSHOT_BYTES_MAX as u64),
        ("DOCUMENT_LIST_MAX", DOCUMENT_LIST_MAX as u64),
        ("DOCUMENT_HEADS_MAX", DOCUMENT_HEADS_MAX as u64),
        ("RELAY_HEADS_MAX", RELAY_HEADS_MAX as u64),
        ("PRESENCE_VALUES_MAX", PRESENCE_VALUES_MAX as u64),
        ("PRESENCE_BYTES_MAX", PRESENCE_BYTES_MAX as u64),
        ("PRESENCE_KEY_BYTES_MAX", PRESENCE_KEY_BYTES_MAX as u64),
        ("PRESENCE_TTL_MS_MAX", PRESENCE_TTL_MS_MAX),
        ("OPEN_DOCUMENTS_MAX", OPEN_DOCUMENTS_MAX as u64),
        ("OPEN_HEADS_MAX", OPEN_HEADS_MAX as u64),
        ("BATCHES_UNDER_WAY_MAX", BATCHES_UNDER_WAY_MAX as u64),
        ("CREDIT_BYTES_MAX", CREDIT_BYTES_MAX),
        ("CREDIT_BYTES", CREDIT_BYTES),
        ("PEER_ERROR_BYTES_MAX", PEER_ERROR_BYTES_MAX as u64),
        ("REJECT_TEXT_BYTES_MAX", REJECT_TEXT_BYTES_MAX as u64),
    ];
    assert_limits(PAGE_V1, &limits);
}

#[test]
fn every_code_is_told_with_its_number_and_meaning() {
    for code in Code::ALL {
        let row = format!("| {} | `{}` | {} |", code.number(), code.name(), code.meaning());
        assert!(PAGE_V1.lines().any(|line| line.starts_with(&row)), "the row {row}");
    }
}

#[test]
fn every_rule_of_the_gate_is_told_with_its_code() {
    for rule in Rule::ALL {
        let code = Code::of_rule(*rule);
        let row = PAGE_V1.lines().find(|line| line.starts_with(&format!("| {} | `{}` |", code.number(), code.name())));
        assert!(row.unwrap().contains(&format!("`{}`", rule.code())), "{} is not in the row of {code}", rule.code());
    }
}

#[test]
fn every_message_we_write_is_shown_as_we_write_it() {
    let blocks = blocks(PAGE);
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
    assert_limits(PAGE, &limits);
}
