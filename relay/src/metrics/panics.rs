//! Panics: each is counted and logged with its place, and with no more of its words than cannot hold anybody's data.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;
use std::sync::Arc;

use super::Metrics;
use crate::show::Foreign;

/// How the texts begin that the language itself makes of numbers alone.
const OF_NUMBERS: [&str; 8] = [
    "index out of bounds: ",
    "range end index ",
    "range start index ",
    "slice index starts at ",
    "range end out of bounds: ",
    "mid > len",
    "copy_from_slice: source slice length ",
    "capacity overflow",
];

/// Counts the panics of this process from now on, and logs each instead of printing it: what is printed by default may hold a
/// text of a stranger, such as the one in which an index is wrong.
///
/// There is one such watch in a process; a later one takes the place of an earlier one.
pub fn watch_panics(metrics: &Arc<Metrics>) {
    let metrics = Arc::clone(metrics);
    std::panic::set_hook(Box::new(move |info| {
        metrics.panicked();
        log(info);
    }));
}

fn log(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let text = words(info.payload());
    let trace = Backtrace::capture();
    // A trace names functions and places, no values.
    let trace = (trace.status() == BacktraceStatus::Captured).then(|| tracing::field::display(trace));
    tracing::error!(place, thread, text = %Foreign(&text), trace, "the relay's code has a fault: please report it");
}

/// Returns what may be shown of a panic's text: it all if it is written in the code, or made of numbers.
fn words(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        return (*text).to_owned();
    }
    let Some(text) = payload.downcast_ref::<String>() else { return "(no text)".to_owned() };
    // Nothing but words and numbers: what is quoted may be anything.
    let is_plain = text.chars().all(|char| char.is_ascii_alphanumeric() || " :,.()>_-".contains(char));
    if is_plain && OF_NUMBERS.iter().any(|start| text.starts_with(start)) {
        return text.clone();
    }
    format!("(a text of {} bytes, which may hold data and is not shown)", text.len())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn panic_is_counted_and_logged_with_its_place_and_without_data() {
        let (metrics, lines) = (Arc::new(Metrics::new()), Lines::default());
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        watch_panics(&metrics);
        tracing::subscriber::with_default(subscriber, || {
            let secret = "a secret";
            assert!(std::panic::catch_unwind(|| panic!("{secret} leaks")).is_err());
        });
        drop(std::panic::take_hook());
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("panics.rs") && !text.contains("secret"), "{text}");
        assert!(metrics.text().contains("\nrejoin_relay_panics_total 1\n"));
    }

    #[test]
    fn only_words_without_data_are_shown() {
        assert_eq!(words(&"the queue is empty"), "the queue is empty");
        let of_numbers = "index out of bounds: the len is 3 but the index is 5".to_owned();
        assert_eq!(words(&of_numbers.clone()), of_numbers);
        let secret = "byte index 5 is not a char boundary; it is inside 'x' of `my secret`".to_owned();
        assert!(!words(&secret).contains("secret"));
        assert!(!words(&"called `Result::unwrap()` on an `Err` value: \"secret\"".to_owned()).contains("secret"));
        assert!(!words(&"range end index `secret`".to_owned()).contains("secret"));
        assert_eq!(words(&5_u8), "(no text)");
    }
}
