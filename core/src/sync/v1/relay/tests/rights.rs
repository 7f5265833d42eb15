//! Rights by document, rights that are taken away, and renewal: what may not be read looks like what is not there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::*;
use crate::codec::v1::{Content, DocumentHeads, Presence, Write};

/// What is granted: for spaces, and for documents.
type Lists = (BTreeMap<SpaceId, Access>, BTreeMap<DocumentId, Access>);

/// The same, to be changed while it is asked.
#[derive(Clone, Default)]
struct Granted(Arc<Mutex<Lists>>);

impl Granted {
    fn space(self, space: SpaceId, access: Access) -> Self {
        self.0.lock().unwrap().0.insert(space, access);
        self
    }

    fn document(self, number: u8, access: Access) -> Self {
        self.0.lock().unwrap().1.insert(document(number), access);
        self
    }

    fn take(&self, number: u8) {
        self.0.lock().unwrap().1.remove(&document(number));
    }
}

impl Grants for Granted {
    fn access(&self, space: &SpaceId) -> Option<Access> {
        self.0.lock().unwrap().0.get(space).copied()
    }

    fn document(&self, space: &SpaceId, document: &DocumentId) -> Option<Access> {
        self.access(space).max(self.0.lock().unwrap().1.get(document).copied())
    }

    fn knows(&self, space: &SpaceId) -> bool {
        self.access(space).is_some() || !self.0.lock().unwrap().1.is_empty()
    }
}

/// A client with these rights; document 1 has two changes and document 2 one, both in a space.
fn client(granted: &Granted) -> Rig {
    let (mut rig, _) = Rig::subscribed(vec![], |tx| {
        write(tx, &TEAM, document(1), b"bob", 2);
        write(tx, &TEAM, document(2), b"bob", 1);
    });
    rig.session.phase = Phase::Admitted(Box::new(granted.clone()));
    rig
}

fn subscribe(rig: &mut Rig, mode: Mode) -> Vec<String> {
    told(&rig.say(ClientMessage::Subscribe { subscriptions: vec![want(TEAM, mode, Start::Beginning)] }))
}

fn open(rig: &mut Rig, numbers: &[u8]) -> Vec<RelayMessage> {
    let documents = numbers.iter().map(|number| DocumentHeads { document: document(*number), heads: vec![] });
    rig.say(ClientMessage::Open { space: TEAM, documents: documents.collect() })
}

fn own(number: u8) -> Write {
    let change = encode(&field_draft(b"alice", 1, 1, vec![])).unwrap();
    Write { document: document(number), content: Content::Change(change.bytes().clone()) }
}

fn deletion(number: u8) -> Write {
    Write { document: document(number), content: Content::Deleted(tombstone()) }
}

fn push(rig: &mut Rig, batch: u64, space: SpaceId, writes: Vec<Write>) -> Vec<RelayMessage> {
    rig.say(ClientMessage::Push { batch, space, writes })
}

fn presence(number: u8) -> Presence {
    let author = PeerId::new("alice").unwrap();
    let (key, data) = ("cursor".to_owned(), Bytes::from_static(b"\x01"));
    Presence { author, document: document(number), key, sequence: 1, ttl_ms: 1_000, data }
}

#[test]
fn document_alone_is_chosen_in_its_space_and_tells_of_nothing_else() {
    let mut rig = client(&Granted::default().document(1, Access::Read));
    assert_eq!(subscribe(&mut rig, Mode::Everything), ["error space-unknown"]);
    assert_eq!(subscribe(&mut rig, Mode::Listing), ["error space-unknown"]);
    assert_eq!(subscribe(&mut rig, Mode::Chosen), ["subscribed 0..0", "caught-up 0"]);
    let answers = open(&mut rig, &[1, 2, 3]);
    assert_eq!(told(&answers), ["fill 2", "opened 3 at 0"]);
    let RelayMessage::Opened { documents, .. } = &answers[1] else { panic!() };
    let heads: Vec<usize> = documents.iter().map(|opened| opened.heads.len()).collect();
    assert_eq!(heads, [1, 0, 0]);
    rig.others(TEAM, 2, 1);
    assert_eq!(rig.hear(), []);
    rig.bury(TEAM, 2);
    assert_eq!(rig.hear(), []);
    rig.others(TEAM, 1, 1);
    assert_eq!(told(&rig.hear()), ["fill 1"]);
}

#[test]
fn forbidden_and_missing_documents_are_answered_by_the_same_bytes() {
    let granted = Granted::default().document(1, Access::Read);
    let answers = |number: u8| {
        let mut rig = client(&granted);
        subscribe(&mut rig, Mode::Chosen);
        let mut all = open(&mut rig, &[number]);
        all.extend(push(&mut rig, 1, TEAM, vec![own(number), deletion(number)]));
        rig.session
            .handle_presence(&TEAM, RelayMessage::Presence { space: TEAM, values: vec![presence(number)] }.encode());
        all.extend(rig.say(ClientMessage::Presence { space: TEAM, values: vec![presence(number)] }));
        assert_eq!(rig.asked.len(), 1, "{:?}", rig.asked);
        all.iter().map(RelayMessage::encode).collect::<Vec<_>>()
    };
    let (there, missing) = (answers(2), answers(7));
    // The one says 2 where the other says 7, in the 16 bytes of the id.
    let renamed: Vec<Bytes> = missing
        .iter()
        .map(|message| {
            let mut bytes = message.to_vec();
            if let Some(at) = bytes.windows(16).position(|window| window == [7; 16]) {
                bytes[at..at + 16].copy_from_slice(&[2; 16]);
            }
            bytes.into()
        })
        .collect();
    assert_eq!(there, renamed);
    assert_eq!(there.len(), 2);
}

#[test]
fn document_goes_silent_with_its_right_and_goes_on_when_it_comes_back() {
    let granted = Granted::default().document(1, Access::Read).document(5, Access::Read);
    let mut rig = client(&granted);
    subscribe(&mut rig, Mode::Chosen);
    assert_eq!(told(&open(&mut rig, &[1])), ["fill 2", "opened 1 at 0"]);
    granted.take(1);
    rig.others(TEAM, 1, 1);
    assert_eq!(rig.hear(), []);
    rig.session.handle_presence(&TEAM, RelayMessage::Presence { space: TEAM, values: vec![presence(1)] }.encode());
    assert_eq!(rig.hear(), []);
    let _ = granted.clone().document(1, Access::Read);
    rig.others(TEAM, 1, 1);
    assert_eq!(told(&rig.hear()), ["fill 2"]);
    granted.take(1);
    granted.take(5);
    rig.session.handle_rights_changed();
    assert_eq!(told(&rig.hear()), ["error forbidden"]);
    assert_eq!(rig.asked, ["open 1", "close 1"]);
}

#[test]
fn right_that_is_taken_away_while_a_document_is_filled_in_stops_it() {
    let granted = Granted::default().document(1, Access::Read).document(5, Access::Read);
    let mut rig = client(&granted);
    rig.others(TEAM, 1, 5_000);
    subscribe(&mut rig, Mode::Chosen);
    let documents = vec![DocumentHeads { document: document(1), heads: vec![] }];
    rig.hand_in(&ClientMessage::Open { space: TEAM, documents }.encode());
    let tx = rig.store.read().unwrap();
    let first = rig.session.poll_transmit(tx.as_ref(), &NoLiveFrames).unwrap().unwrap();
    drop(tx);
    assert!(matches!(RelayMessage::decode(&first), Ok(RelayMessage::Fill { .. })));
    granted.take(1);
    let answers = rig.hear();
    assert_eq!(told(&answers), ["opened 1 at 0"]);
    let RelayMessage::Opened { documents, .. } = &answers[0] else { panic!() };
    assert!(documents[0].heads.is_empty());
}

#[test]
fn writes_are_judged_by_the_rights_in_the_documents_own_space() {
    let home = SpaceId::DEFAULT;
    let granted = Granted::default().document(1, Access::Write).document(4, Access::Write);
    let mut rig = client(&granted);
    let writes = vec![own(1), own(2), own(3), deletion(1), deletion(3)];
    assert_eq!(told(&push(&mut rig, 1, TEAM, writes)), ["ack 1 1@4 2read-only 2delete-forbidden"]);
    // It is granted, and not there: to name another space opens none, and makes nothing in it.
    assert_eq!(told(&push(&mut rig, 2, OTHER, vec![own(1), own(4)])), ["ack 2 2read-only"]);
    assert_eq!(told(&push(&mut rig, 3, HIDDEN, vec![own(4)])), ["ack 3 1read-only"]);
    // One that is nowhere yet is in the default space.
    assert_eq!(told(&push(&mut rig, 4, home, vec![own(4), own(3)])), ["ack 4 1@1 1read-only"]);
    let _ = granted.clone().document(1, Access::Admin).space(OTHER, Access::Write);
    let writes = vec![deletion(1), deletion(2)];
    assert_eq!(told(&push(&mut rig, 5, TEAM, writes)), ["ack 5 1@5 1delete-forbidden"]);
    assert_eq!(told(&push(&mut rig, 6, OTHER, vec![own(3), deletion(3)])), ["ack 6 2@1"]);
    let _ = granted.space(TEAM, Access::Read);
    assert_eq!(told(&push(&mut rig, 7, TEAM, vec![own(2), deletion(2)])), ["ack 7 1read-only 1delete-forbidden"]);
}

#[test]
fn presence_is_said_and_heard_about_what_may_be_read() {
    let granted = Granted::default().document(1, Access::Read);
    let mut rig = client(&granted);
    subscribe(&mut rig, Mode::Chosen);
    open(&mut rig, &[1]);
    let say = |rig: &mut Rig, numbers: &[u8]| {
        let values = numbers.iter().map(|number| presence(*number)).collect();
        assert_eq!(rig.say(ClientMessage::Presence { space: TEAM, values }), []);
    };
    say(&mut rig, &[1, 2, 3]);
    say(&mut rig, &[2]);
    assert_eq!(rig.asked, ["open 1", "presence 1"]);
    let heard = |rig: &mut Rig, number: u8| {
        let frame = RelayMessage::Presence { space: TEAM, values: vec![presence(number)] }.encode();
        rig.session.handle_presence(&TEAM, frame);
        rig.hear().len()
    };
    assert_eq!((heard(&mut rig, 1), heard(&mut rig, 2)), (1, 0));
    // What is about a document elsewhere is not about one of this space.
    rig.say(ClientMessage::Subscribe { subscriptions: vec![want(OTHER, Mode::Chosen, Start::Beginning)] });
    rig.say(ClientMessage::Presence { space: OTHER, values: vec![presence(1)] });
    assert_eq!(rig.asked.len(), 2);
}

#[test]
fn presence_about_a_document_of_another_space_is_for_nobody_here() {
    let mut rig = client(&Granted::default().space(TEAM, Access::Read).space(OTHER, Access::Read));
    rig.say(ClientMessage::Subscribe { subscriptions: vec![behind(OTHER, 0)] });
    let say = |rig: &mut Rig, numbers: &[u8]| {
        let values = numbers.iter().map(|number| presence(*number)).collect();
        rig.say(ClientMessage::Presence { space: OTHER, values });
    };
    say(&mut rig, &[1]);
    // One that is nowhere yet may come to be here.
    say(&mut rig, &[1, 7]);
    let said: Vec<_> = rig.asked.iter().filter(|asked| asked.starts_with("presence")).collect();
    assert_eq!(said, ["presence 1"]);
}

#[test]
fn renewal_puts_other_rights_in_the_place_of_those_before() {
    let mut rig = client(&Granted::default().space(TEAM, Access::Write).space(OTHER, Access::Read));
    rig.say(ClientMessage::Subscribe { subscriptions: vec![behind(TEAM, 3), behind(OTHER, 0)] });
    let token = Token::new("another");
    assert_eq!(rig.say(ClientMessage::Renew { token }), []);
    rig.session.handle_renewal_refused("somebody else's");
    let refused = rig.hear();
    assert_eq!(told(&refused), ["error unauthenticated"]);
    assert!(matches!(&refused[0], RelayMessage::Error(error) if error.about == About::Connection && !error.is_fatal));
    rig.session.handle_renewed(Box::new(Granted::default().space(OTHER, Access::Read)), 90);
    let answers = rig.hear();
    assert_eq!(answers[0], RelayMessage::Renewed { seconds: 90 });
    assert_eq!(told(&answers), ["renewed", "error forbidden"]);
    assert_eq!(rig.asked, ["follow e1", "cursor e1 3", "follow e2", "renew another", "unfollow e1"]);
    assert_eq!(told(&push(&mut rig, 1, TEAM, vec![own(9)])), ["ack 1 1read-only"]);
}
