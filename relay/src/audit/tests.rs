use rejoin::store::MemoryStore;

use super::*;

fn record(kind: Kind, who: &str, time_seconds: u64) -> Record {
    let action = if kind == Kind::Act { "space.create" } else { "append" };
    Record {
        time_seconds,
        kind,
        who: who.to_owned(),
        action: action.to_owned(),
        target: Some("space/one".to_owned()),
        outcome: "ok".to_owned(),
        address: None,
        change: None,
        count: None,
    }
}

fn filled(records: &[Record], rows_max: u64) -> MemoryStore {
    let store = MemoryStore::new();
    for record in records {
        store.write_with(|tx| append(tx, std::slice::from_ref(record), rows_max)).expect("it can be written");
    }
    store
}

fn numbers(page: &Page) -> Vec<u64> {
    page.records.iter().map(|(number, _)| *number).collect()
}

#[test]
fn both_kinds_are_read_in_one_order_page_by_page() {
    let kinds = [Kind::Act, Kind::Refusal, Kind::Refusal, Kind::Act, Kind::Refusal];
    let records: Vec<_> = kinds.into_iter().zip(1..).map(|(kind, time)| record(kind, "alice", time)).collect();
    let store = filled(&records, 100);
    let tx = store.read().expect("it can be read");
    let mut all = Vec::new();
    let mut after = 0;
    loop {
        let page = read(&*tx, &Filter::default(), after, 2).expect("it can be read");
        all.extend(numbers(&page));
        let Some(next) = page.next else { break };
        after = next;
    }
    assert_eq!(all, [1, 2, 3, 4, 5]);
    let last = read_last(&*tx, &Filter::default(), 2).expect("it can be read");
    assert_eq!((numbers(&last), last.next), (vec![4, 5], Some(5)));
    let acts = Filter { kind: Some(Kind::Act), ..Filter::default() };
    assert_eq!(numbers(&read_last(&*tx, &acts, 2).expect("it can be read")), [1, 4]);
    assert_eq!(read(&*tx, &acts, u64::MAX, 2).expect("it can be read"), Page::default());
}

#[test]
fn filters_look_at_time_action_and_who_it_was_or_was_about() {
    let mut about_bob = record(Kind::Act, "admin", 3);
    about_bob.target = Some("principal/bob".to_owned());
    let store = filled(&[record(Kind::Refusal, "bob", 1), record(Kind::Act, "admin", 2), about_bob], 100);
    let tx = store.read().expect("it can be read");
    let found = |filter: Filter| numbers(&read(&*tx, &filter, 0, 9).expect("it can be read"));
    assert_eq!(found(Filter { principal: Some("bob".to_owned()), ..Filter::default() }), [1, 3]);
    assert_eq!(found(Filter { action: Some("space.".to_owned()), ..Filter::default() }), [2, 3]);
    assert_eq!(found(Filter { target: Some("principal/".to_owned()), ..Filter::default() }), [3]);
    assert_eq!(found(Filter { since_seconds: Some(2), until_seconds: Some(2), ..Filter::default() }), [2]);
}

#[test]
fn oldest_go_first_and_refusals_wash_no_act_out() {
    let mut records = vec![record(Kind::Act, "admin", 0)];
    records.extend((1..=10).map(|time| record(Kind::Refusal, "mallory", time)));
    let store = filled(&records, 3);
    let tx = store.read().expect("it can be read");
    assert_eq!(numbers(&read(&*tx, &Filter::default(), 0, 99).expect("it can be read")), [1, 9, 10, 11]);
    assert_eq!(Header::read(&*tx).expect("it can be read"), Header { next: 12, counts: [1, 3] });
}

#[tokio::test]
async fn act_is_durable_when_it_returns_and_a_full_queue_costs_nobody_time() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let audit = Audit::start(Arc::clone(&store)).expect("there is a thread");
    audit.act(record(Kind::Act, "admin", 1)).await;
    let count = |store: &dyn Store| {
        let tx = store.read().expect("it can be read");
        read(&*tx, &Filter::default(), 0, usize::MAX - 1).expect("it can be read").records.len()
    };
    assert_eq!(count(&*store), 1);
    let sent = AUDIT_QUEUE_MAX + AUDIT_BATCH_MAX + 100;
    (0..sent).for_each(|_| audit.refused(record(Kind::Refusal, "mallory", 2)));
    audit.flush().await;
    assert_eq!(count(&*store) as u64 + audit.lost(), sent as u64 + 1);
    audit.finish().await;
    audit.refused(record(Kind::Refusal, "mallory", 3));
    assert!(audit.lost() > 0);
}
