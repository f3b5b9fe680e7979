//! AES-GCM with a key ring (protocol page, section 5). The nonce is an argument.

use core::fmt;

use aes_gcm::aead::array::Array;
use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::aes::Aes192;
use aes_gcm::{Aes128Gcm, Aes256Gcm, AesGcm};

use super::Error;
use crate::limits::KEYS_MAX;

type Aes192Gcm = AesGcm<Aes192, U12>;

/// Version byte and nonce, before the ciphertext.
pub(super) const HEAD: usize = 1 + 12;
/// The tag after the ciphertext.
const TAG: usize = 16;
/// What version 1 adds.
const OVERHEAD: usize = HEAD + TAG;
/// AES's block: version 0 pads to it (PKCS#7, 1 to 16 bytes).
const BLOCK: usize = 16;

/// One key. Does not show itself in debug output.
#[derive(Clone)]
pub struct Key {
    bytes: Box<[u8]>,
    cipher: Cipher,
}

// Boxed: the expanded keys are of different sizes, up to a KiB, and there are few of them.
#[derive(Clone)]
enum Cipher {
    Aes128(Box<Aes128Gcm>),
    Aes192(Box<Aes192Gcm>),
    Aes256(Box<Aes256Gcm>),
}

impl Key {
    /// A key of 16, 24 or 32 bytes (AES-128, -192, -256); `None` for any other length.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let cipher = match bytes.len() {
            16 => Cipher::Aes128(Box::new(Aes128Gcm::new_from_slice(bytes).ok()?)),
            24 => Cipher::Aes192(Box::new(Aes192Gcm::new_from_slice(bytes).ok()?)),
            32 => Cipher::Aes256(Box::new(Aes256Gcm::new_from_slice(bytes).ok()?)),
            _ => return None,
        };
        Some(Self { bytes: bytes.into(), cipher })
    }

    /// The key itself: for the key file and for `serf keys -list`, for nobody else.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Eight hexadecimal digits that tell keys apart and say nothing of them: the start of the tag over nothing,
    /// under a nonce that no counter comes to.
    pub fn fingerprint(&self) -> String {
        let tag = self.encrypt(&[0xFF; 12], b"picored key fingerprint", &mut []);
        tag.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }

    fn encrypt(&self, nonce: &[u8; 12], aad: &[u8], text: &mut [u8]) -> [u8; TAG] {
        let nonce = Array::from(*nonce);
        let tag = match &self.cipher {
            Cipher::Aes128(aes) => aes.encrypt_inout_detached(&nonce, aad, text.into()),
            Cipher::Aes192(aes) => aes.encrypt_inout_detached(&nonce, aad, text.into()),
            Cipher::Aes256(aes) => aes.encrypt_inout_detached(&nonce, aad, text.into()),
        };
        tag.expect("only 64 GiB and more are too much for GCM").into()
    }

    /// Leaves `text` as it is unless the tag fits.
    fn decrypt(&self, nonce: &[u8; 12], aad: &[u8], text: &mut [u8], tag: &[u8; TAG]) -> bool {
        let (nonce, tag) = (Array::from(*nonce), Array::from(*tag));
        let result = match &self.cipher {
            Cipher::Aes128(aes) => aes.decrypt_inout_detached(&nonce, aad, text.into(), &tag),
            Cipher::Aes192(aes) => aes.decrypt_inout_detached(&nonce, aad, text.into(), &tag),
            Cipher::Aes256(aes) => aes.decrypt_inout_detached(&nonce, aad, text.into(), &tag),
        };
        result.is_ok()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Key {}

/// Why the keys stay as they are. Its text is an answer to `serf keys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// Neither 16 nor 24 nor 32 bytes.
    Length,
    /// [`KEYS_MAX`] are there.
    Full,
    /// Nobody installed it.
    Unknown,
    /// The one that encrypts cannot be removed.
    Primary,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => f.write_str("this is not a key: keys have 16, 24 or 32 bytes"),
            Self::Full => write!(f, "there are {KEYS_MAX} keys already; remove one first"),
            Self::Unknown => f.write_str("this key is not installed here; install it first"),
            Self::Primary => f.write_str("this key encrypts; let another one do so before it is removed"),
        }
    }
}

/// The keys of this node: the first encrypts, all decrypt. No keys: nothing is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRing {
    pub keys: Vec<Key>,
}

impl KeyRing {
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    // Serf's rules for a ring (P 8.2). Each gives whether anything changed.

    /// Adds a key that decrypts; one that is there already stays where it is.
    pub fn install(&mut self, bytes: &[u8]) -> Result<bool, KeyError> {
        let key = Key::new(bytes).ok_or(KeyError::Length)?;
        if self.keys.contains(&key) {
            return Ok(false);
        }
        if self.keys.len() >= KEYS_MAX {
            return Err(KeyError::Full);
        }
        self.keys.push(key);
        Ok(true)
    }

    /// Lets an installed key encrypt.
    pub fn make_primary(&mut self, bytes: &[u8]) -> Result<bool, KeyError> {
        let at = self.position(bytes).ok_or(KeyError::Unknown)?;
        let key = self.keys.remove(at);
        self.keys.insert(0, key);
        Ok(at > 0)
    }

    /// Removes a key. That it is not there is no error.
    pub fn remove(&mut self, bytes: &[u8]) -> Result<bool, KeyError> {
        match self.position(bytes) {
            None => Ok(false),
            Some(0) => Err(KeyError::Primary),
            Some(at) => {
                self.keys.remove(at);
                Ok(true)
            }
        }
    }

    fn position(&self, bytes: &[u8]) -> Option<usize> {
        self.keys.iter().position(|key| *key.bytes == *bytes)
    }

    /// Bytes that encryption adds (version 1): 29, or 0 without keys.
    pub fn overhead(&self) -> usize {
        if self.is_empty() { 0 } else { OVERHEAD }
    }

    /// Appends version, nonce, ciphertext and tag of `plain` to `out`. Needs at least one key; appends
    /// nothing without one. `plain` must not be empty: old peers crash on that.
    pub fn seal(&self, nonce: [u8; 12], aad: &[u8], plain: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEAD]);
        out.extend_from_slice(plain);
        self.seal_in_place(nonce, aad, out, start);
    }

    /// Like [`KeyRing::seal`], of `out[start + HEAD..]`; the first [`HEAD`] bytes are filled in.
    pub(super) fn seal_in_place(&self, nonce: [u8; 12], aad: &[u8], out: &mut Vec<u8>, start: usize) {
        self.seal_as(1, nonce, aad, out, start);
    }

    /// Like [`KeyRing::seal`], in version 0 (padded), which only peers of protocol version 1 send. We
    /// understand it and never send it; this exists so that tests can.
    pub fn seal_version_0(&self, nonce: [u8; 12], aad: &[u8], plain: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEAD]);
        out.extend_from_slice(plain);
        let padding = BLOCK - plain.len() % BLOCK;
        out.resize(out.len() + padding, padding as u8);
        self.seal_as(0, nonce, aad, out, start);
    }

    fn seal_as(&self, version: u8, nonce: [u8; 12], aad: &[u8], out: &mut Vec<u8>, start: usize) {
        let Some(key) = self.keys.first() else {
            debug_assert!(false, "sealing needs a key");
            return out.truncate(start);
        };
        let (head, text) = out[start..].split_at_mut(HEAD);
        head[0] = version;
        head[1..].copy_from_slice(&nonce);
        let tag = key.encrypt(&nonce, aad, text);
        out.extend_from_slice(&tag);
    }

    /// Decrypts in place; tries the keys in order. Returns the plaintext, a part of `sealed`, never empty.
    ///
    /// [`Error::NotAuthentic`]: no key fits, or it was never encrypted (no possible length, no known version).
    /// [`Error::Malformed`]: authentic, but badly padded or empty.
    pub fn open<'p>(&self, aad: &[u8], sealed: &'p mut [u8]) -> Result<&'p mut [u8], Error> {
        let (&mut version, rest) = sealed.split_first_mut().ok_or(Error::NotAuthentic)?;
        let (nonce, rest) = rest.split_first_chunk_mut::<12>().ok_or(Error::NotAuthentic)?;
        let (text, tag) = rest.split_last_chunk_mut::<TAG>().ok_or(Error::NotAuthentic)?;
        // Version 0 is always padded to whole blocks, one at least.
        let sound = match version {
            0 => !text.is_empty() && text.len().is_multiple_of(BLOCK),
            1 => true,
            _ => false,
        };
        if !sound || !self.keys.iter().any(|key| key.decrypt(nonce, aad, text, tag)) {
            return Err(Error::NotAuthentic);
        }
        let len = if version == 0 { unpadded(text)? } else { text.len() };
        if len == 0 {
            return Err(Error::Malformed);
        }
        Ok(&mut text[..len])
    }
}

/// How long `text` is without its PKCS#7 padding. The version byte is not authenticated, so the whole
/// padding is looked at, not only its length (Go looks at neither, and crashes).
fn unpadded(text: &[u8]) -> Result<usize, Error> {
    let padding = usize::from(*text.last().ok_or(Error::Malformed)?);
    let len = text.len().checked_sub(padding).ok_or(Error::Malformed)?;
    let sound =
        (1..=BLOCK).contains(&padding) && text[len..].iter().all(|&byte| usize::from(byte) == padding);
    if sound { Ok(len) } else { Err(Error::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(keys: &[&[u8]]) -> KeyRing {
        KeyRing { keys: keys.iter().map(|key| Key::new(key).unwrap()).collect() }
    }

    #[test]
    fn only_the_lengths_of_aes_make_a_key() {
        let good: Vec<usize> = (0..70).filter(|&len| Key::new(&vec![7; len]).is_some()).collect();
        assert_eq!(good, [16, 24, 32]);
    }

    #[test]
    fn any_key_of_the_ring_opens_what_its_first_key_sealed() {
        let (new, old, other) = (ring(&[&[1; 32], &[2; 16]]), ring(&[&[2; 16]]), ring(&[&[3; 24]]));
        let mut sealed = Vec::new();
        old.seal([9; 12], b"label", b"hello", &mut sealed);
        assert_eq!(sealed.len(), 5 + old.overhead());
        assert_eq!(other.open(b"label", &mut sealed.clone()), Err(Error::NotAuthentic));
        assert_eq!(new.open(b"other", &mut sealed.clone()), Err(Error::NotAuthentic));
        assert_eq!(new.open(b"label", &mut sealed).unwrap(), b"hello");
    }

    #[test]
    fn an_empty_plaintext_is_refused_though_it_is_authentic() {
        let keys = ring(&[&[1; 16]]);
        let (mut one, mut zero) = (Vec::new(), Vec::new());
        keys.seal([0; 12], b"", b"", &mut one);
        keys.seal_version_0([0; 12], b"", b"", &mut zero);
        assert_eq!(keys.open(b"", &mut one), Err(Error::Malformed));
        assert_eq!(keys.open(b"", &mut zero), Err(Error::Malformed));
    }

    #[test]
    fn a_ring_changes_by_serfs_rules_only() {
        let mut keys = ring(&[&[1; 16]]);
        assert_eq!(keys.install(&[2; 32]), Ok(true));
        assert_eq!(keys.install(&[2; 32]), Ok(false));
        assert_eq!(keys.install(&[2; 20]), Err(KeyError::Length));
        assert_eq!(keys.make_primary(&[3; 16]), Err(KeyError::Unknown));
        assert_eq!(keys.remove(&[1; 16]), Err(KeyError::Primary));
        assert_eq!(keys, ring(&[&[1; 16], &[2; 32]]));
        assert_eq!(keys.make_primary(&[2; 32]), Ok(true));
        assert_eq!(keys.make_primary(&[2; 32]), Ok(false));
        assert_eq!(keys, ring(&[&[2; 32], &[1; 16]]));
        assert_eq!(keys.remove(&[1; 16]), Ok(true));
        assert_eq!(keys.remove(&[1; 16]), Ok(false));
        assert_eq!(keys, ring(&[&[2; 32]]));
        let many = (3..).take(KEYS_MAX).map(|n| keys.install(&[n; 16])).collect::<Vec<_>>();
        assert_eq!(many.iter().filter(|result| **result == Ok(true)).count(), KEYS_MAX - 1);
        assert_eq!(many.last(), Some(&Err(KeyError::Full)));
    }

    #[test]
    fn a_fingerprint_tells_keys_apart_and_is_short() {
        let print = |byte| Key::new(&[byte; 32]).unwrap().fingerprint();
        assert_eq!(print(1), print(1));
        assert_ne!(print(1), print(2));
        assert_eq!(print(1).len(), 8);
    }

    #[test]
    fn debug_output_says_nothing_of_a_key() {
        let shown = format!("{:?} {:?}", ring(&[&[0xAB; 16]]), ring(&[]));
        assert_eq!(shown, "KeyRing { keys: [Key(..)] } KeyRing { keys: [] }");
    }
}
