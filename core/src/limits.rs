//! Every bound of the engine, with its unit, its default and the arithmetic behind it.
//!
//! A number that bounds what a peer can make us do stands here and nowhere else. Relations between them are asserted
//! when the crate is compiled.

/// The largest WebSocket message taken from a peer: 32 MiB.
///
/// A stock automerge-repo client sends all changes the other side lacks in one message: a keystroke trace of 260,000
/// changes of ~104 bytes is 27 MB.
pub const FRAME_BYTES_MAX: usize = 32 << 20;

/// The largest change, uncompressed: 8 MiB. One paste of a book, or an attachment somebody put into a field.
pub const CHANGE_BYTES_MAX: usize = 8 << 20;

/// The most bytes a compressed change may inflate to. The same as a change may be long, so the ratio does not matter.
pub const INFLATED_BYTES_MAX: usize = CHANGE_BYTES_MAX;

/// The most operations in one change: 1,000,000. A pasted text is one operation a character.
pub const CHANGE_OPS_MAX: u64 = 1_000_000;

/// The most predecessors of all operations of one change together.
pub const CHANGE_PREDS_MAX: u64 = 1_000_000;

/// The most dependencies of one change. Each is a head the author knew: 1,000 devices that all wrote apart.
pub const CHANGE_DEPS_MAX: usize = 1_024;

/// The most actors that one change may name besides its author.
pub const CHANGE_ACTORS_MAX: usize = 4_096;

/// The longest actor id in bytes. Automerge makes 16, its JavaScript library lets the application choose.
pub const ACTOR_BYTES_MAX: usize = 64;

/// The longest commit message in bytes.
pub const CHANGE_MESSAGE_BYTES_MAX: usize = 64 << 10;

/// The most columns in a change that are looked at. The format knows 14, and the gate refuses any other.
pub const CHANGE_COLUMNS_MAX: usize = 32;

/// The longest extra section after the columns of a change: an author footer is at most 1 + 2 + 128 bytes.
pub const CHANGE_EXTRA_BYTES_MAX: usize = 1 << 10;

/// The largest operation counter. Automerge keeps counters in 32 bits; above 2^31 its arithmetic is at risk.
pub const OP_COUNTER_MAX: u64 = (1 << 31) - 1;

/// How far beyond the greatest counter known a change may start: 2^20.
///
/// An honest author starts at the greatest counter it knows plus one; we know all that it knew (its dependencies), so an
/// honest jump is zero. The room is for documents whose history was cut.
pub const START_OP_JUMP_MAX: u64 = 1 << 20;

/// The largest timestamp of a change in seconds, either way: what a JavaScript number holds exactly.
pub const TIMESTAMP_ABS_MAX: i64 = 1 << 53;

/// The most heads one document may have.
pub const DOCUMENT_HEADS_MAX: usize = 1_024;

/// The most hashes in each list (`heads`, `need`, `last_sync`) of one sync message.
pub const SYNC_HASHES_MAX: usize = 65_536;

/// The most `have` entries in one sync message. Every known implementation sends one.
pub const SYNC_HAVES_MAX: usize = 16;

/// The most change chunks in one sync message, bounded by the frame too: a minimal change is ~50 bytes.
pub const SYNC_CHANGES_MAX: usize = 1 << 20;

/// The most entries in a Bloom filter. 4,000,000 x 10 bits = 5 MB, a sixth of a frame.
pub const BLOOM_ENTRIES_MAX: u32 = 4_000_000;

/// The most bits an entry of a Bloom filter may have. Every known implementation sends 10.
pub const BLOOM_BITS_PER_ENTRY_MAX: u32 = 64;

/// The most probes of a Bloom filter. Every known implementation sends 7.
pub const BLOOM_PROBES_MAX: u32 = 32;

/// The most changes without their dependencies that one conversation about one document keeps in memory.
pub const ORPHANS_MAX: usize = 4_096;

/// The most bytes of such changes.
pub const ORPHAN_BYTES_MAX: usize = 8 << 20;

/// The most missing hashes named in one answer about orphans.
pub const MISSING_HASHES_MAX: usize = 64;

/// How many bytes of changes one outgoing sync message carries before the rest waits for the next: 1 MiB.
///
/// A message holds at least one change, so it may be as long as [`CHANGE_BYTES_MAX`] with its envelope.
pub const SYNC_MESSAGE_BYTES: usize = 1 << 20;

/// How often the same missing changes are asked for before a conversation gives up on them.
pub const NEED_REPEATS_MAX: u32 = 3;

/// The most refused changes that one conversation remembers, so that it does not ask for them again.
pub const REFUSED_MAX: usize = 1_024;

/// The longest peer id in bytes. automerge-repo makes ~15 characters.
pub const PEER_ID_BYTES_MAX: usize = 256;

/// The longest storage id in bytes, in a classic frame. automerge-repo sends a UUID in text, 36.
pub const STORAGE_ID_BYTES_MAX: usize = 256;

/// The longest session id of an ephemeral message in bytes. automerge-repo makes ~12 characters.
pub const SESSION_ID_BYTES_MAX: usize = 256;

/// The longest text of a document id in a classic frame, in bytes.
///
/// Ours has ~28 characters. Other implementations may use longer ids, which are answered and not understood.
pub const DOCUMENT_ID_TEXT_BYTES_MAX: usize = 256;

/// The most protocol versions one `join` may offer. There is one so far.
pub const PROTOCOL_VERSIONS_MAX: usize = 16;

/// The longest name of a protocol version in bytes. There is one so far, `1`.
pub const PROTOCOL_VERSION_BYTES_MAX: usize = 64;

/// How much of an unknown message type is kept for the log, in bytes.
pub const UNKNOWN_TYPE_BYTES_MAX: usize = 64;

/// How deep CBOR values of a frame may be nested. A classic frame needs 4 (`remote-heads-changed`).
pub const CBOR_DEPTH_MAX: usize = 16;

/// The largest count or millisecond timestamp in a classic frame: what a JavaScript number holds exactly.
pub const CLASSIC_INTEGER_MAX: u64 = 1 << 53;

/// The longest text of an error message that a peer sends us: it goes into our log.
pub const PEER_ERROR_BYTES_MAX: usize = 1 << 10;

/// The most ids in one `remote-subscription-change`, and the most entries in one `remote-heads-changed`.
pub const GOSSIP_ENTRIES_MAX: usize = 256;

/// The most heads of all entries of one `remote-heads-changed` together: 16 each. Reading one costs two SHA-256.
pub const GOSSIP_HEADS_MAX: usize = 16 * GOSSIP_ENTRIES_MAX;

/// The largest ephemeral message's data: 1 MiB. A cursor is 100 bytes, an application may send more.
pub const EPHEMERAL_BYTES_MAX: usize = 1 << 20;

/// The most (sender, session) pairs whose last ephemeral count is remembered in one document.
pub const EPHEMERAL_SESSIONS_MAX: usize = 1_000;

/// The most documents one classic connection may talk about.
pub const SESSION_DOCUMENTS_MAX: usize = 200_000;

/// The longest key of a map in bytes, in a local write. What comes from elsewhere is bounded by its change.
pub const KEY_BYTES_MAX: usize = 64 << 10;

/// How deep maps may be nested where a walk recurses ([`crate::fields::to_json`]).
///
/// 300 nested maps fit in a change of 461 bytes and overflow a 2 MiB stack in Automerge's own hydrate.
pub const JSON_DEPTH_MAX: usize = 100;

/// The most bytes of registers that are kept in memory while changes are applied to them: 32 MiB.
///
/// Four of the largest changes. Beyond it they are written out and read again where they are needed again.
pub const PROJECT_BYTES_MAX: usize = 4 * CHANGE_BYTES_MAX;

/// The most fields that are named as changed to those who watch; beyond it they are told that there are more.
pub const TOUCHED_FIELDS_MAX: usize = 4_096;

/// The most changes in one pack: 4,096. Enough that what all share is stored once, few enough to open for one of them.
pub const PACK_CHANGES_MAX: usize = 4_096;

/// The most bytes of the changes of one pack, unpacked: 16 MiB. Two of the largest changes, or 4,096 of 4 KiB.
pub const PACK_BYTES_MAX: usize = 16 << 20;

/// The most operations of a change that a pack models one by one, and the most predecessors: 64.
///
/// A larger change is stored by its columns: runs already keep it small, and rows would undo that.
pub const PACK_ROWS_MAX: usize = 64;

/// The most bytes of a pack's inflated streams together: 32 MiB.
///
/// What stands in the changes is in no stream twice, and what runs hid takes at most 34 bytes a row and 12 bytes a
/// predecessor: 16 MiB + 4,096 x 64 x (34 + 12) bytes is 27.5 MiB.
pub const PACK_STREAMS_BYTES_MAX: usize = 32 << 20;

// Every change fits into a pack of its own, with its header.
const _: () = assert!(CHANGE_BYTES_MAX + 64 < PACK_BYTES_MAX);
// The streams of the fullest pack fit.
const _: () = assert!(PACK_BYTES_MAX + PACK_CHANGES_MAX * PACK_ROWS_MAX * (34 + 12) < PACK_STREAMS_BYTES_MAX);
// A change must fit into the frame that carries it, with its envelope.
const _: () = assert!(CHANGE_BYTES_MAX * 2 < FRAME_BYTES_MAX);
// The gate remembers where a column lies in 32 bits.
const _: () = assert!(CHANGE_BYTES_MAX + 64 < u32::MAX as usize && INFLATED_BYTES_MAX <= CHANGE_BYTES_MAX);
// An operation counter must fit Automerge's 32 bits even after the largest jump and the largest change.
const _: () = assert!(OP_COUNTER_MAX + START_OP_JUMP_MAX + CHANGE_OPS_MAX < u32::MAX as u64);
// A full Bloom filter at the bits everybody uses fits into a frame.
const _: () = assert!((BLOOM_ENTRIES_MAX as usize) * 10 / 8 < FRAME_BYTES_MAX / 2);
// A change may depend on every head a document may have.
const _: () = assert!(CHANGE_DEPS_MAX >= DOCUMENT_HEADS_MAX);
// Every orphan's missing dependency can be asked for in one message.
const _: () = assert!(MISSING_HASHES_MAX <= SYNC_HASHES_MAX);
