//! What documents show, counted against the writes that are in them: each counts once.

use std::collections::{BTreeMap, BTreeSet};

use rejoin::DocumentId;
use serde_json::Value as Json;

use super::{Document, Evidence, Found, Rule};
use crate::torture::check::books::Books;
use crate::torture::history::{Op, WriteId};
use crate::torture::letter;

pub(super) fn check(evidence: &Evidence, books: &Books, found: &mut Found) {
    for store in &evidence.stores {
        for (id, document) in &store.documents {
            once(books, &store.name, document, found);
            shown(books, (&store.name, id), document, found);
        }
    }
    for (id, document) in &evidence.relay {
        once(books, "the relay", document, found);
        increments(books, id, document, evidence, found);
    }
}

/// No write is there twice, and none that nobody made.
fn once(books: &Books, whose: &str, document: &Document, found: &mut Found) {
    let mut seen = BTreeSet::new();
    for id in &document.writes {
        if !seen.insert(id) {
            found.add(Rule::Count, format!("{id} is there twice at {whose}"));
        }
        if !books.writes.contains_key(id) {
            found.add(Rule::Count, format!("{id} is there at {whose}, and nobody made it"));
        }
    }
}

/// Fields, counter, text and list show exactly the writes.
fn shown(books: &Books, (name, id): (&str, &DocumentId), document: &Document, found: &mut Found) {
    let of = |op: Op| document.writes.iter().filter(move |id| books.writes.get(id).is_some_and(|write| write.op == op));
    let json = &document.json;
    let mut wrong = |what: &str, shows: String, writes: String| {
        found.add(Rule::Count, format!("{what} of {id} at {name}: it shows {shows}, by its writes it is {writes}"));
    };
    let count = of(Op::Increment).count();
    let shows = json["count"].as_u64().unwrap_or(0);
    if shows != count as u64 {
        wrong("the counter", shows.to_string(), count.to_string());
    }
    let mut letters: BTreeMap<char, usize> = BTreeMap::new();
    of(Op::Letter).for_each(|id| *letters.entry(letter(id.client)).or_default() += 1);
    let mut there: BTreeMap<char, usize> = BTreeMap::new();
    json["text"].as_str().unwrap_or_default().chars().for_each(|letter| *there.entry(letter).or_default() += 1);
    if letters != there {
        wrong("the text", format!("{there:?}"), format!("{letters:?}"));
    }
    let mut pushed: Vec<String> = of(Op::Push).map(ToString::to_string).collect();
    let texts = |list: &Json| -> Vec<String> {
        list.as_array().into_iter().flatten().map(|one| one.as_str().unwrap_or_default().to_owned()).collect()
    };
    let mut list = texts(&json["list"]);
    pushed.sort();
    list.sort();
    if pushed != list {
        let only = |one: &[String], other: &[String]| {
            let missing: Vec<&String> = one.iter().filter(|id| !other.contains(id)).take(5).collect();
            format!("{} elements, among them {missing:?}", one.len())
        };
        wrong("the list", only(&list, &pushed), only(&pushed, &list));
    }
    let mut own: BTreeMap<usize, &WriteId> = BTreeMap::new();
    of(Op::Own).for_each(|id| {
        let last = own.entry(id.client).or_insert(id);
        *last = (*last).max(id);
    });
    for (client, last) in own {
        let shows = json[format!("own-{client}")].as_str().unwrap_or_default();
        // Two lives of one device are two writers. So are a branch that was dropped and what was written after that: what
        // the relay took of the branch on its way comes back, and neither knew of the other.
        let is_right = shows.parse::<WriteId>().is_ok_and(|shown| {
            let was_dropped = || books.writes.get(&shown).is_some_and(|write| write.is_dropped);
            shown == *last
                || (shown.client == client
                    && document.writes.contains(&shown)
                    && (books.was_rolled_back(client) || was_dropped()))
        });
        if !is_right {
            wrong("the own field", shows.to_owned(), last.to_string());
        }
    }
}

/// The counter is at least what was acknowledged, and at most what was tried.
fn increments(books: &Books, id: &DocumentId, document: &Document, evidence: &Evidence, found: &mut Found) {
    let shown = evidence.stores.iter().filter_map(|store| store.documents.get(id));
    let Some(shows) = shown.filter_map(|there| there.json["count"].as_u64()).next() else { return };
    let theirs = books.writes.iter().filter(|(_, write)| write.document == *id && write.op == Op::Increment);
    let (mut least, mut most) = (0, 0);
    for (id, write) in theirs {
        let may_be_gone = write.is_dropped || books.is_rolled_away(*id, write, u64::MAX);
        least += u64::from(write.local.is_some() && !may_be_gone);
        most += 1;
    }
    if !(least..=most).contains(&shows) {
        let changes = document.writes.len();
        let text =
            format!("the counter of {id} shows {shows}: {least} were acknowledged, {most} tried, {changes} writes");
        found.add(Rule::Count, text);
    }
}
