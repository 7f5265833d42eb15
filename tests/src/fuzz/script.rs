//! Several byte strings in one input: what a session is fed, one message after the other.
//!
//! An input is always read, however damaged: what a length promises and is not there ends the last item.

use rand::RngExt;
use rand::rngs::StdRng;

use crate::hostile::bytes::{prefixed, read_unsigned};

/// The most items of an input; what comes beyond is not fed.
const ITEMS_MAX: usize = 16;

/// A head that says how the target is set up, and what it is fed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script {
    /// How the target is set up; its meaning is the target's.
    pub head: Vec<u8>,
    /// What it is fed, in this order.
    pub items: Vec<Vec<u8>>,
}

impl Script {
    /// Makes one.
    pub fn new(head: &[u8], items: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self { head: head.to_vec(), items: items.into_iter().collect() }
    }

    /// Reads an input.
    pub fn read(input: &[u8]) -> Self {
        let mut strings = Vec::new();
        let mut rest = input;
        while let Some((length, tail)) = read_unsigned(rest).filter(|_| strings.len() <= ITEMS_MAX) {
            let (item, tail) = tail.split_at(usize::try_from(length).unwrap_or(usize::MAX).min(tail.len()));
            strings.push(item.to_vec());
            rest = tail;
        }
        let mut strings = strings.into_iter();
        Self { head: strings.next().unwrap_or_default(), items: strings.collect() }
    }

    /// Writes the input.
    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        prefixed(&mut out, &self.head);
        self.items.iter().for_each(|item| prefixed(&mut out, item));
        out
    }

    /// Returns a byte of the head, 0 where it ends.
    pub fn flag(&self, at: usize) -> u8 {
        self.head.get(at).copied().unwrap_or(0)
    }

    /// Changes one thing: an item by `damage`, mostly, or which items there are, or the head.
    pub fn mutate(&mut self, other: &Self, random: &mut StdRng, damage: impl FnOnce(&[u8], &mut StdRng) -> Vec<u8>) {
        let count = self.items.len();
        if count == 0 {
            self.items.clone_from(&other.items);
            return;
        }
        let at = random.random_range(0..count);
        match random.random_range(0..20) {
            0 => drop(self.items.remove(at)),
            1 => self.items.swap(at, random.random_range(0..count)),
            2 if count < ITEMS_MAX => self.items.insert(random.random_range(0..=count), self.items[at].clone()),
            3 if count < ITEMS_MAX && !other.items.is_empty() => {
                let foreign = other.items[random.random_range(0..other.items.len())].clone();
                self.items.insert(random.random_range(0..=count), foreign);
            }
            4 => {
                let from = random.random_range(0..=other.items.len());
                self.items.truncate(at + 1);
                self.items.extend_from_slice(&other.items[from..]);
                self.items.truncate(ITEMS_MAX);
            }
            5 if !self.head.is_empty() => {
                let at = random.random_range(0..self.head.len());
                self.head[at] = random.random_range(0..8);
            }
            _ => self.items[at] = damage(&self.items[at], random),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_comes_back_and_every_cut_of_it_is_read() {
        let script = Script::new(&[1, 2], [b"one".to_vec(), Vec::new(), b"three".to_vec()]);
        let bytes = script.write();
        assert_eq!(Script::read(&bytes), script);
        for end in 0..bytes.len() {
            assert!(Script::read(&bytes[..end]).items.len() <= 3);
        }
    }
}
