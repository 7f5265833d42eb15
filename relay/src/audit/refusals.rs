//! Refusals: how writes that are refused come into the audit trail, from whoever refuses them.

use std::fmt;
use std::sync::Arc;

use rejoin::{ChangeHash, DocumentId};

use super::{Audit, Kind, Record};
use crate::log::Author;
use crate::registry::Registry;

/// Records writes that are refused. Never waits.
#[derive(Clone)]
pub(crate) struct Refusals {
    pub(crate) audit: Arc<Audit>,
    /// Knows where they came from.
    pub(crate) registry: Arc<Registry>,
}

impl fmt::Debug for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refusals(..)")
    }
}

impl Refusals {
    /// Records that writes to a document were refused: why, the first of them by its hash if it has one, and how many.
    pub(crate) fn note(
        &self,
        author: &Author,
        document: &DocumentId,
        code: &str,
        change: Option<ChangeHash>,
        count: u64,
    ) {
        let address = self.registry.address(author.connection).map(|address| address.to_string());
        let who = author.principal.as_ref().map(ToString::to_string).unwrap_or_default();
        self.audit.refused(Record {
            target: Some(format!("document/{document}")),
            address,
            change: change.map(|hash| hash.to_string()),
            count: Some(count),
            ..Record::new(Kind::Refusal, &who, "append", code)
        });
    }
}
