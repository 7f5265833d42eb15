//! Those who stay connected while rights change: they end, go silent or go on, and never hear what they may not.

use std::collections::BTreeMap;

use rejoin::SpaceId;
use rejoin::codec::v1::{Mode, RelayMessage};

use super::classic::{Classic, Shows};
use super::model::Model;
use super::modern::Modern;
use super::{Event, SPACES, World};

/// Somebody who stays.
pub enum Watcher {
    /// Everything of a space; whether the right to it was always there.
    Space(Modern, SpaceId, bool),
    /// Documents of a space, and whether the right to each was always there.
    Chosen(Modern, SpaceId, BTreeMap<usize, bool>),
    Classic(Box<Classic>, BTreeMap<usize, bool>),
}

impl World {
    /// Lets somebody in to stay.
    pub(super) async fn watch(&mut self, token: usize) -> Watcher {
        if self.random.percent(35) {
            let shows = self.random.pick(&[Shows::Ticket, Shows::Subprotocol]);
            let entered = Classic::enter(&self.relay, &self.model, token, shows).await;
            let mut client = entered.expect("the token is good");
            let mut open = BTreeMap::new();
            for document in self.slots.clone() {
                let (id, is_live) = (self.model.documents[document].id, self.model.documents[document].is_live());
                client.client.open(id);
                let is_there = is_live && self.model.may_read(token, document);
                let heads = if is_there { self.model.heads(document) } else { Vec::new() };
                if is_there {
                    client.until(&self.model, "a document comes", |client| client.heads(id) == heads).await;
                }
                open.insert(document, is_there);
            }
            client.barrier(&self.model).await;
            return Watcher::Classic(Box::new(client), open);
        }
        let mut client = Modern::enter(&self.relay, &self.model, token, true).await.expect("the token is good");
        let readable: Vec<_> =
            SPACES[1..].iter().copied().filter(|space| self.model.access(token, *space, None).is_some()).collect();
        if !readable.is_empty() && self.random.percent(60) {
            let space = self.random.pick(&readable);
            let (answer, _) = client.subscribe(&self.model, space, Mode::Everything).await;
            assert!(matches!(answer, RelayMessage::Subscribed { .. }), "{answer:?}");
            return Watcher::Space(client, space, true);
        }
        let space = self.random.pick(&SPACES);
        let (answer, _) = client.subscribe(&self.model, space, Mode::Chosen).await;
        let mut open = BTreeMap::new();
        if matches!(answer, RelayMessage::Subscribed { .. }) {
            let ids: Vec<_> = self.slots.iter().map(|number| self.model.documents[*number].id).collect();
            client.open(&self.model, space, &ids).await;
            for document in &self.slots {
                let it = &self.model.documents[*document];
                let is_there = it.is_live() && it.home == Some(space) && self.model.may_read(token, *document);
                open.insert(*document, is_there);
            }
        }
        client.barrier(&self.model).await;
        Watcher::Chosen(client, space, open)
    }
}

impl Watcher {
    /// Sees to it that all is heard that may be, and nothing else. Returns whether it is worth to go on.
    pub async fn settle(&mut self, model: &Model, event: Option<Event>) -> bool {
        let token = match self {
            Self::Space(client, ..) | Self::Chosen(client, ..) => client.token,
            Self::Classic(client, _) => client.token,
        };
        if model.is_over(token) {
            match self {
                Self::Space(client, ..) | Self::Chosen(client, ..) => client.ended(model).await,
                Self::Classic(client, _) => client.ended().await,
            }
            return false;
        }
        let is_worth = self.look_at_rights(model, token);
        let expected = event.filter(|event| self.hears(model, *event));
        match self {
            Self::Space(client, ..) | Self::Chosen(client, ..) => {
                if let Some(event) = expected {
                    hear(client, model, event).await;
                }
                client.barrier(model).await;
            }
            Self::Classic(client, _) => {
                if let Some(event) = expected {
                    hear_classic(client, model, event).await;
                }
                client.barrier(model).await;
            }
        }
        if let Some(Event::Unheard(document, number)) = event {
            assert!(!self.heard(model, document, number), "{:?} hears what is not for it", model.tokens[token]);
        }
        is_worth
    }

    /// Takes note of rights that are gone. One that comes back tells nothing of what is heard from then on.
    fn look_at_rights(&mut self, model: &Model, token: usize) -> bool {
        let note = |open: &mut BTreeMap<usize, bool>, is_known: bool| {
            let mut is_worth = true;
            for (document, had) in open {
                let has = is_known && model.may_read(token, *document);
                is_worth &= *had || !has || !model.documents[*document].is_live();
                *had &= has;
            }
            is_worth
        };
        match self {
            Self::Space(_, space, had) => {
                let has = model.access(token, *space, None).is_some();
                let is_worth = *had || !has;
                *had &= has;
                is_worth
            }
            Self::Chosen(_, space, open) => note(open, model.knows(token, *space)),
            Self::Classic(_, open) => note(open, true),
        }
    }

    /// Says whether it has to hear of something.
    fn hears(&mut self, model: &Model, event: Event) -> bool {
        let (Event::Change(document, _) | Event::Deleted(document) | Event::Presence(document, _)) = event else {
            return false;
        };
        let is_deletion = matches!(event, Event::Deleted(_));
        match self {
            Self::Space(_, space, had) => *had && model.documents[document].home == Some(*space),
            Self::Chosen(_, _, open) | Self::Classic(_, open) => {
                let had = open.get_mut(&document);
                had.is_some_and(|had| if is_deletion { std::mem::take(had) } else { *had })
            }
        }
    }

    fn heard(&self, model: &Model, document: usize, number: u64) -> bool {
        match self {
            Self::Space(client, ..) | Self::Chosen(client, ..) => {
                client.heard.presence.contains(&(model.documents[document].id, number))
            }
            Self::Classic(client, _) => client.client.ephemeral.iter().any(|(_, count, _)| *count == number),
        }
    }
}

async fn hear(client: &mut Modern, model: &Model, event: Event) {
    match event {
        Event::Change(document, hash) => {
            let id = model.documents[document].id;
            client.until(model, "a change", |heard| heard.changes.get(&id).is_some_and(|it| it.contains(&hash))).await;
        }
        Event::Deleted(document) => {
            let id = model.documents[document].id;
            client.until(model, "a deletion", |heard| heard.deleted.contains(&id)).await;
        }
        Event::Presence(document, number) => {
            let id = model.documents[document].id;
            client.until(model, "presence", |heard| heard.presence.contains(&(id, number))).await;
        }
        Event::Unheard(..) => {}
    }
}

async fn hear_classic(client: &mut Classic, model: &Model, event: Event) {
    match event {
        Event::Change(document, _) => {
            let (id, heads) = (model.documents[document].id, model.heads(document));
            client.until(model, "a change", |client| client.heads(id) == heads).await;
        }
        Event::Deleted(document) => {
            let id = model.documents[document].id;
            client.until(model, "a deletion", |client| client.deleted.iter().any(|(of, _)| *of == id)).await;
        }
        Event::Presence(_, number) => {
            client.until(model, "presence", |client| client.ephemeral.iter().any(|(_, of, _)| *of == number)).await;
        }
        Event::Unheard(..) => {}
    }
}
