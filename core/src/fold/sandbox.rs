//! The limits a child sets on itself, before it reads anything that a stranger wrote.

use std::io;

/// Sets the limits: memory and processor time as given, no new file or socket, no byte written to any file, no core dump.
/// And everybody else goes first.
///
/// Standard input, output and error stay open: they are all the child ever needs.
#[cfg(unix)]
pub(super) fn enter(memory_bytes: u64, cpu_seconds: u64) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    /// A new descriptor gets the lowest free number, and 0 to 2 are taken.
    const OPEN_FILES: u64 = 3;
    /// How much nicer than its parent it is.
    const NICENESS: i32 = 10;

    let limits = [
        (Resource::As, memory_bytes),
        (Resource::Cpu, cpu_seconds),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        (Resource::Nofile, OPEN_FILES),
    ];
    for (resource, limit) in limits {
        // A limit that is stricter already cannot be raised, and need not be.
        let ceiling = getrlimit(resource).maximum.map_or(limit, |ceiling| ceiling.min(limit));
        setrlimit(resource, Rlimit { current: Some(ceiling), maximum: Some(ceiling) })?;
    }
    // A courtesy, and no limit: where it is not granted, the work is done all the same.
    let _ = rustix::process::nice(NICENESS);
    Ok(())
}

/// Refuses: without limits the work is not done.
#[cfg(not(unix))]
pub(super) fn enter(_: u64, _: u64) -> io::Result<()> {
    Err(io::Error::other("this system has no limits that a process can set on itself"))
}
