//! Which sets go and which stay. Pure: sets in, a decision with its reason for each out; no clock, no disk.

use std::collections::{HashMap, HashSet};

use super::catalog::SetEntry;
use crate::backup_set::metadata::Kind;
use crate::backup_set::timestamp::Timestamp;

/// Days that an archive outlives its set.
pub const ARCHIVE_DAYS: i64 = 90;

/// What retention needs to know of a set.
#[derive(Debug, Clone, PartialEq)]
pub struct SetFacts {
    /// Its name and age.
    pub timestamp: Timestamp,
    /// Its ring.
    pub kind: Kind,
    /// Whether it has an archive.
    pub archive: bool,
    /// Whether the archive is all there is.
    pub archive_only: bool,
    /// Its databases.
    pub sources: Vec<String>,
    /// It was read back and checked, is complete and not damaged.
    pub verified: bool,
    /// It says itself that a database in it is damaged, or it is incomplete.
    pub damaged: bool,
    /// The earlier set against which one of its tables had shrunk.
    pub shrunk_since: Option<Timestamp>,
}

impl From<&SetEntry> for SetFacts {
    fn from(set: &SetEntry) -> Self {
        let metadata = set.metadata();
        let damaged = !set.complete() || metadata.is_some_and(|m| m.databases().iter().any(|d| d.is_damaged()));
        SetFacts {
            timestamp: set.timestamp,
            kind: set.kind(),
            archive: set.archive.is_some(),
            archive_only: set.archive_only(),
            sources: set.sources(),
            verified: !damaged && metadata.and_then(|m| m.verified).unwrap_or(false),
            damaged,
            shrunk_since: metadata.and_then(|m| m.shrunk_since.as_deref()).and_then(|t| t.parse().ok()),
        }
    }
}

/// What happens to a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    Keep,
    /// Everything but its archive goes.
    Trim,
    /// All of it goes.
    Remove,
}

/// A set's fate and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The set.
    pub timestamp: Timestamp,
    /// What happens.
    pub fate: Fate,
    /// Why, for people.
    pub reason: &'static str,
}

/// Keeps the newest `keep` automated and, counted apart, the newest `keep` safety sets. Of the others it keeps the
/// archive until it is [`ARCHIVE_DAYS`] old at `now`. It never removes a manual set, the newest verified set of any
/// database, or the set from before a table lost most of its rows. Damaged sets are counted apart, so that they push
/// out no good one.
pub fn keep_newest(sets: &[SetFacts], keep: u32, now: Timestamp) -> Vec<Decision> {
    // A set from a time when the clock was wrong must push out no set that is really newer.
    let (future, past): (Vec<&SetFacts>, Vec<&SetFacts>) = sets.iter().partition(|s| is_future(s.timestamp, now));
    let mut newest_first = past;
    newest_first.sort_by_key(|s| std::cmp::Reverse(s.timestamp));
    let precious = newest_of_each_database(&newest_first);
    let mut counted: HashMap<(Kind, bool), u32> = HashMap::new();
    let decide = |set: &&SetFacts| {
        let expired = set.timestamp.seconds_until(now) > ARCHIVE_DAYS * 86_400;
        let (fate, reason) = if set.archive_only {
            if expired { (Fate::Remove, "archive older than 90 days") } else { (Fate::Keep, "archive not older than 90 days") }
        } else if set.kind == Kind::Manual {
            (Fate::Keep, "manual sets are only removed by hand")
        } else {
            let n = counted.entry((set.kind, set.damaged)).or_default();
            *n += 1;
            if *n <= keep {
                (Fate::Keep, "among the newest of its kind")
            } else if precious.contains(&set.timestamp) {
                (Fate::Keep, "the newest good set of a database")
            } else if set.archive && !expired && !set.damaged {
                (Fate::Trim, "older than the newest of its kind; its archive stays")
            } else {
                (Fate::Remove, "older than the newest of its kind")
            }
        };
        Decision { timestamp: set.timestamp, fate, reason }
    };
    let mut decisions: Vec<Decision> = newest_first.iter().map(decide).collect();
    keep_sets_from_before_a_loss(&newest_first, &mut decisions);
    let undated =
        future.iter().map(|s| Decision { timestamp: s.timestamp, fate: Fate::Keep, reason: "dated in the future; only removed by hand" });
    decisions.extend(undated);
    decisions
}

/// Backups made faster than one a second run ahead of the clock by as many seconds; more than this is a wrong clock.
const AHEAD_SECONDS: i64 = 600;

/// Whether a set was made when the clock was ahead of what it says `now`.
pub fn is_future(timestamp: Timestamp, now: Timestamp) -> bool {
    now.seconds_until(timestamp) > AHEAD_SECONDS
}

/// Whatever set a kept one points at as "before a table lost most of its rows" stays too, and so on.
fn keep_sets_from_before_a_loss(newest_first: &[&SetFacts], decisions: &mut [Decision]) {
    // A set points only at older ones, so one pass from the newest follows every chain.
    for i in 0..newest_first.len() {
        let Some(before) = newest_first[i].shrunk_since.filter(|_| decisions[i].fate == Fate::Keep && !newest_first[i].archive_only) else {
            continue;
        };
        if let Some(d) = decisions[i..].iter_mut().find(|d| d.timestamp == before && d.fate != Fate::Keep) {
            *d = Decision { timestamp: before, fate: Fate::Keep, reason: "the last set before a table lost most of its rows" };
        }
    }
}

/// For each database the newest verified set that has it; where none is verified, the newest that is not damaged; else
/// the newest of all.
fn newest_of_each_database(newest_first: &[&SetFacts]) -> HashSet<Timestamp> {
    let usable = || newest_first.iter().filter(|s| !s.archive_only);
    let sources: HashSet<&String> = usable().flat_map(|s| &s.sources).collect();
    let newest = |source: &String| {
        let with = |good: &dyn Fn(&SetFacts) -> bool| usable().find(|s| good(s) && s.sources.contains(source));
        with(&|s| s.verified).or_else(|| with(&|s| !s.damaged)).or_else(|| with(&|_| true)).map(|s| s.timestamp)
    };
    sources.into_iter().filter_map(newest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> Timestamp {
        jiff::Timestamp::from_second(1_700_000_000 + seconds).map_or_else(|e| panic!("{e}"), Timestamp::from_instant)
    }

    fn facts() -> impl Strategy<Value = SetFacts> {
        let kind = prop_oneof![3 => Just(Kind::Automated), 1 => Just(Kind::Manual), 2 => Just(Kind::Safety)];
        let sources = proptest::collection::vec("[ab]", 1..3);
        (0i64..20_000_000, kind, any::<bool>(), 0u8..10, sources, any::<bool>(), 0u8..8, proptest::option::weighted(0.1, 0i64..20_000_000))
            .prop_map(|(t, kind, archive, only, sources, verified, damaged, shrunk)| SetFacts {
                timestamp: at(t),
                kind,
                archive,
                archive_only: archive && only == 0,
                sources: if archive && only == 0 { vec![] } else { sources },
                verified: verified && damaged != 0,
                damaged: damaged == 0,
                shrunk_since: shrunk.map(at),
            })
    }

    fn sets() -> impl Strategy<Value = Vec<SetFacts>> {
        proptest::collection::vec(facts(), 0..40).prop_map(|mut v| {
            v.sort_by_key(|s| s.timestamp);
            v.dedup_by_key(|s| s.timestamp);
            v
        })
    }

    fn fates(sets: &[SetFacts], keep: u32) -> HashMap<Timestamp, Fate> {
        keep_newest(sets, keep, at(20_000_000)).into_iter().map(|d| (d.timestamp, d.fate)).collect()
    }

    fn after(sets: &[SetFacts], keep: u32) -> Vec<SetFacts> {
        let fates = fates(sets, keep);
        sets.iter()
            .filter(|s| fates[&s.timestamp] != Fate::Remove)
            .map(|s| {
                if fates[&s.timestamp] == Fate::Trim {
                    SetFacts {
                        archive_only: true,
                        kind: Kind::Automated,
                        sources: vec![],
                        verified: false,
                        shrunk_since: None,
                        ..s.clone()
                    }
                } else {
                    s.clone()
                }
            })
            .collect()
    }

    proptest! {
        #[test]
        fn manual_sets_and_the_newest_verified_of_each_database_always_stay(sets in sets(), keep in 1u32..12) {
            let fates = fates(&sets, keep);
            for s in sets.iter().filter(|s| s.kind == Kind::Manual && !s.archive_only) {
                prop_assert_eq!(fates[&s.timestamp], Fate::Keep);
            }
            for source in ["a", "b"] {
                let newest = sets.iter().filter(|s| s.verified && !s.archive_only && s.sources.iter().any(|x| x == source)).map(|s| s.timestamp).max();
                if let Some(t) = newest { prop_assert_eq!(fates[&t], Fate::Keep); }
            }
        }

        #[test]
        fn the_newest_of_each_ring_stay_and_damaged_sets_push_out_no_good_one(sets in sets(), keep in 1u32..12) {
            let fates = fates(&sets, keep);
            for kind in [Kind::Automated, Kind::Safety] {
                let mut good: Vec<_> = sets.iter().filter(|s| s.kind == kind && !s.damaged && !s.archive_only).map(|s| s.timestamp).collect();
                good.sort_unstable_by(|a, b| b.cmp(a));
                for t in good.iter().take(keep as usize) { prop_assert_eq!(fates[t], Fate::Keep); }
            }
        }

        #[test]
        fn keeping_more_keeps_all_that_keeping_fewer_keeps(sets in sets(), keep in 1u32..12) {
            let (fewer, more) = (fates(&sets, keep), fates(&sets, keep + 1));
            for (t, fate) in fewer { if fate == Fate::Keep { prop_assert_eq!(more[&t], Fate::Keep); } }
        }

        #[test]
        fn the_set_from_before_a_loss_stays_as_long_as_a_kept_set_points_at_it(sets in sets(), keep in 1u32..4, a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>()) {
            prop_assume!(sets.len() > 1);
            let (older, newer) = (a.index(sets.len()), b.index(sets.len()));
            prop_assume!(older < newer && !sets[older].archive_only && !sets[newer].archive_only);
            let mut sets = sets;
            sets[newer].shrunk_since = Some(sets[older].timestamp);
            let fates = fates(&sets, keep);
            prop_assert!(fates[&sets[newer].timestamp] != Fate::Keep || fates[&sets[older].timestamp] == Fate::Keep);
        }

        #[test]
        fn sets_from_the_future_stay_and_push_out_none_of_the_present(sets in sets(), keep in 1u32..12, now in 0i64..20_000_000) {
            let now = at(now);
            let present: Vec<SetFacts> = sets.iter().filter(|s| !is_future(s.timestamp, now)).cloned().collect();
            let (all, without) = (keep_newest(&sets, keep, now), keep_newest(&present, keep, now));
            prop_assert_eq!(&all[..without.len()], &without[..]);
            prop_assert!(all[without.len()..].iter().all(|d| d.fate == Fate::Keep));
        }

        #[test]
        fn a_second_clean_up_finds_nothing_to_do(sets in sets(), keep in 1u32..12) {
            let once = after(&sets, keep);
            prop_assert_eq!(after(&once, keep), once);
        }

        #[test]
        fn the_order_of_the_sets_does_not_matter(sets in sets(), keep in 1u32..12) {
            let mut reversed = sets.clone();
            reversed.reverse();
            prop_assert_eq!(fates(&sets, keep), fates(&reversed, keep));
        }
    }
}
