//! SHA-256 and its sidecar files, in the form that `sha256sum` writes and checks.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

/// 64 hex digits of `digest`.
pub fn hex(digest: &[u8]) -> String {
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

/// Hash and length of everything `reader` has. `saw` hears of the bytes and may stop it.
pub fn hash_reader<E: From<io::Error>>(reader: &mut dyn Read, saw: impl FnMut(u64) -> Result<(), E>) -> Result<(String, u64), E> {
    let mut hash = Sha256::new();
    let length = update_from(reader, &mut hash, saw)?;
    Ok((hex(&hash.finalize()), length))
}

/// Adds everything that `reader` has to `hash`; how many bytes that is. `saw` hears of them and may stop it.
pub fn update_from<E: From<io::Error>>(
    reader: &mut dyn Read,
    hash: &mut Sha256,
    mut saw: impl FnMut(u64) -> Result<(), E>,
) -> Result<u64, E> {
    // What stays in the processor's second cache is hashed from there.
    let mut buffer = vec![0u8; 256 << 10];
    let mut length = 0;
    loop {
        let n = match reader.read(&mut buffer) {
            Ok(0) => return Ok(length),
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

/// A checksum file may be so long; longer ones are none.
pub const SIDECAR_LIMIT: u64 = 64 << 10;

/// The hash in a sidecar that is what `sha256sum`, here or on Windows, writes for the file called `name`, in whatever
/// folder, and nothing else.
pub fn parse_sidecar_of(text: &str, name: &str) -> Option<String> {
    let line = text.strip_suffix('\n').map_or(text, |l| l.strip_suffix('\r').unwrap_or(l));
    let (hash, rest) = (parse_sidecar(line)?, line.strip_prefix('\\').unwrap_or(line).get(64..)?);
    let named = rest.strip_prefix("  ").or_else(|| rest.strip_prefix(" *"))?;
    let wanted = sidecar_line(&hash, name);
    let (marked, wanted) = (wanted.starts_with('\\'), wanted.trim_end_matches('\n').split_once("  ")?.1);
    let fits = named == wanted || named.strip_suffix(wanted).is_some_and(|folder| folder.ends_with(['/', '\\']));
    (fits && line.starts_with('\\') == marked).then_some(hash)
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
        fn a_sidecar_speaks_of_one_file_alone(bytes in proptest::collection::vec(any::<u8>(), 0..50), name in "[^/\0]{1,20}", other in "[^/\0]{1,20}") {
            let hash = hash_bytes(&bytes);
            let line = sidecar_line(&hash, &name);
            prop_assert_eq!(parse_sidecar_of(&line, &name), Some(hash.clone()));
            prop_assert_eq!(parse_sidecar_of(&line, &other).is_some(), name == other);
            prop_assert_eq!(parse_sidecar_of(&format!("{line}x"), &name), None);
        }

        #[test]
        fn arbitrary_text_is_no_hash_or_a_whole_one(text in ".{0,100}") {
            prop_assert!(parse_sidecar(&text).is_none_or(|h| h.len() == 64));
        }
    }

    #[test]
    fn what_sha256sum_writes_on_any_system_is_a_checksum_and_what_is_more_or_less_is_none() {
        let hash = hash_bytes(b"x");
        let upper = hash.to_uppercase();
        for good in [
            format!("{hash}  a.b\n"),
            format!("{hash} *a.b\r\n"),
            format!("{upper}  a.b"),
            format!("{hash}  /some/where/a.b\n"),
            format!("{hash}  C:\\x\\a.b\n"),
        ] {
            assert_eq!(parse_sidecar_of(&good, "a.b").as_ref(), Some(&hash), "{good:?}");
        }
        for bad in [
            hash.clone(),
            format!("{hash}  a.c\n"),
            format!("{hash}  xa.b\n"),
            format!("{hash}  a.b\n\n"),
            format!("{hash}   a.b\n"),
            format!("\\{hash}  a.b\n"),
            format!("{hash}\ta.b\n"),
        ] {
            assert_eq!(parse_sidecar_of(&bad, "a.b"), None, "{bad:?}");
        }
    }
}
