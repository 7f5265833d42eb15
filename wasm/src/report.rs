//! Where warnings and panics go: to the host, which decides what to do with them.
//!
//! What is told is text for a developer: what happened, and the ids that belong to it. Nothing of what a document holds
//! is ever put into an event.

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::panic;
use std::sync::Once;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use wasm_bindgen::JsValue;

use crate::bindings::{Host, with_host};

/// The longest text that is handed over, in bytes: a few lines.
const TEXT_BYTES_MAX: usize = 2_000;

thread_local! {
    /// Set while the host is told something: what it makes happen in turn is not told, or it would never end.
    static IS_TELLING: Cell<bool> = const { Cell::new(false) };
}

/// Begins to tell the host.
pub(crate) fn begin() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        panic::set_hook(Box::new(|info| tell(&info.to_string(), Host::panicked)));
        // It fails when the embedder has set one, which then has the say.
        drop(tracing::subscriber::set_global_default(ToHost));
    });
}

fn tell(text: &str, how: impl FnOnce(&Host, &str) -> Result<(), JsValue>) {
    if IS_TELLING.replace(true) {
        return;
    }
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    // A host that cannot take it has nobody to tell either.
    with_host(|host| drop(how(host, &text[..end])));
    IS_TELLING.set(false);
}

/// Hands every warning and error to the host.
struct ToHost;

impl Subscriber for ToHost {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        // Spans are not enabled, so this is never asked for more than one name for all.
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let level = if *event.metadata().level() == Level::ERROR { "error" } else { "warn" };
        tell(&text.0, |host, text| host.log(level, text));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The message first, then each field with its name.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = if field.name() == "message" {
            let fields = std::mem::take(&mut self.0);
            write!(self.0, "{value:?}{fields}")
        } else {
            write!(self.0, " {}={value:?}", field.name())
        };
    }
}
