#![allow(clippy::unwrap_used, reason = "tests")]

use automerge::marks::{ExpandMark, Mark};
use automerge::transaction::Transactable;
use automerge::{ActorId, AutoCommit, ObjType, ROOT, ReadDoc, ScalarValue};
use proptest::prelude::*;

use super::child::serve;
use super::wire::{self, Task};
use super::*;
use crate::gate::{Chunk, DocumentHeader};

/// One random edit: which of the authors, and what.
type Step = (u8, u8, u8, u8);

/// Lets several authors edit and merge at random: maps, lists, text, marks, counters.
fn document(steps: &[Step]) -> AutoCommit {
    let mut first = AutoCommit::new().with_actor(ActorId::from([0; 16]));
    let text = first.put_object(ROOT, "text", ObjType::Text).unwrap();
    let list = first.put_object(ROOT, "list", ObjType::List).unwrap();
    first.put(ROOT, "votes", ScalarValue::counter(1)).unwrap();
    first.splice_text(&text, 0, 0, "some words").unwrap();
    first.commit();
    let mut authors: Vec<_> = (1..=4).map(|author| first.fork().with_actor(ActorId::from([author; 16]))).collect();
    for &(author, what, at, with) in steps {
        let from = usize::from(with) % 4;
        let mut other = authors[from].fork();
        let author = &mut authors[usize::from(author) % 4];
        let (length, place) = (author.length(&text), usize::from(at) % (author.length(&text) + 1));
        match what % 9 {
            0 => author.put(ROOT, format!("k{}", at % 3), i64::from(with)).unwrap(),
            1 => author.splice_text(&text, place, 0, "é😀").unwrap(),
            2 => author.splice_text(&text, place.min(length - 1), 1.min(length as isize - 1), "").unwrap(),
            3 if length > 2 => {
                let mark = Mark::new("bold".to_owned(), true, 0, place.max(1).min(length));
                author.mark(&text, mark, ExpandMark::After).unwrap();
            }
            4 => author.insert(&list, usize::from(at) % (author.length(&list) + 1), i64::from(with)).unwrap(),
            5 => author.increment(ROOT, "votes", i64::from(with)).unwrap(),
            6 => drop(author.put_object(ROOT, "map", ObjType::Map).unwrap()),
            7 => author.delete(ROOT, format!("k{}", at % 3)).unwrap(),
            _ => drop(author.merge(&mut other).unwrap()),
        }
        author.commit();
    }
    for author in &mut authors {
        first.merge(author).unwrap();
    }
    first
}

fn changes(document: &mut AutoCommit) -> Vec<Vec<u8>> {
    document.get_changes(&[]).iter().map(|change| change.raw_bytes().to_vec()).collect()
}

fn slices(changes: &[Vec<u8>]) -> impl Iterator<Item = &[u8]> {
    changes.iter().map(Vec::as_slice)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn random_documents_fold_and_come_apart_again(steps in proptest::collection::vec(any::<Step>(), 0..120)) {
        let mut document = document(&steps);
        let changes = changes(&mut document);
        let folded = fold(slices(&changes)).unwrap();
        prop_assert_eq!(&folded.heads, &document.get_heads());
        prop_assert_eq!(folded.count, changes.len() as u64);
        let header = DocumentHeader::of(&Chunk::parse(&folded.chunk).unwrap()).unwrap();
        prop_assert_eq!(header.heads, folded.heads);
        let mut again = unfold(&folded.chunk).unwrap();
        let mut expected = changes;
        // Both are orders in which dependencies come first; they need not be the same.
        prop_assert!(fold(slices(&again)).is_ok());
        again.sort();
        expected.sort();
        prop_assert_eq!(again, expected);
    }
}

#[test]
fn missing_repeated_and_damaged_changes_are_refused() {
    let changes = changes(&mut document(&[(0, 0, 1, 2), (0, 1, 3, 4)]));
    assert!(fold(slices(&changes[1..])).is_err());
    let twice = [&changes[..], &changes[..1]].concat();
    assert_eq!(fold(slices(&twice)), Err(WorkError::Differs("changes")));
    let mut damaged = changes.clone();
    damaged[1].truncate(20);
    assert!(matches!(fold(slices(&damaged)), Err(WorkError::Automerge(_))));
    assert!(unfold(&changes[0][..20]).is_err());
}

#[test]
fn child_answers_once_and_whole() {
    let changes = changes(&mut document(&[(0, 1, 2, 3)]));
    let ask = |task, items: &[Vec<u8>]| {
        let mut request = Vec::new();
        wire::write_head(&mut request, task, 5, 6).unwrap();
        items.iter().for_each(|item| wire::write_item(&mut request, item).unwrap());
        wire::write_end(&mut request).unwrap();
        let mut answer = Vec::new();
        serve(&request[..], &mut answer, |memory, cpu| {
            assert_eq!((memory, cpu), (5, 6));
            Ok(())
        })
        .unwrap();
        (answer[0], wire::items(&answer[1..]).unwrap().into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>())
    };
    let (done, chunk) = ask(Task::Fold, &changes);
    assert_eq!((done, chunk.len()), (wire::DONE, 1));
    let (done, again) = ask(Task::Unfold, &chunk);
    assert_eq!((done, again.len()), (wire::DONE, changes.len()));
    let (refused, why) = ask(Task::Unfold, &[b"nothing like a chunk".to_vec()]);
    assert_eq!((refused, why.len()), (wire::REFUSED, 1));
}

#[test]
fn child_that_cannot_limit_itself_does_nothing() {
    let mut request = Vec::new();
    wire::write_head(&mut request, Task::Fold, 0, 0).unwrap();
    let mut answer = Vec::new();
    assert!(serve(&request[..], &mut answer, |_, _| Err(std::io::Error::other("no limits here"))).is_err());
    assert!(answer.is_empty());
}
