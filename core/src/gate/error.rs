//! Why the gate refused something: a rule with a stable code, and the numbers.

use std::fmt;

/// A chunk or change that the gate refuses. It is always the sender's fault, never a state of ours.
///
/// The text completes "failed to accept a change: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("{rule}{}", Numbers(*found, *limit))]
pub struct GateError {
    rule: Rule,
    found: Option<u64>,
    limit: Option<u64>,
}

impl GateError {
    /// Returns which rule was broken.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// Returns the number that broke the rule, where there is one.
    pub fn found(&self) -> Option<u64> {
        self.found
    }

    /// Returns the bound or the expected number, where there is one.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }
}

/// Writes the numbers of an error after its sentence.
struct Numbers(Option<u64>, Option<u64>);

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (Some(found), Some(limit)) => write!(f, " (found {found}, limit {limit})"),
            (Some(found), None) => write!(f, " (found {found})"),
            (None, Some(limit)) => write!(f, " (limit {limit})"),
            (None, None) => Ok(()),
        }
    }
}

/// Declares the rules once: variant, code, sentence.
macro_rules! rules {
    ($($variant:ident $code:literal $text:literal,)+) => {
        /// The rules of the gate. Each has a stable code for logs, metrics and the rejected-writes list.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Rule {
            $(#[doc = concat!("`", $code, "`: ", $text, ".")] $variant,)+
        }

        impl Rule {
            /// Every rule, in the order of the checks.
            pub const ALL: &[Rule] = &[$(Rule::$variant,)+];

            /// Returns the stable code in kebab-case.
            pub const fn code(&self) -> &'static str {
                match self { $(Rule::$variant => $code,)+ }
            }

            const fn text(&self) -> &'static str {
                match self { $(Rule::$variant => $text,)+ }
            }
        }
    };
}

rules! {
    Truncated "truncated" "the bytes end in the middle of something",
    Trailing "trailing" "bytes follow the end of the chunk",
    Integer "integer" "an integer is too large or not written in its shortest form",
    Text "text" "a text is not utf-8",
    Magic "magic" "a chunk does not start with 85 6f 4a 83",
    ChunkType "chunk-type" "the chunk is of a type that is not known or not welcome here",
    Checksum "checksum" "the checksum does not fit the bytes",
    ChangeTooLarge "change-too-large" "the change is too long",
    Inflate "inflate" "the compressed change does not inflate",
    InflateTooLarge "inflate-too-large" "the compressed change inflates to too many bytes",
    TooManyDeps "too-many-deps" "the change has too many dependencies",
    DepsOrder "deps-order" "the dependencies are not sorted or one is named twice",
    ActorLength "actor-length" "an actor id is empty or too long",
    SeqZero "seq-zero" "the sequence number is zero",
    SeqTooLarge "seq-too-large" "the sequence number is too large",
    StartOp "start-op" "the first operation's counter is zero",
    Timestamp "timestamp" "the timestamp is out of range",
    MessageTooLong "message-too-long" "the commit message is too long",
    TooManyActors "too-many-actors" "the change names too many actors",
    ActorOrder "actor-order" "the other actors are not sorted, repeat, or repeat the author",
    ActorUnused "actor-unused" "no operation refers to an actor that the change names",
    Columns "columns" "the columns are unknown, compressed, empty or out of order",
    TooManyOps "too-many-ops" "the change has too many operations",
    TooManyPreds "too-many-preds" "the operations have too many predecessors",
    NamesTooLong "names-too-long" "the keys and mark names of all operations together are too long",
    OpCounter "op-counter" "the last operation's counter is too large",
    Runs "runs" "a column is not run-length encoded in its one canonical form",
    ColumnLength "column-length" "a column has not as many rows as the change has operations",
    ActorIndex "actor-index" "an actor index points past the change's actors",
    ActionUnknown "action" "the action of an operation is not known",
    Value "value" "a value does not fit its type, its length or its operation",
    Reference "reference" "an object, element or predecessor is no earlier operation that fits",
    PredOrder "pred-order" "the predecessors of an operation are not sorted or repeat",
    Operation "operation" "an operation mixes what never goes together",
    MarkPair "mark-pair" "a mark's begin is not directly followed by its end",
    MarkOrder "mark-order" "a mark ends before it begins",
    OwnConflict "own-conflict" "the change has too many values beside its own earlier ones",
    ExtraTooLong "extra-too-long" "the section after the columns is too long",
    SeqGap "seq-gap" "earlier changes of the same actor are missing",
    SeqReused "seq-reused" "the actor already made another change with this sequence number",
    OwnDependency "own-dependency" "the change does not depend on its actor's previous change",
    UnknownActor "unknown-actor" "the change refers to an actor that has made no change in this document",
    StartOpLow "start-op-low" "the first operation's counter is not above those of its dependencies",
    StartOpJump "start-op-jump" "the first operation's counter is too far above every known one",
    TooManyReferences "too-many-references" "the operations refer to too many bytes of earlier changes",
    HistoryTooWide "history-too-wide" "the change stands beside too much of the history to be judged",
    TooManyHeads "too-many-heads" "the document has too many heads that no change joins",
    Dependency "dependency" "a dependency of the change is missing",
    UnknownObject "unknown-object" "an operation is about an object that the document does not have",
    ObjectKind "object-kind" "an operation does not fit the kind of its object",
    Author "author" "the author footer is damaged or not on the actor's first change",
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Rule {
    /// Makes the error of a rule without numbers.
    #[cold]
    pub fn error(self) -> GateError {
        GateError { rule: self, found: None, limit: None }
    }

    /// Makes the error of a rule that was broken by a number.
    #[cold]
    pub fn found(self, found: u64, limit: u64) -> GateError {
        GateError { rule: self, found: Some(found), limit: Some(limit) }
    }

    /// Refuses a number above its bound.
    pub(crate) fn at_most(self, found: u64, limit: u64) -> Result<(), GateError> {
        if found > limit { Err(self.found(found, limit)) } else { Ok(()) }
    }

    /// Refuses what does not hold.
    pub(crate) fn require(self, holds: bool) -> Result<(), GateError> {
        if holds { Ok(()) } else { Err(self.error()) }
    }
}
