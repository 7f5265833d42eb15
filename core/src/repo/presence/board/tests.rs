#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

const ONE: DocumentId = DocumentId::from_bytes([1; 16]);
const TWO: DocumentId = DocumentId::from_bytes([2; 16]);

/// A board with a clock that is moved by hand.
struct Rig {
    board: Board,
    start: Instant,
    now_ms: u64,
}

impl Rig {
    fn new() -> Self {
        Self { board: Board::default(), start: Instant::now(), now_ms: 0 }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.now_ms)
    }

    fn hear(&mut self, of: DocumentId, author: &str, key: &str, count: u64, ttl_ms: u64, data: &[u8]) -> Heard {
        let message = Ephemeral {
            document: of,
            sender: PeerId::new(author).unwrap(),
            data: Bytes::copy_from_slice(data),
            count,
            origin: Origin::Remote,
            key: key.to_owned(),
            ttl_ms,
        };
        let clock = SystemTime::UNIX_EPOCH + Duration::from_millis(self.now_ms);
        self.board.hear(&message, self.now(), clock)
    }

    /// Waits. Says whether something ended.
    fn wait(&mut self, ms: u64) -> bool {
        self.now_ms += ms;
        self.board.expire(self.now())
    }

    fn shown(&self, of: DocumentId) -> Vec<String> {
        let values = self.board.values(&of, self.now());
        let mut shown: Vec<String> = values
            .iter()
            .map(|(value, _)| format!("{} {} {}", value.author, value.key, String::from_utf8_lossy(&value.data)))
            .collect();
        shown.sort();
        shown
    }

    /// Checks that the orders and the sum agree with what is there.
    fn check(&self) {
        let (mut count, mut bytes) = (0, 0);
        for (document, room) in &self.board.rooms {
            assert!(!room.authors.is_empty() && room.authors.len() <= PRESENCE_AUTHORS_MAX);
            for (author, values) in &room.authors {
                assert!(!values.is_empty() && values.len() <= PRESENCE_KEYS_MAX);
                for (key, kept) in values {
                    let place = Place { document: *document, author: author.clone(), key: key.clone() };
                    bytes += place.bytes(kept);
                    count += 1;
                    assert!(self.board.ends.contains(&(kept.ends, kept.ticket)));
                    assert_eq!(self.board.heard[&kept.ticket].key, *key);
                }
            }
        }
        assert_eq!((self.board.heard.len(), self.board.ends.len(), self.board.bytes), (count, count, bytes));
        assert!(bytes <= PRESENCE_KEPT_BYTES_MAX);
    }
}

#[test]
fn value_lives_as_long_as_it_says_from_when_it_was_heard_last() {
    let mut rig = Rig::new();
    assert_eq!(rig.hear(ONE, "ada", "cursor", 7, 1_000, b"3"), Heard { is_change: true, is_new_author: true });
    rig.wait(900);
    assert_eq!(rig.hear(ONE, "ada", "cursor", 8, 1_000, b"3"), Heard::default());
    assert!(!rig.wait(999));
    assert_eq!(rig.shown(ONE), ["ada cursor 3"]);
    assert!(rig.shown(TWO).is_empty());
    let since = rig.board.values(&ONE, rig.now())[0].0.since;
    assert_eq!(since, SystemTime::UNIX_EPOCH);
    // Over is over, also before anybody has looked.
    rig.now_ms += 1;
    assert!(rig.shown(ONE).is_empty());
    assert!(rig.wait(0));
    assert_eq!(rig.board.next_end(), None);
    assert_eq!(rig.hear(ONE, "ada", "cursor", 9, 1_000, b"3"), Heard { is_change: true, is_new_author: true });
    rig.check();
}

#[test]
fn later_number_stands_in_the_place_of_an_earlier_one_and_nothing_else_does() {
    let mut rig = Rig::new();
    rig.hear(ONE, "ada", "cursor", 7, 1_000, b"7");
    assert_eq!(rig.hear(ONE, "ada", "cursor", 6, 1_000, b"6"), Heard::default());
    assert_eq!(rig.hear(ONE, "ada", "cursor", 7, 1_000, b"x"), Heard::default());
    assert_eq!(rig.hear(ONE, "ada", "name", 5, 1_000, b"Ada"), Heard { is_change: true, is_new_author: false });
    assert_eq!(rig.hear(ONE, "ben", "cursor", 1, 1_000, b"1"), Heard { is_change: true, is_new_author: true });
    assert_eq!(rig.hear(ONE, "ada", "cursor", 8, 1_000, b"8"), Heard { is_change: true, is_new_author: false });
    assert_eq!(rig.shown(ONE), ["ada cursor 8", "ada name Ada", "ben cursor 1"]);
    rig.check();
}

#[test]
fn value_that_was_taken_back_does_not_come_back_late() {
    let mut rig = Rig::new();
    rig.hear(ONE, "ada", "cursor", 7, 1_000, b"7");
    assert_eq!(rig.hear(ONE, "ada", "cursor", 9, 0, b""), Heard { is_change: true, is_new_author: false });
    assert!(rig.shown(ONE).is_empty());
    assert_eq!(rig.hear(ONE, "ada", "cursor", 8, 1_000, b"8"), Heard::default());
    // One that was taken back before it was heard of at all is not there either.
    assert_eq!(rig.hear(TWO, "ada", "cursor", 2, 0, b""), Heard::default());
    assert_eq!(rig.hear(TWO, "ada", "cursor", 1, 1_000, b"1"), Heard::default());
    assert_eq!(rig.hear(ONE, "ada", "cursor", 10, 1_000, b"10"), Heard { is_change: true, is_new_author: true });
    rig.wait(PRESENCE_GONE_MS);
    assert!(rig.board.rooms.is_empty());
    rig.check();
}

#[test]
fn value_is_taken_back_with_its_own_number_and_what_came_after_it_is_not() {
    let mut rig = Rig::new();
    rig.hear(ONE, "ada", "cursor", 7, 60_000, b"3");
    assert!(rig.hear(ONE, "ada", "cursor", 7, 0, b"").is_change);
    assert!(rig.shown(ONE).is_empty());
    assert_eq!(rig.hear(ONE, "ada", "cursor", 7, 0, b""), Heard::default(), "it is told once");
    assert_eq!(rig.hear(ONE, "ada", "cursor", 7, 60_000, b"3"), Heard::default(), "it comes late by another relay");
    assert!(rig.hear(ONE, "ada", "cursor", 8, 60_000, b"3").is_change);
    // She came back before it was told that she had gone.
    assert_eq!(rig.hear(ONE, "ada", "cursor", 7, 0, b""), Heard::default());
    assert_eq!(rig.shown(ONE), ["ada cursor 3"]);
    rig.check();
}

#[test]
fn version_is_another_one_when_something_else_is_shown_and_only_then() {
    let mut rig = Rig::new();
    assert_eq!(rig.board.version(&ONE), 0);
    rig.hear(ONE, "ada", "cursor", 1, 1_000, b"1");
    let first = rig.board.version(&ONE);
    rig.hear(ONE, "ada", "cursor", 2, 1_000, b"1");
    rig.hear(TWO, "ada", "cursor", 3, 500, b"1");
    assert_eq!(rig.board.version(&ONE), first);
    rig.hear(ONE, "ada", "cursor", 4, 1_000, b"2");
    let second = rig.board.version(&ONE);
    assert!(second != first && second != 0);
    rig.wait(500);
    assert_eq!((rig.board.version(&ONE), rig.board.version(&TWO)), (second, 0));
    rig.wait(500);
    assert_eq!(rig.board.version(&ONE), 0);
}

#[test]
fn one_too_many_takes_the_place_of_the_one_unheard_for_longest() {
    let mut rig = Rig::new();
    for number in 0..PRESENCE_KEYS_MAX {
        rig.hear(ONE, "ada", &format!("key {number:02}"), 1, 1_000, b"");
    }
    rig.hear(ONE, "ada", "key 00", 2, 1_000, b"");
    assert_eq!(rig.shown(ONE).len(), PRESENCE_KEYS_MAX);
    rig.hear(ONE, "ada", "one more", 2, 1_000, b"");
    let shown = rig.shown(ONE);
    assert_eq!((shown.len(), shown[0].as_str(), shown[1].as_str()), (PRESENCE_KEYS_MAX, "ada key 00 ", "ada key 02 "));

    for number in 0..PRESENCE_AUTHORS_MAX {
        rig.hear(TWO, &format!("author {number:03}"), "key", 1, 1_000, b"");
    }
    rig.hear(TWO, "author 000", "key", 2, 1_000, b"");
    let before = rig.board.version(&TWO);
    assert!(rig.hear(TWO, "one more", "key", 2, 1_000, b"").is_change);
    assert_ne!(rig.board.version(&TWO), before);
    let shown = rig.shown(TWO);
    assert_eq!((shown.len(), shown[1].as_str()), (PRESENCE_AUTHORS_MAX, "author 002 key "));
    rig.check();
}

#[test]
fn memory_is_bounded_however_much_is_sent() {
    let mut rig = Rig::new();
    let longest = vec![7; PRESENCE_VALUE_BYTES_MAX];
    assert_eq!(rig.hear(ONE, "ada", "long", 1, 1_000, &[&longest[..], &[7]].concat()), Heard::default());
    let fits = PRESENCE_KEPT_BYTES_MAX / PRESENCE_VALUE_BYTES_MAX;
    for number in 0..=fits {
        let author = format!("author {}", number / PRESENCE_KEYS_MAX);
        rig.hear(ONE, &author, &number.to_string(), number as u64, 1_000, &longest);
    }
    rig.check();
    // What did not fit any more took the place of the first.
    let shown = rig.shown(ONE).len();
    assert!((fits - 4..fits).contains(&shown), "{shown}");
    assert!(rig.board.bytes + PRESENCE_VALUE_BYTES_MAX + 1_024 > PRESENCE_KEPT_BYTES_MAX);
}

#[test]
fn whatever_is_heard_in_whatever_order_the_books_agree() {
    let mut rig = Rig::new();
    let mut random = 0x9e37_79b9_u64;
    for _ in 0..20_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bits = random >> 20;
        let document = if bits & 1 == 0 { ONE } else { TWO };
        let (author, key) = (format!("a{}", bits >> 1 & 0x1ff), format!("k{}", bits >> 10 & 0x3f));
        let ttl_ms = [0, 5, 50, 5_000][usize::try_from(bits >> 16 & 3).unwrap()];
        rig.hear(
            document,
            &author,
            &key,
            bits >> 18 & 0xff,
            ttl_ms,
            &[0; 300][..(bits & 0xff).try_into().unwrap_or(0)],
        );
        rig.wait(bits >> 26 & 1);
        if bits & 0xff00 == 0 {
            rig.check();
        }
    }
    rig.check();
    rig.wait(PRESENCE_GONE_MS);
    rig.check();
    assert!(rig.board.heard.is_empty() && rig.board.rooms.is_empty());
}
