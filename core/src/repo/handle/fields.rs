//! Fields: reading and writing what stands at a path.
//!
//! A path of keys goes through the register table. A path with a list's index goes through the document in memory, for only
//! the document knows which element has that index now.

use std::sync::Arc;

use automerge::ChangeHash;

use super::{ChangeOptions, DocHandle, write_creating};
use crate::document::{self, FieldPath, Reader, write};
use crate::engine::{Accepted, Origin};
use crate::fields::{self, Author, Edit, EditAction, FieldValue, ObjectId, Target};
use crate::id::{DocumentId, OpId};
use crate::ledger::{self, requests};
use crate::repo::spaces::{Created, Telling};
use crate::repo::{RepoError, Written, events, now_seconds};
use crate::store::StoreError;
use crate::value::Value;

impl DocHandle {
    /// Reads a field: the winner, or `None`. Cost: one lookup a key of the path; a path with an index loads the document.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be read or the document not be loaded.
    pub async fn get(&self, path: impl Into<FieldPath>) -> Result<Option<FieldValue>, RepoError> {
        Ok(self.get_all(path).await?.into_iter().next().map(|(_, value)| value))
    }

    /// Reads a field with its conflicts: the winner first, then the values that lost against it. Cost: as
    /// [`DocHandle::get`].
    ///
    /// # Errors
    ///
    /// As [`DocHandle::get`].
    pub async fn get_all(&self, path: impl Into<FieldPath>) -> Result<Vec<(OpId, FieldValue)>, RepoError> {
        let (document, path) = (self.document, path.into());
        if !path.is_keys() {
            return self.read_loaded(move |reader| reader.get_all(&path)).await;
        }
        let Some((parents, key)) = path.split_last_key() else { return Ok(Vec::new()) };
        let read = self.repo.read(move |tx| {
            let Some(object) = resolve(tx, &document, &parents)? else { return Ok(Vec::new()) };
            fields::get_all(tx, &document, &object, &key)
        });
        read.await
    }

    /// Returns the keys of a map, sorted; of the root with [`FieldPath::root`]. Cost: as [`DocHandle::get`], and a visit a
    /// key.
    ///
    /// # Errors
    ///
    /// As [`DocHandle::get`].
    pub async fn keys(&self, path: impl Into<FieldPath>) -> Result<Vec<String>, RepoError> {
        let (document, path) = (self.document, path.into());
        if !path.is_keys() {
            return self.read_loaded(move |reader| reader.keys(&path)).await;
        }
        let read = self.repo.read(move |tx| {
            let Some(object) = fields::resolve(tx, &document, &path.keys())? else { return Ok(Vec::new()) };
            fields::keys(tx, &document, &object)
        });
        read.await
    }

    /// Returns the whole document as JSON; [`crate::value`] says how. Loads it only if it holds a list or a text.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the store cannot be read or the document not be loaded.
    pub async fn to_json(&self) -> Result<serde_json::Value, RepoError> {
        let document = self.document;
        let from_fields = self.repo.read(move |tx| fields::to_json(tx, &document)).await?;
        match from_fields? {
            Some(json) => Ok(json),
            None => self.view(document::json::to_json).await?.map_err(RepoError::from),
        }
    }

    /// Sets a field. Returns when that survives a power loss on this device; the network follows when there is one.
    ///
    /// A path with an index loads the document and is written through it: see [`DocHandle::list_set`].
    ///
    /// # Errors
    ///
    /// [`RepoError::Field`] if the path does not lead to a map, [`RepoError::Document`] if a path with an index does not
    /// lead to a field or element; [`RepoError::Store`] if the store cannot be written.
    pub async fn set(&self, path: impl Into<FieldPath>, value: impl Into<Value>) -> Result<Written, RepoError> {
        let (path, value) = (path.into(), value.into());
        if !path.is_keys() {
            return self.apply(move |tx| Ok(write::set(tx, &path, &value.into())?)).await;
        }
        self.edit(vec![edit_at(path, EditAction::Set(value))?]).await
    }

    /// Deletes a field, or the element of a list; nothing happens if the field is not there.
    ///
    /// # Errors
    ///
    /// As [`DocHandle::set`].
    pub async fn delete(&self, path: impl Into<FieldPath>) -> Result<Written, RepoError> {
        let path = path.into();
        if !path.is_keys() {
            return self.apply(move |tx| Ok(write::delete(tx, &path)?)).await;
        }
        self.edit(vec![edit_at(path, EditAction::Delete)?]).await
    }

    /// Adds to a counter. Concurrent additions add up.
    ///
    /// # Errors
    ///
    /// As [`DocHandle::set`]; also if the field is no counter: set it to [`Value::counter`] first.
    pub async fn increment(&self, path: impl Into<FieldPath>, by: i64) -> Result<Written, RepoError> {
        let path = path.into();
        if !path.is_keys() {
            return self.apply(move |tx| Ok(write::increment(tx, &path, by)?)).await;
        }
        self.edit(vec![edit_at(path, EditAction::Increment(by))?]).await
    }

    /// Makes several field writes as one change: all of them, or none.
    ///
    /// # Errors
    ///
    /// As [`DocHandle::set`].
    pub async fn edit(&self, edits: Vec<Edit>) -> Result<Written, RepoError> {
        self.edit_with(ChangeOptions::default(), edits).await
    }

    /// Makes several field writes as one change, with a message or a time of the application's own.
    ///
    /// # Errors
    ///
    /// As [`DocHandle::set`]; also if the message is longer than a change may carry.
    pub async fn edit_with(&self, options: ChangeOptions, edits: Vec<Edit>) -> Result<Written, RepoError> {
        let document = self.document;
        let (actors, pending) = (self.repo.inner().actors.clone(), Arc::clone(&self.repo.inner().pending));
        let (request, creates_in) = (options.request, options.creates_in);
        let commit = options.into_commit();
        let work = move |tx: &mut dyn crate::store::WriteTx| {
            if pending.is_leaving() {
                return Ok(Err(RepoError::SigningOut));
            }
            if let Some(request) = &request
                && let Some(change) = requests::done(tx, request)?
            {
                return Ok(Ok((Created::default(), Done::Before(change))));
            }
            // Asked for here and not before: it may have been replaced while this waited.
            let actor = actors.of(document);
            let author =
                Author { actor: &actor, time_seconds: commit.time_seconds, message: commit.message.as_deref() };
            write_creating(tx, &document, creates_in.as_ref(), |tx| {
                let written = match fields::write(tx, &document, &author, &edits)? {
                    Ok(written) => written,
                    Err(fields::FieldError::NoDocument { .. }) => return Ok(Err(RepoError::NotFound)),
                    Err(error) => return Ok(Err(error.into())),
                };
                if let Some(request) = &request {
                    let change = written.as_ref().map(|written| written.change.hash());
                    requests::note(tx, request, change, now_seconds())?;
                }
                let heads = if written.is_some() { ledger::heads(tx, &document)? } else { Vec::new() };
                Ok(Ok(written.map_or(Done::Before(None), |written| Done::Now(written, heads))))
            })
        };
        let (telling, pending) = (Telling::of(&self.repo), Arc::clone(&self.repo.inner().pending));
        let tell = move |outcome: &Result<(Created, Done), RepoError>| {
            let Ok((created, done)) = outcome else { return };
            telling.tell(created, document);
            if let Done::Now(written, heads) = done {
                pending.note(document, i64::from(written.waits));
                let accepted = Accepted {
                    touched: written.touched.clone(),
                    heads: heads.clone(),
                    stored: 1,
                    before: written.change.deps().to_vec(),
                    ..Accepted::default()
                };
                events::publish_accepted(&telling.events, document, Origin::Local, &accepted);
            }
        };
        match self.repo.inner().writer.write(work, tell).await? {
            Ok((_, done)) => {
                let change = match done {
                    Done::Now(written, _) => Some(written.change.hash()),
                    Done::Before(change) => change,
                };
                Ok(Written::new(&self.repo, document, change))
            }
            Err(RepoError::NotFound) => Err(self.repo.absent(document).await),
            Err(error) => Err(error),
        }
    }

    /// Reads from the loaded document as it is.
    pub(super) async fn read_loaded<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader<'_>) -> Result<T, document::DocumentError> + Send + 'static,
    ) -> Result<T, RepoError> {
        Ok(self.view(move |automerge| read(&Reader::now(automerge))).await??)
    }
}

/// What became of a write.
enum Done {
    /// It was made now.
    Now(fields::Written, Vec<ChangeHash>),
    /// There was nothing to change, or this request had been done before and had made this change.
    Before(Option<ChangeHash>),
}

/// Makes an edit of the field at the end of a path of keys.
fn edit_at(path: FieldPath, action: EditAction) -> Result<Edit, RepoError> {
    let (parents, key) = path.split_last_key().ok_or_else(|| RepoError::Typed("the path is empty".to_owned()))?;
    Ok(Edit::new(Target::Path(parents), key, action))
}

fn resolve(
    tx: &dyn crate::store::ReadTx,
    document: &DocumentId,
    path: &[String],
) -> Result<Option<ObjectId>, StoreError> {
    let keys: Vec<&str> = path.iter().map(String::as_str).collect();
    fields::resolve(tx, document, &keys)
}
