//! A keystroke trace of the shape of a long paper's editing history: 259,778 edits of one character each.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// How many edits the trace has: as many as the public `automerge-paper` trace.
pub const EDITS: usize = 259_778;

/// One keystroke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keystroke {
    /// A character typed at a place.
    Insert(usize, char),
    /// The character at a place deleted.
    Delete(usize),
}

/// Generates a trace: runs of typing and of backspacing at a cursor that jumps now and then. About a third of what is
/// typed is deleted again, so the text ends at about 100,000 characters.
pub fn keystrokes(seed: u64, count: usize) -> Vec<Keystroke> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut keystrokes = Vec::with_capacity(count);
    let (mut length, mut cursor, mut run, mut is_typing) = (0_usize, 0_usize, 0_u32, true);
    while keystrokes.len() < count {
        if run == 0 {
            run = random.random_range(1..40);
            is_typing = length < 50 || random.random_bool(0.7);
            if random.random_bool(0.2) {
                cursor = random.random_range(0..=length);
            }
        }
        run -= 1;
        if is_typing {
            let character = if run % 6 == 0 { ' ' } else { char::from(b'a' + random.random_range(0..26_u8)) };
            keystrokes.push(Keystroke::Insert(cursor, character));
            (cursor, length) = (cursor + 1, length + 1);
        } else if cursor > 0 {
            keystrokes.push(Keystroke::Delete(cursor - 1));
            (cursor, length) = (cursor - 1, length - 1);
        } else {
            run = 0;
        }
    }
    keystrokes
}
