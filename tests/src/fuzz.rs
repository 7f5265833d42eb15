//! Fuzzing: everything of ours that reads bytes of others, fed with damaged ones, in this process and without end.
//!
//! There is no coverage feedback, because it needs a compiler that a fresh machine does not have. In its place the targets
//! say of each input what they made of it (which rule refused it, what was stored, how long the answer was), and an input
//! with which something new was made joins the pool that others are made of.
//!
//! * [`drive`]: the loop: choose, damage, run, compare what it cost with the target's bound.
//! * [`script`], [`cbor`]: inputs of several messages; CBOR that is damaged in its meaning.
//! * [`gate`], [`classic`], [`message`], [`v1`], [`store`], [`registers`], [`document`], [`admin`]: the targets.
//! * [`canary`]: targets with a fault in them, which the loop has to find.
//! * [`corpus`]: the inputs that are kept: those of faults that were found, and a few that reach far.
//! * [`honest`]: histories as Automerge makes them, none of which may be refused.
//!
//! `tests/docs/fuzzing.md` says how it is run.

pub mod admin;
pub mod canary;
pub mod cbor;
pub mod classic;
pub mod corpus;
pub mod document;
pub mod drive;
pub mod gate;
pub mod honest;
pub mod message;
pub mod panics;
pub mod registers;
pub mod script;
pub mod store;
pub mod v1;
pub mod watch;

use std::hash::{DefaultHasher, Hash, Hasher};

use rand::rngs::StdRng;

/// What reads bytes of others, and what is expected of it.
pub trait Target {
    /// Returns inputs that are honest, or nearly: what others are made of.
    fn seeds(&mut self) -> Vec<Vec<u8>>;

    /// Makes another input of one; `other` is a second one to take pieces from.
    fn mutate(&mut self, input: &[u8], other: &[u8], random: &mut StdRng) -> Vec<u8>;

    /// Returns how many bytes an input may make the process grow by, while it is read.
    fn bound_bytes(&self, input: &[u8]) -> usize;

    /// Feeds an input. What must not be is a panic.
    fn run(&mut self, input: &[u8]) -> Seen;

    /// Says whether a panic that somebody caught, by its place and words, is one of a library that is known for it. Default: no.
    fn is_contained(&self, panic: &str) -> bool {
        let _ = panic;
        false
    }

    /// Returns how many kinds of answers there are at least: fewer mean that the damage tests nothing.
    fn classes_min(&self) -> usize {
        4
    }
}

/// What was made of an input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whether it was taken, or anything of it.
    pub is_taken: bool,
    /// In a word: of few kinds, for the report.
    pub class: String,
    /// More about it: two inputs with another class or detail took different ways.
    pub detail: u64,
}

impl Seen {
    /// It was refused for this reason.
    pub fn refused(class: &str) -> Self {
        Self { is_taken: false, class: class.to_owned(), detail: 0 }
    }

    /// It was taken; the detail is whatever makes the way it took special.
    pub fn taken(class: &str, detail: &impl Hash) -> Self {
        Self { is_taken: true, class: class.to_owned(), detail: digest(detail) }
    }

    /// As it is, and more is known of the way it took.
    #[must_use]
    pub fn with(mut self, detail: &impl Hash) -> Self {
        self.detail = digest(&(self.detail, digest(detail)));
        self
    }
}

/// Returns a number for a value, the same in every process.
pub fn digest(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Returns about how much something is: its number of binary digits.
pub fn size_class(count: usize) -> u32 {
    usize::BITS - count.leading_zeros()
}

/// The targets that are fuzzed, by their names.
pub const TARGETS: [&str; 8] = ["gate", "classic", "v1", "message", "store", "registers", "document", "admin"];

/// How many inputs of a target the tests feed: about a minute's. A number and no time, so that a fast machine tries no others.
pub fn smoke_inputs(target: &str) -> u64 {
    match target {
        "gate" => 2_500_000,
        "classic" => 450_000,
        "message" => 1_300_000,
        "v1" => 2_000_000,
        "store" => 40_000,
        "registers" => 110_000,
        "document" => 1_100_000,
        _ => 10_000,
    }
}

/// Makes a target, also a canary.
///
/// # Panics
///
/// If there is none of this name.
pub fn make(name: &str) -> Box<dyn Target> {
    match name {
        "gate" => Box::new(gate::Gate::new()),
        "classic" => Box::new(classic::Classic::new()),
        "v1" => Box::new(v1::V1::new()),
        "message" => Box::new(message::Message::new()),
        "store" => Box::new(store::Images::new()),
        "registers" => Box::new(registers::Registers::new()),
        "document" => Box::new(document::Document::new()),
        "admin" => Box::new(admin::AdminApi::new()),
        name => canary::make(name).unwrap_or_else(|| panic!("there is no target {name:?}: {TARGETS:?}")),
    }
}
