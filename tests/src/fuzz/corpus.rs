//! The committed inputs: `tests/corpus/<target>/`, small files named by what they are about.

use std::path::PathBuf;

use crate::package_dir;

/// The most bytes of all files together.
pub const BYTES_MAX: u64 = 300_000;

/// Returns a target's kept inputs with their names, in the order of those.
pub fn of(target: &str) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(folder(target)) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    files.iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect()
}

/// Returns where a target's inputs are kept.
pub fn folder(target: &str) -> PathBuf {
    package_dir().join("corpus").join(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corpus_is_small_and_of_targets_that_there_are() {
        let mut bytes = 0;
        for entry in std::fs::read_dir(package_dir().join("corpus")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(crate::fuzz::TARGETS.contains(&name.as_str()), "a corpus for no target: {name}");
            bytes += of(&name).iter().map(|(_, input)| input.len() as u64).sum::<u64>();
        }
        assert!(bytes <= BYTES_MAX, "{bytes} bytes of corpus");
    }
}
