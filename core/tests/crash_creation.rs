//! Power is cut while a store comes into being for the first time, and once more while that is mended.
//!
//! Whatever is left of it, in a backend or under either name in a directory, the next opening makes or finds a store, and
//! leaves nothing else behind.
#![cfg(feature = "redb")]
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::print_stdout, reason = "the counts tell what was tried")]

use std::fs;
use std::path::Path;

use rejoin::store::testing::disk::{Chance, CutDisk, Kept};
use rejoin::store::{self, RedbOptions, RedbStore, StoreError};

/// How often a random selection is thrown for each cut.
const SEEDS: u64 = 3;

fn open(disk: &CutDisk) -> Result<RedbStore, StoreError> {
    RedbStore::open_backend(disk.clone(), RedbOptions::new())
}

/// Every image of a first opening that was cut short, each once, with where it comes from.
fn images(start: &[u8], seed: u64) -> Vec<(String, Vec<u8>)> {
    let whole = CutDisk::from_image(start.to_vec());
    drop(open(&whole).unwrap());
    let mut images: Vec<(String, Vec<u8>)> = Vec::new();
    for cut in 0..=whole.operations() {
        let disk = CutDisk::from_image(start.to_vec());
        disk.cut_after(cut);
        drop(open(&disk));
        for (kept, seed) in Kept::ALL.into_iter().flat_map(|kept| (seed..seed + SEEDS).map(move |seed| (kept, seed))) {
            let image = disk.image(kept, &mut Chance::new(seed));
            if images.iter().all(|(_, other)| *other != image) {
                images.push((format!("cut at {cut}, kept {kept:?}, seed {seed}"), image));
            }
        }
    }
    images
}

/// Checks that a store opens, takes a write, and has it when it is opened again after a cut.
fn works(image: &[u8], from: &str) {
    let disk = CutDisk::from_image(image.to_vec());
    let made = open(&disk).unwrap_or_else(|error| unreachable!("{from}: {error}"));
    let id = store::storage_id(&made, [1; 16]).unwrap();
    let again = open(&CutDisk::from_image(disk.image(Kept::None, &mut Chance::new(0)))).unwrap();
    assert_eq!(store::storage_id(&again, [2; 16]).unwrap(), id, "{from}");
}

#[test]
fn cut_during_the_first_opening_of_a_backend_leaves_no_unopenable_store() {
    let (mut count, mut second) = (0, 0);
    for (from, image) in images(&[], 0) {
        works(&image, &from);
        count += 1;
        // The second cut is tried for every third of them: it opens some hundred stores each.
        if count % 3 == 0 {
            for (again, image) in images(&image, 100) {
                works(&image, &format!("{from}, then {again}"));
                second += 1;
            }
        }
    }
    println!("crash images, creation: {count} images of a first opening, {second} of a second cut");
}

/// Opens the store in a directory and checks that nothing else is there.
fn file_works(directory: &Path, from: &str) {
    let path = directory.join("store.redb");
    let made = RedbStore::open(&path, RedbOptions::new()).unwrap_or_else(|error| unreachable!("{from}: {error}"));
    let id = store::storage_id(&made, [1; 16]).unwrap();
    let names: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["store.redb"], "{from}: something was left behind");
    drop(made);
    let again = RedbStore::open(&path, RedbOptions::new()).unwrap();
    assert_eq!(store::storage_id(&again, [2; 16]).unwrap(), id, "{from}");
}

/// A file is made under a temporary name, synced, renamed, and then its directory is synced. So a cut leaves any image of
/// the making under the temporary name, or the finished one under either name; or under both, where another process was
/// making one too.
#[test]
fn cut_during_the_first_opening_of_a_file_leaves_no_unopenable_store_and_no_leftover() {
    let made = CutDisk::new();
    drop(open(&made).unwrap());
    let finished = made.image(Kept::None, &mut Chance::new(0));
    let mut count = 0;
    for (from, image) in images(&[], 200) {
        for target in [None, Some(&[][..]), Some(&finished[..])] {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join("store.redb.rejoin-new"), &image).unwrap();
            if let Some(target) = target {
                fs::write(directory.path().join("store.redb"), target).unwrap();
            }
            file_works(directory.path(), &format!("{from}, target {:?}", target.map(<[u8]>::len)));
            count += 1;
        }
    }
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("store.redb"), &finished).unwrap();
    file_works(directory.path(), "renamed");
    println!("crash images, creation: {} images of a first opening in a directory", count + 1);
}
