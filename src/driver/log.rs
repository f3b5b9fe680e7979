//! The log: one line per event, to a file of limited size or to stderr.
//!
//! Lines look like `2026-11-23T02:41:13.123Z INFO event=… key=value …`. A line that repeats is counted
//! instead. Nothing here can stop or hold up the daemon: what cannot be written is counted, and told when
//! writing works again.

use core::time::Duration;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use log::{Level, LevelFilter, Metadata, Record};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use super::clock;
use super::files::reason;
use super::unsent::write_some;
use crate::config;
use crate::control::text::rfc3339;
use crate::limits::LOG_REPEAT;

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// A log that is open, and not in use yet.
pub struct Opened {
    output: Output,
    level: LevelFilter,
}

/// Opens the log that the configuration wants.
///
/// Errors: the file cannot be opened.
pub fn open(config: &config::Log) -> io::Result<Opened> {
    let output = match &config.file {
        Some(path) => Output::File(LogFile::open(Path::new(&**path), config.max_size)?),
        None => Output::stderr(),
    };
    Ok(Opened { output, level: config.level })
}

impl Opened {
    /// Sends everything that is logged from now on there.
    pub fn take_over(self) {
        let logger = LOGGER.get_or_init(|| Logger(Mutex::new(Lines::new(Output::Stderr(None)))));
        if let Ok(mut lines) = logger.0.lock() {
            lines.turn_to(clock::unix_now(), self.output);
        }
        log::set_max_level(self.level);
        let _ = log::set_logger(logger); // only the first time
    }
}

/// [`open`], and into use.
pub fn init(config: &config::Log) -> io::Result<()> {
    open(config).map(Opened::take_over)
}

/// Opens the file anew, for who moved it away (logrotate, a person). If that fails, the old one stays in use.
pub fn reopen() -> io::Result<()> {
    match LOGGER.get().and_then(|logger| logger.0.lock().ok()) {
        Some(mut lines) => lines.output.reopen(),
        None => Ok(()),
    }
}

/// For who started it: the log itself cannot tell that it cannot be written.
pub fn complain_of_loss() {
    let Some(lines) = LOGGER.get().and_then(|logger| logger.0.lock().ok()) else { return };
    if let (1.., Some(why), Output::File(log)) = (lines.lost, &lines.lost_why, &lines.output) {
        let (path, why) = (log.path.display(), reason(why));
        let text =
            format!("picored: {path}: cannot be written: {why}; what happens is lost until it can be\n");
        let _ = write_stderr(text.as_bytes());
    }
}

/// Where lines go without a configuration: all to stderr.
pub fn init_stderr() {
    let _ = init(&config::Log { level: LevelFilter::Info, file: None, max_size: 0 });
}

struct Logger(Mutex<Lines>);

impl log::Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Our own only: libraries have nothing to say to an operator.
        metadata.target().starts_with("picored")
    }
    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        if let Ok(mut lines) = self.0.lock() {
            lines.line(clock::unix_now(), record.level(), &record.args().to_string());
        }
    }
    fn flush(&self) {
        if let Ok(mut lines) = self.0.lock() {
            lines.tell_repeats(clock::unix_now());
        }
    }
}

/// Counts what repeats and what is lost.
struct Lines {
    output: Output,
    last: (Option<Level>, String),
    repeats: u32,
    repeats_since: Duration,
    lost: u32,
    /// Why the last of them was.
    lost_why: Option<io::Error>,
}

impl Lines {
    fn new(output: Output) -> Self {
        Self {
            output,
            last: (None, String::new()),
            repeats: 0,
            repeats_since: Duration::ZERO,
            lost: 0,
            lost_why: None,
        }
    }

    /// What could not be written so far is told there.
    fn turn_to(&mut self, now: Duration, output: Output) {
        self.tell_repeats(now);
        let lost = self.lost;
        *self = Self { lost, ..Self::new(output) };
    }

    fn line(&mut self, now: Duration, level: Level, text: &str) {
        if self.last.0 == Some(level) && self.last.1 == text {
            self.repeats += 1;
            // The date may jump either way; the difference is what counts.
            if now.abs_diff(self.repeats_since) >= LOG_REPEAT {
                self.tell_repeats(now);
                self.repeats_since = now;
            }
            return;
        }
        self.tell_repeats(now);
        self.last = (Some(level), text.to_owned());
        self.repeats_since = now;
        self.write(now, level, text);
    }

    fn tell_repeats(&mut self, now: Duration) {
        let (count, level) = (core::mem::take(&mut self.repeats), self.last.0.unwrap_or(Level::Info));
        match count {
            0 => {}
            1 => self.write(now, level, "last line repeated once"),
            _ => self.write(now, level, &format!("last line repeated {count} times")),
        }
    }

    fn write(&mut self, now: Duration, level: Level, text: &str) {
        let time = rfc3339(now);
        let mut line = String::with_capacity(time.len() + text.len() + 8);
        if self.lost > 0 {
            line = format!("{time} WARN event=log-lost lines={} lines could not be written\n", self.lost);
        }
        line.push_str(&time);
        line.push(' ');
        line.push_str(level.as_str());
        line.push(' ');
        // What others sent may be in a line: one event stays one line, and no terminal is told anything.
        line.extend(text.chars().map(|c| if c.is_control() { ' ' } else { c }));
        line.push('\n');
        match self.output.write(line.as_bytes()) {
            Ok(()) => self.lost = 0,
            Err(error) => {
                self.lost = self.lost.saturating_add(1);
                self.lost_why = Some(error);
            }
        }
    }
}

enum Output {
    /// If it is a terminal: that, opened anew, so that it never blocks and others who write to it may.
    Stderr(Option<File>),
    File(LogFile),
}

impl Output {
    fn stderr() -> Self {
        let is_terminal = io::stderr().is_terminal();
        Self::Stderr(is_terminal.then(|| never_waiting().write(true).open("/proc/self/fd/2").ok()).flatten())
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) => file.write(line),
            Self::Stderr(Some(terminal)) => write_all_or_fail(terminal, line).0,
            Self::Stderr(None) => write_stderr(line),
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Self::File(file) = self {
            *file = LogFile::open(&file.path, file.max_size)?;
        }
        Ok(())
    }
}

/// Writes only if that does not block: a reader that hangs must not hang us. A pipe that is writable takes
/// at least 4 KiB at once, so longer lines are cut there.
fn write_stderr(line: &[u8]) -> io::Result<()> {
    const ATOMIC_MAX: usize = 4096; // PIPE_BUF
    let stderr = io::stderr();
    let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
    let ready = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    if ready == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let mut stderr = stderr.lock();
    match line.get(..ATOMIC_MAX) {
        None => stderr.write_all(line),
        Some(start) => stderr.write_all(&start[..ATOMIC_MAX - 1]).and_then(|()| stderr.write_all(b"\n")),
    }
}

/// A file that becomes `NAME.1` when it has grown to its limit.
struct LogFile {
    path: PathBuf,
    /// Where a link led when it was opened: that is what grows, and has its predecessor beside it.
    real: PathBuf,
    file: Option<File>,
    size: u64,
    max_size: u64,
    /// The last line was written in part: the disk is, or was, full.
    torn: bool,
}

impl LogFile {
    fn open(path: &Path, max_size: u64) -> io::Result<Self> {
        let file = append(path)?;
        let metadata = file.metadata()?;
        // A pipe or a device (/dev/stdout in a container) does not grow, and must never be moved away.
        let max_size = if metadata.is_file() { max_size } else { u64::MAX };
        let (path, real) = (path.to_owned(), std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()));
        Ok(Self { path, real, file: Some(file), size: metadata.len(), max_size, torn: false })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let grown = self.size.saturating_add(line.len() as u64);
        if grown > self.max_size && self.size > 0 {
            self.make_room()?;
        }
        if self.file.is_none() {
            let file = append(&self.real)?;
            self.size = file.metadata()?.len();
            self.file = Some(file);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        if self.torn {
            file.write_all(b"\n")?;
            self.size += 1;
            self.torn = false;
        }
        let (result, written) = write_all_or_fail(file, line);
        self.size += written as u64;
        self.torn = (1..line.len()).contains(&written);
        result
    }

    /// If the file cannot be moved away it starts anew, for its size still holds; if it cannot even be emptied
    /// (`chattr +a`) it takes no more.
    fn make_room(&mut self) -> io::Result<()> {
        let mut old = self.real.clone().into_os_string();
        old.push(".1");
        match std::fs::rename(&self.real, &old) {
            Ok(()) => self.file = None, // opened at the next write, and again then if that fails
            // A person moved it: what has the name next is a new one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.file = None,
            Err(_) => {
                if let Some(file) = &self.file {
                    file.set_len(0).map_err(|_| io::Error::from(io::ErrorKind::StorageFull))?;
                }
            }
        }
        self.size = 0;
        Ok(())
    }
}

/// All of it, or what went and an error. Never waits where `to` does not.
fn write_all_or_fail(to: &mut File, line: &[u8]) -> (io::Result<()>, usize) {
    let mut written = 0;
    let done = match write_some(to, line, &mut written) {
        Ok(true) => Ok(()),
        Ok(false) => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(error),
    };
    (done, written)
}

/// A named pipe without a reader is an error, one with a full pipe loses lines. And a terminal does not become ours.
fn never_waiting() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed());
    options
}

fn append(path: &Path) -> io::Result<File> {
    never_waiting().append(true).create(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(name: &str, max_size: u64) -> (Lines, PathBuf) {
        let path = std::env::temp_dir().join(format!("picored-log-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        (Lines::new(Output::File(LogFile::open(&path, max_size).unwrap())), path)
    }

    #[test]
    fn repeated_lines_are_counted() {
        let (mut lines, path) = lines("repeat", 1 << 20);
        for _ in 0..13 {
            lines.line(Duration::ZERO, Level::Info, "event=same");
        }
        lines.line(Duration::ZERO, Level::Warn, "event=other\nand\x1b[0m more");
        let text = std::fs::read_to_string(&path).unwrap();
        let _ = std::fs::remove_file(path);
        let expected = "1970-01-01T00:00:00.000Z INFO event=same\n\
                        1970-01-01T00:00:00.000Z INFO last line repeated 12 times\n\
                        1970-01-01T00:00:00.000Z WARN event=other and [0m more\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn lines_that_repeat_for_long_are_told_now_and_then() {
        let (mut lines, path) = lines("long", 1 << 20);
        for sec in 0..150 {
            lines.line(Duration::from_secs(sec), Level::Info, "event=same");
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let _ = std::fs::remove_file(path);
        assert_eq!(text.matches("last line repeated 60 times").count(), 2, "{text}");
    }

    #[test]
    fn a_file_keeps_one_predecessor_and_its_size() {
        let (mut lines, path) = lines("size", 1_000);
        for n in 0..200 {
            lines.line(Duration::ZERO, Level::Info, &format!("event=line n={n}"));
        }
        let old = PathBuf::from(format!("{}.1", path.display()));
        let (new_size, old_size) =
            (std::fs::metadata(&path).unwrap().len(), std::fs::metadata(&old).unwrap().len());
        assert!(new_size <= 1_000 && (900..=1_000).contains(&old_size), "{new_size} {old_size}");
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("n=199\n"));
        let _ = std::fs::remove_file(path);
        let _ = std::fs::remove_file(old);
    }

    #[test]
    fn a_link_stays_one_and_the_predecessor_is_beside_what_it_names() {
        let folder = std::env::temp_dir().join(format!("picored-log-{}-link", std::process::id()));
        std::fs::create_dir_all(folder.join("disk")).unwrap();
        std::os::unix::fs::symlink("disk/real", folder.join("log")).unwrap();
        let mut file = LogFile::open(&folder.join("log"), 100).unwrap();
        (0..100).for_each(|_| file.write(b"a line\n").unwrap());
        assert!(std::fs::symlink_metadata(folder.join("log")).unwrap().is_symlink());
        let names = |path| std::fs::read_dir(path).unwrap().count();
        assert_eq!((names(folder.clone()), names(folder.join("disk"))), (2, 2));
        assert!(std::fs::metadata(folder.join("disk/real.1")).unwrap().len() <= 100);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_moved_away_starts_anew_and_one_that_cannot_be_emptied_takes_no_more() {
        let path = std::env::temp_dir().join(format!("picored-log-{}-stays", std::process::id()));
        let in_the_way = PathBuf::from(format!("{}.1", path.display()));
        std::fs::create_dir_all(in_the_way.join("x")).unwrap();
        let mut file = LogFile::open(&path, 100).unwrap();
        (0..100).for_each(|_| file.write(b"a line\n").unwrap());
        assert!((1..=100).contains(&std::fs::metadata(&path).unwrap().len()));
        file.size = 100;
        file.file = Some(File::open(&path).unwrap()); // cannot be emptied
        assert_eq!(file.write(b"a line\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
        std::fs::remove_dir_all(in_the_way).unwrap();
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew_on_request() {
        let (mut lines, path) = lines("reopen", 1 << 20);
        let moved = PathBuf::from(format!("{}.moved", path.display()));
        lines.line(Duration::ZERO, Level::Info, "event=before");
        std::fs::rename(&path, &moved).unwrap();
        lines.line(Duration::ZERO, Level::Info, "event=meanwhile");
        lines.output.reopen().unwrap();
        lines.line(Duration::ZERO, Level::Info, "event=after");
        let read = |path| std::fs::read_to_string(path).unwrap();
        assert!(read(&moved).ends_with("event=meanwhile\n") && read(&path).ends_with("event=after\n"));
        assert_eq!(read(&path).lines().count(), 1);
        let _ = std::fs::remove_file(path);
        let _ = std::fs::remove_file(moved);
    }

    #[test]
    fn a_named_pipe_without_a_reader_is_refused_at_once() {
        let path = std::env::temp_dir().join(format!("picored-log-{}-fifo", std::process::id()));
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let opened = LogFile::open(&path, 4096);
        let _ = std::fs::remove_file(&path);
        assert!(opened.is_err());
    }

    #[test]
    fn a_device_is_never_moved_away() {
        let mut device = LogFile::open(Path::new("/dev/null"), 10).unwrap();
        (0..100).for_each(|_| device.write(b"a line\n").unwrap());
        assert!(
            device.file.is_some() && Path::new("/dev/null").exists() && !Path::new("/dev/null.1").exists()
        );
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_told() {
        let full = LogFile::open(Path::new("/dev/full"), u64::MAX).unwrap();
        let (good, path) = lines("full", 1 << 20);
        let mut lines = Lines::new(Output::File(full));
        lines.line(Duration::ZERO, Level::Info, "one");
        lines.line(Duration::ZERO, Level::Info, "two");
        lines.turn_to(Duration::ZERO, good.output);
        lines.line(Duration::ZERO, Level::Info, "three");
        let text = std::fs::read_to_string(&path).unwrap();
        let _ = std::fs::remove_file(path);
        assert!(text.contains("event=log-lost lines=2"), "{text}");
        assert!(text.ends_with("INFO three\n"), "{text}");
    }
}
