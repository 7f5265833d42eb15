//! One space: exported, imported from honest and hostile files, and deleted.

use rejoin::care::archive::{ArchiveHeader, ArchiveWriter, Purpose};
use rejoin::store::MemoryStore;

use super::*;

fn memory() -> MemoryStore {
    let store = MemoryStore::new();
    store.write_with(|tx| log::set_epoch(tx, &Epoch::from_bytes([5; 16]))).unwrap();
    store
}

fn filled() -> MemoryStore {
    let store = memory();
    let deletion = Tombstone { kind: DeletionKind::Deleted, time_seconds: 7, by: "somebody".to_owned() };
    store
        .write_with(|tx| {
            for number in 1..=4 {
                write(tx, &TEAM, &document(number), 20)?;
            }
            write(tx, &SpaceId::DEFAULT, &document(9), 5)?;
            ledger::create(tx, &document(8))?;
            spaces::put(tx, &document(8), &TEAM)?;
            tombstone::bury(tx, &document(4), &deletion).map(drop)
        })
        .unwrap();
    store
}

fn exported(store: &dyn Store, space: &SpaceId) -> Vec<u8> {
    let mut file = Vec::new();
    let done = export_space(store, space, &mut file, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(done.stored_bytes, file.len() as u64);
    file
}

fn imported(store: &dyn Store, file: &[u8], target: Option<SpaceId>) -> Result<Imported, SpaceError> {
    import_space(store, &mut &file[..], target, &mut |_| ControlFlow::Continue(()))
}

#[test]
fn exported_space_is_the_same_where_it_is_imported() {
    let source = filled();
    let file = exported(&source, &TEAM);
    for target in [None, Some(SpaceId::from_bytes([0xe2; 16])), Some(SpaceId::DEFAULT)] {
        let store = memory();
        let done = imported(&store, &file, target).unwrap();
        let space = target.unwrap_or(TEAM);
        assert_eq!((done.space, done.stored, done.tombstones, done.refused), (space, 60, 1, 0), "{done:?}");
        let mut expected = exports(source.read().unwrap().as_ref());
        expected.retain(|_, (space, _, _)| *space == TEAM);
        expected.values_mut().for_each(|(there, _, _)| *there = space);
        assert_eq!(exports(store.read().unwrap().as_ref()), expected);
        assert!(tombstone::is_buried(store.read().unwrap().as_ref(), &document(4)).unwrap());
        assert_eq!(done.end, 61);
        assert_sound(&store);
        // Once more changes nothing.
        let again = imported(&store, &file, target).unwrap();
        assert_eq!((again.stored, again.duplicates, again.refused, again.end), (0, 61, 0, 61), "{again:?}");
    }
    let home = exported(&source, &SpaceId::DEFAULT);
    assert_eq!(imported(&memory(), &home, None).unwrap().stored, 5);
}

#[test]
fn what_is_elsewhere_or_deleted_or_here_is_refused_and_said() {
    let file = exported(&filled(), &TEAM);
    let store = memory();
    let deletion = Tombstone { kind: DeletionKind::Deleted, time_seconds: 7, by: String::new() };
    store
        .write_with(|tx| {
            write(tx, &SpaceId::DEFAULT, &document(1), 2)?;
            write(tx, &SpaceId::from_bytes([0xe3; 16]), &document(2), 2)?;
            tombstone::bury(tx, &document(3), &deletion)?;
            write(tx, &TEAM, &document(4), 2)
        })
        .unwrap();
    let before = exports(store.read().unwrap().as_ref());
    let done = imported(&store, &file, None).unwrap();
    let why: Vec<_> = done.refusals.iter().map(|refused| (refused.document, refused.why.clone())).collect();
    let expected = [
        (document(1), WhyRefused::Elsewhere),
        (document(2), WhyRefused::Elsewhere),
        (document(3), WhyRefused::Deleted),
        (document(4), WhyRefused::Here),
    ];
    assert_eq!(why, expected);
    assert_eq!((done.stored, done.refused), (0, 61));
    let mut after = exports(store.read().unwrap().as_ref());
    assert!(after.remove(&document(8)).is_some());
    assert_eq!(after, before);
    assert_sound(&store);
}

/// A row of a file that somebody made up.
fn hostile_row() -> impl Strategy<Value = (&'static str, Vec<u8>, Vec<u8>)> {
    let changes = chain_of(3, 6);
    let honest = (0..6_usize).prop_map(move |at| changes[at].bytes().to_vec());
    let altered = (honest.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut bytes, at, byte)| {
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes
    });
    let tombstone = Just(br#"{"purged":true,"seconds":7,"by":"x"}"#.to_vec());
    let value = prop_oneof![4 => honest, 2 => altered, 1 => tombstone, 1 => any::<Vec<u8>>()];
    let key = prop_oneof![
        8 => (1_u8..4, any::<u64>()).prop_map(|(number, at)| [&[number; 16][..], &at.to_be_bytes()].concat()),
        2 => (1_u8..4).prop_map(|number| vec![number; 16]),
        1 => any::<Vec<u8>>(),
    ];
    let kind = prop_oneof![
        8 => Just("change"),
        2 => Just("document"),
        2 => Just("tombstone"),
        1 => Just("space"),
        1 => Just("what")
    ];
    (kind, key, value)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn hostile_file_never_panics_and_leaves_a_sound_store(rows in prop::collection::vec(hostile_row(), 0..40)) {
        let header = ArchiveHeader { purpose: Purpose::Space, id: [3; 16], part: 0 };
        let mut writer = ArchiveWriter::begin(Vec::new(), &header).unwrap();
        writer.put("space", TEAM.as_bytes(), &[]).unwrap();
        for (kind, key, value) in &rows {
            // What an honest writer would put there, most of the time.
            let key = if *kind == "change" { &key[..] } else { &key[..key.len().min(16)] };
            writer.put(kind, key, value).unwrap();
        }
        let file = writer.finish().unwrap().0;
        let store = memory();
        let _ = imported(&store, &file, None);
        assert_sound(&store);
    }

    #[test]
    fn any_altered_byte_of_a_file_is_found(at: prop::sample::Index, bit in 0_u8..8) {
        let mut file = exported(&filled(), &TEAM);
        let at = at.index(file.len());
        file[at] ^= 1 << bit;
        let store = memory();
        prop_assert!(imported(&store, &file, None).is_err());
        assert_sound(&store);
    }

    #[test]
    fn any_bytes_are_refused(bytes: Vec<u8>) {
        prop_assert!(imported(&memory(), &bytes, None).is_err());
    }
}

#[test]
fn deleted_space_is_gone_and_those_who_follow_it_hear_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let secret = b"a text that must not be found";
    store
        .write_with(|tx| {
            for number in 1..=150 {
                write(tx, &TEAM, &document(number), 3)?;
            }
            write(tx, &SpaceId::DEFAULT, &document(200), 3)?;
            tx.put(Table::Snapshot, document(1).as_bytes(), secret)
        })
        .unwrap();
    let kept = exports(store.read().unwrap().as_ref()).remove(&document(200));
    let end = log::end(store.read().unwrap().as_ref(), &TEAM).unwrap();
    let deleted = delete_space(&store, &TEAM, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(deleted, Deleted { documents: 150, scrubbed: true, end: end + 150 });
    {
        let view = store.read().unwrap();
        let left = exports(view.as_ref());
        assert_eq!((left.len(), left.get(&document(200))), (1, kept.as_ref()));
        let mut told = 0;
        log::read(view.as_ref(), &TEAM, 0, u64::MAX, &mut |entry| {
            assert_eq!(entry.what, log::What::Deleted);
            told += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(told, 150);
    }
    assert_sound(&store);
    drop(store);
    let file = fs::read(directory.path().join("source.redb")).unwrap();
    assert!(!file.windows(secret.len()).any(|window| window == secret));
}
