//! Histories made by hand: an honest one in which nothing is broken, and for each rule one in which just that is.

use serde_json::json;

use super::*;
use crate::torture::history::{Event, Op};

const DOCUMENT: DocumentId = DocumentId::from_bytes([1; 16]);

fn id(client: usize, number: u64) -> WriteId {
    WriteId { client, run: 1, number }
}

fn at<T: Event>(time: u64, what: T) -> At<T> {
    At { time, what }
}

fn relay_has(position: u64, hash: &str, id: WriteId) -> Done {
    Done::RelayHas("e1".to_owned(), position, DOCUMENT, hash.to_owned(), Some(id))
}

/// Two clients: the first adds one to the counter, the second writes a letter; both are seen. The relay is killed once, and
/// everything is looked into in the end.
fn honest() -> Evidence {
    let (one, two) = (id(0, 1), id(1, 1));
    let life = |client: usize, own: WriteId, op| {
        vec![
            at(10, Said::Run(1)),
            at(11, Said::Looked),
            at(20, Said::Invoked(own, DOCUMENT, op)),
            at(21, Said::Stage(own, Receipt::Local)),
            at(30, Said::Stage(own, Receipt::Relayed)),
            at(50, Said::Stage(own, Receipt::Seen)),
            at(60, Said::Run(2)),
            at(61, Said::Has(0, 1, vec![(1, 1)])),
            at(61, Said::Has(1, 1, vec![(1, 1)])),
            at(62, Said::Looked),
            at(63, Said::Stands(id(client, 1), Some(Receipt::Seen))),
        ]
    };
    let document = Document {
        heads: vec!["h1".to_owned(), "h2".to_owned()],
        writes: vec![one, two],
        json: json!({ "count": 1, "text": "b", "list": [] }),
        is_initial: true,
    };
    let store = |name: &str, follows| Store {
        name: name.to_owned(),
        follows,
        documents: BTreeMap::from([(DOCUMENT, document.clone())]),
    };
    Evidence {
        devices: vec![life(0, one, Op::Increment), life(1, two, Op::Letter)],
        nemesis: vec![
            at(40, relay_has(1, "h1", one)),
            at(40, relay_has(2, "h2", two)),
            at(41, Done::RelayLooked),
            at(90, Done::Healed),
        ],
        stores: vec![store("c0", true), store("c1", false)],
        relay: BTreeMap::from([(DOCUMENT, Document { json: Json::Null, ..document.clone() })]),
        faults: Vec::new(),
    }
}

fn rules(evidence: &Evidence) -> BTreeSet<Rule> {
    check(evidence).into_iter().map(|violation| violation.rule).collect()
}

/// Asserts that just these rules are broken by what is done to an honest run.
fn breaks(wanted: &[Rule], spoil: impl FnOnce(&mut Evidence)) {
    let mut evidence = honest();
    spoil(&mut evidence);
    assert_eq!(rules(&evidence), wanted.iter().copied().collect(), "{:#?}", check(&evidence));
}

/// Leaves out what a device's store was found to have of a client, in its last look.
fn forget(evidence: &mut Evidence, device: usize, client: usize) {
    evidence.devices[device].retain(|at| !matches!(at.what, Said::Has(of, ..) if of == client));
}

/// Takes a write out of a document, and shows it so.
fn take_out(document: &mut Document, id: WriteId, json: Json) {
    document.writes.retain(|write| *write != id);
    document.json = if document.json.is_null() { Json::Null } else { json };
}

fn take_out_everywhere(evidence: &mut Evidence, id: WriteId, json: &Json) {
    for store in &mut evidence.stores {
        take_out(store.documents.get_mut(&DOCUMENT).unwrap(), id, json.clone());
    }
    take_out(evidence.relay.get_mut(&DOCUMENT).unwrap(), id, json.clone());
}

#[test]
fn nothing_is_broken_in_an_honest_run() {
    breaks(&[], |_| {});
}

#[test]
fn local_write_that_is_not_in_its_store_when_it_is_opened_next_is_lost() {
    // Neither can the other's store be a witness of it: it is asked for what it has of itself alone.
    breaks(&[Rule::Lost], |evidence| forget(evidence, 0, 0));
}

#[test]
fn write_on_a_disk_that_was_taken_away_may_be_gone_and_one_from_before_may_not() {
    let rolled = |copied| {
        move |evidence: &mut Evidence| {
            forget(evidence, 0, 0);
            evidence.nemesis.extend([at(copied, Done::DiskCopied(0)), at(55, Done::RolledBack(0))]);
            evidence.devices[0].retain(|at| !matches!(at.what, Said::Stands(..)));
        }
    };
    breaks(&[], rolled(15));
    breaks(&[Rule::Lost], rolled(25));
}

#[test]
fn acknowledged_write_that_is_nowhere_in_the_end_is_lost() {
    breaks(&[Rule::Lost, Rule::Count], |evidence| {
        // The counter shows less than was acknowledged, too.
        take_out_everywhere(evidence, id(0, 1), &json!({ "count": 0, "text": "b", "list": [] }));
    });
    breaks(&[Rule::Lost], |evidence| {
        take_out_everywhere(evidence, id(1, 1), &json!({ "count": 1, "text": "", "list": [] }));
    });
}

#[test]
fn dropped_write_may_be_gone_and_a_relayed_one_may_not() {
    let dropped = |time| {
        move |evidence: &mut Evidence| {
            evidence.devices[1].insert(4, at(time, Said::Dropping(DOCUMENT)));
            evidence.devices[1].retain(|at| !matches!(at.what, Said::Stands(..) | Said::Stage(_, Receipt::Seen)));
            take_out_everywhere(evidence, id(1, 1), &json!({ "count": 1, "text": "", "list": [] }));
        }
    };
    breaks(&[Rule::Lost], dropped(25));
    breaks(&[], |evidence| {
        dropped(25)(evidence);
        evidence.devices[1].retain(|at| !matches!(at.what, Said::Stage(_, Receipt::Relayed)));
    });
}

#[test]
fn relayed_write_that_the_relay_does_not_have_when_it_is_killed_is_a_false_receipt() {
    breaks(&[Rule::FalseReceipt], |evidence| drop(evidence.nemesis.remove(0)));
}

#[test]
fn restored_relay_may_lack_what_was_relayed_before_and_nothing_that_was_made_since() {
    let restored = |time| {
        move |evidence: &mut Evidence| {
            evidence.nemesis.remove(0);
            evidence.nemesis.insert(0, at(time, Done::Restored));
        }
    };
    breaks(&[], restored(25));
    breaks(&[Rule::FalseReceipt], restored(15));
    // But in the end it has that too.
    breaks(&[Rule::Lost], |evidence| {
        restored(25)(evidence);
        take_out_everywhere(evidence, id(1, 1), &json!({ "count": 1, "text": "", "list": [] }));
    });
}

#[test]
fn seen_write_that_no_other_device_had_then_is_a_false_receipt() {
    breaks(&[Rule::FalseReceipt], |evidence| forget(evidence, 1, 0));
    breaks(&[Rule::FalseReceipt], |evidence| {
        // It came later, which is too late.
        let later = [
            at(70, Said::Run(3)),
            at(71, Said::Has(0, 1, vec![(1, 1)])),
            at(71, Said::Has(1, 1, vec![(1, 1)])),
            at(72, Said::Looked),
        ];
        forget(evidence, 1, 0);
        evidence.devices[1].extend(later);
    });
}

#[test]
fn receipt_of_a_write_that_was_never_made_is_false() {
    breaks(&[Rule::FalseReceipt], |evidence| evidence.devices[0].push(at(80, Said::Stage(id(0, 9), Receipt::Local))));
}

#[test]
fn receipt_that_goes_back_is_taken_back_unless_the_disk_is_an_older_one() {
    let stands = |stage| move |evidence: &mut Evidence| evidence.devices[0].push(at(80, Said::Stands(id(0, 1), stage)));
    breaks(&[Rule::TakenBack], stands(Some(Receipt::Relayed)));
    breaks(&[Rule::TakenBack], stands(None));
    breaks(&[], |evidence| {
        stands(Some(Receipt::Relayed))(evidence);
        evidence.nemesis.extend([at(25, Done::DiskCopied(0)), at(70, Done::RolledBack(0))]);
    });
}

#[test]
fn position_is_one_change_for_ever_and_a_change_has_one_position() {
    breaks(&[Rule::Position], |evidence| evidence.nemesis.push(at(80, relay_has(2, "h3", id(1, 1)))));
    breaks(&[Rule::Position], |evidence| evidence.nemesis.push(at(80, relay_has(3, "h2", id(1, 1)))));
    breaks(&[], |evidence| {
        // In another epoch all are others.
        let again = Done::RelayHas("e2".to_owned(), 1, DOCUMENT, "h2".to_owned(), Some(id(1, 1)));
        evidence.nemesis.push(at(80, again));
    });
}

#[test]
fn different_heads_json_or_documents_are_no_convergence() {
    let spoil = |spoil: fn(&mut Document)| {
        move |evidence: &mut Evidence| spoil(evidence.stores[1].documents.get_mut(&DOCUMENT).unwrap())
    };
    breaks(&[Rule::Diverged], spoil(|document| drop(document.heads.pop())));
    breaks(&[Rule::Diverged], spoil(|document| document.json["more"] = true.into()));
    breaks(&[Rule::Diverged, Rule::Lost], |evidence| evidence.stores[1].documents.clear());
    breaks(&[Rule::Diverged], |evidence| evidence.relay.get_mut(&DOCUMENT).unwrap().heads.clear());
}

#[test]
fn document_that_was_made_on_the_way_is_only_with_those_that_follow() {
    let other = DocumentId::from_bytes([2; 16]);
    let made = |follower: bool| {
        move |evidence: &mut Evidence| {
            let document = Document { heads: vec!["h3".to_owned()], ..Document::default() };
            evidence.relay.insert(other, document.clone());
            let document = Document { json: json!({ "own-0": "w0.1.1" }), ..document };
            evidence.stores[usize::from(!follower)].documents.insert(other, document);
        }
    };
    breaks(&[], made(true));
    breaks(&[Rule::Diverged], made(false));
}

#[test]
fn each_write_counts_once() {
    let everywhere = |spoil: fn(&mut Document)| {
        move |evidence: &mut Evidence| {
            evidence.stores.iter_mut().flat_map(|store| store.documents.values_mut()).for_each(spoil);
        }
    };
    breaks(&[Rule::Count], everywhere(|document| document.json["count"] = 2.into()));
    breaks(&[Rule::Count], everywhere(|document| document.json["count"] = 0.into()));
    breaks(&[Rule::Count], everywhere(|document| document.json["text"] = "bb".into()));
    breaks(&[Rule::Count], everywhere(|document| document.json["list"] = json!(["w0.1.1"])));
    breaks(&[Rule::Count], everywhere(|document| document.writes.push(id(1, 1))));
    breaks(&[Rule::Count], everywhere(|document| document.writes.push(id(1, 8))));
}

#[test]
fn dropped_write_that_the_relay_took_on_its_way_may_show_and_no_other_earlier_one() {
    let (first, second) = (id(0, 1), id(0, 2));
    let own = |is_dropped: bool| {
        move |evidence: &mut Evidence| {
            evidence.devices[0][2] = at(20, Said::Invoked(first, DOCUMENT, Op::Own));
            evidence.devices[0].retain(|at| !matches!(at.what, Said::Stage(..) | Said::Stands(..)));
            for at in evidence.devices[0].iter_mut().filter(|at| matches!(at.what, Said::Has(0, ..))) {
                at.what = Said::Has(0, 1, vec![(1, 2)]);
            }
            let told = [at(21, Said::Stage(first, Receipt::Local)), at(22, Said::Dropping(DOCUMENT))];
            let later = [at(23, Said::Invoked(second, DOCUMENT, Op::Own)), at(24, Said::Stage(second, Receipt::Local))];
            let history = told.into_iter().chain(later);
            let history = history.filter(|at| is_dropped || !matches!(at.what, Said::Dropping(_)));
            evidence.devices[0].splice(3..3, history);
            for document in evidence.stores.iter_mut().flat_map(|store| store.documents.values_mut()) {
                document.json = json!({ "count": 0, "text": "b", "list": [], "own-0": first.to_string() });
                document.writes.push(second);
            }
            evidence.relay.values_mut().for_each(|document| document.writes.push(second));
        }
    };
    breaks(&[], own(true));
    breaks(&[Rule::Count], own(false));
}

/// Has the second client lose its right before its write, and get it back.
fn revoked(evidence: &mut Evidence, is_whole: bool, certain: u64, until: u64) {
    let epoch = || "e1".to_owned();
    let window = [
        at(5, Done::Revoking(1, is_whole)),
        at(certain, Done::Revoked(1, epoch(), 1)),
        at(until, Done::Regranting(1, epoch(), 1)),
        at(until + 1, Done::Regranted(1)),
    ];
    evidence.nemesis.splice(0..0, window);
}

#[test]
fn write_of_somebody_without_the_right_must_not_be_accepted() {
    breaks(&[], |evidence| revoked(evidence, true, 6, 25));
    breaks(&[], |evidence| revoked(evidence, true, 22, 45));
    // The receipt came while there was no right.
    breaks(&[Rule::Revoked], |evidence| revoked(evidence, true, 6, 45));
    // Whatever was said, it stands in the log before the right was given back.
    breaks(&[Rule::Revoked], |evidence| {
        revoked(evidence, true, 6, 25);
        evidence.nemesis[2].what = Done::Regranting(1, "e1".to_owned(), 2);
    });
}

#[test]
fn what_was_refused_must_be_explained() {
    let refused =
        |code| move |evidence: &mut Evidence| evidence.devices[1].push(at(80, Said::Refused(Some(id(1, 1)), code)));
    let state =
        |code| move |evidence: &mut Evidence| evidence.devices[1].push(at(80, Said::State("waiting".to_owned(), code)));
    breaks(&[Rule::Unexplained], refused(80));
    breaks(&[Rule::Unexplained], refused(64));
    breaks(&[Rule::Unexplained], refused(70));
    breaks(&[Rule::Unexplained], state(8));
    breaks(&[Rule::Unexplained], state(3));
    breaks(&[], state(15));
    breaks(&[], |evidence| {
        revoked(evidence, false, 6, 25);
        refused(80)(evidence);
    });
    breaks(&[Rule::Unexplained], |evidence| {
        // It could connect all the time.
        revoked(evidence, false, 6, 25);
        state(8)(evidence);
    });
    breaks(&[Rule::Unexplained], |evidence| {
        // The right was back when the write was made.
        revoked(evidence, false, 6, 15);
        refused(80)(evidence);
    });
    breaks(&[Rule::Unexplained], |evidence| {
        evidence.devices[0].push(at(80, Said::Failed(id(0, 1), "the disk is full".to_owned())));
    });
}

#[test]
fn what_is_wrong_by_itself_is_told() {
    breaks(&[Rule::Fault], |evidence| evidence.faults.push("c1 ended by itself".to_owned()));
}
