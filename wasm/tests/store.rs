//! The store over OPFS, in a real browser's dedicated worker.
#![cfg(target_arch = "wasm32")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::cell::RefCell;
use std::io::Read;
use std::ops::ControlFlow;

use js_sys::Uint8Array;
use rejoin::store::{Store, StoreError, StoreExt, Table, testing};
use rejoin_wasm::file::{self, StoreFile};
use wasm_bindgen::prelude::*;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

#[wasm_bindgen(module = "/tests/opfs.js")]
extern "C" {
    /// A file in OPFS that can be told to fail.
    type TestFile;

    /// Opens a file of that name, new or as it is.
    #[wasm_bindgen(catch)]
    async fn open(name: &str) -> Result<JsValue, JsValue>;

    /// Makes the file refuse what goes beyond this many more bytes; a negative number heals it.
    #[wasm_bindgen(method)]
    fn fail_after(this: &TestFile, bytes: f64);

    /// Whether `close` lets go of the file. Where it does not, the file can be opened again at once.
    #[wasm_bindgen(method)]
    fn keep_open(this: &TestFile, keep: bool);

    /// Lets go of the file as the end of a worker does: without a word to whoever uses it.
    #[wasm_bindgen(method)]
    fn kill(this: &TestFile);

    /// Copies what is in the file now.
    #[wasm_bindgen(method)]
    fn bytes(this: &TestFile) -> Uint8Array;

    /// Replaces what is in the file.
    #[wasm_bindgen(method)]
    fn fill(this: &TestFile, bytes: &[u8]);
}

async fn opfs(name: &str) -> TestFile {
    open(name).await.unwrap().unchecked_into()
}

impl TestFile {
    fn store_file(&self) -> StoreFile {
        AsRef::<JsValue>::as_ref(self).clone().unchecked_into()
    }
}

fn put(store: &impl Store, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    store.write_with(|tx| tx.put(Table::Change, key, value))
}

fn get(store: &impl Store, key: &[u8]) -> Option<Vec<u8>> {
    store.read().unwrap().get(Table::Change, key).unwrap()
}

#[wasm_bindgen_test]
async fn store_over_opfs_conforms() {
    // The suite makes its stores at once, and OPFS opens files in its own time.
    let mut files = Vec::new();
    for number in 0..32 {
        let file = opfs(&format!("conformance-{number}")).await;
        file.fill(&[]);
        files.push(file);
    }
    let files = RefCell::new(files);
    testing::run(|| file::open(files.borrow_mut().pop().unwrap().store_file(), None).unwrap());
}

#[wasm_bindgen_test]
async fn store_over_opfs_outlives_its_closing() {
    let opfs_file = opfs("durable").await;
    opfs_file.fill(&[]);
    opfs_file.keep_open(true);
    testing::run_durable(|| file::open(opfs_file.store_file(), None).unwrap());
    opfs_file.keep_open(false);
    opfs_file.kill();
}

#[wasm_bindgen_test]
async fn dropped_store_lets_go_of_its_file() {
    let store = file::open(opfs("closed").await.store_file(), None).unwrap();
    put(&store, b"key", b"value").unwrap();
    drop(store);
    // A second handle to an open file is refused.
    let store = file::open(opfs("closed").await.store_file(), None).unwrap();
    assert_eq!(get(&store, b"key").as_deref(), Some(&b"value"[..]));
}

#[wasm_bindgen_test]
async fn acknowledged_write_survives_a_kill() {
    for round in 0..10_u8 {
        let opfs_file = opfs("killed").await;
        let store = file::open(opfs_file.store_file(), None).unwrap();
        for before in 0..round {
            assert_eq!(get(&store, &[before]).as_deref(), Some(&[before; 5_000][..]), "round {round}");
        }
        put(&store, &[round], &[round; 5_000]).unwrap();
        // A write that is never finished: its transaction is under way when the end comes.
        let unfinished = store.write_with(|tx| {
            tx.put(Table::Change, b"unfinished", &[7; 100_000])?;
            opfs_file.kill();
            tx.put(Table::Change, b"unfinished too", &[7; 20_000_000])
        });
        assert!(unfinished.is_err());
        std::mem::forget(store);
        let store = file::open(opfs("killed").await.store_file(), None).unwrap();
        assert_eq!(get(&store, b"unfinished"), None, "round {round}");
        assert_eq!(get(&store, &[round]).as_deref(), Some(&[round; 5_000][..]), "round {round}");
    }
}

#[wasm_bindgen_test]
async fn write_that_is_in_the_journal_alone_survives_a_kill() {
    for round in 0..10_u8 {
        let (opfs_file, opfs_journal) = (opfs("journaled").await, opfs("journal").await);
        let store = file::open(opfs_file.store_file(), Some(opfs_journal.store_file())).unwrap();
        put(&store, &[round, 0], &[round; 5_000]).unwrap();
        let before = opfs_file.bytes().to_vec();
        put(&store, &[round, 1], &[round; 5_000]).unwrap();
        assert!(opfs_file.bytes().to_vec() == before, "the second write is in the journal alone");
        opfs_file.kill();
        opfs_journal.kill();
        std::mem::forget(store);
        let (opfs_file, opfs_journal) = (opfs("journaled").await, opfs("journal").await);
        let store = file::open(opfs_file.store_file(), Some(opfs_journal.store_file())).unwrap();
        for key in (0..=round).flat_map(|round| [[round, 0], [round, 1]]) {
            assert_eq!(get(&store, &key).as_deref(), Some(&[key[0]; 5_000][..]), "round {round}");
        }
    }
}

#[wasm_bindgen_test]
async fn full_disk_is_an_error_and_the_store_goes_on() {
    let opfs_file = opfs("full").await;
    opfs_file.fill(&[]);
    let store = file::open(opfs_file.store_file(), None).unwrap();
    put(&store, b"before", b"kept").unwrap();
    opfs_file.fail_after(10_000.0);
    let refused = put(&store, b"big", &[1; 4_000_000]);
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    assert_eq!(get(&store, b"before").as_deref(), Some(&b"kept"[..]));
    assert_eq!(get(&store, b"big"), None);
    opfs_file.fail_after(-1.0);
    put(&store, b"big", &[1; 4_000_000]).unwrap();
    assert_eq!(get(&store, b"big").map(|value| value.len()), Some(4_000_000));
    drop(store);
    let store = file::open(opfs("full").await.store_file(), None).unwrap();
    assert_eq!(get(&store, b"before").as_deref(), Some(&b"kept"[..]));
    assert_eq!(get(&store, b"big").map(|value| value.len()), Some(4_000_000));
}

#[wasm_bindgen_test]
async fn making_that_was_interrupted_is_begun_again() {
    for bytes_written in [0, 1, 511, 512, 4_096, 100_000, 1_000_000] {
        let opfs_file = opfs("making").await;
        opfs_file.fill(&[]);
        opfs_file.fail_after(f64::from(bytes_written));
        opfs_file.keep_open(true);
        let cut = file::open(opfs_file.store_file(), None);
        opfs_file.fail_after(-1.0);
        // Whatever came of it, the file becomes a store.
        drop(cut);
        opfs_file.keep_open(false);
        let store = file::open(opfs_file.store_file(), None).unwrap();
        put(&store, b"key", b"value").unwrap();
    }
}

#[wasm_bindgen_test]
async fn stores_that_were_written_natively_open() {
    let formats: [(&str, &[u8]); 3] = [
        ("format-1", include_bytes!("../../core/tests/fixtures/format-1.redb.zlib")),
        ("format-2", include_bytes!("../../core/tests/fixtures/format-2.redb.zlib")),
        ("format-3", include_bytes!("../../core/tests/fixtures/format-3.redb.zlib")),
    ];
    for (name, packed) in formats {
        let mut native = Vec::new();
        flate2::read::ZlibDecoder::new(packed).read_to_end(&mut native).unwrap();
        let opfs_file = opfs(name).await;
        opfs_file.fill(&native);
        let store = file::open(opfs_file.store_file(), None).unwrap();
        let mut documents = 0;
        let read = store.read().unwrap();
        let mut count = |_: &[u8], _: &[u8]| {
            documents += 1;
            ControlFlow::Continue(())
        };
        read.scan(Table::Document, &[]..&[0xff; 32], &mut count).unwrap();
        assert_eq!(documents, 3, "{name}");
    }
}

#[wasm_bindgen_test]
async fn file_of_another_program_stays_as_it_is() {
    let opfs_file = opfs("foreign").await;
    for foreign in [&b"SQLite format 3\0 and so on"[..], &[9; 5_000], b"redb\x1a\x0a\xa9\x0d\x0a"] {
        opfs_file.fill(foreign);
        opfs_file.keep_open(true);
        let refused = file::open(opfs_file.store_file(), None);
        assert!(matches!(refused, Err(StoreError::Foreign { .. } | StoreError::Damaged { .. })), "{refused:?}");
        assert_eq!(opfs_file.bytes().to_vec(), foreign);
    }
}
