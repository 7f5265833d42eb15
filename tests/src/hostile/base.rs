//! A small honest history that most attacks continue: two authors, every kind of object, a conflict, two heads.
//!
//! | op | by `FIRST` | | op | by `SECOND` |
//! |---|---|---|---|---|
//! | 1 | `title` = "one" | | 11 | `title` = "three" over 1 |
//! | 2, 3 | `map`, `map.k` | | 12 | `mine` = "b" |
//! | 4 to 6 | `list` with two elements | | | |
//! | 7 to 9 | `text` with two characters | | | |
//! | 10 | `count`, a counter | | | |
//! | 11 | `title` = "two" over 1 | | | |

use automerge::Automerge;

use super::change::{RawChange, RawKey, RawOp, action};

/// Who wrote the first two changes.
pub const FIRST: [u8; 16] = [0x11; 16];
/// Who wrote the third.
pub const SECOND: [u8; 16] = [0x22; 16];
/// Who attacks. Sorts after the other two, so that they are actors 1 and 2 of its changes.
pub const HOSTILE: [u8; 16] = [0xee; 16];

/// The counter of the next operation on top of everything.
pub const NEXT_OP: u64 = 13;

/// Returns the three changes.
pub fn changes() -> Vec<RawChange> {
    let (map, list, text) = ((0, 2), (0, 4), (0, 7));
    let mut first = RawChange::new(&FIRST);
    first.ops = vec![
        RawOp::put("title", "one"),
        RawOp::new("map", action::MAKE_MAP),
        RawOp::put("k", "v").in_object(map),
        RawOp::new("list", action::MAKE_LIST),
        RawOp::insert(list, RawKey::Head, "x"),
        RawOp::insert(list, RawKey::Element((0, 5)), "y"),
        RawOp::new("text", action::MAKE_TEXT),
        RawOp::insert(text, RawKey::Head, "a"),
        RawOp::insert(text, RawKey::Element((0, 8)), "b"),
        RawOp::new("count", action::PUT).number(8, 0),
    ];
    let mut second = RawChange::new(&FIRST);
    (second.seq, second.start_op, second.deps) = (2, 11, vec![first.hash()]);
    second.ops = vec![RawOp::put("title", "two").over(&[(0, 1)])];
    let mut third = RawChange::new(&SECOND);
    (third.start_op, third.deps, third.others) = (11, vec![first.hash()], vec![FIRST.to_vec()]);
    third.ops = vec![RawOp::put("title", "three").over(&[(1, 1)]), RawOp::put("mine", "b")];
    vec![first, second, third]
}

/// Returns the three changes as chunks.
pub fn chunks() -> Vec<Vec<u8>> {
    changes().iter().map(RawChange::chunk).collect()
}

/// Returns the two heads, sorted.
pub fn heads() -> Vec<[u8; 32]> {
    let mut heads: Vec<_> = changes()[1..].iter().map(RawChange::hash).collect();
    heads.sort_unstable();
    heads
}

/// Returns the history as a file.
pub fn file() -> Vec<u8> {
    let mut document = Automerge::new();
    document.load_incremental(&chunks().concat()).unwrap();
    document.save()
}

/// Begins a hostile change on top of everything; its actors are the attacker, `FIRST` and `SECOND` as far as asked for.
pub fn next(others: usize) -> RawChange {
    let mut change = RawChange::new(&HOSTILE);
    change.deps = heads();
    change.start_op = NEXT_OP;
    change.others = [FIRST.to_vec(), SECOND.to_vec()][..others].to_vec();
    change
}

#[cfg(test)]
mod tests {
    use super::*;
    use automerge::{ROOT, ReadDoc};
    use rejoin::gate::CheckedChange;

    #[test]
    fn gate_and_automerge_take_the_base() {
        for chunk in chunks() {
            CheckedChange::parse(&chunk).unwrap();
        }
        let document = Automerge::load(&file()).unwrap();
        assert_eq!(document.get_heads().len(), 2);
        assert_eq!(document.get_all(&ROOT, "title").unwrap().len(), 2);
        let text = document.get(&ROOT, "text").unwrap().unwrap().1;
        assert_eq!(document.text(&text).unwrap(), "ab");
    }

    #[test]
    fn a_change_taken_apart_and_put_together_is_the_same() {
        for chunk in chunks() {
            let change = CheckedChange::parse(&chunk).unwrap();
            assert_eq!(RawChange::from_checked(&change).chunk(), chunk);
        }
    }
}
