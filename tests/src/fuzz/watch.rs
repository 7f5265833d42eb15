//! What an input costs: memory, by a counting allocator of the binary; and whether it ever ends.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How the process's memory is asked for; the allocator is the binary's.
#[derive(Debug, Clone, Copy)]
pub struct Gauge {
    /// Returns how many bytes are allocated.
    pub used: fn() -> usize,
    /// Forgets how many there once were.
    pub reset: fn(),
    /// Returns how many there were at most since then.
    pub peak: fn() -> usize,
}

impl Gauge {
    /// Measures nothing.
    pub const NONE: Self = Self { used: || 0, reset: || (), peak: || 0 };
}

/// Ends the process when an input does not end: nothing else can be done about a loop.
pub struct Watch {
    current: Arc<Mutex<Current>>,
}

#[derive(Default)]
struct Current {
    since: Option<Instant>,
    input: Vec<u8>,
    is_over: bool,
}

impl Watch {
    /// Starts to watch; what hangs for so long is written to the file, and the process ends with code 101.
    #[expect(clippy::print_stdout, reason = "nobody else could say it: the process ends")]
    pub fn start(patience: Duration, file: PathBuf) -> Self {
        let watch = Self { current: Arc::default() };
        let current = Arc::clone(&watch.current);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(patience / 10);
                let current = lock(&current);
                if current.is_over {
                    return;
                }
                if current.since.is_some_and(|since| since.elapsed() > patience) {
                    // Where it cannot be written, the seed still repeats it.
                    let _ = std::fs::write(&file, &current.input);
                    println!(
                        "FAULT hang: an input takes longer than {patience:?}; replay with --replay {}",
                        file.display()
                    );
                    std::process::exit(101);
                }
            }
        });
        watch
    }

    /// Says that an input begins.
    pub fn begin(&self, input: &[u8]) {
        let mut current = lock(&self.current);
        current.since = Some(Instant::now());
        current.input.clear();
        current.input.extend_from_slice(input);
    }

    /// Says that it ended, and returns how long it took.
    pub fn end(&self) -> Duration {
        lock(&self.current).since.take().map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        lock(&self.current).is_over = true;
    }
}

fn lock(current: &Mutex<Current>) -> MutexGuard<'_, Current> {
    current.lock().unwrap_or_else(PoisonError::into_inner)
}
