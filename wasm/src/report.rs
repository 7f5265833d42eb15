//! Where warnings and panics go: to the host, which decides what to do with them.
//!
//! What is told is text for a developer: what happened, and the ids that belong to it. Nothing of what a document holds
//! is ever put into an event.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::panic;
use std::sync::Once;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::bindings::Host;

/// The longest text that is handed over, in bytes: a few lines.
const TEXT_BYTES_MAX: usize = 2_000;

thread_local! {
    static HOST: RefCell<Option<Host>> = const { RefCell::new(None) };
}

/// Tells this host from now on. A second host takes the first one's place: an instance of the module runs one engine.
pub(crate) fn tell(host: &Host) {
    static ONCE: Once = Once::new();
    HOST.with_borrow_mut(|slot| *slot = Some(host.clone()));
    ONCE.call_once(|| {
        panic::set_hook(Box::new(|info| log("panic", &info.to_string())));
        // It fails when the embedder has set one, which then has the say.
        drop(tracing::subscriber::set_global_default(ToHost));
    });
}

fn log(level: &str, text: &str) {
    // The host is borrowed while it is told, so what it does in turn is not told: it cannot end up telling itself.
    let _ = HOST.try_with(|host| {
        if let Ok(host) = host.try_borrow_mut()
            && let Some(host) = &*host
        {
            let end = text.floor_char_boundary(TEXT_BYTES_MAX);
            // A host that cannot take it has nobody to tell either.
            drop(host.log(level, &text[..end]));
        }
    });
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
        log(if *event.metadata().level() == Level::ERROR { "error" } else { "warn" }, &text.0);
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
