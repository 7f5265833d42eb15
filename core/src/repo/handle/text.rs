//! Text: characters, marks, blocks and cursors. All of it loads the document; indices count UTF-16 code units.

use std::collections::BTreeMap;
use std::ops::Range;

use automerge::transaction::Transactable;
use automerge::{ObjType, ReadDoc, ScalarValue};

use super::DocHandle;
use crate::document::write::{fill_block, find_or_make, require, require_block};
use crate::document::{Cursor, CursorMove, DocumentError, Element, Expand, FieldPath, Mark, Span};
use crate::repo::{RepoError, Written};

impl DocHandle {
    /// Returns a text, or `None` if there is none at that path. Blocks stand in it as U+FFFC. Loads the document.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the document cannot be loaded.
    pub async fn text(&self, path: impl Into<FieldPath>) -> Result<Option<String>, RepoError> {
        let path = path.into();
        self.read_loaded(move |reader| reader.text(&path)).await
    }

    /// Replaces `delete` UTF-16 code units at `index` of a text by `insert`. The text is made if the field is not there.
    ///
    /// # Errors
    ///
    /// [`RepoError::Document`] if the index is beyond the end or the field holds something else; as [`DocHandle::change`].
    pub async fn splice_text(
        &self,
        path: impl Into<FieldPath>,
        index: usize,
        delete: usize,
        insert: impl Into<String>,
    ) -> Result<Written, RepoError> {
        let (path, insert) = (path.into(), insert.into());
        let edit = move |tx: &mut automerge::transaction::Transaction<'_>| {
            let delete = isize::try_from(delete).unwrap_or(isize::MAX);
            let text = find_or_make(tx, &path, ObjType::Text)?;
            Ok(tx.splice_text(&text, index, delete, &insert)?)
        };
        self.apply(edit).await
    }

    /// Makes a text equal to `new`, writing only what differs, so that what others typed meanwhile merges. The text is
    /// made if the field is not there. Cost: O(length x differences) at worst.
    ///
    /// # Errors
    ///
    /// As [`DocHandle::splice_text`].
    pub async fn update_text(&self, path: impl Into<FieldPath>, new: impl Into<String>) -> Result<Written, RepoError> {
        let (path, new) = (path.into(), new.into());
        let edit = move |tx: &mut automerge::transaction::Transaction<'_>| {
            let text = find_or_make(tx, &path, ObjType::Text)?;
            Ok(tx.update_text(&text, new)?)
        };
        self.apply(edit).await
    }

    /// Marks a range of a text with a name and a value. `expand` says whether text typed at its edges is marked too.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), rejoin::RepoError> {
    /// use rejoin::Repo;
    /// use rejoin::document::{CursorMove, Expand};
    ///
    /// let note = Repo::in_memory()?.create().await?;
    /// note.splice_text("body", 0, 0, "Buy milk today").await?;
    /// note.mark("body", 4..8, "bold", true, Expand::After).await?;
    /// let caret = note.cursor("body", 9, CursorMove::After).await?;
    ///
    /// // Somebody writes before the mark and the caret: both move along.
    /// note.splice_text("body", 0, 0, "🥛 ").await?;
    /// let marks = note.marks("body").await?.unwrap_or_default();
    /// assert_eq!((marks[0].range.clone(), marks[0].name.as_str()), (7..11, "bold"));
    /// assert_eq!(note.cursor_position("body", &caret).await?, 12);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`RepoError::Document`] if there is no text or the range is empty or reaches beyond its end; as
    /// [`DocHandle::change`].
    pub async fn mark(
        &self,
        path: impl Into<FieldPath>,
        range: Range<usize>,
        name: impl Into<String>,
        value: impl Into<ScalarValue>,
        expand: Expand,
    ) -> Result<Written, RepoError> {
        let (path, name, value) = (path.into(), name.into(), value.into());
        let edit = move |tx: &mut automerge::transaction::Transaction<'_>| {
            let text = require(tx, &path, ObjType::Text)?;
            check_range(&range, tx.length(&text))?;
            let mark = automerge::marks::Mark::new(name, value, range.start, range.end);
            Ok(tx.mark(&text, mark, expand.to_automerge())?)
        };
        self.apply(edit).await
    }

    /// Takes a mark away from a range of a text. Use the `expand` that the mark was made with.
    ///
    /// # Errors
    ///
    /// As [`DocHandle::mark`].
    pub async fn unmark(
        &self,
        path: impl Into<FieldPath>,
        range: Range<usize>,
        name: impl Into<String>,
        expand: Expand,
    ) -> Result<Written, RepoError> {
        let (path, name) = (path.into(), name.into());
        let edit = move |tx: &mut automerge::transaction::Transaction<'_>| {
            let text = require(tx, &path, ObjType::Text)?;
            check_range(&range, tx.length(&text))?;
            Ok(tx.unmark(&text, &name, range.start, range.end, expand.to_automerge())?)
        };
        self.apply(edit).await
    }

    /// Returns the marks of a text, by where they begin; `None` if there is no text at that path.
    ///
    /// # Errors
    ///
    /// [`RepoError`] if the document cannot be loaded.
    pub async fn marks(&self, path: impl Into<FieldPath>) -> Result<Option<Vec<Mark>>, RepoError> {
        let path = path.into();
        self.read_loaded(move |reader| reader.marks(&path)).await
    }

    /// Returns the marks on the character at an index, by name; `None` if there is no text at that path.
    ///
    /// # Errors
    ///
    /// [`RepoError::Document`] if the index is beyond the end.
    pub async fn marks_at(
        &self,
        path: impl Into<FieldPath>,
        index: usize,
    ) -> Result<Option<BTreeMap<String, ScalarValue>>, RepoError> {
        let path = path.into();
        self.read_loaded(move |reader| reader.marks_at(&path, index)).await
    }

    /// Returns a text as runs of equally marked text and blocks; `None` if there is no text at that path.
    ///
    /// # Errors
    ///
    /// [`RepoError::Document`] if a block is nested beyond [`crate::limits::JSON_DEPTH_MAX`].
    pub async fn spans(&self, path: impl Into<FieldPath>) -> Result<Option<Vec<Span>>, RepoError> {
        let path = path.into();
        self.read_loaded(move |reader| reader.spans(&path)).await
    }

    /// Begins a block, such as a paragraph, before the character at an index of a text. It takes one index itself.
    ///
    /// automerge's editors expect the fields `type`, `parents` (a list) and `attrs`; nothing here does.
    ///
    /// # Errors
    ///
    /// [`RepoError::Document`] if there is no text or the index is beyond its end; as [`DocHandle::change`].
    pub async fn split_block(
        &self,
        path: impl Into<FieldPath>,
        index: usize,
        fields: Vec<(String, Element)>,
    ) -> Result<Written, RepoError> {
        let path = path.into();
        let edit = move |tx: &mut automerge::transaction::Transaction<'_>| {
            let text = require(tx, &path, ObjType::Text)?;
            let length = tx.length(&text);
            if index > length {
                return Err(DocumentError::Index { index, length }.into());
            }
            let block = tx.split_block(&text, index)?;
            Ok(fill_block(tx, &block, &fields)?)
        };
        self.apply(edit).await
    }

    /// Takes away the block that begins at an index of a text: what followed joins what came before.
    ///
    /// # Errors
    ///
    /// [`RepoError::Document`] if there is no text, or no block begins there; as [`DocHandle::change`].
    pub async fn join_block(&self, path: impl Into<FieldPath>, index: usize) -> Result<Written, RepoError> {
        let path = path.into();
        let edit = move |tx: &mut automerge::transaction::Transaction<'_>| {
            let text = require(tx, &path, ObjType::Text)?;
            require_block(tx, &text, index)?;
            Ok(tx.join_block(&text, index)?)
        };
        self.apply(edit).await
    }

    /// Replaces the block that begins at an index of a text by another one with these fields.
    ///
    /// # Errors
    ///
    /// As [`DocHandle::join_block`].
    pub async fn replace_block(
        &self,
        path: impl Into<FieldPath>,
        index: usize,
        fields: Vec<(String, Element)>,
    ) -> Result<Written, RepoError> {
        let path = path.into();
        let edit = move |tx: &mut automerge::transaction::Transaction<'_>| {
            let text = require(tx, &path, ObjType::Text)?;
            require_block(tx, &text, index)?;
            let block = tx.replace_block(&text, index)?;
            Ok(fill_block(tx, &block, &fields)?)
        };
        self.apply(edit).await
    }

    /// Returns a cursor to the place at an index of a text or list, which stays there while others write.
    ///
    /// The place after the last character is [`Cursor::END`]. `moving` says where it goes when its character is deleted.
    ///
    /// # Errors
    ///
    /// [`RepoError::Document`] if there is no text or list at that path, or the index is beyond its end.
    pub async fn cursor(
        &self,
        path: impl Into<FieldPath>,
        index: usize,
        moving: CursorMove,
    ) -> Result<Cursor, RepoError> {
        let path = path.into();
        let read = self.read_loaded(move |reader| {
            let found = reader.cursor(&path, index, moving)?;
            found.ok_or(DocumentError::Path { path, wanted: "text or list" })
        });
        read.await
    }

    /// Returns the index where a cursor is now.
    ///
    /// # Errors
    ///
    /// [`RepoError::Document`] if there is no text or list at that path, or the cursor is not of it or of a change that
    /// has not arrived yet.
    pub async fn cursor_position(&self, path: impl Into<FieldPath>, cursor: &Cursor) -> Result<usize, RepoError> {
        let (path, cursor) = (path.into(), cursor.clone());
        let read = self.read_loaded(move |reader| {
            let found = reader.cursor_position(&path, &cursor)?;
            found.ok_or(DocumentError::Path { path, wanted: "text or list" })
        });
        read.await
    }
}

/// Checks a range before Automerge sees it, which says nothing to one that is turned round.
fn check_range(range: &Range<usize>, length: usize) -> Result<(), DocumentError> {
    if range.start >= range.end || range.end > length {
        return Err(DocumentError::Range { range: range.clone(), length });
    }
    Ok(())
}
