//! What those who come do: read, write, delete and speak, over both protocols.

use bytes::Bytes;
use rejoin::codec::v1::{Access, ClientMessage, Code, Content, Mode, Presence, RelayMessage, Write};
use rejoin::deletion::{DeletionKind, Tombstone};
use rejoin::gate::CheckedChange;
use rejoin::{DocumentId, SpaceId};

use super::classic::{Classic, Shows};
use super::model::{PRINCIPALS, append};
use super::modern::{GHOST, Heard, Modern};
use super::{Event, SPACES, World};
use crate::client::peer;

const MODES: [Mode; 3] = [Mode::Everything, Mode::Listing, Mode::Chosen];

impl World {
    /// Picks under whom something is written: the writer's own actor mostly, or another's, or a fresh one.
    fn actor(&mut self, token: usize) -> String {
        match self.random.below(10) {
            0..=5 => format!("actor of {}", self.model.tokens[token].name),
            6..=8 => format!("actor of {}", PRINCIPALS[self.random.below(4)]),
            _ => format!("fresh actor {}", self.number()),
        }
    }

    fn draft(&mut self, token: usize, document: usize, is_passed_on: bool) -> CheckedChange {
        // What is passed on is somebody else's as a rule, who mostly wrote here before.
        let owners = &self.model.documents[document].owners;
        let actor = if is_passed_on && !owners.is_empty() && self.random.percent(80) {
            let at = self.random.below(owners.len());
            String::from_utf8(owners.keys().nth(at).unwrap().to_bytes().to_vec()).unwrap()
        } else {
            self.actor(token)
        };
        let number = self.number();
        self.model.draft(document, &actor, number)
    }

    /// Comes with rejoin.v1, reads a little, and writes.
    pub(super) async fn modern(&mut self) -> Option<Event> {
        let (token, in_hello) = (self.token(), self.random.percent(50));
        let mut client = Modern::enter(&self.relay, &self.model, token, in_hello).await?;
        for _ in 0..=self.random.below(2) {
            self.subscribe(&mut client).await;
        }
        let document = self.document();
        let space = self.space_for(document);
        if self.random.percent(6) || (self.model.documents[document].deleted && self.random.percent(20)) {
            return self.delete(&mut client, space, document).await;
        }
        let (known, is_passed_on) = (self.model.changes(document), self.random.percent(30));
        let change = match known.last() {
            Some(last) if self.random.percent(10) => last.clone(),
            _ => self.draft(token, document, is_passed_on),
        };
        let id = self.model.documents[document].id;
        let bytes = change.bytes().clone();
        let content = if is_passed_on { Content::PassedOn(bytes) } else { Content::Change(bytes) };
        let outcome = client.push(&self.model, space, Write { document: id, content }).await;
        let expected = self.model.pushed(token, space, document, &change);
        assert_eq!(
            outcome, expected,
            "{:?} pushes {:?} to {space}, passed on: {is_passed_on}",
            self.model.tokens[token], self.model.documents[document]
        );
        (expected == "stored").then(|| {
            let author = (!is_passed_on).then_some(token);
            self.model.store(author, space, document, &change);
            Event::Change(document, change.hash())
        })
    }

    async fn delete(&mut self, client: &mut Modern, space: SpaceId, document: usize) -> Option<Event> {
        let tombstone = Tombstone { kind: DeletionKind::Deleted, time_seconds: 1, by: "somebody".to_owned() };
        let id = self.model.documents[document].id;
        let write = Write { document: id, content: Content::Deleted(tombstone) };
        let outcome = client.push(&self.model, space, write).await;
        let expected = self.model.buried(client.token, space, document);
        let reaches = self.model.reaches(client.token, space, document) && !self.model.documents[document].deleted;
        assert_eq!(
            outcome, expected,
            "{:?} deletes {:?} in {space}",
            self.model.tokens[client.token], self.model.documents[document]
        );
        (expected == "stored" || reaches).then(|| {
            self.model.bury(space, document);
            Event::Deleted(document)
        })
    }

    /// Subscribes to a space in any mode: what may not be known looks as what never was.
    async fn subscribe(&mut self, client: &mut Modern) {
        let (space, mode, token) = (self.random.pick(&SPACES), self.random.pick(&MODES), client.token);
        let (answer, bytes) = client.subscribe(&self.model, space, mode).await;
        let access = self.model.access(token, space, None);
        let may = if mode == Mode::Chosen { self.model.knows(token, space) } else { access.is_some() };
        let context = format!("{:?} subscribes to {space} in {mode:?}: {answer:?}", self.model.tokens[token]);
        match &answer {
            RelayMessage::Error(error) => {
                let code = if may { Code::Forbidden } else { Code::SpaceUnknown };
                assert!(!may || (space == SpaceId::DEFAULT && mode != Mode::Chosen), "{context}");
                assert_eq!((error.code, error.is_fatal), (code, false), "{context}");
            }
            RelayMessage::Subscribed { access: said, end, documents, bytes, after, .. } => {
                assert!(may && *said == access.unwrap_or(Access::Read), "{context}");
                assert!(access.is_some() || (*end, *documents, *bytes, *after) == (0, 0, 0, 0), "{context}");
                self.look_at_reading(client, space, mode).await;
            }
            _ => panic!("{context}"),
        }
        if access.is_none() {
            // The ghost is after the space: what was told of that does not matter any more.
            let (_, of_ghost) = client.subscribe(&self.model, GHOST, mode).await;
            // A space that may be known by a document of it only from a token that names it.
            let is_narrow = may && !self.model.knows(token, GHOST);
            let other = replace(&of_ghost, GHOST.as_bytes(), space.as_bytes());
            assert!(is_narrow || bytes == other, "not as one that never was: {context}");
            client.send(&ClientMessage::Unsubscribe { spaces: vec![GHOST] }).await;
        }
    }

    /// Looks whether a subscription brought what is there, and no more.
    async fn look_at_reading(&mut self, client: &mut Modern, space: SpaceId, mode: Mode) {
        if mode == Mode::Chosen {
            return self.choose(client, space).await;
        }
        for (number, document) in self.model.documents.iter().enumerate() {
            let (is_here, id, heard) = (document.home == Some(space), document.id, &client.heard);
            // Who lists a space anew is told what is there, and takes the rest for deleted.
            let is_told = heard.deleted.contains(&id) || mode == Mode::Listing;
            assert!(!heard.deleted.contains(&id) || (is_here && document.deleted), "{document:?} in {space}");
            assert!(!is_here || !document.deleted || is_told, "{document:?} in {space}");
            let is_live = is_here && document.is_live();
            if mode == Mode::Listing {
                let heads = is_live.then(|| self.model.heads(number));
                assert_eq!(heard.heads.get(&id), heads.as_ref(), "{document:?} in {space}");
            } else {
                let changes = is_live.then(|| self.model.hashes(number));
                assert_eq!(heard.changes.get(&id), changes.as_ref(), "{document:?} in {space}");
            }
        }
    }

    /// Opens some documents: what may not be read looks as what is not there.
    async fn choose(&mut self, client: &mut Modern, space: SpaceId) {
        let mut chosen: Vec<_> = (0..3).map(|_| self.document()).collect();
        chosen.sort_unstable();
        chosen.dedup();
        let ids: Vec<DocumentId> = chosen.iter().map(|number| self.model.documents[*number].id).collect();
        client.open(&self.model, space, &ids).await;
        for number in chosen {
            let document = &self.model.documents[number];
            let may_read = self.model.access(client.token, space, Some(document.id)).is_some();
            let is_here = may_read && document.home == Some(space);
            let Heard { changes, opened, deleted, .. } = &client.heard;
            let context = || format!("{:?} opens {document:?} in {space}", self.model.tokens[client.token]);
            let live = is_here && document.is_live();
            let heads = if live { self.model.heads(number) } else { Vec::new() };
            assert_eq!(opened.get(&document.id), Some(&heads), "{}", context());
            let hashes = live.then(|| self.model.hashes(number));
            assert_eq!(changes.get(&document.id), hashes.as_ref(), "{}", context());
            assert_eq!(deleted.contains(&document.id), is_here && document.deleted, "{}", context());
        }
    }

    /// Comes with the classic protocol, and does one thing.
    pub(super) async fn classic(&mut self) -> Option<Event> {
        let token = self.token();
        let shows = self.random.pick(&[Shows::Ticket, Shows::Subprotocol, Shows::Link]);
        let mut client = Classic::enter(&self.relay, &self.model, token, shows).await?;
        let document = self.document();
        match self.random.below(20) {
            0..=5 => {
                self.request(&mut client, document).await;
                None
            }
            6..=15 => self.write(&mut client, document).await,
            16 => self.bury(&mut client, document).await,
            _ => self.say(&mut client, document).await,
        }
    }

    /// Asks for a document: it comes, or is not there.
    async fn request(&mut self, client: &mut Classic, document: usize) {
        let (it, may_read) = (&self.model.documents[document], self.model.may_read(client.token, document));
        let id = it.id;
        client.client.open(id);
        if may_read && it.is_live() {
            let heads = self.model.heads(document);
            client.until(&self.model, "a document comes", |client| client.heads(id) == heads).await;
        } else if may_read && it.deleted {
            let is_told = |deleted: &[(DocumentId, Tombstone)]| deleted.iter().any(|(of, _)| *of == id);
            client.until(&self.model, "a deletion is told", |client| is_told(&client.deleted)).await;
        } else {
            client.until(&self.model, "a document is not there", |client| client.unavailable.contains(&id)).await;
            client.barrier(&self.model).await;
            assert_eq!(client.client.count(id), 0);
        }
    }

    /// Writes to a document, of which it has all there is, by whatever way.
    async fn write(&mut self, client: &mut Classic, document: usize) -> Option<Event> {
        let token = client.token;
        let (change, known) = (self.draft(token, document, false), self.model.changes(document));
        let (id, place) = (self.model.documents[document].id, self.model.documents[document].place());
        known.iter().chain([&change]).for_each(|change| append(&client.client.store, id, change));
        // One that knows what is there sends what is not without being asked.
        let heads = if self.random.percent(50) { self.model.heads(document) } else { Vec::new() };
        client.client.open_above(id, heads);
        let may_write = self.model.access(token, place, Some(id)) >= Some(Access::Write);
        if may_write && self.model.appended(token, document, &change) == "stored" {
            client.until(&self.model, "a change is stored", |_| self.is_stored(document, &change)).await;
            self.model.store(Some(token), place, document, &change);
            return Some(Event::Change(document, change.hash()));
        }
        for _ in 0..2 {
            client.barrier(&self.model).await;
        }
        None
    }

    async fn bury(&mut self, client: &mut Classic, document: usize) -> Option<Event> {
        let (it, token) = (&self.model.documents[document], client.token);
        let (id, place, was_deleted) = (it.id, it.place(), it.deleted);
        let in_space = self.model.access(token, place, None) >= Some(Access::Write);
        let may = in_space || self.model.access(token, place, Some(id)) == Some(Access::Admin);
        client.client.bury(id, DeletionKind::Deleted);
        let is_done = |done: &[(DocumentId, DeletionKind)]| done.iter().any(|(of, _)| *of == id);
        if !may {
            client.barrier(&self.model).await;
            assert!(!is_done(&client.client.acknowledged), "{:?} deletes {place}", self.model.tokens[token]);
            return None;
        }
        client.until(&self.model, "a deletion is stored", |client| is_done(&client.acknowledged)).await;
        self.model.bury(place, document);
        (!was_deleted).then_some(Event::Deleted(document))
    }

    /// Says something to those who have a document open.
    async fn say(&mut self, client: &mut Classic, document: usize) -> Option<Event> {
        self.request(client, document).await;
        let (id, number) = (self.model.documents[document].id, self.number());
        client.client.say(id, number, b"\x01");
        client.barrier(&self.model).await;
        let may_say = self.model.may_read(client.token, document);
        self.said(document, number, may_say)
    }

    /// Says something over rejoin.v1 to those who have a document.
    pub(super) async fn presence(&mut self) -> Option<Event> {
        let token = self.token();
        let mut client = Modern::enter(&self.relay, &self.model, token, true).await?;
        let document = self.document();
        self.model.documents[document].home?;
        let (space, number) = (self.space_for(document), self.number());
        client.subscribe(&self.model, space, Mode::Chosen).await;
        let it = &self.model.documents[document];
        let value = Presence {
            author: peer(&client.name),
            document: it.id,
            key: "cursor".to_owned(),
            sequence: number,
            ttl_ms: 5_000,
            data: Bytes::from_static(&[0x18, 0x2a]),
        };
        client.send(&ClientMessage::Presence { space, values: vec![value] }).await;
        client.barrier(&self.model).await;
        let may_say = self.model.access(token, space, Some(it.id)).is_some() && it.home == Some(space);
        let is_said = may_say && self.model.knows(token, space);
        self.said(document, number, is_said)
    }

    /// What was said of a document that is not there may be heard or not by who may read it.
    fn said(&self, document: usize, number: u64, may_say: bool) -> Option<Event> {
        match (may_say, self.model.documents[document].is_live()) {
            (true, true) => Some(Event::Presence(document, number)),
            (false, true) => Some(Event::Unheard(document, number)),
            (_, false) => None,
        }
    }
}

/// Puts other bytes in the place of some.
fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut replaced = bytes.to_vec();
    for at in 0..bytes.len().saturating_sub(from.len() - 1) {
        if bytes[at..].starts_with(from) {
            replaced[at..at + to.len()].copy_from_slice(to);
        }
    }
    replaced
}
