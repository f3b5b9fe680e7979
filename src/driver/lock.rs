//! The lock on the state: of two daemons with one state the second is refused, also where nothing can be written.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::files::reason;
use super::keyfile::folder;
use super::statefile::make_folder;

/// What came of locking.
#[derive(Debug)]
pub enum Lock {
    /// It is ours until the process ends or this is dropped.
    Locked(StateLock),
    /// Another picored has it; its process id, if it can be told for certain.
    Held { pid: Option<u32> },
}

/// The lock on the state. It goes with the process, however that ends: nothing stale can remain.
#[derive(Debug)]
pub struct StateLock {
    /// The lock file and its folder; as much of that as there is.
    _files: Vec<File>,
    /// Why it is weaker than it should be.
    pub warning: Option<String>,
}

/// Locks `<state>.lock`, in which the holder's process id stands. Makes the folder (0700) if it is missing.
///
/// The folder is locked, too: shared by those that have a lock file, each its own, and alone by one that cannot make
/// any. Where not even the folder is there, the control socket is what refuses a second daemon.
pub fn lock_state(state: &Path) -> Result<Lock, String> {
    let path = lock_path(state);
    let failed = |error: io::Error| format!("{}: cannot be locked: {}", path.display(), reason(&error));
    let weaker = |error: &io::Error, what: &str| {
        format!("{}: cannot be {what}: {}; what changes may not be stored", path.display(), reason(error))
    };
    let opened = make_folder(folder(&path)).and_then(|()| open(&path, true));
    let (file, mut problem) = match opened {
        Ok(file) => (Some(file), None),
        // Who made it before the folder was read-only may still hold it.
        Err(error) => (open(&path, false).ok(), Some(weaker(&error, "made"))),
    };
    let mut files = Vec::new();
    if let Some(mut file) = file {
        if !try_lock(&file, FlockOperation::NonBlockingLockExclusive).map_err(failed)? {
            return Ok(Lock::Held { pid: holder(&mut file) });
        }
        // Over what stands there, and without it if the disk is full: the lock is what counts.
        let pid = format!("{}\n", std::process::id());
        if let Err(error) = file.write_all(pid.as_bytes()).and_then(|()| file.set_len(pid.len() as u64)) {
            problem = problem.or_else(|| Some(weaker(&error, "written")));
        }
        files.push(file);
    }
    if let Ok(folder) = File::open(folder(&path)) {
        let how = match files.is_empty() {
            true => FlockOperation::NonBlockingLockExclusive,
            false => FlockOperation::NonBlockingLockShared,
        };
        match try_lock(&folder, how) {
            Ok(true) => files.push(folder),
            Ok(false) => return Ok(Lock::Held { pid: None }),
            Err(_) => {} // not every file system can lock folders
        }
    }
    Ok(Lock::Locked(StateLock { _files: files, warning: problem }))
}

/// Not truncated: the holder's process id stands there.
fn open(path: &Path, write: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(write).create(write).truncate(false).mode(0o600).open(path)
}

/// False: somebody else has it.
fn try_lock(file: &File, how: FlockOperation) -> io::Result<bool> {
    match rustix::fs::flock(file, how) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// `<state>.lock`
pub fn lock_path(state: &Path) -> PathBuf {
    let mut path = state.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

/// The process that stands in the file, if it really has it open: on a disk that is full or read-only an old number or
/// none may stand there. Then the one of whom the kernel says so.
fn holder(file: &mut File) -> Option<u32> {
    let metadata = file.metadata().ok()?;
    let mut text = String::new();
    let _ = file.take(32).read_to_string(&mut text);
    let written = text.trim().parse().ok().filter(|&pid| has_open(pid, &metadata));
    written.or_else(|| locker(&metadata))
}

/// From lines like `1: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF`: a process and the file's number. The disk's is
/// not what programs see of it on every file system.
fn locker(file: &Metadata) -> Option<u32> {
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let end = format!(":{}", file.ino());
    locks.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip_while(|&field| field != "FLOCK").skip(3);
        let (pid, place) = (fields.next()?.parse().ok()?, fields.next()?);
        (place.ends_with(&end) && has_open(pid, file)).then_some(pid)
    })
}

fn has_open(pid: u32, file: &Metadata) -> bool {
    let is_it = |open: Metadata| (open.dev(), open.ino()) == (file.dev(), file.ino());
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries.flatten().any(|entry| fs::metadata(entry.path()).is_ok_and(is_it))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test_folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("picored-lock-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn locked(state: &Path) -> StateLock {
        match lock_state(state) {
            Ok(Lock::Locked(lock)) => lock,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_lock_is_held_once_and_names_its_holder() {
        let folder = test_folder("once");
        let state = folder.join("new/state.json");
        let lock = locked(&state);
        assert!(lock.warning.is_none());
        assert_eq!(fs::metadata(folder.join("new")).unwrap().mode() & 0o777, 0o700);
        let Ok(Lock::Held { pid }) = lock_state(&state) else { panic!() };
        assert_eq!(pid, Some(std::process::id()));
        let other = locked(&folder.join("new/other.json"));
        drop((lock, other));
        drop(locked(&state));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn without_a_lock_file_the_folder_is_locked_alone() {
        let folder = test_folder("folder");
        // So long that the lock file's would be too long, for root, too.
        let state = folder.join("x".repeat(252));
        let lock = locked(&state);
        assert!(lock.warning.as_ref().is_some_and(|text| text.contains("cannot be made")), "{lock:?}");
        assert!(matches!(lock_state(&state), Ok(Lock::Held { pid: None })));
        // Not even by one that can make its file: it may be the same one, by now.
        assert!(matches!(lock_state(&folder.join("state.json")), Ok(Lock::Held { pid: None })));
        drop(lock);
        drop(locked(&state));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn whatever_stands_in_the_lock_file_its_holder_is_named() {
        let folder = test_folder("old");
        let state = folder.join("state.json");
        let lock = locked(&state);
        for text in ["1\n", "", "4294967295", "x"] {
            fs::write(lock_path(&state), text).unwrap();
            let Ok(Lock::Held { pid }) = lock_state(&state) else { panic!() };
            assert_eq!(pid, Some(std::process::id()), "{text:?}");
        }
        drop(lock);
        fs::remove_dir_all(&folder).unwrap();
    }
}
