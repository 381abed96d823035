//! Tells one build from another, so that an upgraded agent replaces the sealer of the former one.
use std::os::unix::fs::MetadataExt;

/// Of the executable that runs: its version, and which file it is. A file that was installed anew counts as another
/// build even if it says the same: a hand-over too many costs nothing.
pub(super) fn of_this_process() -> String {
    let version = crate::VERSION;
    // Leads to the file that was started, also when another one has its name by now.
    match std::fs::metadata("/proc/self/exe") {
        Ok(file) => {
            let changed = i128::from(file.mtime()) * 1_000_000_000 + i128::from(file.mtime_nsec());
            format!("{version}+{:x}.{:x}.{:x}.{changed:x}", file.dev(), file.ino(), file.len())
        }
        Err(_) => format!("{version}+unknown.{}", std::process::id()),
    }
}
