//! What somebody may have meant.

/// Returns the name that is the nearest to one that is not there, if any is near.
pub(super) fn nearest<'a>(found: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Nobody mistypes a name of this length; and the time is the product of the lengths.
    let found: Vec<char> = found.chars().take(128).collect();
    let near = names.into_iter().map(|name| (distance(&found, name), name)).min()?;
    (near.0 <= 2 + found.len() / 4).then_some(near.1)
}

/// Counts the characters to insert, leave out or replace.
fn distance(found: &[char], name: &str) -> usize {
    let mut row: Vec<usize> = (0..=found.len()).collect();
    for (line, character) in name.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for column in 1..row.len() {
            let replaced = diagonal + usize::from(found[column - 1] != character);
            diagonal = row[column];
            row[column] = replaced.min(row[column] + 1).min(row[column - 1] + 1);
        }
    }
    row[found.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slip_is_seen_through_and_nonsense_is_not() {
        let names = ["limits.connections_max", "limits.frame_bytes_max", "open"];
        assert_eq!(nearest("limits.conections_max", names), Some(names[0]));
        assert_eq!(nearest("connections_max", ["connections_max"]), Some("connections_max"));
        assert_eq!(nearest("opne", names), Some("open"));
        assert_eq!(nearest("the_colour_of_the_sky", names), None);
        assert_eq!(nearest("", []), None);
    }
}
