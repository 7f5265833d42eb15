//! How long it takes: prints, and asserts nothing about time.

use super::*;

#[test]
#[ignore = "measures"]
#[expect(clippy::print_stdout, reason = "it measures")]
fn backup_and_restore_of_100_000_changes() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let begun = Instant::now();
    for number in 1..=100 {
        store.write_with(|tx| write(tx, &TEAM, &document(number), 1_000)).unwrap();
    }
    println!("written in {:?}", begun.elapsed());
    let (full, since) = (directory.path().join("full"), directory.path().join("since"));
    let show = |what: &str, manifest: &Manifest, took: Duration| {
        let stored: u64 = manifest.files.iter().map(|file| file.bytes).sum();
        let (rows, bytes, changes) = (manifest.rows, manifest.bytes, manifest.change_bytes);
        let rate = bytes as f64 / 1e6 / took.as_secs_f64();
        println!(
            "{what}: {rows} rows, {bytes} bytes of rows, {changes} of changes, {stored} stored, {took:?}, {rate:.1} MB/s"
        );
    };
    let begun = Instant::now();
    let manifest = online(&store, &full, None, &mut quiet).unwrap();
    show("full", &manifest, begun.elapsed());
    for number in 101..=110 {
        store.write_with(|tx| write(tx, &TEAM, &document(number), 1_000)).unwrap();
    }
    let begun = Instant::now();
    let manifest = online(&store, &since, Some(&manifest), &mut quiet).unwrap();
    show("since, 10,000 changes", &manifest, begun.elapsed());
    let begun = Instant::now();
    let restored = restore_quietly(std::slice::from_ref(&full), &directory.path().join("one")).unwrap();
    show("restored full", &restored.manifest, begun.elapsed());
    let begun = Instant::now();
    let restored = restore_quietly(&[full, since], &directory.path().join("two")).unwrap();
    show("restored both", &restored.manifest, begun.elapsed());
    let begun = Instant::now();
    assert_sound(&opened(&directory.path().join("two")));
    println!("checked in {:?}", begun.elapsed());
    let begun = Instant::now();
    care::compact(&store, &mut |_| ()).unwrap();
    println!("compacted in {:?}", begun.elapsed());
    let begun = Instant::now();
    let manifest = online(&store, &directory.path().join("packed"), None, &mut quiet).unwrap();
    show("full, packed", &manifest, begun.elapsed());
    let begun = Instant::now();
    restore_quietly(&[directory.path().join("packed")], &directory.path().join("three")).unwrap();
    show("restored packed", &manifest, begun.elapsed());
}
