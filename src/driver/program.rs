//! The program's own file: where it is, and how the process goes on as what is there by then.

use std::env;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names what runs, even if its file was replaced or removed since.
const RUNNING: &str = "/proc/self/exe";

/// The path that this program was started by: a link in it is kept, for that is what an upgrade may turn. To be asked
/// at the start, while the file there is still the one that runs.
pub fn path() -> PathBuf {
    let named = env::args_os().next().unwrap_or_default();
    let named = Path::new(&named);
    let found = match named.components().count() {
        0 => None,
        1 => env::var_os("PATH").and_then(|folders| {
            env::split_paths(&folders).map(|folder| folder.join(named)).find(|path| is_running(path))
        }),
        _ => std::path::absolute(named).ok().filter(|path| is_running(path)),
    };
    found.or_else(|| env::current_exe().ok()).unwrap_or_else(|| RUNNING.into())
}

fn is_running(path: &Path) -> bool {
    let file = |path: &Path| path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()));
    match (file(path), file(Path::new(RUNNING))) {
        (Some(found), Some(running)) => found == running,
        // In a root without /proc nothing says what runs; who started it said this.
        (found, None) => found.is_some(),
        (None, _) => false,
    }
}

/// Becomes the program at `path`, with the same arguments. All descriptors but the standard ones close with that.
///
/// If that fails it goes on as the program that runs, from its start. Returns only if that fails as well: why.
pub fn replace(path: &Path) -> io::Error {
    let error = become_it(path, path);
    ::log::error!("event=restart-failed {}: {error}; starts the program again that runs", path.display());
    ::log::logger().flush();
    become_it(Path::new(RUNNING), path)
}

fn become_it(program: &Path, called: &Path) -> io::Error {
    Command::new(program).arg0(called).args(env::args_os().skip(1)).exec()
}
