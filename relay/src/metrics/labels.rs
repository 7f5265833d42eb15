//! The labels: closed sets, so that no peer can make a series. Nothing here names a document, a principal or an address.

use crate::auth::Reason;
use crate::quota::Kind;

/// A closed set of label values. Each has its counter from the start, at zero.
pub(super) trait Labels: Copy + std::fmt::Debug + Send + Sync + 'static {
    /// Every member.
    fn all() -> Vec<Self>;
    /// Where it stands among them.
    fn place(self) -> usize;
    /// The labels' names and its values.
    fn pairs(self) -> Vec<(&'static str, &'static str)>;
}

/// Declares a set of values of one label.
macro_rules! labels {
    ($(#[$meta:meta])* $name:ident $label:literal { $($(#[$doc:meta])* $variant:ident $value:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// Every one, in the order in which they are shown.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Returns the label's value.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $value,)+ }
            }
        }

        impl Labels for $name {
            fn all() -> Vec<Self> {
                Self::ALL.to_vec()
            }

            fn place(self) -> usize {
                self as usize
            }

            fn pairs(self) -> Vec<(&'static str, &'static str)> {
                vec![($label, self.name())]
            }
        }
    };
}

labels! {
    /// What a connection speaks.
    Protocol "protocol" {
        /// The classic automerge-repo protocol.
        Classic "classic",
        /// `rejoin.v1`.
        V1 "v1",
    }
}

labels! {
    /// Which way a frame goes.
    Direction "direction" {
        /// From a peer.
        In "in",
        /// To a peer.
        Out "out",
    }
}

labels! {
    /// Why a connection was not taken.
    RefusedConnection "reason" {
        /// The relay is stopping.
        Stopping "stopping",
        /// All places are taken.
        Full "full",
        /// Its address has as many as one may have.
        Address "address",
        /// Its principal has as many as one may have.
        Principal "principal",
        /// Its address comes too often.
        Rate "rate",
        /// It has no good token.
        Unauthenticated "unauthenticated",
        /// It comes from a web page that is not allowed.
        Origin "origin",
        /// It did not say who it is in time.
        Late "late",
    }
}

labels! {
    /// What became of a change.
    AppendResult "result" {
        /// It is durable and in the log.
        Stored "stored",
        /// It was there already.
        Duplicate "duplicate",
        /// A change that it stands on is missing.
        Missing "missing",
        /// It breaks a rule of the gate.
        Rejected "rejected",
        /// Its actor is another principal's.
        Owned "owned",
        /// Its sender may not write there.
        ReadOnly "read_only",
        /// Its document is deleted.
        Deleted "deleted",
        /// Its document is in another space.
        Elsewhere "elsewhere",
        /// Its sender or its space has used up what it was given.
        Quota "quota",
        /// The store could not be written.
        Failed "failed",
    }
}

labels! {
    /// What became of a document that was to be folded or taken apart.
    FoldResult "result" {
        /// It was done.
        Done "done",
        /// The child says that it cannot be done, or gave a wrong answer.
        Refused "refused",
        /// The child ended early: out of memory, of processor time, or by a fault.
        Crashed "crashed",
        /// The child took too long.
        TimedOut "timed_out",
        /// No child could be started.
        NotStarted "not_started",
    }
}

/// What a frame is counted under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way(pub(super) Protocol, pub(super) Direction);

impl Labels for Way {
    fn all() -> Vec<Self> {
        let ways = Protocol::ALL.iter().flat_map(|protocol| Direction::ALL.iter().map(|way| Self(*protocol, *way)));
        ways.collect()
    }

    fn place(self) -> usize {
        self.0.place() * Direction::ALL.len() + self.1.place()
    }

    fn pairs(self) -> Vec<(&'static str, &'static str)> {
        [self.0.pairs(), self.1.pairs()].concat()
    }
}

/// Why somebody was not let in, as the directory counts it.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReasonLabel(pub(super) Reason);

impl Labels for ReasonLabel {
    fn all() -> Vec<Self> {
        Reason::ALL.into_iter().map(Self).collect()
    }

    fn place(self) -> usize {
        Reason::ALL.iter().position(|reason| *reason == self.0).unwrap_or_default()
    }

    fn pairs(self) -> Vec<(&'static str, &'static str)> {
        vec![("reason", self.0.name())]
    }
}

/// What was held back or refused, as the quotas count it.
#[derive(Debug, Clone, Copy)]
pub(super) struct QuotaLabel(pub(super) Kind);

impl Labels for QuotaLabel {
    fn all() -> Vec<Self> {
        Kind::ALL.into_iter().map(Self).collect()
    }

    fn place(self) -> usize {
        Kind::ALL.iter().position(|kind| *kind == self.0).unwrap_or_default()
    }

    fn pairs(self) -> Vec<(&'static str, &'static str)> {
        vec![("kind", self.0.name())]
    }
}

/// A rule of the gate, by its place among them.
#[derive(Debug, Clone, Copy)]
pub(super) struct RuleLabel(pub(super) rejoin::gate::Rule);

impl Labels for RuleLabel {
    fn all() -> Vec<Self> {
        rejoin::gate::Rule::ALL.iter().map(|rule| Self(*rule)).collect()
    }

    fn place(self) -> usize {
        rejoin::gate::Rule::ALL.iter().position(|rule| *rule == self.0).unwrap_or_default()
    }

    fn pairs(self) -> Vec<(&'static str, &'static str)> {
        vec![("rule", self.0.code())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stands_in_its_place<L: Labels>() {
        for (place, label) in L::all().into_iter().enumerate() {
            assert_eq!(label.place(), place, "{label:?}");
            assert!(label.pairs().iter().all(|(_, value)| !value.is_empty()));
        }
    }

    #[test]
    fn every_label_stands_in_its_place() {
        stands_in_its_place::<Way>();
        stands_in_its_place::<RuleLabel>();
        stands_in_its_place::<ReasonLabel>();
        stands_in_its_place::<QuotaLabel>();
        stands_in_its_place::<AppendResult>();
        stands_in_its_place::<FoldResult>();
    }
}
