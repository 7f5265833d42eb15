//! What can be wrong with a message, and the stable numbers by which either side tells the other.

use std::fmt;

use crate::codec::Fault;
use crate::gate::{GateError, Rule};

/// Why a WebSocket message is no message that we take.
///
/// The text completes "failed to read a message: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end before the field does. Also what an empty message is.
    #[error("cut off in {field} at byte {at}")]
    Truncated {
        /// Which field.
        field: &'static str,
        /// Where it starts, in bytes from the start of the message.
        at: usize,
    },
    /// A number that is not written in its shortest form, or above [`crate::limits::V1_NUMBER_MAX`].
    #[error("no valid number for {field} at byte {at}")]
    Number {
        /// Which field.
        field: &'static str,
        /// Where it starts.
        at: usize,
    },
    /// A field or list is longer, or a number larger, than its limit.
    #[error("{field} has {found}, the limit is {limit}")]
    LimitExceeded {
        /// Which field.
        field: &'static str,
        /// How long or large it says it is.
        found: u64,
        /// The most we take.
        limit: u64,
    },
    /// A field holds what it must not.
    #[error("{field} is not {expected}")]
    Invalid {
        /// Which field.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// Something follows the last field.
    #[error("{found} bytes follow the message")]
    TrailingBytes {
        /// How many.
        found: usize,
    },
    /// A kind of message that this version does not know.
    #[error("unknown kind of message {kind:#04x}")]
    UnknownKind {
        /// Its first byte. From 0x80 on the message is to be ignored.
        kind: u8,
    },
    /// A message that only the other side sends.
    #[error("a message of kind {kind:#04x} goes the other way")]
    WrongDirection {
        /// Its first byte.
        kind: u8,
    },
    /// A `hello` that offers no version we speak.
    #[error("versions {lowest} to {highest} are offered, {} is spoken", super::VERSION)]
    Version {
        /// The lowest version that is offered.
        lowest: u64,
        /// The highest.
        highest: u64,
    },
}

impl DecodeError {
    /// Tells whether the connection has to be closed. If not, the message is to be ignored.
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Self::UnknownKind { kind } if *kind >= super::kind::IGNORABLE)
    }

    /// Says which side has to change.
    pub fn fault(&self) -> Fault {
        match self {
            Self::UnknownKind { .. } | Self::Version { .. } => Fault::Incompatible,
            _ => Fault::Misbehaved,
        }
    }

    /// Returns the code by which the peer is told.
    pub fn code(&self) -> Code {
        match self {
            Self::Truncated { .. } | Self::Number { .. } | Self::TrailingBytes { .. } => Code::FrameMalformed,
            Self::Invalid { .. } => Code::FrameInvalid,
            Self::LimitExceeded { .. } => Code::FrameLimit,
            Self::UnknownKind { .. } | Self::WrongDirection { .. } => Code::FrameUnknownKind,
            Self::Version { .. } => Code::Version,
        }
    }
}

/// Declares the codes once: variant, number, name, sentence.
macro_rules! codes {
    ($($variant:ident $number:literal $name:literal $text:literal,)+) => {
        /// What is wrong, by a number that never changes its meaning.
        ///
        /// Numbers below 64 are about the connection or a space, those from 64 on about one write.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = concat!("`", $name, "`, ", $number, ": ", $text, ".")] $variant,)+
            /// A number that this version has no name for.
            Other(
                /// The number.
                u16,
            ),
        }

        impl Code {
            /// Every code with a name, by number.
            pub const ALL: &[Code] = &[$(Code::$variant,)+];

            /// Returns the number on the wire.
            pub const fn number(self) -> u16 {
                match self { $(Code::$variant => $number,)+ Code::Other(number) => number }
            }

            /// Returns the code of a number.
            pub const fn from_number(number: u16) -> Self {
                match number { $($number => Code::$variant,)+ other => Code::Other(other) }
            }

            /// Returns the stable name in kebab-case, for logs and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)+ Code::Other(_) => "other" }
            }

            /// Returns what it means, without capital or full stop.
            pub const fn meaning(self) -> &'static str {
                match self { $(Code::$variant => $text,)+ Code::Other(_) => "a code of a later version" }
            }
        }
    };
}

codes! {
    Version 1 "version" "no version is spoken by both sides",
    FrameMalformed 2 "frame-malformed" "a message is cut off, has bytes behind it, or a number that is none",
    FrameInvalid 3 "frame-invalid" "a field holds what it must not",
    FrameLimit 4 "frame-limit" "a field, list or number is above its limit",
    FrameUnknownKind 5 "frame-unknown-kind" "a kind of message that is not known, or that goes the other way",
    Unexpected 6 "unexpected" "a message that does not fit what was said before",
    CreditOverrun 7 "credit-overrun" "more bytes were sent than were granted, or more granted than may be",
    Unauthenticated 8 "unauthenticated" "the token is missing, unknown or expired",
    Forbidden 9 "forbidden" "the space may not be read",
    SpaceUnknown 10 "space-unknown" "there is no such space",
    NotSubscribed 11 "not-subscribed" "the message is about a space that is not subscribed to",
    CursorAhead 12 "cursor-ahead" "the position was never told on this connection",
    TooMany 13 "too-many" "the connection has too many subscriptions, open documents or batches under way",
    Busy 14 "busy" "the relay cannot take more now, try again later",
    GoingAway 15 "going-away" "the relay shuts down, connect again",
    Internal 16 "internal" "the relay failed, and it is not the sender's fault",
    ChangeMalformed 64 "change-malformed" "the bytes are no change",
    ChangeLimit 65 "change-limit" "the change is above a limit",
    ChangeInvalid 66 "change-invalid" "the change is well formed but not one that Automerge writes",
    ChangeMissing 67 "change-missing" "a change that it stands on is missing: send that first",
    ChangeConflict 68 "change-conflict" "the change does not fit the history it wants to continue",
    DocumentFull 69 "document-full" "the document has too much side by side to take it",
    ActorReused 70 "actor-reused" "its actor wrote something else at this place: take a fresh actor and write it again",
    ReadOnly 80 "read-only" "the space may be read but not written",
    DocumentDeleted 81 "document-deleted" "the document was deleted everywhere",
    DocumentElsewhere 82 "document-elsewhere" "the document belongs to another space",
    Quota 83 "quota" "the space has used up what it was given",
    DeleteForbidden 84 "delete-forbidden" "documents may not be deleted by this peer",
    NotStored 85 "not-stored" "the relay could not store it, try again later",
    ActorOwned 86 "actor-owned" "its actor belongs to somebody else: take a fresh actor and write it again",
}

impl Code {
    /// Tells whether the relay could not take a write just now, which says nothing about the write: try it again after a while.
    pub const fn puts_off(self) -> bool {
        matches!(self, Self::Busy | Self::GoingAway | Self::Internal | Self::NotStored)
    }

    /// Tells whether the same write may be taken later without being changed.
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::ChangeMissing | Self::ReadOnly | Self::Quota | Self::NotStored | Self::Busy | Self::DocumentFull
        )
    }

    /// Returns the WebSocket close code that goes with a fatal error: 1007 for bytes that are no message, 1009 for what is
    /// too big, 1008 for what is not allowed, 1001, 1011 and 1013 for a relay that cannot go on, else 1002.
    pub const fn close_code(self) -> u16 {
        match self {
            Self::GoingAway => 1001,
            Self::FrameMalformed => 1007,
            Self::Unauthenticated | Self::Forbidden | Self::TooMany => 1008,
            Self::FrameLimit => 1009,
            Self::Internal => 1011,
            Self::Busy => 1013,
            _ => 1002,
        }
    }

    /// Returns the code for a rule of the gate.
    pub const fn of_rule(rule: Rule) -> Self {
        match rule {
            Rule::Truncated
            | Rule::Trailing
            | Rule::Integer
            | Rule::Text
            | Rule::Magic
            | Rule::ChunkType
            | Rule::Checksum
            | Rule::Inflate => Self::ChangeMalformed,
            Rule::ChangeTooLarge
            | Rule::InflateTooLarge
            | Rule::TooManyDeps
            | Rule::ActorLength
            | Rule::SeqTooLarge
            | Rule::Timestamp
            | Rule::MessageTooLong
            | Rule::TooManyActors
            | Rule::TooManyOps
            | Rule::TooManyPreds
            | Rule::NamesTooLong
            | Rule::OpCounter
            | Rule::OwnConflict
            | Rule::ExtraTooLong
            | Rule::TooManyReferences => Self::ChangeLimit,
            Rule::DepsOrder
            | Rule::SeqZero
            | Rule::StartOp
            | Rule::ActorOrder
            | Rule::ActorUnused
            | Rule::Columns
            | Rule::Runs
            | Rule::ColumnLength
            | Rule::ActorIndex
            | Rule::ActionUnknown
            | Rule::Value
            | Rule::Reference
            | Rule::PredOrder
            | Rule::Operation
            | Rule::MarkPair
            | Rule::MarkOrder
            | Rule::Author => Self::ChangeInvalid,
            Rule::SeqGap | Rule::Dependency => Self::ChangeMissing,
            Rule::SeqReused | Rule::OwnDependency => Self::ActorReused,
            Rule::UnknownActor | Rule::StartOpLow | Rule::StartOpJump | Rule::UnknownObject | Rule::ObjectKind => {
                Self::ChangeConflict
            }
            Rule::HistoryTooWide | Rule::TooManyHeads => Self::DocumentFull,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(number) => write!(f, "code {number}"),
            known => f.write_str(known.name()),
        }
    }
}

/// Why one write was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The class of reasons, for a program.
    pub code: Code,
    /// The reason, for a person, cut to [`crate::limits::REJECT_TEXT_BYTES_MAX`] bytes when it is sent. One of the gate's begins with its rule's stable
    /// name, a colon and a space.
    pub text: String,
}

impl Reject {
    /// Makes a refusal that says what its code means.
    pub fn new(code: Code) -> Self {
        Self { code, text: code.meaning().to_owned() }
    }
}

impl From<&GateError> for Reject {
    fn from(error: &GateError) -> Self {
        Self { code: Code::of_rule(error.rule()), text: format!("{}: {error}", error.rule().code()) }
    }
}
