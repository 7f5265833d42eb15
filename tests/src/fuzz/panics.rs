//! Panics of any thread are noticed, also those that somebody catches.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};

static SEEN: AtomicBool = AtomicBool::new(false);
static LAST: Mutex<Option<String>> = Mutex::new(None);

/// Notes panics from now on and prints none of them. The hook of [`oracle`](crate::hostile::oracle) comes on top of this one
/// when it is needed, and keeps to itself what it expects.
pub fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let at = info.location().map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
            let text = info.payload_as_str().unwrap_or("a panic without words");
            *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("panic at {at}: {text}"));
            SEEN.store(true, Ordering::Release);
        }));
    });
}

/// Returns what the last panic since the last call said, if there was one.
pub fn take() -> Option<String> {
    if !SEEN.swap(false, Ordering::AcqRel) {
        return None;
    }
    LAST.lock().unwrap_or_else(PoisonError::into_inner).take()
}
