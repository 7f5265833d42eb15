//! Every bound of the engine, with its unit, its default and the arithmetic behind it.
//!
//! A number that bounds what a peer can make us do stands here and nowhere else. Relations between them are asserted
//! when the crate is compiled.

use std::time::Duration;

/// The largest WebSocket message taken from a peer: 32 MiB.
///
/// A stock automerge-repo client sends all changes the other side lacks in one message: a keystroke trace of 260,000
/// changes of ~104 bytes is 27 MB.
pub const FRAME_BYTES_MAX: usize = 32 << 20;

/// The largest change, uncompressed: 8 MiB. One paste of a book, or an attachment somebody put into a field.
pub const CHANGE_BYTES_MAX: usize = 8 << 20;

/// How long it is remembered that a numbered write was done, if nobody says that the answer arrived: 7 days, in seconds.
///
/// An application asks again within seconds, or when its page wakes up.
pub const REQUEST_KEPT_SECONDS: u64 = 7 * 24 * 60 * 60;

/// The most bytes a compressed change may inflate to. The same as a change may be long, so the ratio does not matter.
pub const INFLATED_BYTES_MAX: usize = CHANGE_BYTES_MAX;

/// The most operations in one change: 1,000,000. A pasted text is one operation a character.
pub const CHANGE_OPS_MAX: u64 = 1_000_000;

/// The most predecessors of all operations of one change together.
pub const CHANGE_PREDS_MAX: u64 = 1_000_000;

/// The most bytes of the keys and mark names of all operations of one change together, each counted as often as it stands:
/// 32 MiB.
///
/// 1,000,000 operations on keys of 32 bytes. A run of 100,000 operations on a key of 1 MiB is a change of 1 MiB, of which
/// Automerge makes 100 GB.
pub const CHANGE_NAME_BYTES_MAX: u64 = 32 << 20;

/// How often an operation of a change may leave the value standing that the operation before it gave to the same place: 64.
///
/// No version of Automerge is known to write one such: an author overwrites what it sees, its own values first. A change of
/// 64 bytes can hold 1,000,000 of them, which cost Automerge 4 s and 570 MiB, and registers 0.7 s.
pub const OWN_CONFLICTS_MAX: u64 = 64;

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

/// How far beyond the greatest counter known a change may start: 1,024.
///
/// An honest author starts at the greatest counter it knows plus one. That is more than its dependencies say when it edits
/// earlier heads (`changeAt`), and more than we know while what else it has seen is still under way: a paragraph typed
/// beside. Changes of one operation each must be 2,000,000, 150 MB, to use the counters up by jumps of 1,024; 2,048 were
/// enough with 2^20.
pub const START_OP_JUMP_MAX: u64 = 1 << 10;

/// The largest timestamp of a change in seconds, either way: what a JavaScript number holds exactly.
pub const TIMESTAMP_ABS_MAX: i64 = 1 << 53;

/// The most heads one document may have: 1,024.
pub const DOCUMENT_HEADS_MAX: usize = 1_024;

/// The most heads a document may have at a relay: half of that. A device has what its relay took, or what two of them did, and what
/// it made itself beside it: so it never has too many heads for what a relay took.
pub const RELAY_HEADS_MAX: usize = DOCUMENT_HEADS_MAX / 2;

/// The most changes that are visited on a device to find out what one change stands on: 262,144, four times [`RELAY_WALK_MAX`]. A
/// device has what a relay took in another order, in which more may stand between a change and what it refers to.
///
/// Only what others did at the same time is visited, and only by a change that does not know all of it. Visiting so many takes about
/// 200 ms.
pub const ANCESTRY_WALK_MAX: usize = 4 * RELAY_WALK_MAX;

/// The most that a relay visits for one change: 65,536.
///
/// A device that was away while so many changes were made to one document still passes, because what it saw before is known without a
/// walk; a walk of this length takes about 50 ms.
pub const RELAY_WALK_MAX: usize = 65_536;

/// Of how many places in a history it is remembered what stands below them: 16, with a bit for each change above what they have in
/// common. Two people who type side by side take a few.
pub const ANCESTRIES_KEPT: usize = 16;

/// How many changes, of all these places together, may be known to be below them and not looked at yet: 65,536 of ~16 bytes. Two people
/// who type side by side have two.
pub const ANCESTRY_FRONTIERS_MAX: usize = 65_536;

/// From how many changes on a filter over a document's history takes long: 16,384, some 3 ms.
pub const LONG_HISTORY_CHANGES: u64 = 16_384;

/// How many more changes than a peer says that it put into its filter may seem to be in it: 1,024. One in a hundred of those that are
/// not there does.
pub const FILTER_HITS_FREE: u64 = 1_024;

/// How many changes are visited from either end to find out what somebody lacks before it is tried from the other: 256, and four times
/// as many at each further try.
pub const WALK_VISITS: usize = 256;

/// The most changes that are visited to find out from where on a change does not know everything: 256.
///
/// It only shortens later walks, so that it may give up early: two people who type at the same time are a few changes
/// apart.
pub const FLOOR_WALK_MAX: usize = 256;

/// The most bytes of other changes that are read to look up what one change refers to: 128 MiB.
///
/// Whoever deletes a text of 1,000,000 characters that were typed one by one refers to as many changes of ~110 bytes.
pub const REFERENCED_BYTES_MAX: usize = 128 << 20;

/// How many references to earlier changes are gathered before they are looked up together: 65,536 of ~72 bytes, 5 MiB.
pub const REFERENCES_BATCH: usize = 65_536;

/// The most operations that are looked at to find out which of two elements stands first, for all marks of one change: 2^20,
/// what the longest paste has. It takes 20 ms.
///
/// A mark over more than 4,096 characters that were typed one by one passes unseen.
pub const MARK_WALK_MAX: u64 = 1 << 20;

/// As how many operations it counts to open another change for that: 256. It takes ~5 us.
pub const MARK_WALK_OPENING: u64 = 256;

/// The most rows of any column of a whole document that is loaded here: 16 million.
///
/// A text of 1,000,000 characters with all its history has about as many. Automerge takes ~30 bytes for each: 500 MB.
pub const WHOLE_ROWS_MAX: u64 = 16 << 20;

/// The most bytes that the columns of a whole document inflate to together: 128 MiB, twice a document's own bound.
pub const WHOLE_INFLATED_BYTES_MAX: usize = 128 << 20;

/// How long after a document's history could not be unfolded, because the store could not be written, it is tried again: 1 s, and twice
/// as long after each further try.
pub const UNFOLD_AGAIN: Duration = Duration::from_secs(1);

/// The longest pause between two tries to unfold a document's history: 5 minutes. Each loads the document.
pub const UNFOLD_AGAIN_MAX: Duration = Duration::from_secs(300);

/// The fewest changes that are worth packing: 1,024.
pub const PACK_CHANGES_MIN: usize = 1_024;

/// The fewest changes that take less room in a pack than in rows of their own: 16.
pub const PACK_CHANGES_WORTH: usize = 16;

/// How many of a document's newest changes keep their own rows when the rest is packed: 512. Nearly all look-ups are for
/// these.
pub const PACK_KEEP: u64 = 512;

/// How many bytes of unpacked changes are kept in memory, for all stores of the process together: 64 MiB.
///
/// A full pack of changes of 110 bytes takes ~1 MB unpacked, with what is needed to find them.
pub const PACK_CACHE_BYTES: usize = 64 << 20;

/// The most objects whose kind is remembered while changes of one document are appended: 1,024 of ~64 bytes.
pub const OBJECT_KINDS_CACHED: usize = 1_024;

/// The most values of one field that are read, and that one write overwrites: its winner and 4,095 conflicts.
///
/// An honest author overwrites every value it sees, so there are as many as devices that wrote at the same time. A field may
/// have more: whatever is below the greatest 4,096 shows when those are overwritten.
pub const FIELD_VALUES_MAX: usize = 4_096;

/// The most values of a field that stand in its register's row, which each write to it rewrites. The others have rows of
/// their own.
pub const REGISTER_ROW_VALUES: usize = 64;

/// How many bytes those values may take together: 16 KiB. The winner stands there however long it is.
pub const REGISTER_ROW_BYTES: usize = 16 << 10;

/// The most hashes in each list (`heads`, `need`, `last_sync`) of one sync message.
pub const SYNC_HASHES_MAX: usize = 65_536;

/// The most `have` entries in one sync message. Every known implementation sends one.
pub const SYNC_HAVES_MAX: usize = 16;

/// The most change chunks in one sync message, bounded by the frame too: a minimal change is ~50 bytes.
pub const SYNC_CHANGES_MAX: usize = 1 << 20;

/// How many changes of a message are checked before they are appended and the next ones are: 16,384. In memory each takes
/// ~600 bytes more than its own: 10 MB, where the 350,000 smallest that fit into a frame took 245 MB.
pub const INTAKE_CHANGES_MAX: usize = 16_384;

/// How many bytes of changes are checked before they are appended, uncompressed and without the last: 8 MiB. A frame of
/// compressed changes may inflate to 1,000 times as much as it is long.
pub const INTAKE_BYTES_MAX: usize = 8 << 20;

/// The most entries in a Bloom filter. 4,000,000 x 10 bits = 5 MB, a sixth of a frame.
pub const BLOOM_ENTRIES_MAX: u32 = 4_000_000;

/// The most bits an entry of a Bloom filter may have. Every known implementation sends 10.
pub const BLOOM_BITS_PER_ENTRY_MAX: u32 = 64;

/// The most probes of a Bloom filter. Every known implementation sends 7.
pub const BLOOM_PROBES_MAX: u32 = 32;

/// How many changes are looked for at a time that others, which came before them, wait for: 64. A chain waits for its first.
pub const ORPHAN_ROOTS_AT_ONCE: usize = 64;

/// The most changes without their dependencies that one conversation about one document keeps in memory.
pub const ORPHANS_MAX: usize = 4_096;

/// The most bytes of such changes.
pub const ORPHAN_BYTES_MAX: usize = 8 << 20;

/// The most bytes of such changes in all conversations of one connection: 32 MiB, four that are full.
///
/// A connection may talk about [`SESSION_DOCUMENTS_MAX`] documents; without this bound each could hold its 8 MiB. What
/// does not fit is dropped as at a conversation's own bound, and asked for again.
pub const CONNECTION_ORPHAN_BYTES_MAX: usize = 4 * ORPHAN_BYTES_MAX;

/// The most changes that wait in one conversation for the document's history to be unfolded: 32,768. They are what was
/// written since the relay's snapshot, which it makes anew when its history has doubled; what does not fit is asked for again.
pub const FOLDED_WAITING_MAX: usize = 32_768;

/// The most missing hashes named in one answer about orphans.
pub const MISSING_HASHES_MAX: usize = 64;

/// How many bytes of changes one outgoing sync message carries before the rest waits for the next: 1 MiB.
///
/// A message holds at least one change, so it may be as long as [`CHANGE_BYTES_MAX`] with its envelope.
pub const SYNC_MESSAGE_BYTES: usize = 1 << 20;

/// Of how many messages a conversation remembers the heads until the peer shows them: 16. Answers to older ones are looked up
/// in the store.
pub const UNANSWERED_MAX: usize = 16;

/// How often the same missing changes are asked for before a conversation gives up on them.
pub const NEED_REPEATS_MAX: u32 = 3;

/// How often a peer may say in one conversation that it does not know the heads it was taken to have: 3. It then gets
/// again what is above those it shows; after the last time it is taken to have nothing but what it shows.
pub const SYNC_RESETS_MAX: u32 = 3;

/// The most refused changes that one conversation remembers, so that it does not ask for them again, and the most that it
/// tells of at a time.
pub const REFUSED_MAX: usize = 1_024;

/// The longest peer id in bytes. automerge-repo makes ~15 characters.
pub const PEER_ID_BYTES_MAX: usize = 256;

/// The longest storage id in bytes, in a classic frame. automerge-repo sends a UUID in text, 36.
pub const STORAGE_ID_BYTES_MAX: usize = 256;

/// The longest name of who deleted a document, in bytes: a peer or storage id.
pub const DELETED_BY_BYTES_MAX: usize = PEER_ID_BYTES_MAX;

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

/// How long an ephemeral message of the classic protocol, which does not say, is good for: 30 seconds in milliseconds.
pub const CLASSIC_PRESENCE_TTL_MS: u64 = 30_000;

/// The most (sender, session) pairs whose last ephemeral count is remembered in one document.
pub const EPHEMERAL_SESSIONS_MAX: usize = 1_000;

/// What it counts to ask a relay for a document or space that is not there, in tenths: one.
pub const MISS_TENTHS: u64 = 10;

/// What it counts to ask for a document that is not there while showing heads of it, in tenths: 1. That is how a first upload
/// begins; who makes the heads up to guess ids gets no further than ten times as far.
pub const MISS_WITH_HEADS_TENTHS: u64 = 1;

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

/// The fewest changes a document has when it is folded into a snapshot: 1,024, about 100 kB. Fewer go out as they are.
pub const FOLD_CHANGES_MIN: u64 = 1_024;

/// By how much a history must have grown since its last snapshot for another one: a quarter, as a divisor.
///
/// So all folds of a document together cost at most 5 times its last, and a fresh peer gets at most a fifth as raw
/// changes.
pub const FOLD_GROWTH_DIVISOR: u64 = 4;

/// How often a document is tried before it counts as one that cannot be folded: 2. It is then left alone until its history
/// is twice as long.
pub const FOLD_FAILURES_MAX: u64 = 2;

/// The most bytes of changes that are folded, or come out of a chunk: 64 MiB, 600,000 keystrokes of 110 bytes.
///
/// They are held in memory once by the parent and once by the child, beside the document.
pub const FOLD_BYTES_MAX: usize = 64 << 20;

/// The most changes that are folded, or come out of a chunk: 2^20. Each costs a length of 4 bytes.
pub const FOLD_CHANGES_MAX: usize = 1 << 20;

/// The address space of a child that folds: 1 GiB. 260,000 keystrokes of 110 bytes take a third of it.
pub const FOLD_MEMORY_BYTES: u64 = 1 << 30;

/// The processor time of a child that folds, in seconds: 60.
pub const FOLD_CPU_SECONDS: u64 = 60;

/// How long a child that folds may take by the clock on the wall: 3 minutes, for a machine that is busy otherwise.
pub const FOLD_TIMEOUT: Duration = Duration::from_secs(180);

/// How much is kept of what a child that folds writes to its standard error, in bytes.
pub const FOLD_STDERR_BYTES_MAX: usize = 1 << 10;

/// The largest snapshot: 8 MiB, as the largest change. It goes out in one frame, and many peers take 16 MiB at most. A
/// document whose snapshot would be larger goes out as changes.
pub const SNAPSHOT_BYTES_MAX: usize = CHANGE_BYTES_MAX;

/// The most bytes that the documents in memory may take together, by estimate: 256 MiB.
///
/// A text with the history of 260,000 keystrokes is estimated at 27 MB of changes + 260,000 x (32 + 16) bytes = 40 MB, so
/// six such texts fit, or some 14,000 notes of ten changes at 18 KB. One document beyond it is kept alone.
pub const LOADED_BYTES_MAX: u64 = 256 << 20;

/// What an empty document takes in memory, estimated: 16 KiB. Measured: 18.7 KB with ten changes of one field each.
pub const LOADED_DOCUMENT_BYTES: u64 = 16 << 10;

/// What a change takes in memory beside its own bytes, estimated: 32.
///
/// Its hash and its place in the graph cost more, but of its 106 bytes the author's id and the dependency are kept once.
/// Measured: 135 bytes for a change of one keystroke, where 106 + 32 + 16 = 154 are estimated.
pub const LOADED_CHANGE_BYTES: u64 = 32;

/// What an operation takes in memory beside its own bytes, estimated: 16, its part of the columns and of their index.
pub const LOADED_OP_BYTES: u64 = 16;

/// The most changes that one document leaves out because Automerge cannot take them, not counting those that depend on
/// them: 256 authors that each brought one in. Finding one costs O(document x log(changes)).
pub const QUARANTINE_CULPRITS_MAX: usize = 256;

/// The most places in a damaged file that are tried as the beginning of a chunk: 4,096. Each try may hash the rest.
pub const SALVAGE_TRIES_MAX: usize = 4_096;

/// The most bytes that all those tries may hash together, as a multiple of the file's size: 8.
pub const SALVAGE_HASH_FACTOR: usize = 8;

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

/// The largest WebSocket message of `rejoin.v1`: 16 MiB, which holds the largest change or snapshot beside a full batch.
pub const V1_FRAME_BYTES_MAX: usize = 16 << 20;

/// The largest number in a message of `rejoin.v1`: 2^53 - 1, what a JavaScript number holds exactly. Two of them add up
/// without overflow.
pub const V1_NUMBER_MAX: u64 = (1 << 53) - 1;

/// The longest token in bytes: 8 KiB. A signed token with a hundred grants has 4 KiB.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;

/// The most spaces that one message subscribes to or leaves: 1,024 of at most 41 bytes, 42 KB.
pub const SUBSCRIPTIONS_MAX: usize = 1_024;

/// The most entries of one batch of `rejoin.v1`: 16,384, as many as are checked at a time ([`INTAKE_CHANGES_MAX`]). Decoded,
/// each takes 64 bytes beside its change: 1 MiB.
pub const BATCH_ENTRIES_MAX: usize = INTAKE_CHANGES_MAX;

/// How many bytes a batch of `rejoin.v1` has before the rest waits for the next: 256 KiB.
///
/// What happens now waits behind at most one such batch: 0.2 s at 10 Mbit/s. A batch holds at least one entry, so it may be
/// as long as [`CHANGE_BYTES_MAX`] with its envelope.
pub const BATCH_BYTES: usize = 256 << 10;

/// The most documents that one message compares, lists, opens or closes: 16,384. With one head each they are 800 KB.
pub const DOCUMENT_LIST_MAX: usize = 16_384;

/// The most presence values in one message: 256.
pub const PRESENCE_VALUES_MAX: usize = 256;

/// The most bytes of all presence values of one message together: 1 MiB, as an ephemeral message of a classic client may
/// have.
pub const PRESENCE_BYTES_MAX: usize = EPHEMERAL_BYTES_MAX;

/// The longest key of a presence value in bytes: what the longest session id of a classic client needs.
pub const PRESENCE_KEY_BYTES_MAX: usize = SESSION_ID_BYTES_MAX;

/// The longest time a presence value may live without being renewed, in milliseconds: one hour.
pub const PRESENCE_TTL_MS_MAX: u64 = 3_600_000;

/// How long a presence value lives that says nothing else, in milliseconds: 30 seconds, as one of a classic client does.
pub const PRESENCE_TTL_MS: u64 = CLASSIC_PRESENCE_TTL_MS;

/// The shortest time to live that an application may give a presence value, in milliseconds: 1 second, so that a value is sent
/// again three times a second at most.
pub const PRESENCE_TTL_MS_MIN: u64 = 1_000;

/// The longest time between two sendings of a presence value, in milliseconds: a third of [`PRESENCE_TTL_MS`], because classic
/// clients give every value that long, and because whoever comes later hears of it then.
pub const PRESENCE_RENEWAL_MS_MAX: u64 = PRESENCE_TTL_MS / 3;

/// How long presence values of one document are gathered before they are sent, in milliseconds: 50, twenty messages a second.
pub const PRESENCE_BATCH_MS: u64 = 50;

/// The shortest time between two sendings of a document's values because somebody came, in milliseconds: one second.
pub const PRESENCE_ANSWER_MS: u64 = 1_000;

/// How much later at random than at once values are sent because somebody came, in milliseconds: up to 500, so that 50 who are
/// there do not answer in the same moment.
pub const PRESENCE_JITTER_MS: u64 = 500;

/// How long it is remembered that a presence value was taken back, in milliseconds: 30 seconds. What comes late by another relay
/// does not bring it back.
pub const PRESENCE_GONE_MS: u64 = 30_000;

/// The most bytes of one presence value that is kept or set by an application: 64 KiB. Longer ones of others are passed over.
pub const PRESENCE_VALUE_BYTES_MAX: usize = 64 << 10;

/// The most authors whose presence values about one document are kept: 256. The one unheard for longest goes for a new one.
pub const PRESENCE_AUTHORS_MAX: usize = 256;

/// The most presence values of one author about one document: 32. The one that was not renewed for longest goes for a new one.
pub const PRESENCE_KEYS_MAX: usize = 32;

/// What a presence value that is kept takes in memory beside its bytes: at most ~512, with its places in two orders.
pub const PRESENCE_KEPT_VALUE_BYTES: usize = 512;

/// The most bytes of presence values of others that are kept, of all documents: 16 MiB. The one that was not renewed for longest
/// goes for a new one.
pub const PRESENCE_KEPT_BYTES_MAX: usize = 16 << 20;

/// The most presence values that a process has of its own: what waits for a slow socket when all are sent again.
pub const PRESENCE_OWN_MAX: usize = PRESENCE_QUEUE_MAX;

/// The most bytes of them: 512 KiB, so that all of them and as much again wait for a slow socket.
pub const PRESENCE_OWN_BYTES_MAX: usize = PRESENCE_BYTES_MAX / 2;

/// How many ephemeral messages a reader may fall behind before it misses the oldest: 1,024.
pub const EPHEMERALS_BEHIND_MAX: usize = 1_024;

/// The most credit that one side may have at once, in bytes: 1 GiB. It is a number and reserves nothing.
pub const CREDIT_BYTES_MAX: u64 = 1 << 30;

/// How much credit a side gives when a connection begins, in bytes: 2 MiB, eight batches. That fills a line of 10 MB/s with
/// 200 ms there and back.
pub const CREDIT_BYTES: u64 = 2 << 20;

/// The longest reason why a write was refused, in bytes. The gate's longest is ~150.
pub const REJECT_TEXT_BYTES_MAX: usize = 256;

// A frame of our own protocol is taken wherever a classic one is.
const _: () = assert!(V1_FRAME_BYTES_MAX <= FRAME_BYTES_MAX);
// A batch to which the largest change was added last fits into a frame, and so does a snapshot with all its heads.
const _: () = assert!(BATCH_BYTES + CHANGE_BYTES_MAX + 1_024 < V1_FRAME_BYTES_MAX);
const _: () = assert!(SNAPSHOT_BYTES_MAX + DOCUMENT_HEADS_MAX * 32 + 1_024 < V1_FRAME_BYTES_MAX);
// So does a message to which the document with the most heads was added last.
const _: () = assert!(BATCH_BYTES + DOCUMENT_HEADS_MAX * 32 + 1_024 < V1_FRAME_BYTES_MAX);
// What is granted first is no more than may be granted.
const _: () = assert!(CREDIT_BYTES <= CREDIT_BYTES_MAX && CREDIT_BYTES_MAX < V1_NUMBER_MAX);

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
// An orphan of any size fits where nothing else is held, and no conversation takes a connection's whole budget.
const _: () = assert!(CHANGE_BYTES_MAX <= ORPHAN_BYTES_MAX && ORPHAN_BYTES_MAX < CONNECTION_ORPHAN_BYTES_MAX);
// Every orphan's missing dependency can be asked for in one message.
const _: () = assert!(MISSING_HASHES_MAX <= SYNC_HASHES_MAX);

/// The most findings that a check of a store lists; it counts them all. A damaged page holds some hundred records, and
/// nobody reads more.
pub const FINDINGS_MAX: usize = 1_000;

/// The documents that statistics name: the 10 largest.
pub const LARGEST_DOCUMENTS: usize = 10;

/// The longest journal of a store: 1 MiB, some 1,500 changes with their places in ledger and log.
///
/// It is what a store that was not closed has to do again when it is opened, which takes 20 ms, and how much a checkpoint pays for
/// together: one page of 4 KiB is written once for all rows that were put into it meanwhile.
pub const JOURNAL_BYTES_MAX: usize = 1 << 20;

/// The longest record in it: 256 KiB. A longer transaction is a checkpoint itself: it writes whole pages anyway.
pub const JOURNAL_RECORD_BYTES_MAX: usize = 256 << 10;

/// The most memory that what stands in the journal alone takes: 8 MiB, by keys, values and 80 bytes a row.
///
/// A full journal of changes takes some 3 MiB. Rows that were deleted by the range take no room in it but their keys, here as there; of very
/// short ones more than 1 MiB's worth could come together.
pub const JOURNAL_MEMORY_BYTES_MAX: usize = 8 << 20;

/// How much the journal's file grows at once: 64 KiB. A write into a file that is long enough need not find room on the disk.
pub const JOURNAL_STEP_BYTES: usize = 64 << 10;

/// How many bytes of rows a backup writes in one transaction: 8 MiB, the longest change, and below a tenth of a second
/// of a slow disk.
pub const BACKUP_BATCH_BYTES: usize = 8 << 20;

/// How many bytes of rows a frame of an archive holds before it is ended: 1 MiB. What is lost of a file beyond a fault is found within
/// one, and 256 of them in a second keep neither a disk nor a processor busy for long at a time.
pub const ARCHIVE_FRAME_BYTES: usize = 1 << 20;

/// The longest frame of an archive that is read, in bytes of rows: 32 MiB. Whoever writes one ends it with the row that fills it, so it has
/// at most [`ARCHIVE_FRAME_BYTES`] and the longest row: a pack of [`PACK_BYTES_MAX`] with what stands around it.
pub const ARCHIVE_FRAME_BYTES_MAX: usize = 32 << 20;

/// The longest frame of a space's file that is read: 12 MiB. Its longest row is a change of [`CHANGE_BYTES_MAX`].
pub const ARCHIVE_SPACE_FRAME_BYTES_MAX: usize = 12 << 20;

/// How many changes are replayed in one transaction when a document's records are computed anew.
pub const REPLAY_CHANGES: usize = 1_024;
// A frame of an archive has room for the longest row beside what fills it.
const _: () = assert!(ARCHIVE_FRAME_BYTES + PACK_BYTES_MAX + (8 << 20) <= ARCHIVE_FRAME_BYTES_MAX);
const _: () = assert!(ARCHIVE_FRAME_BYTES + CHANGE_BYTES_MAX + (1 << 20) <= ARCHIVE_SPACE_FRAME_BYTES_MAX);
// A snapshot's frame is no longer than one that carries a batch of changes and the largest one.
const _: () = assert!(SNAPSHOT_BYTES_MAX <= SYNC_MESSAGE_BYTES + CHANGE_BYTES_MAX);
// Whatever one frame brings can be handed to a child, and a list of changes it makes of it to the gate.
const _: () = assert!(FRAME_BYTES_MAX <= FOLD_BYTES_MAX && FOLD_CHANGES_MAX <= SYNC_CHANGES_MAX);
// The last fold and those before it are a geometric series: 1 + 4/5 + (4/5)^2 + ... = 5.
const _: () = assert!(FOLD_GROWTH_DIVISOR >= 1 && FOLD_CHANGES_MIN >= FOLD_GROWTH_DIVISOR);

/// How many rows of a log are read before their changes are: 256, about 12 KB.
pub const LOG_ROWS_READ: usize = 256;

/// What an entry of the log counts towards a reader's budget besides its change's bytes: 32, about what a frame spends on
/// saying which document and position it is. So a million empty entries are not free.
pub const LOG_ENTRY_BYTES: u64 = 32;

/// How many acknowledgements of one document and relay are remembered one by one until another device has passed them: 8.
/// Of more, the oldest and the newest are kept, and what was between is said to be seen a little later.
pub const RECEIPT_ROWS_MAX: usize = 8;

/// How many separate ranges of positions of a client's own pushes are kept ahead of what the log told: 16,384, about 1 MB. Those
/// above are forgotten, which costs a comparison.
pub const ACKED_RANGES_MAX: usize = 16_384;

/// How often a client compares a space anew on one connection, because a relay left something out: 3. A relay that does so
/// again is not one to listen to.
pub const COMPARED_ANEW_MAX: u32 = 3;

/// How many pushes of a client wait for their answers at a time: 8. With [`BATCH_BYTES`] each they are [`CREDIT_BYTES`].
pub const PUSHES_MAX: usize = 8;

/// How many documents of the outbox a client looks up at a time when a connection begins: 256.
pub const OUTBOX_DOCUMENTS_AT_ONCE: usize = 256;

/// The most presence values that wait for a slow socket: 1,024. The oldest are dropped.
pub const PRESENCE_QUEUE_MAX: usize = 1_024;

/// How many batches of one connection may be under way before no further message is read: 64. Of 256 KiB each, they would be
/// 16 MiB if credit let them; one change a batch is 64 changes a commit.
pub const BATCHES_UNDER_WAY_MAX: usize = 64;

/// What a write that was checked takes in memory beside its change's bytes: ~600. Those of a connection that wait to be stored
/// are at most [`INTAKE_BYTES_MAX`] with it, and the last.
pub const CHECKED_WRITE_BYTES: usize = 600;

/// How many outputs of a session may wait before no further message is read: 1,024, what a hello with
/// [`SUBSCRIPTIONS_MAX`] subscriptions makes at once.
pub const OUTPUTS_WAITING_MAX: usize = 1_024;

/// How many ranges of positions that it wrote itself are remembered of a reader in one space: 256, 4 KiB. What is above that
/// it is told twice.
pub const OWN_RANGES_MAX: usize = 256;

/// How many snapshots are remembered of a reader in one space until their entries are passed: 256, 12 KiB. Above that
/// documents go as changes.
pub const SNAPSHOTS_UNDER_WAY_MAX: usize = 256;

/// How many documents a client may have open on one connection: 200,000, as on a classic one. 100 bytes each are 20 MB.
pub const OPEN_DOCUMENTS_MAX: usize = SESSION_DOCUMENTS_MAX;

/// How many heads the documents may have together that a client opened and that were not filled in yet: 65,536, 2 MiB.
pub const OPEN_HEADS_MAX: usize = 65_536;

/// How many documents of a space are read together when it is compared or listed: 1,024, 16 KiB.
pub const COMPARE_PAGE_DOCUMENTS: usize = 1_024;

/// How many positions of a document that a peer lacks are remembered while it is filled in: 65,536, 512 KiB. The rest is found
/// anew behind them.
pub const FILL_POSITIONS_MAX: usize = 65_536;

/// How many stores are remembered of which a reader has still to hear how far they are: 256, 14 KiB.
pub const SEEN_WAITING_MAX: usize = 256;

/// How many presence messages wait for a reader: 64. The oldest are dropped.
pub const PRESENCE_WAITING_MAX: usize = 64;

/// How many bytes of presence messages wait for a reader: 1 MiB, or a single longer one.
pub const PRESENCE_WAITING_BYTES_MAX: usize = PRESENCE_BYTES_MAX;

/// Of how many documents it is estimated how much is to come of a space: 16. Each costs a lookup.
pub const ESTIMATE_DOCUMENTS: usize = 16;

// Whatever one message opens may be open, and its heads fit where nothing else waits.
const _: () = assert!(DOCUMENT_LIST_MAX <= OPEN_DOCUMENTS_MAX && DOCUMENT_HEADS_MAX <= OPEN_HEADS_MAX);
// The longest value fits where it is kept, many times; a value is renewed before it runs out, also where it is heard late.
const _: () = assert!(PRESENCE_VALUE_BYTES_MAX + PRESENCE_KEPT_VALUE_BYTES <= PRESENCE_KEPT_BYTES_MAX / 64);
const _: () = assert!(PRESENCE_VALUE_BYTES_MAX <= PRESENCE_OWN_BYTES_MAX && PRESENCE_TTL_MS <= PRESENCE_TTL_MS_MAX);
const _: () = assert!(PRESENCE_BATCH_MS < PRESENCE_TTL_MS_MIN / 3 && PRESENCE_TTL_MS_MIN < PRESENCE_TTL_MS);

/// How many refused documents and reasons of what a client pushed are told apart before they are told: 64. What comes beyond counts
/// with the last.
pub const REFUSALS_TOLD_MAX: usize = 64;
