#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

const ONE: DocumentId = DocumentId::from_bytes([1; 16]);
const TWO: DocumentId = DocumentId::from_bytes([2; 16]);
const ADA: Owner = Owner(1);
const BEN: Owner = Owner(2);

/// The own values with a clock that is moved by hand.
struct Rig {
    own: Own,
    start: Instant,
    now_ms: u64,
}

impl Rig {
    fn new() -> Self {
        Self { own: Own::default(), start: Instant::now(), now_ms: 0 }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_millis(self.now_ms)
    }

    fn set(&mut self, owner: Owner, document: DocumentId, key: &str, data: &[u8]) {
        self.set_for(owner, document, key, data, 30_000).unwrap();
    }

    fn set_for(
        &mut self,
        owner: Owner,
        document: DocumentId,
        key: &str,
        data: &[u8],
        ttl_ms: u64,
    ) -> Result<(), PresenceError> {
        let what = Due { document, key: key.to_owned(), data: Bytes::copy_from_slice(data), ttl_ms };
        self.own.set(owner, what, self.now(), SystemTime::UNIX_EPOCH)
    }

    /// Lets time pass, and returns what is sent when, with the document's number.
    fn wait(&mut self, ms: u64) -> Vec<String> {
        let until = self.now_ms + ms;
        let mut sent = Vec::new();
        while let Some(due) = self.own.next_due() {
            let due_ms = u64::try_from(due.saturating_duration_since(self.start).as_millis()).unwrap();
            if due_ms > until {
                break;
            }
            self.now_ms = self.now_ms.max(due_ms);
            let taken = self.own.take_due(self.now());
            assert!(!taken.is_empty());
            let shown = taken.iter().map(show).collect::<Vec<_>>().join(", ");
            sent.push(format!("{}: {shown}", self.now_ms));
        }
        self.now_ms = until;
        sent
    }
}

fn show(due: &Due) -> String {
    format!("{} {} {}", due.document.as_bytes()[0], due.key, String::from_utf8_lossy(&due.data))
}

#[test]
fn many_values_of_a_document_go_as_one_message_with_the_last_of_each_key() {
    let mut rig = Rig::new();
    for number in 0..40 {
        rig.set(ADA, ONE, "cursor", format!("{number}").as_bytes());
        assert!(rig.wait(1).is_empty());
    }
    rig.set(ADA, ONE, "name", b"Ada");
    assert_eq!(rig.wait(1_000), ["50: 1 cursor 39, 1 name Ada"]);
}

#[test]
fn value_is_sent_again_thrice_in_its_life_and_no_later_than_every_ten_seconds() {
    let mut rig = Rig::new();
    rig.set_for(ADA, ONE, "short", b"s", 3_000).unwrap();
    assert_eq!(rig.wait(3_050), ["50: 1 short s", "1050: 1 short s", "2050: 1 short s", "3050: 1 short s"]);
    rig.own.clear(ONE, "short").unwrap();
    rig.set_for(ADA, ONE, "long", b"l", PRESENCE_TTL_MS_MAX).unwrap();
    assert_eq!(rig.wait(20_000), ["3100: 1 long l", "13100: 1 long l"]);
}

#[test]
fn same_value_again_is_not_sent_again_before_its_time() {
    let mut rig = Rig::new();
    rig.set(ADA, ONE, "cursor", b"3");
    rig.wait(100);
    let version = rig.own.version();
    rig.set(BEN, ONE, "cursor", b"3");
    assert!(rig.wait(1_000).is_empty());
    assert_eq!(rig.own.version(), version);
    // It is the last one's who set it.
    assert!(rig.own.release(ADA).is_empty());
    assert_eq!(rig.own.release(BEN).len(), 1);
}

#[test]
fn whoever_comes_is_answered_soon_and_many_are_answered_once_a_second() {
    let mut rig = Rig::new();
    rig.own.answer(ONE, rig.now(), Duration::ZERO);
    assert_eq!(rig.own.next_due(), None);
    rig.set(ADA, ONE, "cursor", b"3");
    rig.set(ADA, TWO, "cursor", b"4");
    rig.wait(2_000);
    rig.own.answer(ONE, rig.now(), Duration::from_millis(200));
    rig.own.answer(ONE, rig.now(), Duration::from_millis(100));
    assert_eq!(rig.wait(300), ["2200: 1 cursor 3"]);
    rig.own.answer(ONE, rig.now(), Duration::from_millis(100));
    rig.own.answer(ONE, rig.now(), Duration::from_millis(100));
    assert_eq!(rig.wait(3_000), ["3200: 1 cursor 3"]);
    rig.own.answer(ONE, rig.now(), Duration::from_millis(100));
    assert_eq!(rig.wait(300), ["5400: 1 cursor 3"]);
}

#[test]
fn connection_that_comes_back_gets_everything() {
    let mut rig = Rig::new();
    rig.set(ADA, ONE, "cursor", b"3");
    rig.set(ADA, TWO, "cursor", b"4");
    rig.wait(1_000);
    rig.own.renew_all(rig.now());
    assert_eq!(rig.wait(100), ["1050: 1 cursor 3, 2 cursor 4"]);
}

#[test]
fn document_that_comes_gets_what_was_set_before_it_was_here() {
    let mut rig = Rig::new();
    rig.set(ADA, ONE, "cursor", b"3");
    rig.set(ADA, TWO, "cursor", b"4");
    rig.wait(1_000);
    assert!(rig.own.renew(ONE, rig.now()) && !rig.own.renew(DocumentId::from_bytes([3; 16]), rig.now()));
    assert_eq!(rig.wait(100), ["1050: 1 cursor 3"]);
}

#[test]
fn what_a_handle_set_is_taken_back_with_it_and_what_nobody_heard_of_is_not() {
    let mut rig = Rig::new();
    rig.set(ADA, ONE, "cursor", b"3");
    rig.set(BEN, ONE, "name", b"Ben");
    rig.wait(100);
    rig.set(ADA, TWO, "cursor", b"4");
    let gone = Due { document: ONE, key: "cursor".to_owned(), data: Bytes::new(), ttl_ms: 0 };
    assert_eq!(rig.own.release(ADA), [gone]);
    assert_eq!(rig.own.clear(TWO, "cursor"), None);
    assert_eq!(rig.own.clear(ONE, "unknown"), None);
    assert_eq!(rig.wait(10_000), ["10050: 1 name Ben"]);
    rig.own.release(BEN);
    assert_eq!((rig.own.bytes, rig.own.values.len(), rig.own.next_due()), (0, 0, None));
}

#[test]
fn bounds_hold_at_their_edges() {
    let mut rig = Rig::new();
    let longest = vec![7; PRESENCE_VALUE_BYTES_MAX];
    let key = "k".repeat(PRESENCE_KEY_BYTES_MAX);
    let too_long = [&longest[..], &[7]].concat();
    let set = |rig: &mut Rig, key: &str, data: &[u8], ttl_ms| rig.set_for(ADA, ONE, key, data, ttl_ms);
    set(&mut rig, &key, &longest, PRESENCE_TTL_MS_MAX).unwrap();
    set(&mut rig, &key, &longest, PRESENCE_TTL_MS_MIN).unwrap();
    let found = PRESENCE_VALUE_BYTES_MAX + 1;
    assert_eq!(set(&mut rig, "k", &too_long, 1_000), Err(PresenceError::TooLong { found }));
    let found = PRESENCE_KEY_BYTES_MAX + 1;
    assert_eq!(set(&mut rig, &format!("{key}k"), b"1", 1_000), Err(PresenceError::KeyTooLong { found }));
    assert_eq!(set(&mut rig, "k", b"", 1_000), Err(PresenceError::Empty));
    for found_ms in [0, PRESENCE_TTL_MS_MIN - 1, PRESENCE_TTL_MS_MAX + 1] {
        assert_eq!(set(&mut rig, "k", b"1", found_ms), Err(PresenceError::TimeToLive { found_ms }));
    }
    for number in 2..PRESENCE_OWN_BYTES_MAX / PRESENCE_VALUE_BYTES_MAX {
        set(&mut rig, &number.to_string(), &longest, 1_000).unwrap();
    }
    assert_eq!(set(&mut rig, "k", &longest, 1_000), Err(PresenceError::TooMany));
    rig.own.release(ADA);
    for number in 0..PRESENCE_KEYS_MAX {
        set(&mut rig, &number.to_string(), b"1", 1_000).unwrap();
    }
    assert_eq!(set(&mut rig, "one more", b"1", 1_000), Err(PresenceError::TooMany));
    set(&mut rig, "0", b"2", 1_000).unwrap();
    for number in 0..PRESENCE_OWN_MAX - PRESENCE_KEYS_MAX {
        let mut id = [9; 16];
        id[..8].copy_from_slice(&(number as u64).to_be_bytes());
        rig.set(ADA, DocumentId::from_bytes(id), "k", b"1");
    }
    assert_eq!(rig.set_for(ADA, TWO, "k", b"1", 1_000), Err(PresenceError::TooMany));
}
