//! Files: the configuration and secrets beside it, with their permissions; the programs that it names.

use std::fmt;
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::config::{Config, Problem};
use crate::limits::CONFIG_FILE_MAX;

/// A longer program is not looked through for what it sources.
const SCRIPT_MAX: usize = 64 * 1024;
/// Permission bits: others may read; others may write; anybody may execute.
const READABLE: u32 = 0o044;
/// See [`READABLE`].
const WRITABLE: u32 = 0o022;
/// See [`READABLE`].
const EXECUTABLE: u32 = 0o111;

/// Why there is no configuration. Its text is complete, and for a person.
#[derive(Debug)]
pub struct LoadError {
    pub path: PathBuf,
    pub kind: LoadErrorKind,
}

#[derive(Debug)]
pub enum LoadErrorKind {
    /// The file itself cannot be read, and why.
    Unreadable(String),
    /// All that is wrong with its content.
    Problems(Vec<Problem>),
}

impl LoadError {
    /// `follows`, such as ", not started", is put behind the number of problems.
    pub fn text(&self, follows: &str) -> String {
        let path = self.path.display();
        match &self.kind {
            LoadErrorKind::Unreadable(why) => format!("picored: {path}: {why}"),
            LoadErrorKind::Problems(problems) => {
                let plural = if problems.len() == 1 { "problem" } else { "problems" };
                let heading = format!("picored: {path}: {} {plural}{follows}", problems.len());
                problems.iter().fold(heading, |text, problem| format!("{text}\n{problem}"))
            }
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(""))
    }
}

impl std::error::Error for LoadError {}

/// Reads and checks the configuration, the secrets and the programs that it names.
///
/// A program that root must not run is a problem; one that is not there (yet) is a note, since its
/// runs fail, and are retried, as those of any other program (`check-config` is stricter).
pub fn load(path: &Path) -> Result<Config, LoadError> {
    let (mut config, programs) = load_parts(path)?;
    let (unsafe_ones, missing): (Vec<_>, Vec<_>) = programs.into_iter().partition(|found| found.1);
    if !unsafe_ones.is_empty() {
        let problems = unsafe_ones.into_iter().map(|(problem, _)| problem).collect();
        return Err(LoadError { path: path.into(), kind: LoadErrorKind::Problems(problems) });
    }
    config.notes.extend(missing.into_iter().map(|(problem, _)| problem));
    config.notes.sort_by_key(|note| (note.line, note.column));
    config.programs = Vec::new();
    Ok(config)
}

/// The configuration, and what is wrong with the programs that it names; `true`: it is unsafe.
pub(crate) fn load_parts(path: &Path) -> Result<(Config, Vec<(Problem, bool)>), LoadError> {
    let failed = |kind| LoadError { path: path.into(), kind };
    let (text, secrets) = read_config(path).map_err(|why| failed(LoadErrorKind::Unreadable(why)))?;
    let node = host_name().unwrap_or_default();
    let mut config = Config::parse(&text, &node, secrets, &mut read_secret)
        .map_err(|problems| failed(LoadErrorKind::Problems(problems)))?;
    let root = rustix::process::geteuid().is_root();
    config.notes.extend(writable_by_others(path).filter(|_| root));
    let wrong = |problem: &Problem| {
        let (why, is_unsafe) = match look_at_program(Path::new(&problem.text), root) {
            Ok(()) => return None,
            Err(Flaw::Unsafe(why)) => (why, true),
            Err(Flaw::Unusable(why)) => (why, false),
        };
        Some((Problem { text: why, ..problem.clone() }, is_unsafe))
    };
    let mut programs: Vec<_> = config.programs.iter().filter_map(wrong).collect();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    programs.extend(unknown_users(&config, &passwd).map(|problem| (problem, false)));
    Ok((config, programs))
}

/// Users that handlers run as and that `passwd` does not have: their runs fail, and are not tried again.
fn unknown_users(config: &Config, passwd: &str) -> impl Iterator<Item = Problem> {
    let is_known = |user: &str| passwd.lines().any(|line| line.split(':').next() == Some(user));
    config.agent.handlers.iter().filter_map(move |handler| {
        let user = handler.user.as_deref().filter(|user| !is_known(user))?;
        let text = format!("there is no user {user} in /etc/passwd");
        Some(Problem { line: 0, column: 0, path: format!("handlers.{}.user", handler.name), text })
    })
}

/// Who may write the file decides what runs: worth saying, where root runs it.
fn writable_by_others(path: &Path) -> Option<Problem> {
    let mode = fs::metadata(path).ok()?.mode() & 0o7777;
    let text = format!("this file can be written by others (mode {mode:04o}); what it names runs as root");
    (mode & 0o002 != 0).then(|| Problem { line: 0, column: 0, path: String::new(), text })
}

/// The text of the configuration, and whether it may hold secrets: why not, if others may read it.
pub fn read_config(path: &Path) -> Result<(String, Result<(), String>), String> {
    let (text, metadata) = read_bounded(path, CONFIG_FILE_MAX).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            format!("there is no such file; begin with: (umask 077; picored init > {})", path.display())
        }
        _ => reason(&error),
    })?;
    Ok((text, private(&metadata)))
}

/// Reads a file that holds secrets; refuses one that others than its owner may read.
pub fn read_secret(path: &str) -> Result<String, String> {
    let (text, metadata) = read_bounded(Path::new(path), CONFIG_FILE_MAX)
        .map_err(|error| format!("{path}: {}", reason(&error)))?;
    private(&metadata).map_err(|why| {
        format!("{path}: {why}; a file that holds secrets must be its owner's alone (chmod 600)")
    })?;
    Ok(text)
}

/// The whole of a regular file, if it is text of `max` bytes at most.
pub(super) fn read_bounded(path: &Path, max: usize) -> io::Result<(String, Metadata)> {
    // A named pipe would block here for ever.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(io::Error::other(format!("is longer than {max} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| io::Error::other("is not UTF-8 text"))?;
    Ok((text, metadata))
}

fn private(metadata: &Metadata) -> Result<(), String> {
    let mode = metadata.mode() & 0o7777;
    if mode & READABLE != 0 {
        return Err(format!("can be read by others than its owner (mode {mode:04o})"));
    }
    Ok(())
}

/// An error in words, without Rust's "(os error 2)".
pub(super) fn reason(error: &io::Error) -> String {
    let said = error.to_string();
    let said = said.split(" (os error").next().unwrap_or("cannot be read");
    let mut letters = said.chars();
    letters.next().map_or(String::new(), |first| first.to_lowercase().chain(letters).collect())
}

/// Why a program will not do.
enum Flaw {
    /// Root must not run it.
    Unsafe(String),
    /// It cannot be run: not there, not executable.
    Unusable(String),
}

/// Whether picored, as the user that it runs as, can and may run this program.
///
/// It must be an executable regular file. As root neither it nor its folder may be writable by
/// others than root: group and others count, a sticky folder such as /tmp too (`interfaces`, 4.2). The same goes for
/// what a script names that lies beside it and ends in `.sh`: that is what it runs as a part of itself.
pub fn check_program(path: &Path) -> Result<(), String> {
    look_at_program(path, rustix::process::geteuid().is_root()).map_err(|flaw| match flaw {
        Flaw::Unsafe(why) | Flaw::Unusable(why) => why,
    })
}

fn look_at_program(path: &Path, root: bool) -> Result<(), Flaw> {
    let metadata = fs::metadata(path).map_err(|error| unusable(path, &reason(&error)))?;
    if !metadata.is_file() {
        return Err(unusable(path, "is not a regular file"));
    }
    if root {
        is_roots(path)?;
        sourced(path).iter().try_for_each(|part| is_roots(part))?;
    }
    if metadata.mode() & EXECUTABLE == 0 || rustix::fs::access(path, Access::EXEC_OK).is_err() {
        return Err(unusable(path, "is not executable (chmod +x)"));
    }
    Ok(())
}

/// The file, the folder where its name stands, and the one where the file does, if it is a link.
fn is_roots(path: &Path) -> Result<(), Flaw> {
    let real = fs::canonicalize(path).map_err(|error| unusable(path, &reason(&error)))?;
    for path in [Some(path), path.parent(), real.parent()].into_iter().flatten() {
        let metadata = fs::metadata(path).map_err(|error| unusable(path, &reason(&error)))?;
        only_roots(path, &metadata)?;
    }
    Ok(())
}

/// The files beside a script whose names, which end in `.sh`, stand in its text.
fn sourced(script: &Path) -> Vec<PathBuf> {
    let text = read_bounded(script, SCRIPT_MAX).map(|(text, _)| text).unwrap_or_default();
    if !text.starts_with("#!") {
        return Vec::new();
    }
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let mut names: Vec<&str> = text.split(|c| !is_of_name(c)).filter(|word| word.ends_with(".sh")).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|name| script.with_file_name(name)).filter(|path| path.is_file()).collect()
}

fn unusable(path: &Path, why: &str) -> Flaw {
    Flaw::Unusable(format!("{}: {why}", path.display()))
}

fn only_roots(path: &Path, metadata: &Metadata) -> Result<(), Flaw> {
    let (mode, owner) = (metadata.mode(), metadata.uid());
    let path = path.display();
    // root's own group is no other.
    let writable = if metadata.gid() == 0 { WRITABLE & 0o002 } else { WRITABLE };
    if mode & writable != 0 {
        let mode = mode & 0o7777;
        return Err(Flaw::Unsafe(format!(
            "{path} can be written by others (mode {mode:04o}); refused for a program run as root"
        )));
    }
    if owner != 0 {
        return Err(Flaw::Unsafe(format!(
            "{path} belongs to user {owner}, not to root; refused for a program run as root"
        )));
    }
    Ok(())
}

/// This machine's name as the kernel has it, domain and all.
pub fn host_name() -> Option<String> {
    let name =
        fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| fs::read_to_string("/etc/hostname"));
    let name = name.ok()?.trim().to_owned();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use std::fs::DirBuilder;
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A folder of the test's own, removed at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let name =
                format!("picored-files-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            DirBuilder::new().mode(0o700).create(&path).unwrap();
            Self(path)
        }
        fn file(&self, name: &str, content: &str, mode: u32) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, content).unwrap();
            self.set_mode(name, mode);
            path
        }
        fn set_mode(&self, name: &str, mode: u32) {
            fs::set_permissions(self.0.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_missing_configuration_says_what_to_do() {
        let said = load(Path::new("/nonexistent/picored.json")).err().unwrap().to_string();
        let want = "picored: /nonexistent/picored.json: there is no such file; begin with: \
                    (umask 077; picored init > /nonexistent/picored.json)";
        assert_eq!(said, want);
    }

    #[test]
    fn all_problems_are_told_at_once_to_a_person() {
        let folder = Folder::new();
        let path = folder.file("c.json", "{\"insecure\": true,\n \"nodee\": 1,\n \"apps\": []}", 0o644);
        let said = load(&path).err().unwrap().to_string();
        let want = format!(
            "picored: {}: 2 problems\n  2:2 nodee: unknown key; did you mean \"node\"?\n  \
             3:10 apps: must be an object, not a list",
            path.display()
        );
        assert_eq!(said, want);
    }

    #[test]
    fn keys_in_a_file_that_others_read_are_refused() {
        let folder = Folder::new();
        let text = "{\"node\": \"a\", \"keys\": [\"AAAAAAAAAAAAAAAAAAAAAA==\"]}";
        let path = folder.file("c.json", text, 0o644);
        assert!(load(&path).err().unwrap().to_string().contains("can be read by others"));
        folder.set_mode("c.json", 0o600);
        assert!(load(&path).is_ok());
    }

    #[test]
    fn a_secret_must_be_its_owners_alone_and_small() {
        let folder = Folder::new();
        let path = folder.file("s", "A=1\n", 0o600);
        let read = |path: &Path| read_secret(path.to_str().unwrap());
        assert_eq!(read(&path).as_deref(), Ok("A=1\n"));
        for mode in [0o640, 0o604] {
            folder.set_mode("s", mode);
            assert!(read(&path).unwrap_err().contains("can be read by others"), "{mode:o}");
        }
        let big = folder.file("big", &"x".repeat(CONFIG_FILE_MAX + 1), 0o600);
        assert!(read(&big).unwrap_err().contains("longer than"));
        assert!(read(&folder.0).unwrap_err().contains("regular file"));
        assert!(read(Path::new("/nonexistent")).unwrap_err().contains("no such file"));
    }

    #[test]
    fn a_program_must_be_executable_and_root_runs_only_what_is_its_own() {
        let folder = Folder::new();
        let path = folder.file("p", "#!/bin/sh\n", 0o755);
        let path = path.as_path();
        assert_eq!(check_program(path), Ok(()));
        folder.set_mode("p", 0o644);
        assert!(check_program(path).unwrap_err().contains("not executable"));
        assert!(check_program(&folder.0).unwrap_err().contains("regular file"));
        assert!(check_program(Path::new("/nonexistent")).unwrap_err().contains("no such file"));
        folder.set_mode("p", 0o757);
        assert!(matches!(look_at_program(path, true), Err(Flaw::Unsafe(_))));
        assert!(look_at_program(path, false).is_ok());
        folder.set_mode("p", 0o755);
        folder.set_mode("", 0o1777);
        assert!(matches!(look_at_program(path, true), Err(Flaw::Unsafe(_))), "a sticky folder");
    }

    /// Method: of the files beside a script only the one that it names counts.
    #[test]
    fn root_runs_no_script_whose_part_others_may_write() {
        if !rustix::process::geteuid().is_root() {
            return; // Only root's own files are fine at first.
        }
        let folder = Folder::new();
        let script = "#!/bin/sh\nlib=${0%/*}/dns-api.sh\n. \"$lib\"\n. /none/there.sh\n";
        let path = folder.file("p", script, 0o755);
        folder.file("other.sh", "", 0o666);
        let why = |path: &Path| check_program(path).err();
        assert_eq!(why(&path), None, "the part is missing, which the script says");
        folder.file("dns-api.sh", "", 0o644);
        assert_eq!(why(&path), None);
        folder.set_mode("dns-api.sh", 0o646);
        let said = why(&path).expect("refused");
        assert!(said.contains("dns-api.sh can be written by others (mode 0646)"), "{said}");
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/handlers/hetzner");
        assert_eq!(sourced(&shipped), [shipped.with_file_name("dns-api.sh")]);
    }

    #[test]
    fn a_configuration_that_others_write_is_noted() {
        let folder = Folder::new();
        assert_eq!(writable_by_others(&folder.file("a", "", 0o644)), None);
        assert!(writable_by_others(&folder.file("b", "", 0o646)).unwrap().text.contains("mode 0646"));
    }

    #[test]
    fn a_user_that_is_not_there_is_named() {
        let folder = Folder::new();
        let text = r#"{"node": "a", "insecure": true, "handlers": {
            "m": {"mode": "event", "run": ["/bin/true"], "user": "nobodyatall"},
            "n": {"mode": "event", "run": ["/bin/true"], "user": "root"}}}"#;
        let config = load(&folder.file("c.json", text, 0o644)).ok().unwrap();
        let notes: Vec<String> = config.notes.iter().map(Problem::to_string).collect();
        assert_eq!(notes, ["  handlers.m.user: there is no user nobodyatall in /etc/passwd"]);
    }

    #[test]
    fn a_missing_program_is_a_note() {
        let folder = Folder::new();
        let text = "{\"node\": \"a\", \"insecure\": true, \"handlers\": {\"m\": {\"mode\": \"event\", \"run\": [\"/nonexistent\"]}}}";
        let config = load(&folder.file("c.json", text, 0o644)).ok().unwrap();
        let notes: Vec<String> = config.notes.iter().map(Problem::to_string).collect();
        let column = text.find("\"/non").unwrap() + 1;
        assert_eq!(
            notes,
            [format!("  1:{column} handlers.m.run[0]: /nonexistent: no such file or directory")]
        );
    }
}
