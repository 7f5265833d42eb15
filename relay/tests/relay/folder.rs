//! Children that do everything but their work: the parent always comes back, with the reason.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use automerge::transaction::Transactable;
use automerge::{Automerge, AutomergeError, ObjType, ROOT};
use rejoin::fold::{FoldCommand, FoldError, Folder, Input};

const BINARY: &str = env!("CARGO_BIN_EXE_rejoin-relay");

/// The relay's own child.
pub fn command() -> FoldCommand {
    FoldCommand::new(BINARY, "fold-child")
}

/// A child that runs a script instead.
pub fn script(script: &str) -> FoldCommand {
    let mut command = FoldCommand::new("/bin/sh", "-c");
    command.arguments.push(script.into());
    command
}

/// A text into which a letter was typed so many times, one change each.
pub fn typed(changes: usize) -> Automerge {
    let mut document = Automerge::new();
    let edit = |tx: &mut automerge::transaction::Transaction<'_>| tx.put_object(ROOT, "text", ObjType::Text);
    let text = document.transact::<_, _, AutomergeError>(edit).unwrap().result;
    for index in 0..changes.saturating_sub(1) {
        document.transact::<_, _, AutomergeError>(|tx| tx.splice_text(&text, index, 0, "x")).unwrap();
    }
    document
}

fn input(document: &Automerge) -> Input {
    let mut input = Input::new();
    document.get_changes(&[]).iter().for_each(|change| input.push(change.raw_bytes()).unwrap());
    input
}

fn fold(command: FoldCommand, document: &Automerge) -> Result<rejoin::fold::Folded, FoldError> {
    Folder::new(command).fold(input(document), &document.get_heads())
}

#[test]
fn child_folds_and_takes_apart() {
    let document = typed(500);
    let folder = Folder::new(command());
    let folded = folder.fold(input(&document), &document.get_heads()).unwrap();
    assert_eq!((folded.count, &folded.heads), (500, &document.get_heads()));
    assert_eq!(Automerge::load(&folded.chunk).unwrap().get_heads(), document.get_heads());
    let changes = folder.unfold(&folded.chunk).unwrap();
    let expected: Vec<_> = document.get_changes(&[]).iter().map(|change| change.raw_bytes().to_vec()).collect();
    assert_eq!(changes, expected);
}

#[test]
fn chunk_with_other_heads_than_known_is_not_taken() {
    let document = typed(3);
    let result = Folder::new(command()).fold(input(&document), &[]);
    assert!(matches!(result, Err(FoldError::WrongAnswer { .. })), "{result:?}");
}

#[test]
fn child_says_why_it_refuses() {
    let mut orphan = Input::new();
    let document = typed(3);
    orphan.push(document.get_changes(&[])[2].raw_bytes()).unwrap();
    let result = Folder::new(command()).fold(orphan, &document.get_heads());
    assert!(matches!(result, Err(FoldError::Refused { .. })), "{result:?}");
    let result = Folder::new(command()).unfold(b"\x85\x6f\x4a\x83 no document");
    assert!(matches!(result, Err(FoldError::Refused { .. })), "{result:?}");
}

#[test]
fn child_that_outgrows_its_memory_or_its_time_ends_alone() {
    let mut document = Automerge::new();
    // One operation a character, within what one change may have; a run of equal letters takes no bytes.
    let letters = "x".repeat(1_000_000);
    let edit = |tx: &mut automerge::transaction::Transaction<'_>| {
        let text = tx.put_object(ROOT, "text", ObjType::Text)?;
        tx.splice_text(&text, 0, 0, &letters[1..])
    };
    document.transact::<_, _, AutomergeError>(edit).unwrap();
    let small = FoldCommand { memory_bytes: 96 << 20, ..command() };
    assert!(matches!(fold(small, &document), Err(FoldError::Crashed { .. })));
    let hasty = FoldCommand { cpu_seconds: 0, ..command() };
    assert!(matches!(fold(hasty, &document), Err(FoldError::Crashed { .. })));
}

#[test]
fn child_that_does_not_answer_is_killed_with_all_it_started() {
    for waits in ["sleep 60", "sleep 60 & sleep 60 & wait", "exec sleep 60", "cat >/dev/null; sleep 60"] {
        let begun = Instant::now();
        let patience = FoldCommand { timeout: Duration::from_millis(300), ..script(waits) };
        assert!(matches!(fold(patience, &typed(3)), Err(FoldError::TimedOut { .. })), "{waits}");
        assert!(begun.elapsed() < Duration::from_secs(30), "{waits}");
    }
}

#[test]
fn nonsense_is_no_answer() {
    // Garbage, an early end, half an answer, an endless one, a shout, a suicide.
    let document = typed(2_000);
    let said = |text: &str| match fold(script(text), &document) {
        Err(FoldError::WrongAnswer { .. }) => "wrong answer",
        Err(FoldError::Crashed { .. }) => "crashed",
        Err(FoldError::TooLarge { .. }) => "too large",
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(said("yes nonsense | head -c 10000"), "wrong answer");
    assert_eq!(said("exit 0"), "wrong answer");
    assert_eq!(said("printf '\\000\\005\\000\\000\\000ab'"), "wrong answer");
    assert_eq!(said("printf '\\000\\377\\377\\377\\377'"), "wrong answer");
    assert_eq!(said("exit 3"), "crashed");
    assert_eq!(said("kill -9 $$"), "crashed");
    assert_eq!(said("cat /dev/zero"), "too large");
    assert_eq!(said("head -c 50000000 /dev/zero >&2; exit 1"), "crashed");
    let Err(FoldError::Crashed { said, .. }) = fold(script("yes evil | head -c 5000 >&2; exit 1"), &document) else {
        panic!("it did not crash");
    };
    assert_eq!(said.len(), rejoin::limits::FOLD_STDERR_BYTES_MAX);
}

#[test]
fn child_that_cannot_be_started_is_not_the_documents_fault() {
    let error = fold(FoldCommand::new("/nowhere/rejoin", "fold-child"), &typed(3)).unwrap_err();
    assert!(matches!(error, FoldError::Start(_)) && !error.is_about_the_document());
}

#[test]
fn folder_that_is_told_to_stop_does_not_wait_for_its_child() {
    let folder = Arc::new(Folder::new(script("sleep 60")));
    let working = {
        let folder = Arc::clone(&folder);
        std::thread::spawn(move || folder.fold(input(&typed(3)), &[]))
    };
    std::thread::sleep(Duration::from_millis(100));
    folder.stop();
    let error = working.join().unwrap().unwrap_err();
    assert!(matches!(error, FoldError::Stopped) && !error.is_about_the_document());
}

#[test]
fn child_that_is_started_by_hand_reads_nothing_and_ends() {
    let mut child = Command::new(BINARY);
    let output = child.arg("fold-child").stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
}
