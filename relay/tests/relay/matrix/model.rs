//! What ought to be: principals, grants, tokens and documents, and a few lines that say from them who may do what.
//!
//! Nothing here asks the relay. Contents are kept in a ledger of our own, so that changes can be made and heads compared.

use std::collections::{BTreeMap, BTreeSet};

use rejoin::codec::v1::Access;
use rejoin::gate::{Action, ChangeDraft, CheckedChange, DraftObject, DraftOp, encode};
use rejoin::ledger::{self, Appender};
use rejoin::store::{MemoryStore, Store, StoreExt};
use rejoin::{ActorId, ChangeHash, DocumentId, ScalarValue, SpaceId};

/// Who there is. The last one comes with JWTs and is written down nowhere until it is disabled.
pub const PRINCIPALS: [&str; 4] = ["alice", "bob", "carol", "judy"];
pub const JUDY: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Everything,
    Space(SpaceId),
    Document(DocumentId),
}

pub type Scopes = Vec<(Target, Access)>;

#[derive(Debug)]
pub enum Kind {
    Api { scope: Option<Scopes> },
    Jwt { claims: Scopes },
    Link { parent: usize, claimed: bool, target: Target, access: Access, home: SpaceId },
}

#[derive(Debug)]
pub struct Token {
    pub id: String,
    pub text: String,
    /// Whose it is; of a link, who is at the beginning of it.
    pub principal: usize,
    /// Under which name its holder writes.
    pub name: String,
    pub kind: Kind,
    pub revoked: bool,
    /// It was replaced. Links that were made with it go on.
    pub replaced: bool,
}

#[derive(Debug)]
pub struct Document {
    pub id: DocumentId,
    /// Stands in each of its contents.
    pub canary: String,
    /// Where it is, or was before it was deleted.
    pub home: Option<SpaceId>,
    pub deleted: bool,
    pub owners: BTreeMap<ActorId, String>,
}

impl Document {
    pub fn place(&self) -> SpaceId {
        self.home.unwrap_or(SpaceId::DEFAULT)
    }

    pub fn is_live(&self) -> bool {
        self.home.is_some() && !self.deleted
    }
}

#[derive(Default)]
pub struct Model {
    /// Whether each grant is still good, by the clock.
    pub grants: BTreeMap<(usize, Target), (Access, bool)>,
    pub disabled: BTreeSet<usize>,
    pub archived: BTreeSet<SpaceId>,
    pub tokens: Vec<Token>,
    pub documents: Vec<Document>,
    pub actors: BTreeSet<ActorId>,
    pub truth: MemoryStore,
}

impl Model {
    /// Says whether nobody comes in with a token any more, and who came in with it is sent away.
    pub fn is_over(&self, token: usize) -> bool {
        let it = &self.tokens[token];
        if it.replaced || self.is_dead(token) {
            return true;
        }
        let Kind::Link { target, home, .. } = it.kind else { return false };
        let (space, document) = match target {
            Target::Document(document) => (home, Some(document)),
            Target::Space(space) => (space, None),
            Target::Everything => return true,
        };
        // A grant that has ended by the clock allows nothing, but it is still there.
        !self.layers(token, true).iter().all(|layer| best(layer, space, document).is_some())
    }

    fn is_dead(&self, token: usize) -> bool {
        let it = &self.tokens[token];
        let parent = matches!(it.kind, Kind::Link { parent, .. } if self.is_dead(parent));
        it.revoked || parent || self.disabled.contains(&it.principal)
    }

    fn granted(&self, principal: usize, with_past: bool) -> Scopes {
        let own = self.grants.iter().filter(|((of, _), (_, is_good))| *of == principal && (*is_good || with_past));
        own.map(|((_, target), (access, _))| (*target, *access)).collect()
    }

    /// Returns what each of those says on whom a token stands: all of them must agree.
    fn layers(&self, token: usize, with_past: bool) -> Vec<Scopes> {
        let it = &self.tokens[token];
        let stored = self.granted(it.principal, with_past);
        match &it.kind {
            Kind::Api { scope } => std::iter::once(stored).chain(scope.clone()).collect(),
            Kind::Jwt { claims } => vec![[claims.clone(), stored].concat()],
            Kind::Link { parent, claimed, target, access, .. } => {
                let mut layers = match self.tokens[*parent].kind {
                    Kind::Jwt { .. } if *claimed => Vec::new(),
                    Kind::Jwt { .. } => vec![stored],
                    _ => self.layers(*parent, with_past),
                };
                layers.push(vec![(*target, *access)]);
                layers
            }
        }
    }

    /// Returns what the holder of a token may do in a space, or with a document of it.
    pub fn access(&self, token: usize, space: SpaceId, document: Option<DocumentId>) -> Option<Access> {
        if self.is_over(token) {
            return None;
        }
        let layers = self.layers(token, false);
        let least = layers.iter().map(|layer| best(layer, space, document)).min().flatten()?;
        Some(if self.archived.contains(&space) { least.min(Access::Read) } else { least })
    }

    /// Says whether anything is granted in a space, or any document, which may be in it.
    pub fn knows(&self, token: usize, space: SpaceId) -> bool {
        let has_document = |layer: &Scopes| layer.iter().any(|(target, _)| matches!(target, Target::Document(_)));
        let layers = self.layers(token, false);
        !self.is_over(token) && layers.iter().all(|layer| best(layer, space, None).is_some() || has_document(layer))
    }

    pub fn may_read(&self, token: usize, document: usize) -> bool {
        let it = &self.documents[document];
        self.access(token, it.place(), Some(it.id)).is_some()
    }

    /// Says whether what a JWT's holder shares stands on its claims.
    pub fn is_claimed(&self, principal: usize, space: SpaceId, document: Option<DocumentId>, access: Access) -> bool {
        best(&self.granted(principal, false), space, document) < Some(access)
    }

    /// Says what becomes of a change that is pushed to a space.
    pub fn pushed(&self, token: usize, space: SpaceId, document: usize, change: &CheckedChange) -> &'static str {
        let it = &self.documents[document];
        let in_space = self.access(token, space, None) >= Some(Access::Write);
        let alone = self.access(token, space, Some(it.id)) >= Some(Access::Write) && it.place() == space;
        if !in_space && !alone {
            "read-only"
        } else if it.home.is_some_and(|home| home != space) {
            if it.deleted { "document-deleted" } else { "document-elsewhere" }
        } else {
            self.appended(token, document, change)
        }
    }

    /// Says what becomes of a change that comes as far as the document.
    pub fn appended(&self, token: usize, document: usize, change: &CheckedChange) -> &'static str {
        let it = &self.documents[document];
        let owner = it.owners.get(change.actor());
        if it.deleted {
            "document-deleted"
        } else if self.hashes(document).contains(&change.hash()) {
            "duplicate"
        } else if owner.is_some_and(|owner| *owner != self.tokens[token].name) {
            "actor-owned"
        } else {
            "stored"
        }
    }

    /// Says what becomes of a deletion that is pushed to a space.
    pub fn buried(&self, token: usize, space: SpaceId, document: usize) -> &'static str {
        let it = &self.documents[document];
        let in_space = self.access(token, space, None) >= Some(Access::Write);
        let alone = self.access(token, space, Some(it.id)) == Some(Access::Admin) && it.place() == space;
        if self.reaches(token, space, document) {
            "duplicate"
        } else if !in_space && !alone {
            "delete-forbidden"
        } else if it.home.is_some_and(|home| home != space) {
            if it.deleted { "duplicate" } else { "document-elsewhere" }
        } else if it.deleted {
            "duplicate"
        } else {
            "stored"
        }
    }

    /// Says whether a deletion that is pushed to a space reaches the document in another one.
    pub fn reaches(&self, token: usize, space: SpaceId, document: usize) -> bool {
        let it = &self.documents[document];
        it.home.filter(|home| *home != space && *home != SpaceId::DEFAULT).is_some_and(|home| {
            self.access(token, home, None) >= Some(Access::Write)
                || self.access(token, home, Some(it.id)) == Some(Access::Admin)
        })
    }

    /// Stores a change. Its actor is whose token wrote it as its own, if it is nobody's yet.
    pub fn store(&mut self, author: Option<usize>, space: SpaceId, document: usize, change: &CheckedChange) {
        let name = author.map(|token| self.tokens[token].name.clone());
        let it = &mut self.documents[document];
        it.home.get_or_insert(space);
        if let Some(name) = name {
            it.owners.entry(change.actor().clone()).or_insert(name);
        }
        append(&self.truth, it.id, change);
    }

    pub fn bury(&mut self, space: SpaceId, document: usize) {
        let it = &mut self.documents[document];
        it.home.get_or_insert(space);
        it.deleted = true;
        it.owners.clear();
        self.truth.write_with(|tx| ledger::delete(tx, &it.id)).unwrap();
    }

    /// Makes a change on top of all that a document has. It holds the document's canary.
    pub fn draft(&mut self, document: usize, actor: &str, number: u64) -> CheckedChange {
        let it = &self.documents[document];
        let (tx, actor) = (self.truth.read().unwrap(), ActorId::from(actor.as_bytes()));
        self.actors.insert(actor.clone());
        let state = ledger::state(&*tx, &it.id).unwrap().unwrap_or_default();
        let value = ScalarValue::Str(format!("{} {number}", it.canary).into());
        let put =
            DraftOp { object: DraftObject::Root, key: "k".to_owned(), action: Action::Put, value, preds: Vec::new() };
        let draft = ChangeDraft {
            seq: ledger::last_seq(&*tx, &it.id, &actor).unwrap() + 1,
            actor,
            start_op: state.max_op + 1,
            timestamp: 0,
            message: None,
            deps: state.head_hashes(),
            ops: vec![put],
        };
        encode(&draft).unwrap()
    }

    pub fn heads(&self, document: usize) -> Vec<ChangeHash> {
        ledger::heads(&*self.truth.read().unwrap(), &self.documents[document].id).unwrap()
    }

    pub fn hashes(&self, document: usize) -> BTreeSet<ChangeHash> {
        let hashes = ledger::hashes(&*self.truth.read().unwrap(), &self.documents[document].id);
        hashes.unwrap().into_iter().collect()
    }

    pub fn changes(&self, document: usize) -> Vec<CheckedChange> {
        let (tx, id) = (self.truth.read().unwrap(), self.documents[document].id);
        let count = ledger::state(&*tx, &id).unwrap().map_or(0, |state| state.count);
        let change = |position| CheckedChange::parse(&ledger::change(&*tx, &id, position).unwrap()).unwrap();
        (0..count).map(change).collect()
    }
}

/// Returns the greatest that a list says of a space, or of a document in it.
fn best(list: &Scopes, space: SpaceId, document: Option<DocumentId>) -> Option<Access> {
    let fits = |target: Target| match target {
        Target::Everything => true,
        Target::Space(of) => of == space,
        Target::Document(of) => Some(of) == document,
    };
    list.iter().filter(|(target, _)| fits(*target)).map(|(_, access)| *access).max()
}

/// Appends a change that has to fit.
pub fn append(store: &MemoryStore, document: DocumentId, change: &CheckedChange) {
    store
        .write_with(|tx| {
            let mut appender = Appender::begin(tx, document)?;
            appender.append(tx, change)?;
            appender.finish(tx)
        })
        .unwrap();
}
