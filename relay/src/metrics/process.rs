//! What the operating system says of this process and of the disk. Where it says nothing, nothing is shown.

use std::fs;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

/// How much memory the process has in use, in bytes.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// How many file descriptors are open. Cost: one look at each, about 10 ms for 15,000.
pub(crate) fn open_fds() -> Option<u64> {
    let count = fs::read_dir("/proc/self/fd").ok()?.count();
    // The one by which it is looked at.
    u64::try_from(count.saturating_sub(1)).ok()
}

/// How many file descriptors there may be.
pub(crate) fn max_fds() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// How much room a disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) free_bytes: u64,
    pub(crate) size_bytes: u64,
}

/// How much room there is on the disk that holds this directory, for a user who is not root.
pub(crate) fn disk(directory: &Path) -> Option<Disk> {
    if directory.as_os_str().is_empty() {
        return None;
    }
    let found = rustix::fs::statvfs(directory).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Some(Disk { free_bytes: bytes(found.f_bavail), size_bytes: bytes(found.f_blocks) })
}

/// How many of the kernel's ticks are a second: 100 on every Linux that programs see.
const TICKS_A_SECOND: f64 = 100.0;

/// How long the process has used the processors, in seconds.
pub(crate) fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name, in parentheses, may hold anything; user and system time are the 12th and 13th field after it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u32>);
    let (user, system) = (times.next()?.ok()?, times.next()?.ok()?);
    Some((f64::from(user) + f64::from(system)) / TICKS_A_SECOND)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        assert!(resident_bytes() > Some(1 << 20));
        assert!(open_fds() > Some(2) && open_fds() < max_fds());
        let disk = disk(Path::new("/")).expect("there is a disk");
        assert!(disk.free_bytes <= disk.size_bytes && disk.size_bytes > 0);
        assert!(cpu_seconds().is_some());
    }
}
