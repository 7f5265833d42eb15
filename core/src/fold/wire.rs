//! What parent and child say to each other: one request, one answer, every length before its bytes.
//!
//! ```text
//! request   "rejoin fold 1"   so that a child of another version, or another program, refuses
//!           u64               address space the child may take, in bytes
//!           u64               processor time, in seconds
//!           u8                1 fold, 2 unfold
//!           items             the changes, or the one chunk
//! answer    u8                0 done, 1 refused
//!           items             the one chunk, or the changes; or the one text that says why not
//! items     (u32, bytes)*     each with its length before it
//!           ff ff ff ff       the end, so that half an answer is never taken for a whole one
//! ```
//!
//! Integers are little-endian.

use std::io::{self, Read, Write};

use super::FoldError;
use crate::limits::{FOLD_BYTES_MAX, FOLD_CHANGES_MAX};

/// The first bytes of a request.
pub(super) const GREETING: &[u8; 13] = b"rejoin fold 1";

/// Stands where a length would: no item follows.
const END: u32 = u32::MAX;

/// What the child is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// Make one chunk of changes.
    Fold,
    /// Take a chunk apart.
    Unfold,
}

/// How an answer begins: the work is done.
pub(super) const DONE: u8 = 0;
/// How an answer begins: it is not, and the one item says why.
pub(super) const REFUSED: u8 = 1;

/// Changes gathered for a child, in the form in which it reads them.
#[derive(Debug, Clone, Default)]
pub struct Input {
    items: Vec<u8>,
    count: u64,
}

impl Input {
    /// Begins with nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a change, an uncompressed chunk, after those that it depends on. Cost: a copy.
    ///
    /// # Errors
    ///
    /// [`FoldError::TooLarge`] beyond [`FOLD_BYTES_MAX`] or [`FOLD_CHANGES_MAX`].
    pub fn push(&mut self, item: &[u8]) -> Result<(), FoldError> {
        let bytes = self.items.len() + 4 + item.len();
        let length = u32::try_from(item.len()).ok().filter(|_| bytes <= items_bytes_max());
        let length = length.ok_or(FoldError::TooLarge { what: "bytes", limit: FOLD_BYTES_MAX })?;
        if self.count >= FOLD_CHANGES_MAX as u64 {
            return Err(FoldError::TooLarge { what: "changes", limit: FOLD_CHANGES_MAX });
        }
        self.items.extend_from_slice(&length.to_le_bytes());
        self.items.extend_from_slice(item);
        self.count += 1;
        Ok(())
    }

    /// Returns how many changes there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns how many bytes they have together, with their lengths.
    pub fn bytes(&self) -> usize {
        self.items.len()
    }

    /// Writes the items with their end.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&self.items)?;
        out.write_all(&END.to_le_bytes())
    }
}

/// The most bytes that items can have: their own, and a length for each.
pub(super) const fn items_bytes_max() -> usize {
    FOLD_BYTES_MAX + 4 * FOLD_CHANGES_MAX
}

/// Splits items, up to the end mark, which must be the last thing.
pub(super) fn items(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut items = Vec::new();
    loop {
        let (length, rest) = bytes.split_first_chunk()?;
        let length = u32::from_le_bytes(*length);
        if length == END {
            return rest.is_empty().then_some(items);
        }
        if items.len() >= FOLD_CHANGES_MAX {
            return None;
        }
        let (item, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        items.push(item);
        bytes = rest;
    }
}

/// Writes one item.
pub(super) fn write_item(out: &mut impl Write, item: &[u8]) -> io::Result<()> {
    let length = u32::try_from(item.len()).ok().filter(|length| *length != END);
    let length = length.ok_or_else(|| io::Error::other("an item is too long"))?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(item)
}

/// Writes the end of the items.
pub(super) fn write_end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&END.to_le_bytes())
}

/// Writes what stands before a request's items.
pub(super) fn write_head(out: &mut impl Write, task: Task, memory_bytes: u64, cpu_seconds: u64) -> io::Result<()> {
    out.write_all(GREETING)?;
    out.write_all(&memory_bytes.to_le_bytes())?;
    out.write_all(&cpu_seconds.to_le_bytes())?;
    out.write_all(&[match task {
        Task::Fold => 1,
        Task::Unfold => 2,
    }])
}

/// Reads what stands before a request's items: task, memory, processor time.
pub(super) fn read_head(input: &mut impl Read) -> io::Result<(Task, u64, u64)> {
    let mut greeting = [0; GREETING.len()];
    input.read_exact(&mut greeting)?;
    if greeting != *GREETING {
        return Err(io::Error::other("the parent speaks another version"));
    }
    let mut number = [0; 8];
    input.read_exact(&mut number)?;
    let memory_bytes = u64::from_le_bytes(number);
    input.read_exact(&mut number)?;
    let cpu_seconds = u64::from_le_bytes(number);
    let mut task = [0];
    input.read_exact(&mut task)?;
    match task {
        [1] => Ok((Task::Fold, memory_bytes, cpu_seconds)),
        [2] => Ok((Task::Unfold, memory_bytes, cpu_seconds)),
        [_] => Err(io::Error::other("the parent asks for something unknown")),
    }
}

/// Reads everything up to the end, at most this many bytes.
pub(super) fn read_all(input: &mut impl Read, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    input.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= limit).then_some(bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn items_come_back_and_half_of_them_never_do() {
        let mut input = Input::new();
        for item in [&b"one"[..], b"", b"three"] {
            input.push(item).unwrap();
        }
        let mut bytes = Vec::new();
        input.write(&mut bytes).unwrap();
        assert_eq!(items(&bytes).unwrap(), [&b"one"[..], b"", b"three"]);
        for end in 0..bytes.len() {
            assert_eq!(items(&bytes[..end]), None);
        }
        assert_eq!(items(&[&bytes[..], b"x"].concat()), None);
    }

    #[test]
    fn input_is_bounded_in_bytes() {
        let mut input = Input::new();
        let half = vec![0; FOLD_BYTES_MAX / 2];
        input.push(&half).unwrap();
        input.push(&half).unwrap();
        let more = vec![0; 4 * FOLD_CHANGES_MAX];
        assert!(matches!(input.push(&more), Err(FoldError::TooLarge { what: "bytes", .. })));
        assert_eq!(input.count(), 2);
    }

    #[test]
    fn input_is_bounded_in_changes() {
        let mut input = Input::new();
        (0..FOLD_CHANGES_MAX).for_each(|_| input.push(b"").unwrap());
        assert!(matches!(input.push(b""), Err(FoldError::TooLarge { what: "changes", limit: FOLD_CHANGES_MAX })));
        let mut bytes = Vec::new();
        input.write(&mut bytes).unwrap();
        assert_eq!(items(&bytes).unwrap().len(), FOLD_CHANGES_MAX);
        bytes.splice(0..0, [0; 4]);
        assert_eq!(items(&bytes), None);
    }

    #[test]
    fn request_of_another_version_is_refused() {
        let mut head = Vec::new();
        write_head(&mut head, Task::Unfold, 7, 9).unwrap();
        assert_eq!(read_head(&mut &head[..]).unwrap(), (Task::Unfold, 7, 9));
        head[GREETING.len() - 1] = b'2';
        assert!(read_head(&mut &head[..]).is_err());
    }
}
