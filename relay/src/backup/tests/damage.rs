//! Files that are not what was written, backups that do not belong together, and work that ends in the middle.

use rejoin::store::FORMAT_VERSION;

use super::*;

fn check_quietly(chain: &[PathBuf]) -> Result<Vec<Manifest>, RestoreError> {
    check(chain, &mut |_| ControlFlow::Continue(()))
}

/// Every file of a backup.
fn files(backup: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(backup).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_altered_byte_and_every_cut_of_any_file_is_found() {
    let (_directory, _store, chain) = backed_up();
    let all: Vec<PathBuf> = chain.iter().flat_map(|backup| files(backup)).collect();
    assert_eq!(check_quietly(&chain).unwrap().len(), 2);
    let contents: Vec<_> = all.iter().map(|path| fs::read(path).unwrap()).collect();
    let config = ProptestConfig { cases: 128, ..ProptestConfig::default() };
    proptest!(config, |(file: prop::sample::Index, at: prop::sample::Index, bit in 0_u8..8, cut: bool)| {
        let number = file.index(all.len());
        let (path, content) = (&all[number], &contents[number]);
        let place = at.index(content.len());
        let mut altered = content.clone();
        if cut {
            altered.truncate(place);
        } else {
            altered[place] ^= 1 << bit;
        }
        fs::write(path, &altered).unwrap();
        let outcome = check_quietly(&chain);
        fs::write(path, content).unwrap();
        prop_assert!(outcome.is_err(), "{} at {place}, cut: {cut}", path.display());
    });
    assert!(check_quietly(&chain).is_ok());
}

#[test]
fn files_that_are_exchanged_missing_or_of_another_backup_are_found() {
    let (directory, store, chain) = backed_up();
    let (first, second) = (chain[0].join("rows-00000.rjn"), chain[0].join("rows-00001.rjn"));
    let aside = directory.path().join("aside");
    let exchange = || {
        fs::rename(&first, &aside).unwrap();
        fs::rename(&second, &first).unwrap();
        fs::rename(&aside, &second).unwrap();
    };
    exchange();
    assert!(matches!(check_quietly(&chain), Err(RestoreError::Other { .. })));
    exchange();
    fs::rename(&second, &aside).unwrap();
    assert!(matches!(check_quietly(&chain), Err(RestoreError::File { .. })));
    // A sound file, and yet of another backup.
    let again = directory.path().join("again");
    let options = OnlineOptions { file_bytes: 1, ..OnlineOptions::default() };
    online_with(&store, &again, None, &options, &mut quiet).unwrap();
    fs::copy(again.join("rows-00000.rjn"), &second).unwrap();
    assert!(matches!(check_quietly(&chain), Err(RestoreError::Other { .. })));
    fs::rename(&aside, &second).unwrap();
    assert!(check_quietly(&chain).is_ok());
}

#[test]
fn backups_that_do_not_follow_one_another_are_refused_before_anything_is_written() {
    let (directory, store, chain) = backed_up();
    let data = directory.path().join("data");
    let refused = |chain: &[&PathBuf]| {
        let chain: Vec<_> = chain.iter().map(|path| (*path).clone()).collect();
        let outcome = restore_quietly(&chain, &data);
        assert!(matches!(outcome, Err(RestoreError::Chain { .. })), "{outcome:?}");
        assert!(!data.join(STORE_FILE).exists());
    };
    let third = directory.path().join("third");
    let second = Manifest::read(&chain[1]).unwrap();
    online(&store, &third, Some(&second), &mut quiet).unwrap();
    refused(&[&chain[1]]);
    refused(&[&chain[0], &third]);
    refused(&[&chain[0], &chain[1], &chain[1]]);
    refused(&[&chain[0], &chain[0]]);
    refused(&[]);
    // Another life of the log: what a manifest says of positions is worth nothing.
    store.write_with(|tx| log::set_epoch(tx, &Epoch::from_bytes([7; 16]))).unwrap();
    let since = online(&store, &directory.path().join("fourth"), Some(&second), &mut quiet);
    assert!(matches!(since, Err(BackupError::OtherLog)), "{since:?}");
    assert!(restore_quietly(&[chain[0].clone(), chain[1].clone(), third], &data).is_ok());
}

#[test]
fn backup_that_ends_in_the_middle_leaves_nothing_that_can_be_restored() {
    let (directory, store, chain) = backed_up();
    store.write_with(|tx| (0..3).try_for_each(|key| tx.put(Table::Audit, &[key], &vec![key; 600_000]))).unwrap();
    let to = directory.path().join("given-up");
    let outcome = online(&store, &to, None, &mut |_| ControlFlow::Break(()));
    assert!(matches!(outcome, Err(BackupError::Cancelled)), "{outcome:?}");
    let short = OnlineOptions { duration_max: Duration::ZERO, ..OnlineOptions::default() };
    let outcome = online_with(&store, &to, None, &short, &mut quiet);
    assert!(matches!(outcome, Err(BackupError::TooLong { .. })), "{outcome:?}");
    let temporary = directory.path().join("given-up.rejoin-backup");
    assert!(!to.exists() && !temporary.exists());
    // One that was killed: everything but the manifest.
    fs::create_dir(&temporary).unwrap();
    for file in files(&chain[0]).iter().filter(|file| !file.ends_with(MANIFEST_FILE)) {
        fs::copy(file, temporary.join(file.file_name().unwrap())).unwrap();
    }
    assert!(check_quietly(std::slice::from_ref(&temporary)).is_err());
    online(&store, &to, None, &mut quiet).unwrap();
    assert!(to.exists() && !temporary.exists());
    let outcome = online(&store, &to, None, &mut quiet);
    assert!(matches!(outcome, Err(BackupError::Exists { .. })), "{outcome:?}");
}

#[test]
fn restore_that_was_killed_is_begun_anew_and_never_overwrites() {
    let (directory, _store, chain) = backed_up();
    let data = directory.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("relay.redb.rejoin-restore"), b"half of it").unwrap();
    restore_quietly(&chain, &data).unwrap();
    assert_eq!(fs::read_dir(&data).unwrap().count(), 1);
    let outcome = restore_quietly(&chain, &data);
    assert!(matches!(outcome, Err(RestoreError::NotEmpty { .. })), "{outcome:?}");
    let given_up = directory.path().join("given-up");
    let outcome = restore(&chain, &given_up, &RestoreOptions::default(), &mut |progress| {
        if progress.step == super::super::Step::Loading { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(outcome, Err(RestoreError::Cancelled)), "{outcome:?}");
    assert_eq!(fs::read_dir(&given_up).unwrap().count(), 0);
}

#[test]
fn backup_of_a_format_before_is_restored_and_of_others_is_refused() {
    let (directory, _store, chain) = backed_up();
    for format in [3, 2, 1, FORMAT_VERSION + 1] {
        for backup in &chain {
            let path = backup.join(MANIFEST_FILE);
            let mut manifest: Manifest = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            manifest.store_format = format;
            manifest.seal = manifest.sealed();
            fs::write(path, manifest.text()).unwrap();
        }
        let data = directory.path().join(format!("format-{format}"));
        let outcome = restore_quietly(&chain, &data);
        match format {
            2 | 3 => {
                outcome.unwrap();
                let copy = opened(&data);
                assert_eq!(rejoin::store::format(copy.read().unwrap().as_ref()).unwrap(), FORMAT_VERSION);
                assert_sound(&copy);
            }
            1 => assert!(outcome.unwrap_err().to_string().contains("format 1, and 2 or more is needed")),
            _ => assert!(outcome.unwrap_err().to_string().contains("upgrade this relay")),
        }
    }
}

#[test]
fn rehearsal_checks_every_change_and_leaves_nothing() {
    let (directory, _store, chain) = backed_up();
    let scratch = directory.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    let mut fractions = Vec::new();
    let (restored, report) = rehearse(&chain, &scratch, &mut |progress| {
        fractions.push(progress.fraction);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(report.is_sound(), "{report}");
    assert_eq!((report.documents, report.changes), (restored.manifest.documents, restored.manifest.changes));
    assert!(fractions.iter().all(|fraction| (0.0..=1.0).contains(fraction)));
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
}

#[cfg(unix)]
#[test]
fn nobody_else_may_read_a_backup() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_directory, _store, chain) = backed_up();
    for path in files(&chain[0]).iter().chain([&chain[0]]) {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
    }
}

#[test]
fn storage_id_stays_if_it_is_asked_for() {
    let (directory, store, chain) = backed_up();
    let (same, other) = (directory.path().join("same"), directory.path().join("other"));
    let original = storage_id(&store, [9; 16]).unwrap();
    restore(&chain, &same, &RestoreOptions { same_id: true }, &mut |_| ControlFlow::Continue(())).unwrap();
    restore_quietly(&chain, &other).unwrap();
    assert_eq!(storage_id(&opened(&same), [9; 16]).unwrap(), original);
    assert_ne!(storage_id(&opened(&other), [9; 16]).unwrap(), original);
}
