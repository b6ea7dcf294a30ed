//! The only place that knows the grammar of file names in the backups folder. Values in, values out.

use std::collections::{HashMap, HashSet};

use super::timestamp::{self, Timestamp};

/// Lock file of the folder; never removed.
pub const LOCK: &str = ".lock";
/// What a restore that has begun to commit is doing; there only until it is proven.
pub const INTENT: &str = ".restore-intent.json";
/// Working folder of a restore.
pub const RESTORE_DIR: &str = ".restore";
const BACKUP: &str = ".backup.";
const SIDECAR: &str = ".sha256";
const METADATA: (&str, &str) = ("backup-metadata.", ".json");
const ARCHIVE: (&str, &str) = ("databases-backup-", ".tar.gz");
const MARKERS: [(&str, Marker); 3] = [(".staging-", Marker::Staging), (".removing-", Marker::Removing), (".trimming-", Marker::Trimming)];

/// One file of a set.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Artefact {
    /// The copy of a database; the name it has without the suffix.
    Database(String),
    /// The checksum of such a copy.
    Sidecar(String),
    /// The commit record.
    Metadata,
    /// The checksum of the commit record.
    Seal,
    /// All of it in one file.
    Archive,
    /// The checksum of the archive.
    ArchiveSidecar,
}

/// A hidden folder that says that a set is not, or no longer, what its files look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Marker {
    /// Being made.
    Staging,
    /// Being removed.
    Removing,
    /// Losing everything but its archive.
    Trimming,
}

/// File name of the copy of the database called `name` in its set.
pub fn database(name: &str, timestamp: Timestamp) -> String {
    format!("{name}{BACKUP}{timestamp}")
}

/// File name of the checksum of `file`.
pub fn sidecar(file: &str) -> String {
    format!("{file}{SIDECAR}")
}

/// File name of the commit record.
pub fn metadata(timestamp: Timestamp) -> String {
    format!("{}{timestamp}{}", METADATA.0, METADATA.1)
}

/// File name of the checksum of the commit record.
pub fn seal(timestamp: Timestamp) -> String {
    sidecar(&metadata(timestamp))
}

/// Before the timestamp of a set that is in use.
const IN_USE: &str = ".in-use-";

/// File name of the archive.
pub fn archive(timestamp: Timestamp) -> String {
    format!("{}{timestamp}{}", ARCHIVE.0, ARCHIVE.1)
}

/// Folder name of a marker.
pub fn marker(kind: Marker, timestamp: Timestamp) -> String {
    let prefix = MARKERS.iter().find(|(_, m)| *m == kind).map_or("", |(p, _)| p);
    format!("{prefix}{timestamp}")
}

/// What the file called `name` is, if it belongs to a set.
pub fn parse(name: &str) -> Option<(Timestamp, Artefact)> {
    if let Some(rest) = name.strip_suffix(SIDECAR) {
        return match parse(rest)? {
            (t, Artefact::Database(n)) => Some((t, Artefact::Sidecar(n))),
            (t, Artefact::Archive) => Some((t, Artefact::ArchiveSidecar)),
            (t, Artefact::Metadata) => Some((t, Artefact::Seal)),
            _ => None,
        };
    }
    let between = |(prefix, suffix): (&str, &str)| name.strip_prefix(prefix)?.strip_suffix(suffix)?.parse().ok();
    if let Some(t) = between(METADATA) {
        return Some((t, Artefact::Metadata));
    }
    if let Some(t) = between(ARCHIVE) {
        return Some((t, Artefact::Archive));
    }
    let at = name.len().checked_sub(timestamp::LEN).filter(|at| name.is_char_boundary(*at))?;
    let (rest, t) = name.split_at(at);
    let base = rest.strip_suffix(BACKUP).filter(|b| !b.is_empty())?;
    Some((t.parse().ok()?, Artefact::Database(base.to_owned())))
}

/// Name of the file that says that a set is in use.
pub fn in_use(timestamp: Timestamp) -> String {
    format!("{IN_USE}{timestamp}")
}

/// Which set the file called `name` says is in use.
pub fn parse_in_use(name: &str) -> Option<Timestamp> {
    name.strip_prefix(IN_USE)?.parse().ok()
}

/// What marker the folder called `name` is.
pub fn parse_marker(name: &str) -> Option<(Timestamp, Marker)> {
    MARKERS.iter().find_map(|(prefix, m)| Some((name.strip_prefix(prefix)?.parse().ok()?, *m)))
}

/// Where a database belongs by custom: `agentdb.db` in the root, everything else in `.agentic-qe/`. It is how sets
/// without metadata are put back.
pub fn usual_home(base: &str) -> String {
    if base == "agentdb.db" { base.to_owned() } else { format!(".agentic-qe/{base}") }
}

fn base_of(source: &str) -> &str {
    source.rsplit('/').next().unwrap_or(source)
}

/// Names for the databases at `sources` (relative, `/` separated, all different) within one set: the base name; where
/// several share it, the one in its usual home keeps it and the others are named after their path. All different, also
/// on a file system that does not tell case.
pub fn assign(sources: &[&str]) -> Vec<String> {
    let mut sharing: HashMap<String, usize> = HashMap::new();
    for s in sources {
        *sharing.entry(base_of(s).to_lowercase()).or_default() += 1;
    }
    let keeps_base = |s: &str| sharing.get(&base_of(s).to_lowercase()) == Some(&1) || usual_home(base_of(s)) == s;
    let mut taken = HashSet::new();
    // The base names first, so that no path's name takes one away.
    let mut names = vec![String::new(); sources.len()];
    for by_base in [true, false] {
        for (i, s) in sources.iter().enumerate().filter(|(_, s)| keeps_base(s) == by_base) {
            let wanted = if by_base { base_of(s).to_owned() } else { s.replace('/', "__") };
            names[i] = free_name(wanted, &mut taken);
        }
    }
    names
}

fn free_name(wanted: String, taken: &mut HashSet<String>) -> String {
    let mut name = wanted.clone();
    let mut n = 2;
    while !taken.insert(name.to_lowercase()) {
        name = format!("{wanted}~{n}");
        n += 1;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stamp() -> impl Strategy<Value = Timestamp> {
        (0i64..253_402_300_799).prop_map(|s| jiff::Timestamp::from_second(s).map_or_else(|e| panic!("{e}"), Timestamp::from_instant))
    }

    proptest! {
        #[test]
        fn every_name_we_write_is_read_back_as_what_it_is(base in "[^/\0]{1,30}", t in stamp()) {
            let db = database(&base, t);
            prop_assert_eq!(parse(&db), Some((t, Artefact::Database(base.clone()))));
            prop_assert_eq!(parse(&sidecar(&db)), Some((t, Artefact::Sidecar(base))));
            prop_assert_eq!(parse(&metadata(t)), Some((t, Artefact::Metadata)));
            prop_assert_eq!(parse(&seal(t)), Some((t, Artefact::Seal)));
            prop_assert_eq!(parse(&archive(t)), Some((t, Artefact::Archive)));
            prop_assert_eq!(parse(&sidecar(&archive(t))), Some((t, Artefact::ArchiveSidecar)));
            for m in [Marker::Staging, Marker::Removing, Marker::Trimming] {
                prop_assert_eq!(parse_marker(&marker(m, t)), Some((t, m)));
                prop_assert_eq!(parse(&marker(m, t)), None);
            }
        }

        #[test]
        fn arbitrary_names_never_panic(name in ".{0,60}") {
            let _ = (parse(&name), parse_marker(&name));
        }

        #[test]
        fn names_within_a_set_differ_even_without_case(sources in proptest::collection::hash_set("(\\.agentic-qe/|[ab]{0,1}/|)[aAb_]{1,3}(__)?[aA]?\\.db", 1..12)) {
            let sources: Vec<String> = sources.into_iter().collect();
            let names = assign(&sources.iter().map(String::as_str).collect::<Vec<_>>());
            let different: HashSet<String> = names.iter().map(|n| n.to_lowercase()).collect();
            prop_assert_eq!(different.len(), sources.len());
            prop_assert!(names.iter().all(|n| !n.contains('/')));
        }
    }

    #[test]
    fn of_two_that_share_a_name_the_one_outside_its_usual_home_is_named_after_its_path() {
        assert_eq!(assign(&["agentdb.db", ".agentic-qe/agentdb.db"]), ["agentdb.db", ".agentic-qe__agentdb.db"]);
        assert_eq!(assign(&["data/x.db", "old/x.db", "y.db"]), ["data__x.db", "old__x.db", "y.db"]);
        assert_eq!(assign(&["memory.db", ".agentic-qe/memory.db"]), ["memory.db~2", "memory.db"], "a name in the root is its own path");
    }
}
