//! The state file: read at the start, replaced as a whole, with the one before it kept beside it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::files::{read_bounded, reason};
use super::keyfile::{draft, folder};
use crate::agent::state::Saved;
use crate::limits::STATE_FILE_MAX;

/// As many as the kernel follows.
const LINKS_MAX: usize = 40;

/// A file that the system did not read is asked for this many times in all, so far apart.
const READS_MAX: u32 = 5;
const READ_PAUSE: Duration = Duration::from_millis(200);

/// Where the state is kept.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    /// Something is there that could not be read, and may be well: it is not written over.
    unread: bool,
    /// The last one that was written is less safe than it should be: told once.
    doubtful: bool,
    /// What not every file system does, and what can fail.
    disk: Disk,
}

/// As functions, so that tests can let them fail.
#[derive(Clone, Copy, Debug)]
struct Disk {
    read: fn(&Path) -> io::Result<String>,
    pause: Duration,
    link: fn(&Path, &Path) -> io::Result<()>,
    copy: fn(&Path, &Path) -> io::Result<()>,
    sync_folder: fn(&Path) -> io::Result<()>,
}

const DISK: Disk = Disk {
    read: |path| Ok(read_bounded(path, STATE_FILE_MAX)?.0),
    pause: READ_PAUSE,
    link: |old, new| fs::hard_link(old, new),
    copy: |old, new| fs::copy(old, new).and_then(|_| File::open(new)?.sync_all()),
    sync_folder: |folder| File::open(folder)?.sync_all(),
};

/// What was found at the start.
#[derive(Debug, Default)]
pub struct Found {
    /// `None`: there is nothing, or nothing of use.
    pub saved: Option<Saved>,
    /// What a person should know of it.
    pub warnings: Vec<String>,
}

/// Why a file is of no use.
enum Useless {
    /// What stands in it: that will not change.
    Damaged(String),
    /// The system did not read it, which says nothing of what stands in it.
    Unread(String),
}

impl StateFile {
    pub fn new(path: PathBuf) -> Self {
        Self { path, unread: false, doubtful: false, disk: DISK }
    }

    /// Why the state cannot be kept there: what has the name is no file. It is neither read nor replaced.
    pub fn problem(&self) -> Option<String> {
        let path = target(&self.path).ok()?;
        a_file_or_nothing(&path).err().map(|error| format!("state: {}: {}", path.display(), reason(&error)))
    }

    /// Something is there that could not be read, which is no damage.
    pub fn is_unread(&self) -> bool {
        self.unread
    }

    /// Reads the state, or, where that is of no use, the one before it. A damaged file is set aside as `NAME.damaged`,
    /// in place of an older one; one that cannot be read stays, and is set aside as `NAME.unread` when the first
    /// state is written. A link is followed: all of these are beside the file that it names.
    pub fn read(&mut self) -> Found {
        let mut found = Found::default();
        let path = match target(&self.path) {
            Ok(path) => path,
            Err(error) => {
                let path = self.path.display();
                found.warnings.push(format!("{path}: {}; starts without a state", reason(&error)));
                return found;
            }
        };
        // Rests of writes that a kill cut short. They are nobody else's, and the lock is ours.
        for name in [&path, &beside(&path, "previous"), &beside(&path, "unread")] {
            let _ = fs::remove_file(draft(name));
        }
        if path != self.path && matches!(folder(&path).try_exists(), Ok(false)) {
            // A disk that is not mounted yet: what it holds is not to be written over when it is.
            self.unread = true;
            found.warnings.push(format!(
                "{}: the folder that the link leads to is not there; starts without a state, and one that is found \
                 there later becomes {}",
                path.display(),
                beside(&path, "unread").display()
            ));
            return found;
        }
        match self.read_one(&path) {
            Ok(Some(saved)) => return Found { saved: Some(saved), ..found },
            Ok(None) => {}
            Err(Useless::Damaged(why)) => {
                let damaged = beside(&path, "damaged");
                let kept = match fs::rename(&path, &damaged) {
                    Ok(()) => format!("it was set aside as {}", damaged.display()),
                    Err(error) => format!("it could not be set aside: {}", reason(&error)),
                };
                found.warnings.push(format!("{}: {why}; {kept}", path.display()));
            }
            Err(Useless::Unread(why)) => {
                self.unread = true;
                let kept = beside(&path, "unread");
                found.warnings.push(format!(
                    "{}: cannot be read: {why}; it stays, and becomes {} when a state is written",
                    path.display(),
                    kept.display()
                ));
            }
        }
        self.read_previous(&beside(&path, "previous"), &mut found);
        found
    }

    fn read_previous(&self, previous: &Path, found: &mut Found) {
        match self.read_one(previous) {
            Ok(Some(saved)) => {
                found.saved = Some(saved);
                found.warnings.push(format!("the previous state is used instead, {}", previous.display()));
            }
            Ok(None) if found.warnings.is_empty() => {}
            Ok(None) => found.warnings.push("there is no previous state; starts without one".into()),
            Err(Useless::Damaged(why) | Useless::Unread(why)) => {
                found.warnings.push(format!("{}: {why}; starts without a state", previous.display()));
            }
        }
    }

    fn read_one(&self, path: &Path) -> Result<Option<Saved>, Useless> {
        let mut reads = 0;
        loop {
            reads += 1;
            match (self.disk.read)(path) {
                Ok(text) => return Saved::parse(&text).map(Some).map_err(Useless::Damaged),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                // Not the system's word: what was read is too long, or no text.
                Err(error) if error.raw_os_error().is_none() => return Err(Useless::Damaged(reason(&error))),
                Err(error) if reads >= READS_MAX => return Err(Useless::Unread(reason(&error))),
                // No memory, no descriptor: it may be over soon.
                Err(_) => std::thread::sleep(self.disk.pause),
            }
        }
    }

    /// Replaces the file, or leaves all as it is: whatever fails, and whenever the machine stops, one whole state is
    /// there. The file that it replaces is kept as `NAME.previous`, if that can be done. A link stays one.
    ///
    /// `Ok`: it is written; with a text, for a person, if it is less safe there than it should be and was not so the
    /// last time. Errors: what the system says, with the file's name.
    pub fn write(&mut self, text: &str) -> Result<Option<String>, String> {
        let named = |path: &Path, error: &io::Error| format!("{}: {}", path.display(), reason(error));
        let file = target(&self.path).map_err(|error| named(&self.path, &error))?;
        a_file_or_nothing(&file).map_err(|error| named(&file, &error))?;
        // Somebody may have removed it. Where a link leads may be a disk that is not mounted: nothing is made there.
        if file == self.path {
            make_folder(folder(&file)).map_err(|error| named(&file, &error))?;
        }
        let new = draft(&file);
        let doubts = self.replace(&file, &new, text).map_err(|error| {
            let _ = fs::remove_file(&new);
            named(&file, &error)
        })?;
        let was_doubtful = core::mem::replace(&mut self.doubtful, !doubts.is_empty());
        let is_news = self.doubtful && !was_doubtful;
        Ok(is_news.then(|| format!("{}: written, but {}", file.display(), doubts.join("; "))))
    }

    /// Gives what could not be done besides.
    fn replace(&mut self, path: &Path, new: &Path, text: &str) -> io::Result<Vec<String>> {
        if text.len() > STATE_FILE_MAX {
            return Err(io::Error::other(format!("would be longer than {STATE_FILE_MAX} bytes")));
        }
        remove(new)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        let mut doubts = Vec::new();
        if self.unread {
            self.keep_unread(path)?;
        } else if let Err(error) = self.keep_previous(path) {
            doubts.push(format!("the one before it could not be kept: {}", reason(&error)));
        }
        fs::rename(new, path)?;
        self.unread = false;
        // The name, too, is to outlive a power cut. Not every file system can promise that.
        if let Err(error) = (self.disk.sync_folder)(folder(path)) {
            doubts.push(format!("its folder could not be synced to the disk: {}", reason(&error)));
        }
        Ok(doubts)
    }

    fn keep_previous(&self, path: &Path) -> io::Result<()> {
        self.keep(path, &beside(path, "previous"))
    }

    /// In one step, so that there is always one. The file has both names for a moment, or there is a copy of it where
    /// the file system has no links.
    fn keep(&self, path: &Path, kept_as: &Path) -> io::Result<()> {
        let second = draft(kept_as);
        remove(&second)?;
        let kept = (self.disk.link)(path, &second).or_else(|_| (self.disk.copy)(path, &second));
        let kept = match kept {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()), // the first one
            other => other.and_then(|()| fs::rename(&second, kept_as)),
        };
        // Nothing was renamed if both were one file already, and a copy may be half a one.
        let removed = remove(&second);
        kept.and(removed)
    }

    /// The previous one stays, too: it is the one that is known to be well.
    fn keep_unread(&self, path: &Path) -> io::Result<()> {
        let unread = beside(path, "unread");
        // Where there are no links, and it cannot be copied since it cannot be read, its name is all that can be kept.
        self.keep(path, &unread).or_else(|_| fs::rename(path, &unread))
    }
}

/// The file that a link leads to in the end, be it there or not. (`canonicalize` tells only what is there.)
fn target(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&path) {
            Ok(next) => path = folder(&path).join(next),
            Err(_) => return Ok(path), // no link, or nothing: whoever opens it is told which
        }
    }
    Err(io::Error::other("too many links lead from one to the next"))
}

/// An error for a folder, a device, a pipe: the name of a file is wanted, or one that nothing has.
fn a_file_or_nothing(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(io::Error::other(
            "this is no file (but a folder, a device, a pipe): name a file, or a new one",
        )),
        _ => Ok(()),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// For its owner alone, if it is missing.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// `NAME.suffix`
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn test_folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("picored-state-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    fn state(node: &str) -> String {
        Saved { v: 1, node: node.into(), ..Saved::default() }.text()
    }

    fn read(path: &Path) -> Found {
        StateFile::new(path.to_owned()).read()
    }

    fn write(path: &Path, text: &str) -> Result<Option<String>, String> {
        StateFile::new(path.to_owned()).write(text)
    }

    fn node(found: &Found) -> Option<&str> {
        found.saved.as_ref().map(|saved| &*saved.node)
    }

    #[test]
    fn a_state_is_replaced_as_a_whole_and_the_previous_one_is_kept() {
        let folder = test_folder("replace");
        let path = folder.join("state.json");
        assert!(read(&path).saved.is_none() && read(&path).warnings.is_empty());
        for name in ["a", "b", "b", "c"] {
            write(&path, &state(name)).unwrap();
            assert_eq!(node(&read(&path)), Some(name));
        }
        assert_eq!(fs::read_to_string(beside(&path, "previous")).unwrap(), state("b"));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "nothing else is left behind");
        for file in [path.clone(), beside(&path, "previous")] {
            assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_damaged_state_is_set_aside_and_the_previous_one_used() {
        let folder = test_folder("damaged");
        let path = folder.join("state.json");
        let whole = state("b");
        let too_long = "x".repeat(STATE_FILE_MAX + 1);
        for bad in ["", "\0\0\0", whole.split_at(20).0, "{\"v\": 2, \"node\": \"b\"}", &too_long] {
            write(&path, &state("a")).unwrap();
            write(&path, &whole).unwrap();
            fs::write(&path, bad).unwrap();
            let found = read(&path);
            assert_eq!((node(&found), found.warnings.len()), (Some("a"), 2), "{:?}", found.warnings);
            assert_eq!(fs::read_to_string(beside(&path, "damaged")).unwrap(), bad);
            // And again, with nothing written since.
            assert_eq!(node(&read(&path)), Some("a"));
            // What is written next does not cost the previous one.
            write(&path, &state("c")).unwrap();
            assert_eq!(fs::read_to_string(beside(&path, "previous")).unwrap(), state("a"));
        }
        fs::write(&path, "[").unwrap();
        fs::write(beside(&path, "previous"), "{").unwrap();
        let found = read(&path);
        assert_eq!((node(&found), found.warnings.len()), (None, 2), "{:?}", found.warnings);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_link_is_followed_and_stays_one_and_what_is_beside_the_file_is_found() {
        let folder = test_folder("link");
        let (disk, etc) = (folder.join("disk"), folder.join("etc"));
        fs::create_dir_all(&disk).unwrap();
        fs::create_dir_all(&etc).unwrap();
        let (file, link) = (disk.join("state.json"), etc.join("state.json"));
        std::os::unix::fs::symlink("../disk/state.json", &link).unwrap();
        // Also while there is nothing at its end.
        for name in ["a", "b"] {
            assert_eq!(write(&link, &state(name)), Ok(None));
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            assert_eq!(fs::read_to_string(&file).unwrap(), state(name));
        }
        fs::write(&file, "{").unwrap();
        let found = read(&link);
        assert_eq!((node(&found), found.warnings.len()), (Some("a"), 2), "{:?}", found.warnings);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(beside(&file, "damaged")).unwrap(), "{");
        assert_eq!(fs::read_dir(&etc).unwrap().count(), 1, "nothing is beside the link");
        // A disk that is not mounted.
        fs::remove_dir_all(&disk).unwrap();
        assert!(write(&link, &state("c")).unwrap_err().contains("no such file"));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && !disk.exists());
        // It is mounted later: what is on it stays, beside what is written then.
        let mut early = StateFile::new(link.clone());
        let found = early.read();
        assert_eq!((node(&found), found.warnings.len()), (None, 1), "{:?}", found.warnings);
        assert!(found.warnings[0].contains("the folder that the link leads to"), "{:?}", found.warnings);
        assert!(early.write(&state("c")).is_err() && !disk.exists());
        fs::create_dir(&disk).unwrap();
        fs::write(&file, state("b")).unwrap();
        for name in ["c", "d"] {
            early.write(&state(name)).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), state(name));
        }
        assert_eq!(fs::read_to_string(beside(&file, "unread")).unwrap(), state("b"));
        // Links in a circle end somewhere.
        let circle = etc.join("circle");
        std::os::unix::fs::symlink("circle", &circle).unwrap();
        assert!(write(&circle, &state("c")).unwrap_err().contains("too many links"));
        assert_eq!((node(&read(&circle)), read(&circle).warnings.len()), (None, 1));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_state_that_cannot_be_read_for_a_moment_is_not_lost() {
        static READS: AtomicU32 = AtomicU32::new(0);
        let folder = test_folder("moment");
        let path = folder.join("state.json");
        write(&path, &state("a")).unwrap();
        write(&path, &state("b")).unwrap();
        let read = |path: &Path| match READS.fetch_add(1, Ordering::Relaxed) {
            0 => Err(rustix::io::Errno::MFILE.into()),
            1 => Err(rustix::io::Errno::NOMEM.into()),
            _ => fs::read_to_string(path),
        };
        let mut file = StateFile::new(path.clone());
        file.disk = Disk { read, pause: Duration::ZERO, ..DISK };
        let found = file.read();
        assert_eq!((node(&found), found.warnings.len()), (Some("b"), 0), "{:?}", found.warnings);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_state_that_cannot_be_read_stays_and_is_not_written_over() {
        let folder = test_folder("unread");
        let path = folder.join("state.json");
        write(&path, &state("a")).unwrap();
        write(&path, &state("b")).unwrap();
        let read = |path: &Path| match path.ends_with("state.json") {
            true => Err(rustix::io::Errno::IO.into()),
            false => fs::read_to_string(path),
        };
        let mut file = StateFile::new(path.clone());
        file.disk = Disk { read, pause: Duration::ZERO, ..DISK };
        let found = file.read();
        assert_eq!((node(&found), found.warnings.len()), (Some("a"), 2), "{:?}", found.warnings);
        assert!(found.warnings[0].contains("cannot be read"), "{:?}", found.warnings);
        assert_eq!(fs::read_to_string(&path).unwrap(), state("b"));
        assert!(!beside(&path, "damaged").exists());
        assert!(file.is_unread());
        // What fails on the way leaves all as it is, to be tried again.
        fs::create_dir(beside(&path, "unread")).unwrap();
        assert!(file.write(&state("c")).is_err() && file.is_unread());
        assert_eq!(fs::read_to_string(&path).unwrap(), state("b"));
        fs::remove_dir(beside(&path, "unread")).unwrap();
        // There is a state at any time.
        file.keep_unread(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), state("b"), "it has both names");
        for name in ["c", "d"] {
            file.write(&state(name)).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), state(name));
        }
        assert!(!file.is_unread());
        assert_eq!(fs::read_to_string(beside(&path, "unread")).unwrap(), state("b"));
        assert_eq!(fs::read_to_string(beside(&path, "previous")).unwrap(), state("c"));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_synced_is_a_doubt_told_once_and_no_failure() {
        let folder = test_folder("sync");
        let path = folder.join("state.json");
        let mut file = StateFile::new(path.clone());
        let fails = Disk { sync_folder: |_| Err(rustix::io::Errno::INVAL.into()), ..DISK };
        for (disk, name, is_doubtful) in
            [(fails, "a", true), (fails, "b", false), (DISK, "c", false), (fails, "d", true)]
        {
            file.disk = disk;
            let doubt = file.write(&state(name)).unwrap();
            assert_eq!(doubt.is_some_and(|text| text.contains("could not be synced")), is_doubtful, "{name}");
            assert_eq!(fs::read_to_string(&path).unwrap(), state(name));
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn without_links_the_previous_state_is_a_whole_copy_or_the_one_before() {
        let folder = test_folder("no-links");
        let path = folder.join("state.json");
        let previous = || fs::read_to_string(beside(&path, "previous")).unwrap_or_default();
        let mut file = StateFile::new(path.clone());
        file.disk.link = |_, _| Err(rustix::io::Errno::PERM.into());
        for name in ["a", "b", "c"] {
            assert_eq!(file.write(&state(name)), Ok(None));
        }
        assert_eq!(previous(), state("b"));
        // The disk is full: half a copy.
        file.disk.copy = |_, new| {
            fs::write(new, "{")?;
            Err(rustix::io::Errno::NOSPC.into())
        };
        let doubt = file.write(&state("d")).unwrap().unwrap();
        assert!(doubt.contains("could not be kept"), "{doubt}");
        assert_eq!((fs::read_to_string(&path).unwrap(), previous()), (state("d"), state("b")));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "no half copy is left");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_is_no_file_is_a_problem_and_is_not_replaced() {
        let folder = test_folder("no-file");
        let path = folder.join("state.json");
        fs::create_dir_all(&folder).unwrap();
        assert_eq!(StateFile::new(path.clone()).problem(), None, "nothing is there yet");
        write(&path, &state("a")).unwrap();
        assert_eq!(StateFile::new(path.clone()).problem(), None);
        let (socket, link) = (folder.join("socket"), folder.join("link"));
        let _listens = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::os::unix::fs::symlink("socket", &link).unwrap();
        for path in [&folder, &socket, &link] {
            let problem = StateFile::new(path.clone()).problem().unwrap_or_default();
            assert!(problem.contains("this is no file"), "{path:?}: {problem}");
            assert!(write(path, &state("b")).unwrap_err().contains("this is no file"), "{path:?}");
            assert!(!fs::metadata(path).unwrap().is_file());
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_cannot_be_written_leaves_the_old_state() {
        let folder = test_folder("unwritable");
        let path = folder.join("state.json");
        write(&path, &state("a")).unwrap();
        let error = write(&path, &"x".repeat(STATE_FILE_MAX + 1)).unwrap_err();
        assert!(error.contains("state.json: would be longer"), "{error}");
        // A folder has the name of the draft: nobody can write there.
        fs::create_dir(draft(&path)).unwrap();
        assert!(write(&path, &state("b")).is_err());
        assert_eq!(node(&read(&path)), Some("a"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
