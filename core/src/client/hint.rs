//! What a relay that stops says about when to come back.

use std::time::Duration;

/// What stands before the seconds.
const HINT: &str = "reconnect-after=";
/// The longest that a relay is believed: 5 minutes. What it says beyond is as good as that.
const LONGEST: Duration = Duration::from_secs(300);

/// Reads the reason of a closed connection: after how long the relay asks to come back, if it says so.
///
/// A reason begins with the hint, or with the name of a code, a colon and the hint.
pub(super) fn reconnect_after(reason: &str) -> Option<Duration> {
    let told = reason.strip_prefix(HINT).or_else(|| reason.split_once(": ")?.1.strip_prefix(HINT))?;
    let digits = told.find(|character: char| !character.is_ascii_digit()).map_or(told, |end| &told[..end]);
    if digits.is_empty() {
        return None;
    }
    // More digits than a number has are a long time too.
    let seconds = digits.parse().unwrap_or(u64::MAX);
    Some(Duration::from_secs(seconds).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hint_is_read_where_relays_write_it_and_believed_within_reason() {
        let seconds = |reason| reconnect_after(reason).map(|time| time.as_secs());
        assert_eq!(seconds("reconnect-after=7"), Some(7));
        assert_eq!(seconds("reconnect-after=7; the relay is stopping"), Some(7));
        assert_eq!(seconds("going-away: reconnect-after=0; the relay is stopping"), Some(0));
        assert_eq!(seconds("reconnect-after=99999999999999999999999"), Some(300));
        for other in
            ["", "reconnect-after=", "reconnect-after=-1", "reconnect-after=x", "busy: later, reconnect-after=7"]
        {
            assert_eq!(seconds(other), None, "{other}");
        }
    }
}
