//! What happened, in one number: two runs of a plan that differ anywhere have different ones. Line by line, if somebody reads it.

use std::fmt::{self, Write};
use std::time::Duration;

/// What happened so far.
#[derive(Debug)]
pub struct Trail {
    digest: u64,
    lines: Option<Vec<String>>,
    count: u64,
}

impl Trail {
    /// Begins; `keeps_lines` if somebody is to read it.
    pub fn new(keeps_lines: bool) -> Self {
        Self { digest: 0xcbf2_9ce4_8422_2325, lines: keeps_lines.then(Vec::new), count: 0 }
    }

    /// Notes that something happened.
    pub fn note(&mut self, now: Duration, what: fmt::Arguments<'_>) {
        self.count += 1;
        // What formats into a number cannot fail.
        let _ = write!(self, "{} {what}", now.as_micros());
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>12.3} ms  {what}", now.as_secs_f64() * 1e3));
        }
    }

    /// Returns the number of all that happened.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Returns how much happened.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Takes the lines.
    pub fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}

impl Write for Trail {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}

/// A short name of some bytes.
pub fn brief(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
