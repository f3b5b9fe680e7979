//! The file of gossip keys, written when Serf's queries change them.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use crate::config::keys;
use crate::wire::crypt::KeyRing;

/// Replaces the file as a whole, or not at all; its owner and mode stay. A link is followed.
///
/// Errors: what the system says, with the file's name, for a person.
pub fn write(path: &Path, keys: &KeyRing) -> Result<(), String> {
    replace(path, &keys::file_text(keys)).map_err(|error| format!("{}: {error}", path.display()))
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut new = path.clone().into_os_string();
    new.push(".new");
    let new = Path::new(&new);
    // A rest of a try that was cut short.
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = write_new(new, text, fs::metadata(&path).ok()).and_then(|()| fs::rename(new, &path));
    if written.is_err() {
        let _ = fs::remove_file(new);
        return written;
    }
    // The name, too, is to outlive a power cut.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn write_new(path: &Path, text: &str, old: Option<fs::Metadata>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    if let Some(old) = old {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::crypt::Key;

    #[test]
    fn the_file_is_replaced_with_its_mode_and_links_stay_links() {
        let folder = std::env::temp_dir().join(format!("picored-keyfile-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (file, link) = (folder.join("keys"), folder.join("link"));
        fs::write(&file, "[]").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o400)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        fs::write(folder.join("keys.new"), "a rest").unwrap();
        let keys = KeyRing { keys: vec![Key::new(&[0; 16]).unwrap(), Key::new(&[1; 16]).unwrap()] };
        write(&link, &keys).unwrap();
        let expected = "[\n  \"AAAAAAAAAAAAAAAAAAAAAA==\",\n  \"AQEBAQEBAQEBAQEBAQEBAQ==\"\n]\n";
        assert_eq!(fs::read_to_string(&file).unwrap(), expected);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o400);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let said = write(Path::new("/nonexistent/keys"), &KeyRing::default()).unwrap_err();
        assert!(said.starts_with("/nonexistent/keys: "), "{said}");
    }
}
