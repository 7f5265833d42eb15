//! Lists: their elements merge one by one, so that two who insert at the same place both keep theirs.
//!
//! All of it loads the document. A list may hold scalars, counters, maps, lists and texts ([`Element`]); a path goes on
//! through its indices, as in `("cards", 3, "title")`.

use super::DocHandle;
use crate::document::{Element, FieldPath, write};
use crate::fields::FieldValue;
use crate::repo::{RepoError, Written};

impl DocHandle {
    /// Puts an element into a list before an index. The list is made if the field is not there.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use rejoin::{Repo, Value};
    /// use serde_json::json;
    ///
    /// let board = Repo::in_memory()?.create().await?;
    /// board.list_push("cards", Value::from_json(json!({ "title": "Milk" }))?).await?;
    /// board.list_insert("cards", 0, Value::from_json(json!({ "title": "Bread" }))?).await?;
    /// board.set(("cards", 1, "done"), true).await?;
    /// board.list_push(("cards", 1, "tags"), "shop").await?;
    /// assert_eq!(
    ///     board.to_json().await?,
    ///     json!({ "cards": [{ "title": "Bread" }, { "title": "Milk", "done": true, "tags": ["shop"] }] })
    /// );
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RepoError::Document`] if the index is beyond the end, or something else than a list stands at the path; as
    /// [`DocHandle::change`].
    pub async fn list_insert(
        &self,
        path: impl Into<FieldPath>,
        index: usize,
        element: impl Into<Element>,
    ) -> Result<Written, RepoError> {
        let (path, element) = (path.into(), element.into());
        self.apply(move |tx| Ok(write::insert(tx, &path, Some(index), &[element])?)).await
    }

    /// Puts an element at the end of a list. The list is made if the field is not there.
    ///
    /// # Errors
    ///
    /// As [`DocHandle::list_insert`].
    pub async fn list_push(
        &self,
        path: impl Into<FieldPath>,
        element: impl Into<Element>,
    ) -> Result<Written, RepoError> {
        self.list_extend(path, vec![element.into()]).await
    }

    /// Puts several elements at the end of a list, as one change. The list is made if the field is not there.
    ///
    /// # Errors
    ///
    /// As [`DocHandle::list_insert`].
    pub async fn list_extend(&self, path: impl Into<FieldPath>, elements: Vec<Element>) -> Result<Written, RepoError> {
        let path = path.into();
        self.apply(move |tx| Ok(write::insert(tx, &path, None, &elements)?)).await
    }

    /// Replaces the element at an index of a list. A scalar that is there already is not written again.
    ///
    /// # Errors
    ///
    /// [`RepoError::Document`] if there is no such element; as [`DocHandle::change`].
    pub async fn list_set(
        &self,
        path: impl Into<FieldPath>,
        index: usize,
        element: impl Into<Element>,
    ) -> Result<Written, RepoError> {
        let (path, element) = (path.into().index(index), element.into());
        self.apply(move |tx| Ok(write::set(tx, &path, &element)?)).await
    }

    /// Deletes the element at an index of a list.
    ///
    /// # Errors
    ///
    /// As [`DocHandle::list_set`].
    pub async fn list_delete(&self, path: impl Into<FieldPath>, index: usize) -> Result<Written, RepoError> {
        self.delete(path.into().index(index)).await
    }

    /// Adds to the counter at an index of a list. Concurrent additions add up.
    ///
    /// # Errors
    ///
    /// As [`DocHandle::list_set`]; also if the element is no counter.
    pub async fn list_increment(
        &self,
        path: impl Into<FieldPath>,
        index: usize,
        by: i64,
    ) -> Result<Written, RepoError> {
        self.increment(path.into().index(index), by).await
    }

    /// Returns the element at an index of a list, or `None`.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the document cannot be loaded.
    pub async fn list_get(&self, path: impl Into<FieldPath>, index: usize) -> Result<Option<FieldValue>, RepoError> {
        self.get(path.into().index(index)).await
    }

    /// Returns how many elements a list has, or `None` if there is no list at that path.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the document cannot be loaded.
    pub async fn list_len(&self, path: impl Into<FieldPath>) -> Result<Option<usize>, RepoError> {
        let path = path.into();
        self.read_loaded(move |reader| reader.list_len(&path)).await
    }
}
