//! How things of others stand in the log: texts escaped and cut.

use std::fmt;

use crate::limits::SHOWN_CHARS_MAX;

/// Shows a peer's text: escaped, so that it cannot forge a line, and cut.
pub(crate) struct Foreign<'a>(pub(crate) &'a str);

impl fmt::Display for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        for char in chars.by_ref().take(SHOWN_CHARS_MAX) {
            write!(f, "{}", char.escape_debug())?;
        }
        if chars.next().is_some() { f.write_str("...") } else { Ok(()) }
    }
}

/// Writes bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        text.extend([byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_escaped_and_cut() {
        assert_eq!(Foreign("a\nb\u{1b}[31m").to_string(), "a\\nb\\u{1b}[31m");
        assert_eq!(Foreign(&"x".repeat(SHOWN_CHARS_MAX)).to_string(), "x".repeat(SHOWN_CHARS_MAX));
        assert_eq!(Foreign(&"x".repeat(SHOWN_CHARS_MAX + 1)).to_string(), "x".repeat(SHOWN_CHARS_MAX) + "...");
    }
}
