//! The store's file, which JavaScript holds: an OPFS sync access handle in a browser, a file descriptor in Node.
//!
//! redb wants a back end that may be sent between threads, and a JavaScript object may not. So the objects stand in a
//! slab of the thread, and the back end holds its number there. Asked on another thread, it finds nothing there and
//! answers with an error.
//!
//! A read or a write hands JavaScript a view into the engine's own memory, so no byte is copied on the way.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use redb::StorageBackend;
use rejoin::store::{RedbOptions, RedbStore, StoreError};
use wasm_bindgen::prelude::*;

use crate::bindings::text_property;

/// How much of the file is kept in memory: 8 MiB. A page has a tab's memory to live in, and the file itself is in the
/// operating system's cache.
const CACHE_BYTES: usize = 8 << 20;

/// The largest offset that a JavaScript number holds exactly: 2^53 - 1.
const OFFSET_MAX: u64 = (1 << 53) - 1;

#[wasm_bindgen]
extern "C" {
    /// A file that answers at once.
    #[derive(Debug, Clone)]
    pub type StoreFile;

    #[wasm_bindgen(method, structural, catch)]
    fn read(this: &StoreFile, at: f64, into: &mut [u8]) -> Result<f64, JsValue>;

    #[wasm_bindgen(method, structural, catch)]
    fn write(this: &StoreFile, at: f64, from: &[u8]) -> Result<(), JsValue>;

    #[wasm_bindgen(method, structural, catch)]
    fn size(this: &StoreFile) -> Result<f64, JsValue>;

    #[wasm_bindgen(method, structural, catch)]
    fn truncate(this: &StoreFile, size: f64) -> Result<(), JsValue>;

    #[wasm_bindgen(method, structural, catch)]
    fn flush(this: &StoreFile) -> Result<(), JsValue>;

    #[wasm_bindgen(method, structural, catch)]
    fn close(this: &StoreFile) -> Result<(), JsValue>;
}

/// Opens the store in a file, and makes it if the file is empty or its making was interrupted. With a second file, small writes go
/// into a journal there: one piece written instead of twenty pages.
///
/// Commits sync once (no quick repair): on a phone the number of syncs is what a write costs, and a store of a device
/// opens within half a second after a crash even with a million records.
///
/// # Errors
///
/// As [`RedbStore::open_backends`]. The files are closed then.
pub fn open(file: StoreFile, journal: Option<StoreFile>) -> Result<RedbStore, StoreError> {
    let journal = journal.map(FileBackend::new).transpose()?;
    let (backend, options) = (FileBackend::new(file)?, RedbOptions::new().cache_bytes(CACHE_BYTES));
    match journal {
        Some(journal) => RedbStore::open_backends(backend, journal, options.journal(true)),
        None => RedbStore::open_backend(backend, options),
    }
}

thread_local! {
    static FILES: RefCell<Files> = const { RefCell::new(Files { opened: 0, held: BTreeMap::new() }) };
}

/// The files that are open on this thread.
#[derive(Debug)]
struct Files {
    /// How many were ever opened: the next one's number, so that no number is given twice.
    opened: u64,
    held: BTreeMap<u64, Rc<Held>>,
}

/// A file that is open, and what is known of it without asking.
#[derive(Debug)]
struct Held {
    file: StoreFile,
    /// Nobody else writes to the file, so its length is what we made it.
    len: Cell<u64>,
}

impl Held {
    fn measure(&self) -> io::Result<()> {
        self.len.set(self.file.size().map_err(|error| io_error(&error)).and_then(from_number)?);
        Ok(())
    }
}

/// The number of a file in the slab.
#[derive(Debug)]
struct FileBackend(u64);

impl FileBackend {
    fn new(file: StoreFile) -> io::Result<Self> {
        let held = Rc::new(Held { file, len: Cell::new(0) });
        let backend = FILES.with_borrow_mut(|files| {
            files.opened += 1;
            files.held.insert(files.opened, Rc::clone(&held));
            Self(files.opened)
        });
        held.measure()?;
        Ok(backend)
    }

    /// Returns the file. The slab is free again then, in case JavaScript calls back into the engine.
    fn held(&self) -> io::Result<Rc<Held>> {
        FILES
            .try_with(|files| files.borrow().held.get(&self.0).cloned())
            .ok()
            .flatten()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the file was closed"))
    }
}

impl Drop for FileBackend {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(%error, "failed to close the store's file");
        }
    }
}

impl StorageBackend for FileBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.held()?.len.get())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let held = self.held()?;
        let mut done = 0;
        while done < out.len() {
            let at = to_number(offset + done as u64)?;
            let rest = &mut out[done..];
            let length = rest.len();
            match from_number(held.file.read(at, rest).map_err(|error| io_error(&error))?)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => done += usize::try_from(count).unwrap_or(length).min(length),
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let held = self.held()?;
        match held.file.truncate(to_number(len)?) {
            Ok(()) => {
                held.len.set(len);
                Ok(())
            }
            Err(error) => {
                held.measure()?;
                Err(io_error(&error))
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.held()?.file.flush().map_err(|error| io_error(&error))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let held = self.held()?;
        let end = offset.saturating_add(data.len() as u64);
        to_number(end)?;
        match held.file.write(to_number(offset)?, data) {
            Ok(()) => {
                held.len.set(held.len.get().max(end));
                Ok(())
            }
            Err(error) => {
                held.measure()?;
                Err(io_error(&error))
            }
        }
    }

    fn close(&self) -> io::Result<()> {
        let held = FILES.try_with(|files| files.borrow_mut().held.remove(&self.0)).ok().flatten();
        held.map_or(Ok(()), |held| held.file.close().map_err(|error| io_error(&error)))
    }
}

/// Translates what JavaScript threw. Only a lack of room is told apart: the rest reads as a disk that fails.
fn io_error(error: &JsValue) -> io::Error {
    let text = text_property(error, "message").or_else(|| error.as_string()).unwrap_or_default();
    match text_property(error, "code").as_deref() {
        Some("quota") => io::Error::new(io::ErrorKind::StorageFull, text),
        _ => io::Error::other(text),
    }
}

#[expect(clippy::cast_precision_loss, reason = "the line before it sees to it that nothing is lost")]
fn to_number(offset: u64) -> io::Result<f64> {
    if offset > OFFSET_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(offset as f64)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just before")]
fn from_number(number: f64) -> io::Result<u64> {
    if !(0.0..=to_number(OFFSET_MAX)?).contains(&number) {
        return Err(io::Error::other("the file answered with a number that is no length"));
    }
    Ok(number as u64)
}
