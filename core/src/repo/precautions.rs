//! Precautions for where a panic ends everything: in WASM there is nobody to catch it, and the engine must be started anew.
//!
//! Elsewhere a panic of Automerge is caught, and the change that did it is left out of the document. Where it is not, the
//! application has to know at what the engine was working when it ended, and to hand that in at the next start.

use std::collections::HashMap;
use std::fmt;

use automerge::ChangeHash;

use crate::document::Quarantined;
use crate::id::DocumentId;

/// Is told which document Automerge is about to touch, and which change if that is known; nothing when it is done.
pub type Working = fn(Option<(DocumentId, Option<ChangeHash>)>);

/// What is known of earlier ends, and who is told what the engine works at.
#[derive(Clone)]
pub struct Precautions {
    /// Changes that are left out of their documents, with all that depend on them, because Automerge ended on them.
    pub quarantined: Vec<(DocumentId, ChangeHash)>,
    /// A document on which it ended, nobody knows at which change: its changes are applied one at a time, and each is told
    /// before. Whole documents of relays are not taken then.
    pub suspect: Option<DocumentId>,
    /// Is told which document Automerge is about to touch, with the change if it is a suspect's; and nothing when that is done.
    pub working: Working,
}

impl Default for Precautions {
    fn default() -> Self {
        Self { quarantined: Vec::new(), suspect: None, working: |_| {} }
    }
}

impl fmt::Debug for Precautions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Precautions").field("suspect", &self.suspect).finish_non_exhaustive()
    }
}

impl Precautions {
    /// Returns the changes that are left out, by document.
    pub(super) fn left_out(&self) -> HashMap<DocumentId, Vec<Quarantined>> {
        let mut left_out: HashMap<DocumentId, Vec<Quarantined>> = HashMap::new();
        for (document, hash) in &self.quarantined {
            left_out.entry(*document).or_default().push(Quarantined::ended_on(*hash));
        }
        left_out
    }
}

/// Does something with a document of Automerge's, and tells before and after.
pub(super) fn working_at<T>(working: Working, document: DocumentId, work: impl FnOnce() -> T) -> T {
    working(Some((document, None)));
    let done = work();
    working(None);
    done
}
