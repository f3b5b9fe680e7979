//! The file of gossip keys, written when Serf's queries change them.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use super::files::read_bounded;
use crate::config::keys;
use crate::limits::CONFIG_FILE_MAX;
use crate::wire::crypt::KeyRing;

/// Replaces the file as a whole, or not at all; its owner stays, and of its mode what its owner may do. A link is
/// followed. `known` is what the file held when it was last read or written: what a person wrote there since is
/// not replaced.
///
/// `Ok`: it is written; with a text, for a person, if a power cut may still undo that. Errors: what the system says,
/// with the file's name, for a person.
pub fn write(path: &Path, keys: &KeyRing, known: &KeyRing) -> Result<Option<String>, String> {
    let named = |error: io::Error| format!("{}: {error}", path.display());
    let file = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    is_known(&file, keys, known).map_err(named)?;
    replace(&file, &keys::file_text(keys)).map_err(named)?;
    // The name, too, is to outlive a power cut.
    let synced = File::open(folder(&file)).and_then(|folder| folder.sync_all());
    Ok(synced
        .err()
        .map(|error| format!("written, but its folder could not be synced to the disk: {}", named(error))))
}

fn is_known(path: &Path, keys: &KeyRing, known: &KeyRing) -> io::Result<()> {
    let text = match read_bounded(path, CONFIG_FILE_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?.0,
    };
    match keys::parse_file(&text) {
        Ok(held) if held == *keys || held == *known => Ok(()),
        _ => Err(io::Error::other(
            "the file was changed and not reloaded; see that it holds the keys in use, too, and run `picored reload`",
        )),
    }
}

pub(super) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Nobody else's: what has this name is a rest of a try that was cut short.
pub(super) fn draft(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".picored-tmp");
    folder(path).join(name)
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = draft(path);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = write_new(&new, text, fs::metadata(path).ok()).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

fn write_new(path: &Path, text: &str, old: Option<Metadata>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    if let Some(old) = old {
        let own = file.metadata()?;
        keep_owner((own.uid(), own.gid()), (old.uid(), old.gid()), &mut |uid, gid| fchown(&file, uid, gid))?;
        // Never more than its owner, whatever the old one allowed: these are new keys.
        file.set_permissions(Permissions::from_mode(old.mode() & 0o700))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// The group may do nothing with the file, so that it cannot be kept, as in the hands of others than root, is no harm.
fn keep_owner(
    own: (u32, u32),
    old: (u32, u32),
    change: &mut dyn FnMut(Option<u32>, Option<u32>) -> io::Result<()>,
) -> io::Result<()> {
    if own.1 != old.1 {
        let _ = change(None, Some(old.1));
    }
    if own.0 != old.0 { change(Some(old.0), None) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::crypt::Key;

    const WRITTEN: &str = "[\n  \"AAAAAAAAAAAAAAAAAAAAAA==\",\n  \"AQEBAQEBAQEBAQEBAQEBAQ==\"\n]\n";

    fn ring(keys: &[u8]) -> KeyRing {
        KeyRing { keys: keys.iter().map(|&byte| Key::new(&[byte; 16]).unwrap()).collect() }
    }

    fn test_folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("picored-keyfile-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn write_with_mode(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_file_alone_is_replaced_its_owner_s_mode_stays_and_links_stay_links() {
        let folder = test_folder("replace");
        let (file, link) = (folder.join("keys"), folder.join("link"));
        std::os::unix::fs::symlink(&file, &link).unwrap();
        fs::write(folder.join("keys.new"), "an operator's").unwrap();
        fs::write(folder.join(".keys.picored-tmp"), "a rest").unwrap();
        for (mode, expected) in [(0o400, 0o400), (0o644, 0o600), (0o4670, 0o600)] {
            write_with_mode(&file, "[\"AAAAAAAAAAAAAAAAAAAAAA==\"]", mode);
            assert_eq!(write(&link, &ring(&[0, 1]), &ring(&[0])), Ok(None));
            assert_eq!(fs::read_to_string(&file).unwrap(), WRITTEN);
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, expected);
            fs::remove_file(&file).unwrap();
        }
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(folder.join("keys.new")).unwrap(), "an operator's");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_a_person_wrote_since_is_not_replaced() {
        let folder = test_folder("staged");
        let file = folder.join("keys");
        for staged in ["[\"AgICAgICAgICAgICAgICAg==\", \"AAAAAAAAAAAAAAAAAAAAAA==\"]", "[half a"] {
            write_with_mode(&file, staged, 0o600);
            let said = write(&file, &ring(&[0, 1]), &ring(&[0])).unwrap_err();
            assert!(said.starts_with(file.to_str().unwrap()) && said.contains("not reloaded"), "{said}");
            assert_eq!(fs::read_to_string(&file).unwrap(), staged);
        }
        // What is to be there may be there already, and no file is nobody's work.
        write_with_mode(&file, "[\"AAAAAAAAAAAAAAAAAAAAAA==\", \"AQEBAQEBAQEBAQEBAQEBAQ==\"]", 0o600);
        assert_eq!(write(&file, &ring(&[0, 1]), &ring(&[0])), Ok(None));
        fs::remove_file(&file).unwrap();
        assert_eq!(write(&file, &ring(&[0, 1]), &ring(&[0])), Ok(None));
        assert_eq!(fs::read_to_string(&file).unwrap(), WRITTEN);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_owner_is_kept_or_it_fails_and_the_group_is_kept_if_that_is_allowed() {
        let not_allowed = || Err(io::ErrorKind::PermissionDenied.into());
        let mut asked = Vec::new();
        let result = keep_owner((7, 7), (7, 8), &mut |uid, gid| {
            asked.push((uid, gid));
            not_allowed()
        });
        assert!(result.is_ok() && asked == [(None, Some(8))], "{asked:?}");
        assert!(keep_owner((7, 7), (8, 7), &mut |_, _| not_allowed()).is_err());
        assert!(keep_owner((7, 7), (7, 7), &mut |_, _| unreachable!("nothing differs")).is_ok());
        let mut asked = Vec::new();
        let result = keep_owner((0, 0), (8, 9), &mut |uid, gid| {
            asked.push((uid, gid));
            Ok(())
        });
        assert!(result.is_ok() && asked == [(None, Some(9)), (Some(8), None)], "{asked:?}");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let said =
            write(Path::new("/nonexistent/keys"), &KeyRing::default(), &KeyRing::default()).unwrap_err();
        assert!(said.starts_with("/nonexistent/keys: "), "{said}");
    }
}
