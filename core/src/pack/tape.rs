//! The streams of a pack and the container that holds them.
//!
//! One walk over the changes serves both directions: a [`Tape`] either records the numbers and bytes it is given, or
//! ignores them and plays what was recorded. So what is written and what is read cannot differ.

use std::io::Read;

use flate2::Compression;
use flate2::bufread::{DeflateDecoder, DeflateEncoder};

use super::PackError;
use crate::gate::leb::{Reader, write_signed, write_unsigned};
use crate::limits::PACK_STREAMS_BYTES_MAX;

/// Streams shorter than this share one deflate block: alone, each would pay for its own code tables.
const TOGETHER_BYTES_MAX: usize = 96;

/// A block is deflated only if that saves so much: it keeps a tiny pack's bytes independent of the deflate library.
const SAVED_BYTES_MIN: usize = 16;

/// The most bytes that one byte of deflate data can stand for.
const DEFLATE_RATIO_MAX: u64 = 1_032;

/// Declares the streams once; a stream's number in the format is its place here.
macro_rules! streams {
    ($($name:ident $text:literal,)+) => {
        /// What one stream holds, for all changes of a pack.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Stream {
            $(#[doc = $text] $name,)+
        }

        impl Stream {
            /// How many there are.
            pub(super) const COUNT: usize = [$(Self::$name,)+].len();
        }
    };
}

streams! {
    Actors "All actors: their count, then each as length and bytes.",
    DepCount "How many dependencies a change has.",
    Dep "How many changes back a dependency is; 0 if it is outside the pack.",
    Outside "Which dependency outside the pack: 0 for the next new one, else its number + 1.",
    Hashes "The hashes of the dependencies outside the pack.",
    Author "The number of the author.",
    Seq "The sequence number minus the expected one.",
    StartOp "The first counter minus the expected one.",
    Time "The time minus that of the change before.",
    MessageLength "The length of the message.",
    Message "The messages.",
    ExtraLength "The length of what follows the columns.",
    Extra "What follows the columns.",
    Form "The number of operations x 2, + 1 if the columns are stored as they are.",
    Shape "The shape of an operation: 0 for the next new one, else its number + 1.",
    Shapes "The definitions of the shapes.",
    Object "The object: 0 for the next new one, else its number + 1.",
    Objects "The definitions of the objects.",
    Name "A key or mark name: 0 for the next new one, else its number + 1.",
    NameLength "The lengths of the names.",
    Names "The names.",
    ElementActor "Whose element: 0 for the expected actor, else its number + 1.",
    ElementCounter "The expected counter of the element minus its counter.",
    PredActor "Whose predecessor: 0 for the expected actor, else its number + 1.",
    PredCounter "0 for the expected predecessor, else the operation's own counter minus the predecessor's.",
    Numbers "Values that are numbers.",
    Text "Values that are texts.",
    Blobs "Values of other types.",
    RawShape "Of a change stored by its columns: other actors, column numbers and lengths.",
    Raw "Columns stored as they are.",
}

/// Records or plays the streams of a pack.
pub(super) trait Tape<'a> {
    /// Passes an unsigned number through; the value is made only if it is recorded.
    fn unsigned(&mut self, stream: Stream, value: impl FnOnce() -> u64) -> Result<u64, PackError>;

    /// Passes a signed number through; the value is made only if it is recorded.
    fn signed(&mut self, stream: Stream, value: impl FnOnce() -> i64) -> Result<i64, PackError>;

    /// Passes one byte through.
    fn byte(&mut self, stream: Stream, value: u8) -> Result<u8, PackError>;

    /// Passes bytes through whose length both sides know.
    fn bytes(&mut self, stream: Stream, value: &'a [u8], length: u64) -> Result<&'a [u8], PackError>;

    /// Passes bytes through whose length goes into a stream of its own.
    fn prefixed(&mut self, lengths: Stream, stream: Stream, value: &'a [u8]) -> Result<&'a [u8], PackError> {
        let length = self.unsigned(lengths, || value.len() as u64)?;
        self.bytes(stream, value, length)
    }
}

/// Records.
#[derive(Default)]
pub(super) struct Recorder {
    streams: [Vec<u8>; Stream::COUNT],
}

impl<'a> Tape<'a> for Recorder {
    fn unsigned(&mut self, stream: Stream, value: impl FnOnce() -> u64) -> Result<u64, PackError> {
        let value = value();
        write_unsigned(&mut self.streams[stream as usize], value);
        Ok(value)
    }

    fn signed(&mut self, stream: Stream, value: impl FnOnce() -> i64) -> Result<i64, PackError> {
        let value = value();
        write_signed(&mut self.streams[stream as usize], value);
        Ok(value)
    }

    fn byte(&mut self, stream: Stream, value: u8) -> Result<u8, PackError> {
        self.streams[stream as usize].push(value);
        Ok(value)
    }

    fn bytes(&mut self, stream: Stream, value: &'a [u8], _: u64) -> Result<&'a [u8], PackError> {
        self.streams[stream as usize].extend_from_slice(value);
        Ok(value)
    }
}

impl Recorder {
    /// Changes what was recorded.
    #[cfg(test)]
    pub(super) fn edit(&mut self, stream: usize, edit: impl FnOnce(&mut Vec<u8>)) {
        edit(&mut self.streams[stream]);
    }

    /// Appends the table of the streams and their packed bytes.
    pub(super) fn finish(self, out: &mut Vec<u8>) -> Result<(), PackError> {
        let total: usize = self.streams.iter().map(Vec::len).sum();
        if total > PACK_STREAMS_BYTES_MAX {
            return Err(PackError::TooLarge { found: total, limit: PACK_STREAMS_BYTES_MAX });
        }
        let mut together = Vec::new();
        let mut data = Vec::new();
        let mut table = Vec::new();
        let used = self.streams.iter().filter(|stream| !stream.is_empty()).count();
        write_unsigned(out, used as u64);
        for (number, stream) in self.streams.iter().enumerate().filter(|(_, stream)| !stream.is_empty()) {
            let method = Method::of(stream);
            write_unsigned(&mut table, number as u64 * 4 + method as u64);
            write_unsigned(&mut table, stream.len() as u64);
            match method {
                Method::Together => together.extend_from_slice(stream),
                Method::Repeated => data.extend_from_slice(&stream[..1]),
                Method::Alone => deflate_into(stream, &mut table, &mut data)?,
            }
        }
        if !together.is_empty() {
            deflate_into(&together, &mut table, &mut data)?;
        }
        out.extend_from_slice(&table);
        out.extend_from_slice(&data);
        Ok(())
    }
}

/// How a stream is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// In one block with other short ones.
    Together = 0,
    /// One byte, as often as the stream is long.
    Repeated = 1,
    /// In a block of its own.
    Alone = 2,
}

impl Method {
    fn of(stream: &[u8]) -> Self {
        match stream {
            [first, rest @ ..] if rest.len() > 1 && rest.iter().all(|byte| byte == first) => Self::Repeated,
            _ if stream.len() < TOGETHER_BYTES_MAX => Self::Together,
            _ => Self::Alone,
        }
    }

    fn from_number(number: u64) -> Result<Self, PackError> {
        match number {
            0 => Ok(Self::Together),
            1 => Ok(Self::Repeated),
            2 => Ok(Self::Alone),
            _ => Err(damaged("the method of a stream")),
        }
    }
}

/// Appends a block, deflated if that is worth it, and its length to the table.
fn deflate_into(stream: &[u8], table: &mut Vec<u8>, data: &mut Vec<u8>) -> Result<(), PackError> {
    let start = data.len();
    let deflated = DeflateEncoder::new(stream, Compression::best()).read_to_end(data);
    deflated.map_err(|_| damaged("deflating a stream"))?;
    if data.len() - start + SAVED_BYTES_MIN > stream.len() {
        data.truncate(start);
        data.extend_from_slice(stream);
    }
    write_unsigned(table, (data.len() - start) as u64);
    Ok(())
}

/// The inflated streams of a pack.
pub(super) struct Streams {
    bytes: [Vec<u8>; Stream::COUNT],
}

/// One line of a pack's table.
struct Line {
    stream: usize,
    method: Method,
    length: u64,
    packed: u64,
}

impl Streams {
    /// Reads the table and inflates the streams; the reader must end with them.
    ///
    /// Allocates at most [`PACK_STREAMS_BYTES_MAX`] and as much again for the short streams' block.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, PackError> {
        let count = reader.unsigned()?;
        if count > Stream::COUNT as u64 {
            return Err(damaged("the number of streams"));
        }
        let mut lines = Vec::with_capacity(Stream::COUNT);
        let (mut total, mut together) = (0u64, 0u64);
        for _ in 0..count {
            let line = read_line(reader, lines.last())?;
            total = total.saturating_add(line.length);
            if line.method == Method::Together {
                together = together.saturating_add(line.length);
            }
            lines.push(line);
        }
        if total > PACK_STREAMS_BYTES_MAX as u64 {
            return Err(damaged("the length of the streams"));
        }
        let together_packed = if together > 0 { reader.unsigned()? } else { 0 };
        let mut streams = Self { bytes: Default::default() };
        for line in &lines {
            streams.bytes[line.stream] = match line.method {
                Method::Together => continue,
                Method::Repeated => vec![reader.byte()?; usize_of(line.length)?],
                Method::Alone => inflate(reader.take(line.packed)?, line.length)?,
            };
        }
        let block = inflate(reader.take(together_packed)?, together)?;
        let mut block = Reader::new(&block);
        for line in lines.iter().filter(|line| line.method == Method::Together) {
            streams.bytes[line.stream] = block.take(line.length)?.to_vec();
        }
        if reader.is_empty() { Ok(streams) } else { Err(damaged("bytes after the streams")) }
    }

    /// Starts to play the streams.
    pub(super) fn player(&self) -> Player<'_> {
        Player { streams: self.bytes.each_ref().map(|bytes| Reader::new(bytes)) }
    }
}

fn read_line(reader: &mut Reader<'_>, previous: Option<&Line>) -> Result<Line, PackError> {
    let head = reader.unsigned()?;
    let stream = usize_of(head / 4)?;
    if stream >= Stream::COUNT || previous.is_some_and(|previous| previous.stream >= stream) {
        return Err(damaged("the number of a stream"));
    }
    let (method, length) = (Method::from_number(head % 4)?, reader.unsigned()?);
    let packed = if method == Method::Alone { reader.unsigned()? } else { 0 };
    Ok(Line { stream, method, length, packed })
}

/// Inflates a block into exactly `length` bytes, which the caller has bounded.
fn inflate(packed: &[u8], length: u64) -> Result<Vec<u8>, PackError> {
    if packed.len() as u64 == length {
        return Ok(packed.to_vec());
    }
    if length > (packed.len() as u64).saturating_mul(DEFLATE_RATIO_MAX) {
        return Err(damaged("the length of a stream"));
    }
    let mut out = Vec::with_capacity(usize_of(length)?);
    // One byte more than is due: a longer block shows itself, and is read no further.
    let mut decoder = DeflateDecoder::new(packed).take(length.saturating_add(1));
    decoder.read_to_end(&mut out).map_err(|_| damaged("a deflated stream"))?;
    let whole = out.len() as u64 == length && decoder.into_inner().total_in() == packed.len() as u64;
    if whole { Ok(out) } else { Err(damaged("the length of a deflated stream")) }
}

/// Plays.
pub(super) struct Player<'a> {
    streams: [Reader<'a>; Stream::COUNT],
}

impl Player<'_> {
    /// Whether everything was played.
    pub(super) fn is_at_end(&self) -> bool {
        self.streams.iter().all(Reader::is_empty)
    }
}

impl<'a> Tape<'a> for Player<'a> {
    fn unsigned(&mut self, stream: Stream, _: impl FnOnce() -> u64) -> Result<u64, PackError> {
        Ok(self.streams[stream as usize].unsigned()?)
    }

    fn signed(&mut self, stream: Stream, _: impl FnOnce() -> i64) -> Result<i64, PackError> {
        Ok(self.streams[stream as usize].signed()?)
    }

    fn byte(&mut self, stream: Stream, _: u8) -> Result<u8, PackError> {
        Ok(self.streams[stream as usize].byte()?)
    }

    fn bytes(&mut self, stream: Stream, _: &'a [u8], length: u64) -> Result<&'a [u8], PackError> {
        Ok(self.streams[stream as usize].take(length)?)
    }
}

/// Narrows a length that the caller compares with what is there.
pub(super) fn usize_of(value: u64) -> Result<usize, PackError> {
    usize::try_from(value).map_err(|_| damaged("a length"))
}

/// Names what does not fit.
#[cold]
pub(super) fn damaged(what: &'static str) -> PackError {
    PackError::Damaged { what }
}
