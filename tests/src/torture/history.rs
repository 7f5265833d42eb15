//! Histories: what each device and the nemesis say of a run, a line for each event, written at once.
//!
//! A line is the time in microseconds since 1970, what happened, and a full stop: one that a kill cut short is known by that,
//! and says nothing. All processes are on one machine, so their clocks are the same one.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::str::FromStr;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use rejoin::{DocumentId, Receipt};

/// Names a write of a run for ever: it is the message of its change, so it outlives a change that is written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId {
    /// Which client.
    pub client: usize,
    /// Which process of that client, from 1.
    pub run: u64,
    /// Which write of that process, from 1.
    pub number: u64,
}

impl fmt::Display for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}.{}.{}", self.client, self.run, self.number)
    }
}

impl FromStr for WriteId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.strip_prefix('w').ok_or(())?.split('.').map(|part| part.parse::<u64>().map_err(drop));
        let mut next = || parts.next().unwrap_or(Err(()));
        let (client, run, number) = (next()?, next()?, next()?);
        Ok(Self { client: usize::try_from(client).map_err(drop)?, run, number })
    }
}

/// What a write does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// Sets a field that all clients set.
    Shared,
    /// Sets a field of the client's own.
    Own,
    /// Adds one to the counter.
    Increment,
    /// Puts the client's letter into the text.
    Letter,
    /// Puts the write's name into the list.
    Push,
    /// Cuts and pastes in a text where all do.
    Draft,
}

impl Op {
    /// All there are.
    pub const ALL: [Self; 6] = [Self::Shared, Self::Own, Self::Increment, Self::Letter, Self::Push, Self::Draft];

    fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Own => "own",
            Self::Increment => "increment",
            Self::Letter => "letter",
            Self::Push => "push",
            Self::Draft => "draft",
        }
    }
}

/// What a device says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A process of it begins.
    Run(u64),
    /// Its store has these writes of one process of one client: each pair a first and a last number.
    Has(usize, u64, Vec<(u64, u64)>),
    /// All that its store had when it was opened is told, since this process began.
    Looked,
    /// A write is about to be made.
    Invoked(WriteId, DocumentId, Op),
    /// A write has come this far.
    Stage(WriteId, Receipt),
    /// A write of a former process stands like this, if it is there at all.
    Stands(WriteId, Option<Receipt>),
    /// A write could not be made.
    Failed(WriteId, String),
    /// A relay refused a write for good, with this code. It has no name if the change is not to be found.
    Refused(Option<WriteId>, u16),
    /// The application takes rejected writes out of a document.
    Dropping(DocumentId),
    /// How its connection stands, with the relay's code if it gave one.
    State(String, u16),
    /// It writes no more: so many changes wait and so many are rejected.
    Standing(u64, u64),
    /// It writes no more: a document's heads, sorted.
    Heads(DocumentId, Vec<String>),
    /// It ends because it was asked to.
    Closed,
}

impl Said {
    /// Tells which writes a store has, in as few words as there are processes that made them.
    pub fn has(mut writes: Vec<WriteId>) -> Vec<Self> {
        writes.sort_unstable();
        let mut said: Vec<Self> = Vec::new();
        for id in writes {
            match said.last_mut() {
                Some(Self::Has(client, run, ranges)) if (*client, *run) == (id.client, id.run) => {
                    match ranges.last_mut() {
                        Some((_, last)) if id.number <= *last + 1 => *last = id.number,
                        _ => ranges.push((id.number, id.number)),
                    }
                }
                _ => said.push(Self::Has(id.client, id.run, vec![(id.number, id.number)])),
            }
        }
        said
    }

    /// Returns the writes that it says are there.
    pub fn had(&self) -> impl Iterator<Item = WriteId> {
        let (client, run, ranges) = match self {
            Self::Has(client, run, ranges) => (*client, *run, ranges.as_slice()),
            _ => (0, 0, &[][..]),
        };
        let numbers = ranges.iter().flat_map(|(first, last)| *first..=*last);
        numbers.map(move |number| WriteId { client, run, number })
    }
}

/// What the nemesis says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// Something that no rule asks for, in words.
    Note(String),
    /// A client's store was copied, while no process had it.
    DiskCopied(usize),
    /// A client's store is the copy again.
    RolledBack(usize),
    /// The relay's store is made of a backup again.
    Restored,
    /// A client is about to lose its right to write; whether it loses its right to connect too.
    Revoking(usize, bool),
    /// It has lost it, and the log of that epoch was so far.
    Revoked(usize, String, u64),
    /// It is about to get it back, and the log of that epoch is so far.
    Regranting(usize, String, u64),
    /// It has got it back.
    Regranted(usize),
    /// The relay's store has at this position of that epoch a change, by a write with this name if it has one.
    RelayHas(String, u64, DocumentId, String, Option<WriteId>),
    /// All that the relay's store has at this time is told.
    RelayLooked,
    /// Whatever was done is undone.
    Healed,
}

/// An event, and when it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    /// Microseconds since 1970.
    pub time: u64,
    /// What happened.
    pub what: T,
}

/// An event that stands in a line.
pub trait Event: Sized {
    /// Writes it in words without line breaks.
    fn write(&self) -> String;
    /// Reads it; `None` if it is none.
    fn read(words: &str) -> Option<Self>;
}

fn name(id: Option<&WriteId>) -> String {
    id.map_or_else(|| "-".to_owned(), ToString::to_string)
}

fn maybe<T: FromStr>(word: &str) -> Option<Option<T>> {
    if word == "-" { Some(None) } else { word.parse().ok().map(Some) }
}

fn stage_name(stage: Receipt) -> &'static str {
    match stage {
        Receipt::Local => "local",
        Receipt::Relayed => "relayed",
        Receipt::Seen => "seen",
    }
}

fn stage(word: &str) -> Option<Receipt> {
    [Receipt::Local, Receipt::Relayed, Receipt::Seen].into_iter().find(|stage| stage_name(*stage) == word)
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

impl Event for Said {
    fn write(&self) -> String {
        match self {
            Self::Run(run) => format!("run {run}"),
            Self::Has(client, run, ranges) => {
                let ranges: Vec<String> = ranges.iter().map(|(first, last)| format!("{first}-{last}")).collect();
                format!("has {client} {run} {}", ranges.join(","))
            }
            Self::Looked => "looked".to_owned(),
            Self::Invoked(id, document, op) => format!("invoked {id} {document} {}", op.name()),
            Self::Stage(id, stage) => format!("{} {id}", stage_name(*stage)),
            Self::Stands(id, stage) => format!("stands {id} {}", stage.map_or("-", stage_name)),
            Self::Failed(id, text) => format!("failed {id} {}", one_line(text)),
            Self::Refused(id, code) => format!("refused {} {code}", name(id.as_ref())),
            Self::Dropping(document) => format!("dropping {document}"),
            Self::State(state, code) => format!("state {code} {}", one_line(state)),
            Self::Standing(pending, rejected) => format!("standing {pending} {rejected}"),
            Self::Heads(document, heads) => format!("heads {document} {}", heads.join(",")),
            Self::Closed => "closed".to_owned(),
        }
    }

    fn read(words: &str) -> Option<Self> {
        let (verb, rest) = words.split_once(' ').unwrap_or((words, ""));
        let (first, more) = rest.split_once(' ').unwrap_or((rest, ""));
        if let Some(stage) = stage(verb) {
            return Some(Self::Stage(first.parse().ok()?, stage));
        }
        Some(match verb {
            "run" => Self::Run(first.parse().ok()?),
            "has" => {
                let (run, ranges) = more.split_once(' ')?;
                let range = |range: &str| {
                    let (first, last) = range.split_once('-')?;
                    Some((first.parse().ok()?, last.parse().ok()?))
                };
                Self::Has(first.parse().ok()?, run.parse().ok()?, ranges.split(',').map(range).collect::<Option<_>>()?)
            }
            "looked" => Self::Looked,
            "invoked" => {
                let (document, op) = more.split_once(' ')?;
                let op = Op::ALL.into_iter().find(|one| one.name() == op)?;
                Self::Invoked(first.parse().ok()?, document.parse().ok()?, op)
            }
            "stands" => Self::Stands(first.parse().ok()?, if more == "-" { None } else { Some(stage(more)?) }),
            "failed" => Self::Failed(first.parse().ok()?, more.to_owned()),
            "refused" => Self::Refused(maybe(first)?, more.parse().ok()?),
            "dropping" => Self::Dropping(first.parse().ok()?),
            "state" => Self::State(more.to_owned(), first.parse().ok()?),
            "standing" => Self::Standing(first.parse().ok()?, more.parse().ok()?),
            "heads" => {
                let heads = more.split(',').filter(|head| !head.is_empty()).map(str::to_owned).collect();
                Self::Heads(first.parse().ok()?, heads)
            }
            "closed" => Self::Closed,
            _ => return None,
        })
    }
}

impl Event for Done {
    fn write(&self) -> String {
        match self {
            Self::Note(text) => format!("note {}", one_line(text)),
            Self::DiskCopied(client) => format!("disk-copied {client}"),
            Self::RolledBack(client) => format!("rolled-back {client}"),
            Self::Restored => "restored".to_owned(),
            Self::Revoking(client, wholly) => format!("revoking {client} {wholly}"),
            Self::Revoked(client, epoch, end) => format!("revoked {client} {epoch} {end}"),
            Self::Regranting(client, epoch, end) => format!("regranting {client} {epoch} {end}"),
            Self::Regranted(client) => format!("regranted {client}"),
            Self::RelayHas(epoch, position, document, hash, id) => {
                format!("relay-has {epoch} {position} {document} {hash} {}", name(id.as_ref()))
            }
            Self::RelayLooked => "relay-looked".to_owned(),
            Self::Healed => "healed".to_owned(),
        }
    }

    fn read(words: &str) -> Option<Self> {
        let (verb, rest) = words.split_once(' ').unwrap_or((words, ""));
        let parts: Vec<&str> = rest.split(' ').collect();
        Some(match (verb, parts.as_slice()) {
            ("note", _) => Self::Note(rest.to_owned()),
            ("disk-copied", [client]) => Self::DiskCopied(client.parse().ok()?),
            ("rolled-back", [client]) => Self::RolledBack(client.parse().ok()?),
            ("restored", _) => Self::Restored,
            ("revoking", [client, wholly]) => Self::Revoking(client.parse().ok()?, wholly.parse().ok()?),
            ("revoked", [client, epoch, end]) => {
                Self::Revoked(client.parse().ok()?, (*epoch).to_owned(), end.parse().ok()?)
            }
            ("regranting", [client, epoch, end]) => {
                Self::Regranting(client.parse().ok()?, (*epoch).to_owned(), end.parse().ok()?)
            }
            ("regranted", [client]) => Self::Regranted(client.parse().ok()?),
            ("relay-has", [epoch, position, document, hash, id]) => {
                let (epoch, hash) = ((*epoch).to_owned(), (*hash).to_owned());
                Self::RelayHas(epoch, position.parse().ok()?, document.parse().ok()?, hash, maybe(id)?)
            }
            ("relay-looked", _) => Self::RelayLooked,
            ("healed", _) => Self::Healed,
            _ => return None,
        })
    }
}

/// Where a history is written to.
pub struct Log(Mutex<File>);

impl Log {
    /// Goes on with a file, or begins it.
    pub fn append(path: &Path) -> Self {
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        // What a kill cut short is a line of its own.
        file.write_all(b"\n").unwrap();
        Self(Mutex::new(file))
    }

    /// Writes an event down, and returns its time.
    pub fn say(&self, event: &impl Event) -> u64 {
        self.say_all(std::slice::from_ref(event))
    }

    /// Writes events of one moment down, and returns their time.
    pub fn say_all(&self, events: &[impl Event]) -> u64 {
        let mut file = self.0.lock().unwrap();
        let time = now();
        let lines: String = events.iter().map(|event| format!("{time} {} .\n", event.write())).collect();
        file.write_all(lines.as_bytes()).unwrap();
        time
    }
}

/// Reads a history. What was cut short is left out.
pub fn read<T: Event>(path: &Path) -> Vec<At<T>> {
    parse(&String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()))
}

/// Reads the lines of a history. What was cut short is left out.
///
/// # Panics
///
/// If a line that is whole says nothing that is known: whoever wrote it is broken.
pub fn parse<T: Event>(text: &str) -> Vec<At<T>> {
    let mut events = Vec::new();
    for line in text.lines() {
        let Some((time, words)) = line.strip_suffix(" .").and_then(|line| line.split_once(' ')) else { continue };
        let Ok(time) = time.parse() else { continue };
        let what = T::read(words).unwrap_or_else(|| panic!("no event: {line:?}"));
        events.push(At { time, what });
    }
    events
}

/// Returns the microseconds since 1970.
pub fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: WriteId = WriteId { client: 3, run: 14, number: 159 };
    const DOCUMENT: DocumentId = DocumentId::from_bytes([7; 16]);

    #[test]
    fn every_event_comes_back_as_it_was_written() {
        let heads = vec!["aa".to_owned(), "bb".to_owned()];
        let said = [
            Said::Run(2),
            Said::Has(3, 14, vec![(1, 15), (92, 92)]),
            Said::Looked,
            Said::Invoked(ID, DOCUMENT, Op::Draft),
            Said::Stage(ID, Receipt::Seen),
            Said::Stands(ID, None),
            Said::Stands(ID, Some(Receipt::Local)),
            Said::Failed(ID, "it is full . of words".to_owned()),
            Said::Refused(None, 80),
            Said::Refused(Some(ID), 81),
            Said::Dropping(DOCUMENT),
            Said::State("waiting: gone away".to_owned(), 15),
            Said::Standing(4, 0),
            Said::Heads(DOCUMENT, heads),
            Said::Heads(DOCUMENT, Vec::new()),
            Said::Closed,
        ];
        let epoch = || "0f".repeat(16);
        let done = [
            Done::Note("kill c1".to_owned()),
            Done::DiskCopied(1),
            Done::RolledBack(1),
            Done::Restored,
            Done::Revoking(2, true),
            Done::Revoked(2, epoch(), 77),
            Done::Regranting(2, epoch(), 80),
            Done::Regranted(2),
            Done::RelayHas(epoch(), 9, DOCUMENT, "cc".to_owned(), Some(ID)),
            Done::RelayHas(epoch(), 9, DOCUMENT, "cc".to_owned(), None),
            Done::RelayLooked,
            Done::Healed,
        ];
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        Log::append(&one).say_all(&said);
        Log::append(&other).say_all(&done);
        assert_eq!(read(&one).into_iter().map(|at| at.what).collect::<Vec<Said>>(), said);
        assert_eq!(read(&other).into_iter().map(|at| at.what).collect::<Vec<Done>>(), done);
    }

    #[test]
    fn writes_are_told_in_ranges() {
        let id = |(client, run, number)| WriteId { client, run, number };
        let writes: Vec<WriteId> =
            [(0, 1, 1), (0, 1, 2), (0, 1, 4), (0, 2, 5), (1, 2, 6), (1, 2, 7)].into_iter().map(id).collect();
        let said = Said::has(writes.iter().rev().copied().collect());
        assert_eq!(said.len(), 3);
        assert_eq!(said.iter().flat_map(Said::had).collect::<Vec<_>>(), writes);
    }

    #[test]
    fn line_that_was_cut_short_says_nothing_and_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        let whole = format!("5 seen {ID} .");
        for end in 0..whole.len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            assert_eq!(read::<Said>(&path), []);
            Log::append(&path).say(&Said::Looked);
            let said: Vec<Said> = read(&path).into_iter().map(|at| at.what).collect();
            assert_eq!(said, [Said::Looked]);
        }
    }
}
