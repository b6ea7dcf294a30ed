//! What must hold of any bytes whatever that reach a parser of this crate. `npm run fuzz` looks for bytes that break one
//! of these; `tests/fuzz_properties.rs` tries again all that are kept in `fuzz/corpus`.

use std::io::Write;
use std::path::Path;

use agentic_qe_backup::backup_set::metadata::Metadata;
use agentic_qe_backup::backup_set::names::{self, Artefact};
use agentic_qe_backup::backup_set::timestamp::Timestamp;
use agentic_qe_backup::backup_set::{archive, checksum, gzip_blocks};
use agentic_qe_backup::sqlite::{header, health, posix_locks};

/// A property: panics if it does not hold of `bytes`.
pub type Property = fn(&[u8]);

/// Each with the name of its target and of its folder in the corpus.
pub const ALL: [(&str, Property); 7] = [
    ("names", names_are_what_they_say),
    ("assigned", assigned_names_differ),
    ("sidecar", a_sidecar_is_a_hash_or_nothing),
    ("metadata", metadata_survives_a_round_trip),
    ("header", a_header_has_a_possible_layout),
    ("archive", an_archive_has_only_members_of_one_set),
    ("database", a_copy_gets_a_verdict),
];

/// A file name that is taken for part of a set is the name that such a part has.
pub fn names_are_what_they_say(bytes: &[u8]) {
    let Ok(name) = std::str::from_utf8(bytes) else { return };
    if let Some((timestamp, artefact)) = names::parse(name) {
        let made = match artefact {
            Artefact::Database(base) => names::database(&base, timestamp),
            Artefact::Sidecar(base) => names::sidecar(&names::database(&base, timestamp)),
            Artefact::Metadata => names::metadata(timestamp),
            Artefact::Seal => names::seal(timestamp),
            Artefact::Archive => names::archive(timestamp),
            Artefact::ArchiveSidecar => names::sidecar(&names::archive(timestamp)),
        };
        assert_eq!(made, name);
    }
    if let Ok(timestamp) = name.parse::<Timestamp>() {
        assert_eq!(timestamp.to_string(), name);
        assert!(timestamp.next() > timestamp);
    }
}

/// The names that databases get within a set are flat, are theirs alone on any file system, and are known again.
pub fn assigned_names_differ(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut sources: Vec<&str> = text.split('\n').filter(|s| s.split('/').all(|part| !matches!(part, "" | "." | ".."))).collect();
    sources.sort_unstable();
    sources.dedup();
    let Ok(timestamp) = "20250116-120000".parse::<Timestamp>() else { unreachable!() };
    let assigned = names::assign(&sources);
    assert_eq!(assigned.len(), sources.len());
    let mut seen = std::collections::HashSet::new();
    for name in assigned {
        assert!(!name.is_empty() && !name.contains('/'), "{name:?}");
        assert_eq!(names::parse(&names::database(&name, timestamp)), Some((timestamp, Artefact::Database(name.clone()))));
        assert!(seen.insert(name.to_lowercase()), "{name:?} is given twice");
    }
}

/// A checksum file is a whole hash or nothing.
pub fn a_sidecar_is_a_hash_or_nothing(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(hash) = checksum::parse_sidecar(text) {
        assert!(hash.len() == 64 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{hash:?}");
    }
    // To the letter, it is at most the same hash.
    let strict = checksum::parse_sidecar_of(text, "agentdb.db.backup.20250116-120000");
    assert!(strict.is_none() || strict == checksum::parse_sidecar(text));
}

/// A record that is read and written again says the same.
pub fn metadata_survives_a_round_trip(bytes: &[u8]) {
    let Ok(read) = Metadata::parse(bytes, "record") else { return };
    let Ok(written) = read.to_json() else { panic!("what was read can't be written") };
    match Metadata::parse(&written, "record") {
        Ok(again) => assert_eq!(again, read),
        Err(e) => panic!("what was written can't be read: {e}"),
    }
}

/// A header that is taken for one has a layout that SQLite knows, and keeps what a restore must keep.
pub fn a_header_has_a_possible_layout(bytes: &[u8]) {
    let Some(h) = header::parse(bytes) else { return };
    assert!((512..=65536).contains(&h.layout.page_size) && h.layout.page_size.is_power_of_two());
    let cookie = header::next_cookie(h.schema_cookie);
    let merged = header::merge_page1(bytes, bytes, cookie);
    assert!(header::same_page1(&merged, bytes));
    assert_eq!(header::parse(&merged).map(|h| h.schema_cookie), Some(cookie));
}

/// Whatever is in an archive, only flat names of one set come out of it, none of them twice. The bytes are tried as they
/// are and, since few bytes are a gzip stream, compressed, as other tools do it and as ours do.
pub fn an_archive_has_only_members_of_one_set(bytes: &[u8]) {
    in_a_file(bytes, read_archive);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let Ok(compressed) = gzip.write_all(bytes).and_then(|()| gzip.finish()) else { unreachable!() };
    in_a_file(&compressed, read_archive);
    let mut gzip = gzip_blocks::Writer::new(Vec::new());
    let Ok(ours) = gzip.write_all(bytes).and_then(|()| gzip.finish()) else { unreachable!() };
    in_a_file(&ours, read_archive);
}

fn read_archive(path: &Path) {
    let (mut seen, mut sizes) = (std::collections::HashSet::new(), Vec::new());
    let mut of = None;
    let read = archive::read(path, |member, body| {
        let name = member.name;
        assert_eq!(names::parse(name), Some((member.timestamp, member.artefact.clone())));
        assert!(!name.contains('/') && seen.insert(name.to_lowercase()), "{name:?}");
        assert_eq!(*of.get_or_insert(member.timestamp), member.timestamp);
        sizes.push((name.to_owned(), member.size));
        // A body that can't be read to its end is the caller's to report.
        let _ = std::io::copy(&mut std::io::Read::take(body, 1 << 22), &mut std::io::sink());
        Ok(())
    });
    if let Ok(timestamp) = read {
        assert_eq!(of, Some(timestamp));
        // What is known of a good archive before it is unpacked is what is in it.
        let mut surveyed = Vec::new();
        let survey = archive::survey(path, &|| Ok(()), |member, _| {
            surveyed.push((member.name.to_owned(), member.size));
            Ok(())
        });
        match survey {
            Ok(Some(of)) => assert_eq!((of, surveyed), (timestamp, sizes)),
            Ok(None) => {}
            Err(e) => panic!("{e}"),
        }
    }
}

/// Any bytes in the place of a copy are judged, by SQLite, and neither crash it nor leave a file beside the copy.
pub fn a_copy_gets_a_verdict(bytes: &[u8]) {
    if let Err(e) = posix_locks::install() {
        panic!("{e}");
    }
    in_a_file(bytes, |path| {
        // An error is a judgement too.
        let _ = health::check_copy(path);
        let Some(folder) = path.parent() else { unreachable!() };
        assert_eq!(std::fs::read_dir(folder).map(Iterator::count).unwrap_or_default(), 1, "something was left beside the copy");
    });
}

/// Hands the path of a file with `bytes`, alone in its folder, to `use_it`.
fn in_a_file(bytes: &[u8], use_it: impl FnOnce(&Path)) {
    let made = tempfile::tempdir().and_then(|dir| std::fs::write(dir.path().join("bytes"), bytes).map(|()| dir));
    match made {
        Ok(dir) => use_it(&dir.path().join("bytes")),
        Err(e) => panic!("no temporary file: {e}"),
    }
}
