//! What a check found, and what to do about it.

use std::fmt;

use automerge::{ActorId, ChangeHash};
use serde_json::{Value as Json, json};

use super::hex;
use crate::id::{DocumentId, SpaceId, StorageId};
use crate::store::Table;

/// What [`verify`](super::verify()) found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How many documents were looked at.
    pub documents: u64,
    /// How many of them were not checked, because their history is still being unfolded (see [`crate::ledger::base`]):
    /// open the store for use, and check again when it is done.
    pub folded: u64,
    /// How many changes.
    pub changes: u64,
    /// How many bytes of changes.
    pub bytes: u64,
    /// What is wrong, the first [`VerifyOptions::findings_max`](super::VerifyOptions::findings_max).
    pub findings: Vec<Finding>,
    /// How many findings there are, those that are not listed included.
    pub found: u64,
    max: usize,
}

impl Report {
    pub(super) fn new(max: usize) -> Self {
        Self { documents: 0, folded: 0, changes: 0, bytes: 0, findings: Vec::new(), found: 0, max }
    }

    /// Adds a finding: also of what a program checks in tables that only it knows.
    pub fn add(&mut self, document: Option<DocumentId>, fault: Fault) {
        self.found += 1;
        if self.findings.len() < self.max {
            self.findings.push(Finding { document, fault });
        }
    }

    /// Says whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.found == 0
    }

    /// Returns the documents with findings that [`repair`](super::repair()) takes away, of those that are listed.
    pub fn repairable(&self) -> Vec<DocumentId> {
        let broken = |document| {
            self.findings.iter().any(|other| other.document == document && other.fault.advice() != Advice::Repair)
        };
        let mut documents: Vec<_> =
            self.findings.iter().filter(|one| !broken(one.document)).filter_map(|one| one.document).collect();
        documents.dedup();
        documents
    }

    /// Returns the report for programs: `sound`, `documents`, `folded`, `changes`, `bytes`, `found`, and `findings`, each with
    /// `document`, `fault` (a stable name), `text` and `advice`.
    pub fn to_json(&self) -> Json {
        let findings = self.findings.iter().map(|finding| {
            json!({
                "document": finding.document.map(|document| document.to_string()),
                "fault": finding.fault.name(),
                "text": finding.fault.to_string(),
                "advice": finding.fault.advice().name(),
            })
        });
        json!({
            "sound": self.is_sound(),
            "documents": self.documents,
            "folded": self.folded,
            "changes": self.changes,
            "bytes": self.bytes,
            "found": self.found,
            "findings": findings.collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    /// Writes one line a finding, and a last one that sums up.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        let Self { documents, folded, changes, bytes, found, .. } = self;
        if *folded > 0 {
            writeln!(f, "{folded} documents are still being unfolded and were not checked")?;
        }
        write!(f, "{documents} documents, {changes} changes, {bytes} bytes of changes: ")?;
        match (found, found - self.findings.len() as u64) {
            (0, _) => f.write_str("all sound"),
            (1, _) => f.write_str("1 finding"),
            (_, 0) => write!(f, "{found} findings"),
            (_, more) => write!(f, "{found} findings, {more} of them not listed"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which document it is about; `None` if it is about the store.
    pub document: Option<DocumentId>,
    /// What is wrong.
    pub fault: Fault,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.document {
            Some(document) => write!(f, "document {document}: ")?,
            None => f.write_str("store: ")?,
        }
        write!(f, "{}; {}", self.fault, self.fault.advice())
    }
}

/// What can be wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A table cannot be read, so the documents that stand in it alone were not found.
    #[error("{} cannot be read", table.name())]
    Table {
        /// Which.
        table: Table,
    },
    /// Records of the document cannot be read, so the rest of it was not checked.
    #[error("{what} cannot be read; what depends on it was not checked")]
    Unreadable {
        /// Which.
        what: &'static str,
    },
    /// A key that is none of ours.
    #[error("{} has a row under the key {}, which is none of ours", table.name(), hex(key))]
    ForeignKey {
        /// Where.
        table: Table,
        /// The key.
        key: Vec<u8>,
    },
    /// Rows of a document that has no record.
    #[error("the document has rows in {}, and no record", table.name())]
    NoRecord {
        /// The first table with such rows.
        table: Table,
    },
    /// A change does not parse, or its bytes are not what their checksum says.
    #[error("the change at position {position} does not parse: {reason}")]
    Change {
        /// Where.
        position: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Changes that are counted are not there.
    #[error("the changes at positions {from} to {} are not there", to - 1)]
    ChangesMissing {
        /// The first position.
        from: u64,
        /// The position after the last.
        to: u64,
    },
    /// A change depends on one that is not before it.
    #[error("the change at position {position} depends on {dependency}, which is not before it")]
    Dependency {
        /// Where.
        position: u64,
        /// On what.
        dependency: ChangeHash,
    },
    /// An actor's changes do not count up by one.
    #[error("the change at position {position} is number {found} of its actor, and {expected} is due")]
    Sequence {
        /// Where.
        position: u64,
        /// Which number is due.
        expected: u64,
        /// Which it has.
        found: u64,
    },
    /// A change breaks a rule of this version together with those before it.
    #[error("the change at position {position} breaks a rule: {reason}")]
    Refused {
        /// Where.
        position: u64,
        /// Which rule.
        reason: String,
    },
    /// A change's place in the graph is not what the change says.
    #[error("the record of the change at position {position} has another {field} than the change")]
    Node {
        /// Where.
        position: u64,
        /// What is wrong in it.
        field: &'static str,
    },
    /// A change is not found by its hash.
    #[error("the change {hash} is not found at its position {position}")]
    Index {
        /// Which.
        hash: ChangeHash,
        /// Where it is.
        position: u64,
    },
    /// An actor's last change is not found.
    #[error("the last change of actor {actor} is not found")]
    Actor {
        /// Whose.
        actor: ActorId,
    },
    /// The document's record does not sum its changes up.
    #[error("the document's record has another {field} than its changes")]
    Record {
        /// What is wrong in it.
        field: &'static str,
    },
    /// A change that is not there waits for its acknowledgement.
    #[error("position {position} waits for a relay, and is not there")]
    Outbox {
        /// Which.
        position: u64,
    },
    /// A row of what waits for its acknowledgement does not read. The changes are there; a repair lets the next connection compare what
    /// a relay lacks.
    #[error("some of what waits for a relay cannot be read")]
    OutboxRow,
    /// A change that is held back because a relay refused it, or one that it stands on, is not there, or that one is not.
    #[error("position {position} is held back for a refusal that does not fit it")]
    Rejected {
        /// Which.
        position: u64,
    },
    /// A change that is not there is held to be shared with a peer.
    #[error("changes are held to be shared with {peer} that are not here")]
    Shared {
        /// With whom.
        peer: StorageId,
    },
    /// An actor belongs to somebody, and has no change in the document, or to nobody that can be named.
    #[error("actor {} has an owner, and no change here or no name of its owner", hex(actor))]
    Owner {
        /// The actor.
        actor: Vec<u8>,
    },
    /// The snapshot for peers that have nothing is not the history it should be.
    #[error("the snapshot for fresh peers {reason}")]
    Snapshot {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A space's log is not gapless, or not made of the changes that are there. Where it is about a document, a repair logs
    /// that one anew.
    #[error("the log{} {reason}{}", space.map_or_else(String::new, |space| format!(" of space {space}")), at(*position))]
    Log {
        /// Which space's, if it is known.
        space: Option<SpaceId>,
        /// At which position; 0 if it is about none.
        position: u64,
        /// What is wrong.
        reason: &'static str,
        /// It is about one document's entries.
        of_document: bool,
    },
    /// A row differs from what the changes make.
    #[error("a row of {} {fault}: {}", table.name(), hex(key))]
    Row {
        /// Where.
        table: Table,
        /// How.
        fault: RowFault,
        /// The row's key after the document's id.
        key: Vec<u8>,
    },
}

impl Fault {
    /// Returns the fault's name for programs: once released, it means the same for ever.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Table { .. } => "table",
            Self::Unreadable { .. } => "unreadable",
            Self::ForeignKey { .. } => "foreign-key",
            Self::NoRecord { .. } => "no-record",
            Self::Change { .. } => "change",
            Self::ChangesMissing { .. } => "changes-missing",
            Self::Dependency { .. } => "dependency",
            Self::Sequence { .. } => "sequence",
            Self::Refused { .. } => "refused",
            Self::Node { .. } => "node",
            Self::Index { .. } => "index",
            Self::Actor { .. } => "actor",
            Self::Record { .. } => "record",
            Self::Outbox { .. } | Self::OutboxRow => "outbox",
            Self::Rejected { .. } => "rejected",
            Self::Shared { .. } => "shared",
            Self::Owner { .. } => "owner",
            Self::Snapshot { .. } => "snapshot",
            Self::Log { .. } => "log",
            Self::Row { .. } => "row",
        }
    }

    /// Returns what to do about it.
    pub const fn advice(&self) -> Advice {
        match self {
            Self::Table { .. } | Self::ForeignKey { .. } | Self::Log { of_document: false, .. } => Advice::Restore,
            Self::Unreadable { .. }
            | Self::Change { .. }
            | Self::ChangesMissing { .. }
            | Self::Dependency { .. }
            | Self::Sequence { .. }
            | Self::Refused { .. } => Advice::Refetch,
            _ => Advice::Repair,
        }
    }
}

/// Completes a sentence with a position, unless it is 0.
fn at(position: u64) -> String {
    if position == 0 { String::new() } else { format!(" at position {position}") }
}

/// How a row differs from what the changes make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowFault {
    /// It should be there.
    Missing,
    /// It should not be there.
    Extra,
    /// It should hold something else.
    Differs,
}

impl fmt::Display for RowFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "is missing",
            Self::Extra => "should not be there",
            Self::Differs => "is not what the changes make",
        })
    }
}

/// What to do about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// The changes are sound: [`repair`](super::repair()) computes the rest from them.
    Repair,
    /// The document has lost changes: delete it here and fetch it again, or restore a backup.
    Refetch,
    /// The file itself is damaged: restore a backup.
    Restore,
}

impl Advice {
    /// Returns the advice's name for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Repair => "repair",
            Self::Refetch => "refetch",
            Self::Restore => "restore",
        }
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Repair => "repair the document: its changes are all there",
            Self::Refetch => "restore a backup, or delete the document here and fetch it again from another peer",
            Self::Restore => "restore a backup, or make a new store and fetch the documents again",
        })
    }
}
