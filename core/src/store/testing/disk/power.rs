//! A disk in memory whose power can be cut.
//!
//! A disk that loses power keeps what was synced, and of the rest any selection of sectors, in any order. [`CutDisk`]
//! keeps what was written apart from what was synced, stops at the operation it is told to, and shows what may be found
//! when the power is back. Everything random comes from a [`Chance`], so a failure repeats from its seed.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

/// Disks write these many bytes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// An operation that has not been synced.
#[derive(Debug, Clone)]
enum Pending {
    Length(usize),
    Write { at: usize, bytes: Vec<u8> },
}

#[derive(Debug)]
struct State {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
    power: Arc<Mutex<Power>>,
    forgetful: bool,
    lying: bool,
    full: bool,
    troubled: bool,
}

/// What disks that stand side by side share.
#[derive(Debug)]
struct Power {
    /// How many operations were done.
    operations: usize,
    /// How many operations the power still lasts for.
    operations_left: usize,
}

/// A disk in memory whose power can be cut. Clones are the same disk.
///
/// Writes, changes of the length and syncs are its operations; reads are not counted, and go on without power.
#[derive(Debug, Clone)]
pub struct CutDisk(Arc<Mutex<State>>);

/// Which of the operations that were not synced reached the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// None of them.
    None,
    /// All of them.
    All,
    /// Any sectors, and any of the changes of length.
    Sectors,
    /// Only what the very first sector got.
    FirstSector,
    /// All but what the very first sector got.
    AllButFirstSector,
    /// All, but only some sectors of the last write.
    LastTorn,
    /// Every second write.
    EverySecond,
    /// Some of the writes, in another order.
    Reordered,
    /// Everything that is within the old length: the file did not grow.
    OldLength,
    /// The file has its new length, and nothing was written.
    LengthOnly,
}

impl Kept {
    /// Every kind of selection.
    pub const ALL: [Self; 10] = [
        Self::None,
        Self::All,
        Self::Sectors,
        Self::FirstSector,
        Self::AllButFirstSector,
        Self::LastTorn,
        Self::EverySecond,
        Self::Reordered,
        Self::OldLength,
        Self::LengthOnly,
    ];
}

impl CutDisk {
    /// Makes an empty disk with power.
    pub fn new() -> Self {
        Self::from_image(Vec::new())
    }

    /// Makes a disk with power that holds these bytes.
    pub fn from_image(bytes: Vec<u8>) -> Self {
        Self::with_power(bytes, Arc::new(Mutex::new(Power { operations: 0, operations_left: usize::MAX })))
    }

    /// Makes another disk that holds these bytes and has its power from where this one has it: it is cut at the same moment, and
    /// the operations of both count.
    pub fn beside(&self, bytes: Vec<u8>) -> Self {
        Self::with_power(bytes, Arc::clone(&self.state().power))
    }

    fn with_power(bytes: Vec<u8>, power: Arc<Mutex<Power>>) -> Self {
        Self(Arc::new(Mutex::new(State {
            live: bytes.clone(),
            durable: bytes,
            pending: Vec::new(),
            power,
            forgetful: false,
            lying: false,
            full: false,
            troubled: false,
        })))
    }

    /// Cuts the power after this many more operations; `usize::MAX` gives it back.
    pub fn cut_after(&self, operations: usize) {
        self.state().power().operations_left = operations;
    }

    /// Sets whether a sync that fails drops what it should have brought to the disk, as operating systems do: they go on
    /// showing it, and the next sync knows nothing of it.
    pub fn set_forgetful(&self, on: bool) {
        self.state().forgetful = on;
    }

    /// Sets whether a sync says that it is done and brings nothing to the disk.
    pub fn set_lying(&self, on: bool) {
        self.state().lying = on;
    }

    /// Sets whether no space is left: nothing is written and nothing grows, until it is unset.
    pub fn set_full(&self, on: bool) {
        let mut state = self.state();
        state.full = on;
        state.troubled |= on;
    }

    /// Says whether no space is left.
    pub fn is_full(&self) -> bool {
        self.state().full
    }

    /// Says whether there was no space left at any time.
    pub fn is_troubled(&self) -> bool {
        self.state().troubled
    }

    /// Says whether the power is cut.
    pub fn is_cut(&self) -> bool {
        self.state().power().operations_left == 0
    }

    /// Returns what is on the disk as long as the power is there: a copy that is made in one moment.
    pub fn contents(&self) -> Vec<u8> {
        self.state().live.clone()
    }

    /// Returns how many operations were done.
    pub fn operations(&self) -> usize {
        self.state().power().operations
    }

    /// Returns what may be found on the disk when the power is back.
    pub fn image(&self, kept: Kept, chance: &mut Chance) -> Vec<u8> {
        self.state().image(kept, chance)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl Default for CutDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    fn look_for_room(&self, takes_room: bool) -> io::Result<()> {
        if self.full && takes_room { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn power(&self) -> MutexGuard<'_, Power> {
        self.power.lock().unwrap()
    }

    fn operate(&mut self) -> io::Result<()> {
        let mut power = self.power();
        power.operations_left = power.operations_left.checked_sub(1).ok_or(io::Error::other("the power is cut"))?;
        power.operations += 1;
        Ok(())
    }

    fn image(&self, kept: Kept, chance: &mut Chance) -> Vec<u8> {
        let mut image = self.durable.clone();
        let last = self.pending.len().saturating_sub(1);
        let mut order: Vec<usize> = (0..self.pending.len()).collect();
        if kept == Kept::Reordered {
            chance.shuffle(&mut order);
        }
        for number in order {
            match &self.pending[number] {
                Pending::Length(length) => {
                    let keep = match kept {
                        Kept::None => false,
                        // A file that shrank may be found so in any case: that is no growth that was lost.
                        Kept::OldLength => *length <= image.len(),
                        Kept::Sectors | Kept::Reordered => chance.coin(),
                        _ => true,
                    };
                    if keep {
                        image.resize(*length, 0);
                    }
                }
                Pending::Write { at, bytes } => {
                    let whole = kept != Kept::Reordered || chance.coin();
                    for (at, sector) in sectors(*at, bytes) {
                        let keep = match kept {
                            Kept::None | Kept::LengthOnly => false,
                            Kept::All => true,
                            Kept::Sectors => chance.coin(),
                            Kept::FirstSector => at < SECTOR_BYTES,
                            Kept::AllButFirstSector => at >= SECTOR_BYTES,
                            Kept::LastTorn => number < last || chance.coin(),
                            Kept::EverySecond => number % 2 == 0,
                            Kept::Reordered => whole,
                            Kept::OldLength => at + sector.len() <= image.len(),
                        };
                        if keep {
                            write_at(&mut image, at, sector);
                        }
                    }
                }
            }
        }
        image
    }
}

/// Splits a write where the disk's sectors end.
fn sectors(at: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let end = at + bytes.len();
    let within = move |sector: usize| -> Range<usize> {
        (sector * SECTOR_BYTES).max(at) - at..((sector + 1) * SECTOR_BYTES).min(end) - at
    };
    (at / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES)).map(move |sector| {
        let range = within(sector);
        (at + range.start, &bytes[range])
    })
}

fn write_at(image: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[at..end].copy_from_slice(bytes);
}

impl StorageBackend for CutDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let state = self.state();
        let found = start.checked_add(out.len()).and_then(|end| state.live.get(start..end));
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let mut state = self.state();
        state.look_for_room(len > state.live.len())?;
        state.operate()?;
        state.live.resize(len, 0);
        state.pending.push(Pending::Length(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.forgetful && state.power().operations_left == 0 {
            state.pending.clear();
        }
        state.operate()?;
        if state.lying {
            return Ok(());
        }
        for pending in std::mem::take(&mut state.pending) {
            match pending {
                Pending::Length(length) => state.durable.resize(length, 0),
                Pending::Write { at, bytes } => write_at(&mut state.durable, at, &bytes),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        let mut state = self.state();
        state.look_for_room(true)?;
        state.operate()?;
        write_at(&mut state.live, at, data);
        state.pending.push(Pending::Write { at, bytes: data.to_vec() });
        Ok(())
    }
}

/// Pseudo-random numbers (xorshift) that a test can print the state of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chance(u64);

impl Chance {
    /// Begins at a seed.
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds must not begin alike, and zero would stay zero.
        Self((seed.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns the next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns a number below a bound, which must not be 0.
    pub fn below(&mut self, bound: usize) -> usize {
        // Both fit in 64 bits, and what is below a usize is one.
        usize::try_from((self.number() >> 16) % bound as u64).unwrap()
    }

    /// Throws a coin.
    pub fn coin(&mut self) -> bool {
        self.number() >> 63 == 0
    }

    fn shuffle(&mut self, items: &mut [usize]) {
        for index in (1..items.len()).rev() {
            items.swap(index, self.below(index + 1));
        }
    }
}
