//! Every bound of the relay, with its unit and the arithmetic behind it. Those of the engine are in [`rejoin::limits`].

use std::time::Duration;

use rejoin::limits::{
    BLOOM_ENTRIES_MAX, CHANGE_BYTES_MAX, FOLD_CHANGES_MIN, FOLD_GROWTH_DIVISOR, FRAME_BYTES_MAX, SYNC_HASHES_MAX,
    SYNC_MESSAGE_BYTES,
};

use crate::pace::Interval;

/// How many WebSocket connections are served at once unless the configuration says otherwise: 10,000.
///
/// An idle one with a document costs 13.4 kB (two buffers of 4 KiB, a session, timers): 140 MB together.
pub const CONNECTIONS_MAX_DEFAULT: usize = 10_000;

/// How many of them one address may have: 256, an office or a school behind one router.
pub const CONNECTIONS_PER_ADDRESS_MAX_DEFAULT: usize = 256;

/// How many of them one principal may have: 256. A person has a few devices with some tabs each; a service may have a fleet.
pub const CONNECTIONS_PER_PRINCIPAL_MAX_DEFAULT: usize = 256;

/// How many WebSockets a second one address may ask for: 64. All of an office come back within 4 seconds.
pub const UPGRADES_PER_SECOND_DEFAULT: u32 = 64;

/// How many frames a second one connection may send: 2,000. A person makes some 10, a classic first upload of 10,000 documents as
/// many as the burst allows.
pub const FRAMES_PER_SECOND_DEFAULT: u32 = 2_000;

/// How many frames it may send at once: 200,000, one for each document that a classic connection may have.
pub const FRAMES_BURST_DEFAULT: u32 = 200_000;

/// How many bytes a second one connection may send: 16 MiB, more than most lines carry.
pub const BYTES_PER_SECOND_DEFAULT: u32 = 16 << 20;

/// How many bytes it may send at once: 128 MiB, four of the longest messages.
pub const BYTES_BURST_DEFAULT: u32 = 128 << 20;

/// How many changes a second one principal may write: 5,000, a quarter of what one store commits.
pub const APPENDS_PER_SECOND_DEFAULT: u32 = 5_000;

/// How many changes it may write at once: 1,000,000. A keystroke trace of a long text has 260,000.
pub const APPENDS_BURST_DEFAULT: u32 = 1_000_000;

/// How often a minute one principal may ask for what is not there or not for it: 1,000. Ids have 122 random bits; this is against
/// whoever has a list of them.
pub const MISSES_PER_MINUTE_DEFAULT: u32 = 1_000;

/// How many bytes of changes one document may have: 64 MiB, more than half a million keystrokes. Beyond it nobody gets a snapshot.
pub const DOCUMENT_BYTES_MAX_DEFAULT: u64 = 64 << 20;

/// How many operations a change may have for each of its bytes before the others count as dense: 4.
///
/// What is typed or pasted takes more bytes than it has operations. A change of 100 bytes can hold a million all the same: the
/// deletion of a long text does, and so does a million times the same.
pub const OPS_PER_BYTE_FREE: u64 = 4;

/// How many dense operations one document may have: 16 million, a long text deleted sixteen times at once.
///
/// Automerge takes ~30 bytes for an operation, so that all of them take a device 500 MB. Without a bound, 64 MiB of changes would
/// be 670,000 million operations, and 2,148 changes use up the counters of a document.
pub const DENSE_OPS_MAX: u64 = 16 << 20;

/// The longest time after which a client is asked to come back when the relay stops: 30 s. 10,000 come back as 333 a second.
pub const RECONNECT_AFTER_MAX: Duration = Duration::from_secs(30);

/// How many sockets may be open beyond the WebSocket connections: 256, for HTTP requests and for those being refused.
pub const SOCKETS_SPARE: usize = 256;

/// How many sockets one address may have open beyond its WebSocket connections: 32. A page and its files come over a few.
pub const SOCKETS_SPARE_PER_ADDRESS: usize = 32;

/// How many sockets one address may open for each WebSocket that it may ask for: 8, since every file of a page has its own.
pub const SOCKETS_PER_UPGRADE: u32 = 8;

/// How many addresses are kept in mind before those that are gone are forgotten: 4,096, about half a megabyte.
pub(crate) const ADDRESSES_KEPT: usize = 4_096;

/// How long a client may take for TLS: 5 s. Beyond that its line is too slow to work with.
pub const TLS_HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// How often the files of TLS are looked at: every 10 s. Certificates are renewed weeks ahead.
pub const TLS_LOOK: Duration = Duration::from_secs(10);

/// How many connections a second are asked to come back when the relay stops: 100.
pub const RECONNECTS_PER_SECOND: usize = 100;

/// How often a connection is pinged. Proxies close what is silent for 60 s, and mobile networks rarely earlier.
pub const PING_INTERVAL: Duration = Duration::from_secs(20);

/// How long nothing at all may come from a peer before it counts as gone: two pings unanswered, and some grace.
///
/// Bytes count, not messages: 27 MB over a slow line are one message that takes minutes.
pub const DEAD_AFTER: Duration = Duration::from_secs(45);

/// How long a peer may take to say `join`, and an HTTP client to say what it wants.
pub const HANDSHAKE_DEADLINE_DEFAULT: Duration = Duration::from_secs(10);

/// How long a peer may take no byte of what is being sent to it before the connection is closed.
pub const WRITE_STALL: Duration = Duration::from_secs(30);

/// How long a closed connection waits for the other side to close too, so that it gets to read why.
pub const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// How long the relay takes to close every connection and finish its commits once it is told to stop.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// How long after a refusal for lack of room a client is asked to wait, in seconds.
pub const RETRY_AFTER_SECONDS: u32 = 10;

/// The most changes in one commit: 16,384, about a tenth of a second of work.
pub const COMMIT_CHANGES_MAX: usize = 16_384;

/// The most bytes of changes in one commit: 8 MiB. A commit holds at least one change.
pub const COMMIT_BYTES_MAX: usize = 8 << 20;

/// The most requests in one commit.
pub const COMMIT_REQUESTS_MAX: usize = 1_024;

/// For how long a commit takes writes in where one connection writes alone: 100 ms, and at least one write. What is left goes into
/// the next one.
pub const COMMIT_WORK_MAX: Duration = Duration::from_millis(100);

/// For how long it does while several write: 20 ms, ten times what [`COMMIT_SHARED_BYTES`] take. Whoever writes beside changes that take
/// long to look up waits for one such commit and is in the next.
pub const COMMIT_SHARED_WORK_MAX: Duration = Duration::from_millis(20);

/// What a microsecond of a commit counts while several connections write: 32 bytes of a share. A change of the common length is
/// written in some 15 us, so that it counts what it weighs; one for which 65,536 others are visited counts as thousands do.
pub const COMMIT_BYTES_PER_MICROSECOND: usize = 32;

/// How much a commit holds while several connections write: 128 KiB, with [`APPEND_OVERHEAD_BYTES`] for each change. That is some 200
/// keystrokes, 2 ms of work and a flush, so nobody waits long for who writes without a pause.
pub const COMMIT_SHARED_BYTES: usize = 128 << 10;

/// How much of it is an author's at least, however many wait: 8 KiB, some 12 keystrokes. So a thousand that write a little fit one
/// commit, as long as it is within [`COMMIT_BYTES_MAX`].
pub const COMMIT_SHARE_BYTES_MIN: usize = 8 << 10;

/// For how long after a connection wrote another one is not alone: 10 s. Whoever types now and then does not wait for the long
/// commits of a first upload.
pub const COMMIT_SHARED_FOR: Duration = Duration::from_secs(10);

/// The most bytes of changes that wait for a commit or are in one: 64 MiB, beside [`AUTHOR_QUEUE_BYTES_FREE`] of each author. A
/// connection whose changes do not fit waits, and is not read from meanwhile.
pub const APPEND_QUEUE_BYTES_MAX: usize = 64 << 20;

/// How much of it one author gets at most: half, which the longest message fits.
pub const AUTHOR_QUEUE_BYTES_MAX: usize = APPEND_QUEUE_BYTES_MAX / 2;

/// How much an author may have waiting without asking whether there is room: 256 KiB, some 400 keystrokes. It was read from the
/// socket already, so to let it wait elsewhere would save nothing.
pub const AUTHOR_QUEUE_BYTES_FREE: usize = 256 << 10;

/// What a waiting change costs beside its bytes: its parsed header with hash, dependencies and actors.
pub const APPEND_OVERHEAD_BYTES: usize = 512;

/// How far apart commits begin when few requests come: 10 ms. A lone change is committed at once; this is how long changes that
/// come one after the other gather: a commit costs 0.2 ms of a processor, however little is in it.
pub const COMMIT_INTERVAL: Duration = Duration::from_millis(10);

/// How far apart commits begin at least, however many requests come: 0.7 ms. A commit of one change takes 0.2 ms; with 0.5 ms, who
/// writes as fast as acknowledgements come costs a twentieth more, in smaller frames.
pub const COMMIT_INTERVAL_MIN: Duration = Duration::from_micros(700);

/// How many requests that are to be acknowledged come within [`COMMIT_INTERVAL`] where commits do not wait for more of them: 4, more
/// than 300 a second.
///
/// With 1,000 requests a second each is answered after one commit, 0.3 ms; with 200 two share one. What comes by the classic protocol does
/// not count: it has no acknowledgement that somebody could wait for. A lone request beside it waits for [`COMMIT_INTERVAL`] at most.
pub const COMMIT_BUSY_REQUESTS: usize = 4;

/// How much is enough for a commit that waits for no more, by whatever protocol it came: 64 KiB, with [`APPEND_OVERHEAD_BYTES`] for each
/// change. That is some 100 keystrokes, where a commit costs as much as ten of them; and it is what one connection brings at a time, so
/// that a first upload does not wait for what cannot come.
pub const COMMIT_ENOUGH_BYTES: usize = GATHER_BYTES_MAX;

/// How many bytes of frames that have arrived already are taken in together: 64 KiB, and at least one frame. Their changes
/// share an append and an answer.
pub const GATHER_BYTES_MAX: usize = 64 << 10;

/// What a frame counts beside its bytes when frames are gathered: 64, so that empty ones have an end too.
pub const FRAME_OVERHEAD_BYTES: usize = 64;

/// How many bytes of frames are made before the socket has taken them: 64 KiB. At least one frame, whatever its length.
pub const SEND_BATCH_BYTES: usize = 64 << 10;

/// The most frames that wait for the socket before a connection is not read from any more.
///
/// Answers to what a peer says wait here ("no such document", at 150 bytes); changes are made only when there is room.
pub const SEND_QUEUE_FRAMES_MAX: usize = 256;

/// The most bytes that wait for the socket before a `rejoin.v1` connection is not read from any more: 16 MiB, so that the longest
/// message to it does not keep it from being heard. An answer to a batch that is refused write by write has up to 4 MiB.
pub const SEND_QUEUE_BYTES_MAX: usize = rejoin::limits::V1_FRAME_BYTES_MAX;

/// The most ephemeral messages that wait for one connection. The oldest is dropped for a new one.
pub const EPHEMERAL_QUEUE_MAX: usize = 256;

/// The most bytes of them: 2 MiB, two of the largest.
pub const EPHEMERAL_QUEUE_BYTES_MAX: usize = 2 << 20;

/// Of how many authors in all documents together the last ephemeral count is remembered: 65,536, some 4 MB.
pub const EPHEMERAL_AUTHORS_MAX: usize = 1 << 16;

/// How much memory the last commits take while connections are told of them: 8 MiB, some 8,000 small ones.
pub const RECENT_BYTES_MAX: usize = 8 << 20;

/// How many of a document's commits a connection may lack and still be served from memory: 160, more than begin between two times that it
/// is told of them.
pub const RECENT_LOOK_BACK: usize = 160;

/// How much memory the last entries of the followed spaces take, with the frames that are made of them: 16 MiB for all spaces
/// together, some 30,000 keystrokes.
pub const LIVE_BYTES_MAX: usize = 16 << 20;

/// What an entry that is kept costs beside its bytes and their copy in a frame: its document, and a share of the lists.
pub const LIVE_ENTRY_BYTES: usize = 128;

/// The most presence frames that wait for one connection. The oldest is dropped for a new one.
pub const PRESENCE_QUEUE_MAX: usize = EPHEMERAL_QUEUE_MAX;

/// The most bytes of them: 4 MiB, three of the longest.
pub const PRESENCE_QUEUE_BYTES_MAX: usize = 4 << 20;

/// Of how many presence values it is remembered that a connection showed them, so that they are taken back when it ends: 256, one
/// message of them. Others run out by themselves.
pub const PRESENCE_SHOWN_MAX: usize = rejoin::limits::PRESENCE_VALUES_MAX;

/// How long after a connection ended its values are taken back: 2 s, in which a client whose network changed comes back.
pub const PRESENCE_DEPARTURE_GRACE: Duration = Duration::from_secs(2);

/// The most values of all connections that wait for that: 65,536, some 10 MB. Beyond it they are taken back at once.
pub const PRESENCE_DEPARTING_MAX: usize = 1 << 16;

/// How much a socket may send before its client was let in: 128 KiB. A hello with a token of 8 KiB and 1,024 subscriptions has 80 KiB, an
/// administrator's request 64 KiB.
pub const UNADMITTED_BYTES_MAX: u64 = 128 << 10;

/// How much of messages that are not whole yet one address may have in memory: 64 MiB, two of the longest. Beyond it, those of its
/// sockets that have more than an equal share are closed as they send more: it has at most twice as much.
pub const UNFINISHED_BYTES_PER_ADDRESS_MAX: u64 = 64 << 20;

/// The same for all together: 128 MiB. With what each may have in any case, 10,000 sockets have 330 MB at most.
pub const UNFINISHED_BYTES_MAX: u64 = 128 << 20;

/// How much each socket may have of it in any case: 16 KiB, four reads.
pub const UNFINISHED_BYTES_FREE: u64 = 16 << 10;

/// How many milliseconds those who read along wait for what is written, after they were told of something, at most: 100. The
/// configuration may say less.
pub const NEWS_INTERVAL_MAX_MILLISECONDS: u32 = 100;

const NEWS_INTERVAL_MAX: Duration = Duration::from_millis(NEWS_INTERVAL_MAX_MILLISECONDS as u64);

/// How long after those who follow a space or a document were told of it they are told again, at least: 20 ms, 50 times a second, where
/// up to 20 of them read along, and 1 ms for each of more, up to 100 ms. What is committed meanwhile comes in one frame; the first change
/// after a pause waits for nothing.
///
/// Each reader is sent a frame of its own, so a space costs a thousand a second at most, until 100 readers are told ten times a second
/// each. With 20 ms for 50 readers, a delivered change cost half as much again; with 100 ms for them, a tenth less.
pub(crate) const NEWS_INTERVAL: Interval =
    Interval { least: Duration::from_millis(20), each: Duration::from_millis(1), most: NEWS_INTERVAL_MAX };

/// The same for those who take part in a document by the classic protocol: 40 ms for up to 20, and 2 ms for each of more, up to 100 ms.
/// Each of them answers each frame, so one costs twice as much there; automerge-repo's clients and servers send a tenth of a second
/// apart. With that for few readers too, a delivered change would cost a fifth less, and who reads along would wait 60 ms for one that now
/// takes 8.
pub(crate) const CLASSIC_NEWS_INTERVAL: Interval =
    Interval { least: Duration::from_millis(40), each: Duration::from_millis(2), most: NEWS_INTERVAL_MAX };

/// The most devices and spaces whose cursors wait to be told to one connection: 1,024, 48 bytes each. What does not fit is
/// left out; the device's next cursor comes. As many wait for [`SEEN_INTERVAL`] to be told to anybody; then they are told at once.
pub const SEEN_WAITING_MAX: usize = 1_024;

/// How long after telling how far devices are the relay tells it again, at least: 100 ms. In a space with many readers each commit
/// makes all of them say so.
pub const SEEN_INTERVAL: Duration = Duration::from_millis(100);

/// How many documents of a store that had no log are logged in one transaction when the relay starts: 4,096, one row each.
pub const BACKFILL_DOCUMENTS: usize = 4_096;

/// What a WebSocket reads at once: 4 KiB. The library's default of 128 KiB would be most of an idle connection's memory.
pub const SOCKET_READ_BUFFER_BYTES: usize = 4 << 10;

/// How many bytes of frames are gathered before they are written: 4 KiB.
pub const SOCKET_WRITE_BUFFER_BYTES: usize = 4 << 10;

/// The most bytes that wait to be written: the longest frame the relay makes, and a control frame. Frames are handed over
/// only when the earlier ones are written, so this much is there only while such a frame is being sent.
pub const SOCKET_WRITE_BUFFER_BYTES_MAX: usize = FRAME_BYTES_MAX + SOCKET_WRITE_BUFFER_BYTES;

/// From which length on a frame is worked on beside the runtime's threads: 64 KiB, about 600 changes, a millisecond.
pub const LARGE_FRAME_BYTES: usize = 64 << 10;

/// How many characters of a peer's text are shown in the log.
pub const SHOWN_CHARS_MAX: usize = 64;

/// How many refused or ignored things of one connection are worth a line in the log; the rest is counted.
pub const COMPLAINTS_LOGGED_MAX: u64 = 5;

/// How much of the store is kept in memory: 256 MiB.
pub const STORE_CACHE_BYTES: usize = 256 << 20;

/// Every how many changes of a document it is looked at whether it should be folded: 256, a quarter of the shortest history
/// that is.
pub const FOLD_CHECK_EVERY: u64 = FOLD_CHANGES_MIN / FOLD_GROWTH_DIVISOR;

/// The most documents that wait to be folded. One beyond that comes again when it has grown.
pub const FOLD_QUEUE_MAX: usize = 1_024;

/// How many times as long as a snapshot or a pack took to be stored nothing of the kind is stored, while somebody writes: 200.
/// So of a hundred writes less than one waits for that.
pub const FOLD_REST_FACTOR: u32 = 200;

/// The longest such rest: 10 s. A pack takes 5 to 50 ms, so while somebody writes 400 to 4,000 changes a second are packed; what is
/// written faster, by several together, waits until they pause, and takes 250 bytes a change until then.
pub const FOLD_REST_MAX: Duration = Duration::from_secs(10);

/// For how long after somebody wrote that is so: 2 s. Whoever writes more seldom may wait for a pack, some 50 ms.
pub const FOLD_NOTICED_FOR: Duration = Duration::from_secs(2);

/// How much one that writes alone writes in a second at most to be given way to: 1 MiB, with [`APPEND_OVERHEAD_BYTES`] for each change:
/// some 1,700 keystrokes.
pub const FOLD_NOTICED_BYTES: usize = 1 << 20;

/// How often it is looked whether the rest can be ended: every 50 ms.
pub const FOLD_LOOK: Duration = Duration::from_millis(50);

/// How many child processes in a row may fail to start before folding is given up.
pub const FOLD_STARTS_FAILED_MAX: u32 = 5;

/// How many whole documents are taken apart at once: 1, beside one that is folded. A child may take 1 GiB.
pub const UNFOLDS_AT_ONCE: usize = 1;

/// The processor time of a child that takes a stranger's document apart, in seconds: 10. 260,000 keystrokes take one.
pub const UNFOLD_CPU_SECONDS: u64 = 10;

/// How long it may take by the clock on the wall. Its connection is not read from meanwhile.
pub const UNFOLD_TIMEOUT: Duration = Duration::from_secs(30);

/// The most documents that are remembered because a whole form of them could not be taken apart. Beyond it all are
/// forgotten, which costs at most another attempt each.
pub const UNFOLD_REFUSED_MAX: usize = 4_096;

// The longest frame the relay makes fits the write buffer: a batch with its last change, a filter, three lists of hashes.
const _: () = assert!(
    SYNC_MESSAGE_BYTES + CHANGE_BYTES_MAX + (BLOOM_ENTRIES_MAX as usize) * 10 / 8 + 3 * 32 * SYNC_HASHES_MAX
        < FRAME_BYTES_MAX
);
// A peer is not taken for dead between two pings.
const _: () = assert!(PING_INTERVAL.as_secs() * 2 < DEAD_AFTER.as_secs());
// The longest message fits what its address may have, and a request of the administrator what a socket may send.
const _: () = assert!(2 * FRAME_BYTES_MAX as u64 <= UNFINISHED_BYTES_PER_ADDRESS_MAX);
const _: () = assert!((ADMIN_BODY_BYTES_MAX as u64) < UNADMITTED_BYTES_MAX);
// Whoever is told of a document as seldom as can be is still served from memory.
const _: () =
    assert!(CLASSIC_NEWS_INTERVAL.most.as_micros() < RECENT_LOOK_BACK as u128 * COMMIT_INTERVAL_MIN.as_micros());
// Nobody waits for longer because many wait.
const _: () = assert!(COMMIT_INTERVAL_MIN.as_millis() <= COMMIT_INTERVAL.as_millis());
// The largest message fits what one author may have waiting for a commit.
const _: () = assert!(FRAME_BYTES_MAX <= AUTHOR_QUEUE_BYTES_MAX && AUTHOR_QUEUE_BYTES_FREE < AUTHOR_QUEUE_BYTES_MAX);
// A share of a commit is a part of it, and every author has room for its share.
const _: () = assert!(COMMIT_SHARE_BYTES_MIN <= COMMIT_SHARED_BYTES && COMMIT_SHARED_BYTES <= AUTHOR_QUEUE_BYTES_FREE);
// One presence frame of the largest size fits its queue: its data, and authors and keys of the longest.
const _: () = assert!(
    rejoin::limits::PRESENCE_BYTES_MAX
        + rejoin::limits::PRESENCE_VALUES_MAX
            * (64 + rejoin::limits::PEER_ID_BYTES_MAX + rejoin::limits::PRESENCE_KEY_BYTES_MAX)
        <= PRESENCE_QUEUE_BYTES_MAX
);
// The longest message fits what a connection may send at once, or it would never be taken.
const _: () = assert!(FRAME_BYTES_MAX < BYTES_BURST_DEFAULT as usize);
// Some full batches are kept; a single change that is longer is read from the store.
const _: () = assert!(LIVE_BYTES_MAX > 16 * rejoin::limits::BATCH_BYTES);
// One ephemeral message of the largest size fits its queue.
const _: () = assert!(rejoin::limits::EPHEMERAL_BYTES_MAX <= EPHEMERAL_QUEUE_BYTES_MAX);

/// The most principals that are written down: 1,000,000, about 250 bytes each in memory. Who comes with a JWT needs none.
pub const PRINCIPALS_MAX: usize = 1_000_000;

/// The most stored tokens, share links among them: 1,000,000, about 400 bytes each in memory.
pub const TOKENS_MAX: usize = 1_000_000;

/// The most API tokens of one principal: 1,024. Those that ended make room.
pub const TOKENS_PER_PRINCIPAL_MAX: usize = 1_024;

/// How many share links one principal may have at once unless the configuration says otherwise: 1,024.
pub const SHARES_PER_PRINCIPAL_MAX_DEFAULT: usize = 1_024;

/// How many share links may stand on one another, each made with the one before: 2.
pub const SHARE_DEPTH_MAX: usize = 2;

/// How many share links may be made with one share link: 16. So one principal's links are 17,408 at most.
pub const SHARES_PER_LINK_MAX: usize = 16;

/// How often share links that are over are removed, when one is made: every hour.
pub const SHARES_SWEPT_EVERY: Duration = Duration::from_secs(3_600);

/// How many of them are removed in one transaction: 10,000, some 50 ms.
pub const SHARES_SWEPT_MAX: usize = 10_000;

/// The most grants of one principal: 16,384, about 80 bytes each in memory.
pub const GRANTS_PER_PRINCIPAL_MAX: usize = 16_384;

/// The most grants of all principals: 2,000,000, 160 MB.
pub const GRANTS_MAX: usize = 2_000_000;

/// The most spaces that are written down: 1,000,000, about 150 bytes each in memory.
pub const SPACE_RECORDS_MAX: usize = 1_000_000;

/// The longest label of a principal, token or space: 256 bytes.
pub const LABEL_BYTES_MAX: usize = 256;

/// The most entries in what a token allows, and in the claims of a JWT: 128. Eighty are what fits a token of 8 KiB.
pub const SCOPES_MAX: usize = 128;

/// The most keys whose JWTs are taken: 64. A token without a `kid` may cost a check with each, 0.1 ms.
pub const JWT_KEYS_MAX: usize = 64;

/// The longest file of keys: 1 MiB.
pub const KEY_FILE_BYTES_MAX: u64 = 1 << 20;

/// How many addresses are remembered because they showed bad tokens, or asked for tickets or share links: 65,536, some 60 bytes
/// each. Beyond it those whose time is over are forgotten, and then all.
pub const ADDRESSES_REMEMBERED_MAX: usize = 65_536;

/// How many bad tokens may come from one address at once before nothing more is looked at from there: 20. A secret of 256 bits
/// is not guessed anyway; this keeps guesses from costing the relay signatures to check.
pub const BAD_TOKENS_AT_ONCE: u32 = 20;

/// After how long one of them is forgiven: a second.
pub const BAD_TOKEN_FORGIVEN: Duration = Duration::from_secs(1);

/// How many requests for tickets and share links may come from one address at once: 60. A ticket is needed for each connection,
/// and a company may have one address.
pub const TOKEN_REQUESTS_AT_ONCE: u32 = 60;

/// How long until one more may come: 100 ms.
pub const TOKEN_REQUEST_INTERVAL: Duration = Duration::from_millis(100);

/// The longest body of a request for a share link: 4 KiB.
pub const SHARE_REQUEST_BYTES_MAX: usize = 4 << 10;

/// How often it is looked whether a file of keys has changed, while tokens come: 5 s.
pub const KEY_FILE_LOOK: Duration = Duration::from_secs(5);

/// The longest that an end of a permit is waited for in one go: 60 s. A clock that was set is noticed then.
pub const PERMIT_LOOK: Duration = Duration::from_secs(60);

/// In how many groups principals fall, of which one is woken when something is taken from one of its members: 64. So of 15,000
/// connections some 240 look whether it concerns them.
pub const PERMIT_GROUPS: usize = 64;

/// For how long an online backup may read a store: an hour. What is freed meanwhile is not used again until it ends, so the file grows by
/// what is written; in an hour a disk of 100 MB/s is read wholly up to 360 GB.
pub const BACKUP_DURATION_MAX: Duration = Duration::from_secs(3_600);

/// After how many bytes a backup's next file is begun: 256 MiB, which every copying program and object store takes in one piece.
pub const BACKUP_FILE_BYTES: u64 = 256 << 20;

/// The longest manifest of a backup that is read: 64 MiB, a million spaces with their log positions.
pub const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// The most backups that are restored one after the other: 10,000, a year of hourly ones.
pub const BACKUP_CHAIN_MAX: usize = 10_000;

/// How many changes of an imported space are stored in one transaction at most: 4,096, about 50 ms.
pub const IMPORT_CHANGES: usize = 4_096;

/// How many bytes of changes of an imported space are stored in one transaction: 8 MiB, and at least one change.
pub const IMPORT_BYTES: usize = 8 << 20;

/// How many refused documents an import names; it counts them all.
pub const IMPORT_REFUSALS_MAX: usize = 1_000;

/// How many documents of a space are deleted in one transaction at most: 64.
pub const DELETE_DOCUMENTS: usize = 64;

/// How many changes of theirs at most, or one document: 16,384, some 100 ms.
pub const DELETE_CHANGES: u64 = 16_384;

/// How often a space that is deleted is gone through for what came meanwhile: 8 times. Whoever deletes one first takes it from those who
/// write there.
pub const DELETE_PASSES: usize = 8;

/// The longest name of a principal: 128 bytes. An e-mail address, a UUID or the `sub` of most issuers fits.
pub const PRINCIPAL_BYTES_MAX: usize = 128;

/// Of how many spaces it is remembered how far devices have them: 65,536, about 8 MB.
pub(crate) const FURTHEST_SPACES_MAX: usize = 1 << 16;

/// The most records of the audit trail that wait to be written: 4,096, about 1 MB. What does not fit is lost and counted.
pub const AUDIT_QUEUE_MAX: usize = 4_096;

/// The most records of the audit trail in one commit: 512.
pub const AUDIT_BATCH_MAX: usize = 512;

/// How long refused writes gather before they are written to the audit trail: 1 s, so that they cost one commit a second at most.
pub const AUDIT_INTERVAL: Duration = Duration::from_secs(1);

/// How many acts and how many refusals the audit trail keeps unless the configuration says otherwise: 1,000,000 each, some
/// 300 MB.
pub const AUDIT_ROWS_MAX_DEFAULT: usize = 1_000_000;

/// How many rows of the audit trail above its bound are taken away at once, beside as many as are written: 1,024.
pub const AUDIT_TRIM_ROWS: usize = 1_024;

/// How many rows of each kind are looked at for one page of the audit trail: 100,000, about a tenth of a second.
pub const AUDIT_SCAN_ROWS_MAX: usize = 100_000;

/// The most requests of the admin API that are under way at once: 16.
pub const ADMIN_REQUESTS_MAX: usize = 16;

/// The most sockets of the admin API at once: 64, so that health checks and metrics are answered while requests are under way.
pub const ADMIN_SOCKETS_MAX: usize = 64;

/// How long a request of the admin API may take until the first byte of its answer, but for those that send a long body: 60 s.
pub const ADMIN_DEADLINE: Duration = Duration::from_secs(60);

/// How long nothing may come of a long body: 30 s.
pub const ADMIN_BODY_STALL: Duration = Duration::from_secs(30);

/// How many bytes of an export or import are handed on at once: 64 KiB.
pub const ADMIN_CARRY_CHUNK_BYTES: usize = 64 << 10;

/// How many such pieces wait for who takes them: 8, half a MiB.
pub const ADMIN_CARRY_CHUNKS: usize = 8;

/// The longest JSON body of the admin API: 64 KiB; a token with a scope of 1,000 documents has 60.
pub const ADMIN_BODY_BYTES_MAX: usize = 64 << 10;

/// The most items in one page of the admin API.
pub const ADMIN_PAGE_MAX: usize = 1_000;

/// How many items a page has unless it is asked for more or less.
pub const ADMIN_PAGE_DEFAULT: usize = 100;

/// How many bytes of changes are read for one page of a log: 16 MiB, and at least one change.
pub const ADMIN_LOG_BYTES_MAX: u64 = 16 << 20;

/// How many jobs of the admin API are remembered, with those under way: 32.
pub const ADMIN_JOBS_KEPT: usize = 32;

/// The shortest credential of the admin API: 32 characters.
pub const ADMIN_TOKEN_BYTES_MIN: usize = 32;

/// How many wrong credentials one address may send in [`ADMIN_ATTEMPTS_WINDOW`] before none of it is looked at: 10.
pub const ADMIN_ATTEMPTS_MAX: u32 = 10;

/// How long wrong credentials count: 60 s.
pub const ADMIN_ATTEMPTS_WINDOW: Duration = Duration::from_secs(60);

/// Of how many addresses it is remembered that they sent wrong credentials: 1,024, 40 bytes each.
pub const ADMIN_ADDRESSES_MAX: usize = 1_024;

/// The longest label, name or reason that an administrator writes: 256 bytes.
pub const ADMIN_TEXT_BYTES_MAX: usize = 256;

/// The longest detail of a problem, in bytes: 1 KiB. The rest is cut off, for it may repeat what was asked for.
pub const ADMIN_DETAIL_BYTES_MAX: usize = 1 << 10;

/// For how long after a restore from a backup the owners of actors are not asked: devices that are online once a week bring back
/// what the backup lacked.
pub const RESTORED_GRACE: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How long the store may take to show that it takes writes before the relay is not ready: 1 s. A commit takes some ms.
pub const READY_STORE_DEADLINE: Duration = Duration::from_secs(1);

/// How often `/readyz` has the store written to, to find out whether it takes it: once in 5 s, whoever asks how often. Commits
/// that went well in that time say the same.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// How soon a store that was found not to take writes is tried again: 1 s.
pub const PROBE_AGAIN: Duration = Duration::from_secs(1);

/// From which share of free room on the disk on the relay is not ready: 5 %.
pub const READY_DISK_FREE_PERCENT_MIN: u8 = 5;

/// From which share of open file descriptors on the relay is not ready: 90 %.
pub const READY_FDS_PERCENT_MAX: u8 = 90;

/// How many log lines of one kind, from `info` on, come at once: 50.
pub const LOG_LINES_BURST: u32 = 50;

/// How often one more of them comes after that: every second. With some 40 kinds that a stranger can cause, at 200 bytes, that is
/// 8 kB a second at most; who is attacked for a day finds 700 MB of log and not a full disk.
pub const LOG_LINES_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is said how many lines were left out: every 10 s.
pub const LOG_REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The most spans and events that wait to be sent to a collector: 4,096, some 2 MB. What comes beyond it is not sent.
pub const OTLP_QUEUE_MAX: usize = 4_096;

/// The most of them in one request: 512.
pub const OTLP_BATCH_MAX: usize = 512;

/// How long they gather for a request: 1 s.
pub const OTLP_INTERVAL: Duration = Duration::from_secs(1);

/// How long a collector may take for a request: 5 s.
pub const OTLP_TIMEOUT: Duration = Duration::from_secs(5);

/// How many bytes of changes a second one principal may write: 8 MiB, a tenth of what a disk takes with all that is kept beside them.
pub const APPEND_BYTES_PER_SECOND_DEFAULT: u32 = 8 << 20;

/// How many bytes of changes it may write at once: 256 MiB, some 2,000,000 keystrokes.
pub const APPEND_BYTES_BURST_DEFAULT: u32 = 256 << 20;

/// For how many minutes' worth one may ask at once for what is not there: 10. With the default rate that is 10,000, so that a device
/// with a few hundred documents that are nowhere yet may connect twenty times over.
pub const MISSES_BURST_MINUTES: u64 = 10;

/// How long a connection is held back at most, before it is closed with `busy`, and how long somebody may go on asking for what
/// is not there as fast as is let through: 5 minutes.
///
/// The longest message of a stock client has 350,000 changes, 70 seconds of [`APPENDS_PER_SECOND_DEFAULT`]: with one connection
/// nobody gets there by writing.
pub const BUSY_AFTER: Duration = Duration::from_secs(300);

/// For how long somebody must ask for nothing that is not there, beyond what the rate makes it wait, to be heard as if it never
/// had: 10 seconds.
pub const MISSES_FORGIVEN_AFTER: Duration = Duration::from_secs(10);

/// For how long nothing is taken from who did not stop asking for what is not there: 5 minutes.
pub const MISSES_REFUSED_FOR: Duration = Duration::from_secs(300);

/// Of how many principals and addresses it is remembered what they used: 65,536, some 250 bytes each. Those beyond are held to
/// account together.
pub const PARTIES_MAX: usize = 1 << 16;

/// How often it is looked which of them can be forgotten, when there are too many: every second. The look takes some 5 ms.
pub const PARTIES_SWEPT_EVERY: Duration = Duration::from_secs(1);

/// How many bytes a second a message has to come with once it has begun: 4,096, a tenth of the slowest line of a mobile phone. The
/// longest message may take more than an hour.
pub const FRAME_BYTES_PER_SECOND_MIN: u64 = 4 << 10;

/// For how long it may come slower: 10 seconds, in which a phone changes from one network to the other.
pub const FRAME_GRACE: Duration = Duration::from_secs(10);

/// How many bytes may be there of a message that does not count as begun: 1,024, for what encryption adds to a few pongs.
pub const FRAME_SLACK_BYTES: u64 = 1 << 10;
