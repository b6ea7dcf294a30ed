//! SHA-256 and its sidecar files, in the form that `sha256sum` writes and checks.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// 64 hex digits of `digest`.
pub fn hex(digest: &[u8]) -> String {
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

/// Hash and length of everything `reader` has. `saw` hears of the bytes and may stop it.
pub fn hash_reader<E: From<io::Error>>(reader: &mut dyn Read, mut saw: impl FnMut(u64) -> Result<(), E>) -> Result<(String, u64), E> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 1 << 20];
    let mut length = 0;
    loop {
        let n = match reader.read(&mut buffer) {
            Ok(0) => return Ok((hex(&hash.finalize()), length)),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e.into()),
        };
        hash.update(&buffer[..n]);
        length += n as u64;
        saw(n as u64)?;
    }
}

/// Hash of `bytes`.
pub fn hash_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The line `sha256sum` would write for the file called `name`. Like it, a name with a backslash or a line break is
/// escaped and the line marked with a backslash.
pub fn sidecar_line(sha256: &str, name: &str) -> String {
    let escaped = name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
    let mark = if escaped == name { "" } else { "\\" };
    format!("{mark}{sha256}  {escaped}\n")
}

/// The hash in a sidecar. Its path is not looked at: legacy sidecars name the source instead of the backup.
pub fn parse_sidecar(text: &str) -> Option<String> {
    let line = text.lines().next()?;
    let line = line.strip_prefix('\\').unwrap_or(line);
    let hash = line.get(..64)?;
    let rest = &line[64..];
    let sound = hash.bytes().all(|b| b.is_ascii_hexdigit()) && (rest.is_empty() || rest.starts_with([' ', '\t']));
    sound.then(|| hash.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_sidecar_gives_its_hash_back_whatever_the_name(bytes in proptest::collection::vec(any::<u8>(), 0..50), name in "[^/\0]{1,20}") {
            let hash = hash_bytes(&bytes);
            prop_assert_eq!(parse_sidecar(&sidecar_line(&hash, &name)), Some(hash));
        }

        #[test]
        fn arbitrary_text_is_no_hash_or_a_whole_one(text in ".{0,100}") {
            prop_assert!(parse_sidecar(&text).is_none_or(|h| h.len() == 64));
        }
    }
}
