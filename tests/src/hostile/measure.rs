//! What an attack costs the process it hits: processor time and memory, as the operating system counts them.

use std::fs;
use std::time::{Duration, Instant};

/// Started before an attack, read after it.
#[derive(Debug)]
pub struct Measure {
    wall: Instant,
    ticks: u64,
    rss_kib: u64,
}

/// What it cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// From the first byte sent to the last answer.
    pub wall: Duration,
    /// Of all threads, in steps of 10 ms.
    pub cpu: Duration,
    /// How much larger the process was at its largest, in KiB.
    pub rss_peak_kib: u64,
    /// How much larger it was at the end, in KiB.
    pub rss_kept_kib: u64,
}

impl Measure {
    /// Starts, and lets the kernel forget how large the process once was.
    pub fn start() -> Self {
        // Where the kernel does not allow it, the peak is that of the whole run and tells less.
        let _ = fs::write("/proc/self/clear_refs", "5");
        Self { rss_kib: status_kib("VmRSS:"), ticks: ticks(), wall: Instant::now() }
    }

    /// Reads what it cost since the start.
    pub fn stop(&self) -> Cost {
        Cost {
            wall: self.wall.elapsed(),
            cpu: Duration::from_millis(10 * (ticks() - self.ticks)),
            rss_peak_kib: status_kib("VmHWM:").saturating_sub(self.rss_kib),
            rss_kept_kib: status_kib("VmRSS:").saturating_sub(self.rss_kib),
        }
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (wall, cpu) = (self.wall.as_millis(), self.cpu.as_millis());
        let (peak, kept) = (self.rss_peak_kib / 1024, self.rss_kept_kib / 1024);
        write!(f, "{wall:>6} ms {cpu:>6} ms cpu {peak:>5} MiB peak {kept:>5} MiB kept")
    }
}

/// Reads a line of the process's status; 0 where there is none.
fn status_kib(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Returns the processor time used so far, in hundredths of a second, which is what Linux counts here everywhere.
fn ticks() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold anything; what follows it is numbers: user and system time are 12th and 13th.
    let numbers = stat.rsplit(')').next().unwrap_or_default();
    numbers.split_whitespace().skip(11).take(2).filter_map(|number| number.parse::<u64>().ok()).sum()
}
