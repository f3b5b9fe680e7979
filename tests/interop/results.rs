//! Where tests put their lines of a table.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::{env, thread};

/// Appends a line to the file that this variable names, if it is set: of this run alone, the script that set it makes
/// the table. Before the columns, all separated by tabs, comes the test's name, for the order of the table.
pub fn append(variable: &str, columns: &[&str]) {
    let Some(path) = env::var_os(variable) else { return };
    let test = thread::current().name().unwrap_or_default().to_owned();
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let line = format!("{test}\t{}\n", columns.join("\t"));
    let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
    assert!(written.is_ok() || thread::panicking(), "{}: {written:?}", path.display());
}
