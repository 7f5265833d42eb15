//! CBOR values that can be damaged in their meaning: a tree, one node of which becomes another, written with heads that fit.

use rand::RngExt;
use rand::rngs::StdRng;

use crate::hostile::message::head;

/// How deep a value may be nested to be read here; deeper ones are damaged as bytes.
const DEPTH_MAX: usize = 12;

/// A value of which only the structure is understood.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// A whole number: its major type, 0 or 1, and the number.
    Number(u8, u64),
    /// A byte string or text: its major type, 2 or 3, and the bytes.
    String(u8, Vec<u8>),
    /// A list.
    Array(Vec<Node>),
    /// A map, keys and values one after the other.
    Map(Vec<Node>),
    /// A tagged value.
    Tagged(u64, Box<Node>),
    /// A truth value, null, a float: all its bytes.
    Simple(Vec<u8>),
}

impl Node {
    /// Reads one value that fills the bytes; `None` if there is none, or lengths are left open.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (node, rest) = read(bytes, DEPTH_MAX)?;
        rest.is_empty().then_some(node)
    }

    /// Writes the value.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Number(major, value) => head(out, *major, *value),
            Self::String(major, bytes) => {
                head(out, *major, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
            Self::Array(nodes) => {
                head(out, 4, nodes.len() as u64);
                nodes.iter().for_each(|node| node.write(out));
            }
            Self::Map(nodes) => {
                head(out, 5, nodes.len() as u64 / 2);
                nodes.iter().for_each(|node| node.write(out));
            }
            Self::Tagged(tag, node) => {
                head(out, 6, *tag);
                node.write(out);
            }
            Self::Simple(bytes) => out.extend_from_slice(bytes),
        }
    }

    /// Makes another one of one of its nodes; `damage` does so with strings.
    pub fn mutate(&mut self, random: &mut StdRng, damage: impl FnOnce(&[u8], &mut StdRng) -> Vec<u8>) {
        let mut at = random.random_range(0..self.count());
        if let Some(node) = self.nth(&mut at) {
            node.change(random, damage);
        }
    }

    fn children(&mut self) -> &mut [Self] {
        match self {
            Self::Array(nodes) | Self::Map(nodes) => nodes,
            Self::Tagged(_, node) => std::slice::from_mut(node),
            _ => &mut [],
        }
    }

    fn count(&mut self) -> usize {
        1 + self.children().iter_mut().map(Self::count).sum::<usize>()
    }

    fn nth(&mut self, at: &mut usize) -> Option<&mut Self> {
        if *at == 0 {
            return Some(self);
        }
        *at -= 1;
        self.children().iter_mut().find_map(|child| child.nth(at))
    }

    fn change(&mut self, random: &mut StdRng, damage: impl FnOnce(&[u8], &mut StdRng) -> Vec<u8>) {
        if random.random_bool(0.1) {
            *self = any(random);
            return;
        }
        match self {
            Self::Number(major, value) => {
                *value = [value.wrapping_add(1), value.wrapping_sub(1), 1 << random.random_range(0..64), u64::MAX]
                    [random.random_range(0..4)];
                *major = u8::from(random.random_bool(0.2));
            }
            Self::String(major, bytes) => {
                *bytes = damage(bytes, random);
                if random.random_bool(0.1) {
                    *major ^= 1;
                }
            }
            Self::Array(nodes) => change_list(nodes, 1, random),
            Self::Map(nodes) => change_list(nodes, 2, random),
            Self::Tagged(tag, _) => *tag = random.random(),
            Self::Simple(bytes) => *bytes = vec![random.random_range(0xe0..0xf8)],
        }
        if random.random_bool(0.03) {
            let inner = std::mem::replace(self, Self::Simple(Vec::new()));
            *self = Self::Tagged(random.random_range(0..70), Box::new(inner));
        }
    }
}

/// Drops, repeats, adds or exchanges entries of so many nodes each.
fn change_list(nodes: &mut Vec<Node>, width: usize, random: &mut StdRng) {
    let entries = nodes.len() / width;
    let at = random.random_range(0..=entries) * width;
    match random.random_range(0..4) {
        0 if at < nodes.len() => drop(nodes.drain(at..at + width)),
        1 if at < nodes.len() => {
            let times = random.random_range(1..40);
            let copies: Vec<Node> = std::iter::repeat_n(&nodes[at..at + width], times).flatten().cloned().collect();
            drop(nodes.splice(at..at, copies));
        }
        2 if entries > 1 && at < nodes.len() => {
            let other = random.random_range(0..entries) * width;
            (0..width).for_each(|offset| nodes.swap(at + offset, other + offset));
        }
        _ => {
            let new: Vec<_> = (0..width).map(|_| any(random)).collect();
            drop(nodes.splice(at..at, new));
        }
    }
}

/// A value where another one is expected.
fn any(random: &mut StdRng) -> Node {
    match random.random_range(0..9) {
        0 => Node::Number(0, 1 << random.random_range(0..64)),
        1 => Node::Number(1, random.random()),
        2 => Node::String(2, vec![random.random(); random.random_range(0..70)]),
        3 => Node::String(3, "ẞx".repeat(random.random_range(0..200)).into_bytes()),
        4 => Node::Array(vec![Node::Number(0, 1); random.random_range(0..300)]),
        5 => Node::Map(Vec::new()),
        6 => (0..random.random_range(1..30)).fold(Node::Number(0, 0), |inner, _| Node::Array(vec![inner])),
        7 => Node::Tagged(64, Box::new(Node::String(2, vec![1; 16]))),
        _ => Node::Simple(vec![random.random_range(0xe0..0xf8)]),
    }
}

fn read(bytes: &[u8], depth: usize) -> Option<(Node, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (major, code) = (first >> 5, first & 0x1f);
    if major == 7 {
        let extra = match code {
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            28.. => return None,
            _ => 0,
        };
        let (all, rest) = bytes.split_at_checked(1 + extra)?;
        return Some((Node::Simple(all.to_vec()), rest));
    }
    let (value, rest) = number(code, rest)?;
    let length = usize::try_from(value).ok()?;
    Some(match major {
        0 | 1 => (Node::Number(major, value), rest),
        2 | 3 => {
            let (string, rest) = rest.split_at_checked(length)?;
            (Node::String(major, string.to_vec()), rest)
        }
        4 | 5 => {
            let count = length.checked_mul(usize::from(major) - 3).filter(|count| *count <= rest.len())?;
            let (nodes, rest) = list(rest, count, depth.checked_sub(1)?)?;
            (if major == 4 { Node::Array(nodes) } else { Node::Map(nodes) }, rest)
        }
        _ => {
            let (node, rest) = read(rest, depth.checked_sub(1)?)?;
            (Node::Tagged(value, Box::new(node)), rest)
        }
    })
}

fn list(mut bytes: &[u8], count: usize, depth: usize) -> Option<(Vec<Node>, &[u8])> {
    let mut nodes = Vec::with_capacity(count);
    for _ in 0..count {
        let (node, rest) = read(bytes, depth)?;
        nodes.push(node);
        bytes = rest;
    }
    Some((nodes, bytes))
}

/// Reads what follows the first byte of a head.
fn number(code: u8, bytes: &[u8]) -> Option<(u64, &[u8])> {
    let length = match code {
        0..24 => return Some((u64::from(code), bytes)),
        24..28 => 1 << (code - 24),
        _ => return None,
    };
    let (digits, rest) = bytes.split_at_checked(length)?;
    Some((digits.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)), rest))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::hostile::message::Cbor;

    #[test]
    fn what_was_read_is_written_as_it_was_and_what_was_damaged_can_be_read() {
        let frame = Cbor::Map(vec![
            ("type", Cbor::text("sync")),
            ("data", Cbor::Bytes(vec![7; 300])),
            ("list", Cbor::Array(vec![Cbor::Uint(70_000), Cbor::Bool(true)])),
        ])
        .encode();
        let node = Node::read(&frame).unwrap();
        let mut again = Vec::new();
        node.write(&mut again);
        assert_eq!(again, frame);
        let mut random = StdRng::seed_from_u64(5);
        for _ in 0..1_000 {
            let (mut mutant, mut bytes) = (node.clone(), Vec::new());
            mutant.mutate(&mut random, |bytes, _| bytes.to_vec());
            mutant.write(&mut bytes);
            assert!(bytes.len() < 100_000);
        }
    }
}
