//! Which sets go and which stay. Pure: sets in, a decision with its reason for each out; no clock, no disk.

use std::collections::{HashMap, HashSet};

use super::set_facts::SetFacts;
use crate::backup_set::metadata::Kind;
use crate::backup_set::timestamp::Timestamp;

/// Days that an archive outlives its set.
pub const ARCHIVE_DAYS: i64 = 90;
/// Days that the policy keeps safety sets.
pub const SAFETY_DAYS: i64 = 7;

/// By what a clean-up chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The newest so many of each kind stay.
    Newest(u32),
    /// What is younger than its kind's age stays.
    Ages(Environment),
}

/// Where the databases are used, which says how long automated sets stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Environment {
    /// 30 days.
    #[default]
    Development,
    /// 60 days.
    Staging,
    /// 90 days.
    Production,
}

impl Environment {
    /// Days that the policy keeps automated sets.
    pub const fn automated_days(self) -> i64 {
        match self {
            Environment::Development => 30,
            Environment::Staging => 60,
            Environment::Production => 90,
        }
    }

    /// As on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Environment::Development => "development",
            Environment::Staging => "staging",
            Environment::Production => "production",
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
    pub reason: String,
}

fn decision(timestamp: Timestamp, fate: Fate, reason: impl Into<String>) -> Decision {
    Decision { timestamp, fate, reason: reason.into() }
}

/// Decides on every set, newest first, sets from the future last. By number: the newest `n` automated and, counted
/// apart, the newest `n` safety sets stay, damaged ones counted apart again so that they push out no good one. By age:
/// what is not older than its kind's days. Of what goes, an archive stays until it is [`ARCHIVE_DAYS`] old at `now`.
/// Never removed are manual sets, those that don't say what they are, the newest verified set of any database, and the
/// set from before a table lost most of its rows.
pub fn plan(sets: &[SetFacts], rule: Rule, now: Timestamp) -> Vec<Decision> {
    // A set from a time when the clock was wrong must push out no set that is really newer.
    let (future, past): (Vec<&SetFacts>, Vec<&SetFacts>) = sets.iter().partition(|s| is_future(s.timestamp, now));
    let mut newest_first = past;
    newest_first.sort_by_key(|s| std::cmp::Reverse(s.timestamp));
    let precious = newest_of_each_database(&newest_first);
    let mut old = OldByRule { rule, now, standstill: standstill(&newest_first, rule, now), counted: HashMap::new() };
    let mut decisions: Vec<Decision> = newest_first.iter().map(|s| decide(s, &mut old, &precious)).collect();
    keep_sets_from_before_a_loss(&newest_first, &mut decisions);
    decisions.extend(future.iter().map(|s| decision(s.timestamp, Fate::Keep, "dated in the future; only removed by hand")));
    decisions
}

fn decide(set: &SetFacts, old: &mut OldByRule, precious: &HashSet<Timestamp>) -> Decision {
    let keep = |reason: String| decision(set.timestamp, Fate::Keep, reason);
    if set.in_use {
        return keep("in use: what runs behind it may still fail".into());
    }
    let Some(kind) = set.kind else {
        return keep("what it is can't be read; only removed by hand".into());
    };
    if kind == Kind::Manual {
        return keep("manual; only removed by hand".into());
    }
    let archive = Age { name: "archive", days: ARCHIVE_DAYS };
    if set.archive_only {
        return match old.standstill.clone() {
            Some(why) => keep(why),
            None if archive.is_over(set, old.now) && precious.contains(&set.timestamp) => {
                keep("archive, and no other backup has a database that is in it".into())
            }
            None if archive.is_over(set, old.now) => decision(set.timestamp, Fate::Remove, archive.over()),
            None => keep(archive.not_over()),
        };
    }
    match old.judge(set, kind) {
        Ok(why) => keep(why),
        Err(_) if precious.contains(&set.timestamp) => keep("the newest good set of a database".into()),
        Err(why) if set.archive && !archive.is_over(set, old.now) => {
            decision(set.timestamp, Fate::Trim, format!("{why}; its archive stays until it is {ARCHIVE_DAYS} days old"))
        }
        Err(why) => decision(set.timestamp, Fate::Remove, why),
    }
}

/// A limit of age.
struct Age {
    name: &'static str,
    days: i64,
}

impl Age {
    fn is_over(&self, set: &SetFacts, now: Timestamp) -> bool {
        set.timestamp.seconds_until(now) > self.days * 86_400
    }

    fn over(&self) -> String {
        format!("{}, older than {} days", self.name, self.days)
    }

    fn not_over(&self) -> String {
        format!("{}, not older than {} days", self.name, self.days)
    }
}

/// Applies the rule to one set after the other, newest first.
struct OldByRule {
    rule: Rule,
    now: Timestamp,
    standstill: Option<String>,
    counted: HashMap<(Kind, bool, bool), u32>,
}

impl OldByRule {
    /// Why the set stays, or (`Err`) why it goes.
    fn judge(&mut self, set: &SetFacts, kind: Kind) -> Result<String, String> {
        match self.rule {
            Rule::Newest(keep) => {
                let n = self.counted.entry((kind, set.before_restore, set.damaged)).or_default();
                *n += 1;
                let ring = if set.before_restore { "safety, saved by a restore" } else { kind.as_str() };
                let what = format!("the newest {keep} {ring}{}", if set.damaged { " and damaged" } else { "" });
                if *n <= keep { Ok(format!("among {what}")) } else { Err(format!("older than {what}")) }
            }
            Rule::Ages(environment) => {
                let age = match kind {
                    Kind::Safety => Age { name: "safety", days: SAFETY_DAYS },
                    Kind::Automated | Kind::Manual => Age { name: "automated", days: environment.automated_days() },
                };
                match self.standstill.clone() {
                    Some(why) => Ok(why),
                    None if age.is_over(set, self.now) => Err(age.over()),
                    None => Ok(age.not_over()),
                }
            }
        }
    }
}

/// Ages are only as good as the clock. Where even the newest set is older than any age of the policy, either the clock
/// has jumped ahead or backups have stopped, and in neither case is this the time to remove what there is.
fn standstill(newest_first: &[&SetFacts], rule: Rule, now: Timestamp) -> Option<String> {
    let newest = newest_first.first()?.timestamp;
    let longest = ARCHIVE_DAYS.max(SAFETY_DAYS).max(Environment::Production.automated_days());
    let stopped = matches!(rule, Rule::Ages(_)) && newest.seconds_until(now) > longest * 86_400;
    stopped.then(|| format!("no backup since {newest}: backups have stopped, or the clock is wrong"))
}

/// Backups made faster than one a second run ahead of the clock by as many seconds; more than this is a wrong clock.
const AHEAD_SECONDS: i64 = 600;

/// Whether a set was made when the clock was ahead of what it says `now`.
pub fn is_future(timestamp: Timestamp, now: Timestamp) -> bool {
    now.seconds_until(timestamp) > AHEAD_SECONDS
}

/// Whatever set a kept one points at as "before a table lost most of its rows" stays too, and so on.
fn keep_sets_from_before_a_loss(newest_first: &[&SetFacts], decisions: &mut [Decision]) {
    let place: HashMap<Timestamp, usize> = newest_first.iter().enumerate().map(|(i, s)| (s.timestamp, i)).collect();
    // A set points only at older ones, so one pass from the newest follows every chain.
    for i in 0..newest_first.len() {
        let Some(before) = newest_first[i].shrunk_since.filter(|_| decisions[i].fate == Fate::Keep && !newest_first[i].archive_only) else {
            continue;
        };
        let older = place.get(&before).filter(|at| **at >= i);
        if let Some(d) = older.map(|at| &mut decisions[*at]).filter(|d| d.fate != Fate::Keep) {
            *d = decision(before, Fate::Keep, "the last set before a table lost most of its rows");
        }
    }
}

/// The sets for whose sake others may go: the newest good one of each database.
pub fn shields(sets: &[SetFacts], now: Timestamp) -> HashSet<Timestamp> {
    let mut newest_first: Vec<&SetFacts> = sets.iter().filter(|s| !is_future(s.timestamp, now)).collect();
    newest_first.sort_by_key(|s| std::cmp::Reverse(s.timestamp));
    newest_of_each_database(&newest_first)
}

/// Those of them that say they are verified.
pub fn newest_verified(sets: &[SetFacts], now: Timestamp) -> HashSet<Timestamp> {
    let shields = shields(sets, now);
    sets.iter().filter(|s| s.verified && shields.contains(&s.timestamp)).map(|s| s.timestamp).collect()
}

/// A database of a project. A set that does not say whose it is stands for itself: a project that was moved must not be
/// taken for another's.
type Owned<'a> = (&'a Option<String>, &'a String);

fn databases<'a>(set: &'a SetFacts) -> impl Iterator<Item = Owned<'a>> {
    set.sources.iter().map(|source| (&set.project, source))
}

/// For each database (of each project) the newest verified set that has it; where none is verified, the newest that is not damaged; else
/// the newest of all.
fn newest_of_each_database(newest_first: &[&SetFacts]) -> HashSet<Timestamp> {
    let mut newest: HashMap<Owned<'_>, (u8, Timestamp)> = HashMap::new();
    for set in newest_first.iter().filter(|s| !s.archive_only) {
        let worth = if set.verified { 2 } else { u8::from(!set.damaged) };
        for database in databases(set) {
            let best = newest.entry(database).or_insert((worth, set.timestamp));
            if best.0 < worth {
                *best = (worth, set.timestamp);
            }
        }
    }
    newest.into_values().map(|(_, timestamp)| timestamp).chain(only_in_archives(newest_first)).collect()
}

/// Of each database that no set has any more, the newest archive that is known to have it.
fn only_in_archives(newest_first: &[&SetFacts]) -> Vec<Timestamp> {
    let mut seen: HashSet<Owned<'_>> = newest_first.iter().filter(|s| !s.archive_only && !s.damaged).flat_map(|s| databases(s)).collect();
    // All of them have to be noted, not just the first that is new.
    let mut firsts = |set| databases(set).filter(|database| seen.insert(*database)).count();
    newest_first.iter().filter(|s| s.archive_only).filter_map(|s| (firsts(*s) > 0).then_some(s.timestamp)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> Timestamp {
        jiff::Timestamp::from_second(1_700_000_000 + seconds).map_or_else(|e| panic!("{e}"), Timestamp::from_instant)
    }

    fn facts() -> impl Strategy<Value = SetFacts> {
        let kind = prop_oneof![
            6 => Just(Some(Kind::Automated)), 2 => Just(Some(Kind::Manual)), 4 => Just(Some(Kind::Safety)), 1 => Just(None)
        ];
        let sources = proptest::collection::vec("[ab]", 1..3);
        (
            0i64..20_000_000,
            kind,
            any::<bool>(),
            0u8..10,
            sources,
            any::<bool>(),
            0u8..8,
            proptest::option::weighted(0.1, 0i64..20_000_000),
            proptest::option::of("[xy]"),
        )
            .prop_map(|(t, kind, archive, only, sources, verified, damaged, shrunk, project)| SetFacts {
                timestamp: at(t),
                kind,
                archive,
                archive_only: archive && only == 0,
                project,
                sources: if archive && only == 0 && t % 2 == 0 { vec![] } else { sources },
                verified: verified && damaged != 0 && kind.is_some(),
                damaged: damaged == 0 || kind.is_none(),
                in_use: t % 17 == 0,
                shrunk_since: shrunk.map(at),
                before_restore: kind == Some(Kind::Safety) && t % 3 == 0,
            })
    }

    fn sets() -> impl Strategy<Value = Vec<SetFacts>> {
        proptest::collection::vec(facts(), 0..40).prop_map(|mut v| {
            v.sort_by_key(|s| s.timestamp);
            v.dedup_by_key(|s| s.timestamp);
            v
        })
    }

    fn rule() -> impl Strategy<Value = Rule> {
        let environment = prop_oneof![Just(Environment::Development), Just(Environment::Staging), Just(Environment::Production)];
        prop_oneof![(1u32..12).prop_map(Rule::Newest), environment.prop_map(Rule::Ages)]
    }

    /// The time at which the tests clean up: up to 231 days after the oldest set, up to 58 after the newest.
    const NOW: i64 = 20_000_000;

    fn fates_at(sets: &[SetFacts], rule: Rule, now: i64) -> HashMap<Timestamp, Fate> {
        plan(sets, rule, at(now)).into_iter().map(|d| (d.timestamp, d.fate)).collect()
    }

    fn fates(sets: &[SetFacts], rule: Rule) -> HashMap<Timestamp, Fate> {
        fates_at(sets, rule, NOW)
    }

    fn after(sets: &[SetFacts], rule: Rule) -> Vec<SetFacts> {
        let fates = fates(sets, rule);
        let trimmed = |s: &SetFacts| SetFacts { archive_only: true, sources: vec![], verified: false, shrunk_since: None, ..s.clone() };
        let left = sets.iter().filter(|s| fates[&s.timestamp] != Fate::Remove);
        left.map(|s| if fates[&s.timestamp] == Fate::Trim { trimmed(s) } else { s.clone() }).collect()
    }

    proptest! {
        #[test]
        fn manual_sets_unknown_ones_and_the_newest_verified_of_each_database_always_stay(sets in sets(), rule in rule(), now in 0i64..200_000_000) {
            let fates = fates_at(&sets, rule, now);
            for s in sets.iter().filter(|s| s.in_use || s.kind.is_none_or(|k| k == Kind::Manual)) {
                prop_assert_eq!(fates[&s.timestamp], Fate::Keep);
            }
            let present = || sets.iter().filter(|s| !is_future(s.timestamp, at(now)));
            for source in ["a", "b"] {
                let newest = present().filter(|s| s.verified && !s.archive_only && s.sources.iter().any(|x| x == source)).map(|s| s.timestamp).max();
                if let Some(t) = newest {
                    prop_assert_eq!(fates[&t], Fate::Keep);
                    prop_assert!(newest_verified(&sets, at(now)).contains(&t));
                }
            }
        }

        #[test]
        fn whatever_other_projects_do_the_newest_verified_of_each_database_of_a_project_stays(sets in sets(), rule in rule(), now in 0i64..200_000_000) {
            let fates = fates_at(&sets, rule, now);
            for project in [None, Some("x".to_owned()), Some("y".to_owned())] {
                let alone: Vec<SetFacts> = sets.iter().filter(|s| s.project == project).cloned().collect();
                for t in newest_verified(&alone, at(now)) { prop_assert_eq!(fates[&t], Fate::Keep); }
            }
        }

        #[test]
        fn every_set_gets_one_decision_with_a_reason(sets in sets(), rule in rule(), now in 0i64..200_000_000) {
            let decisions = plan(&sets, rule, at(now));
            let mut decided: Vec<_> = decisions.iter().map(|d| d.timestamp).collect();
            decided.sort_unstable();
            prop_assert_eq!(decided, sets.iter().map(|s| s.timestamp).collect::<Vec<_>>());
            prop_assert!(decisions.iter().all(|d| !d.reason.is_empty()));
            prop_assert!(sets.iter().all(|s| s.archive || decisions.iter().all(|d| d.timestamp != s.timestamp || d.fate != Fate::Trim)));
        }

        #[test]
        fn the_newest_of_each_ring_stay_and_damaged_sets_push_out_no_good_one(sets in sets(), keep in 1u32..12) {
            let fates = fates(&sets, Rule::Newest(keep));
            for kind in [Kind::Automated, Kind::Safety] {
                let mut good: Vec<_> = sets.iter().filter(|s| s.kind == Some(kind) && !s.damaged && !s.archive_only).map(|s| s.timestamp).collect();
                good.sort_unstable_by(|a, b| b.cmp(a));
                for t in good.iter().take(keep as usize) { prop_assert_eq!(fates[t], Fate::Keep); }
            }
        }

        #[test]
        fn by_age_nothing_younger_than_its_days_is_touched_and_an_archive_outlives_its_set(sets in sets(), environment in prop_oneof![Just(Environment::Development), Just(Environment::Production)]) {
            let fates = fates(&sets, Rule::Ages(environment));
            for s in &sets {
                let days = s.timestamp.seconds_until(at(NOW)) as f64 / 86_400.0;
                let limit = if s.archive_only { ARCHIVE_DAYS } else if s.kind == Some(Kind::Safety) { SAFETY_DAYS } else { environment.automated_days() };
                if days <= limit as f64 { prop_assert_eq!(fates[&s.timestamp], Fate::Keep); }
                if s.archive && days <= ARCHIVE_DAYS as f64 { prop_assert_ne!(fates[&s.timestamp], Fate::Remove); }
            }
        }

        #[test]
        fn keeping_more_or_longer_keeps_all_that_keeping_less_keeps(sets in sets(), keep in 1u32..12, now in 0i64..200_000_000) {
            let ages = [Environment::Development, Environment::Staging, Environment::Production].map(Rule::Ages);
            for (less, more) in [(Rule::Newest(keep), Rule::Newest(keep + 1)), (ages[0], ages[1]), (ages[1], ages[2])] {
                let (fewer, more) = (fates_at(&sets, less, now), fates_at(&sets, more, now));
                for (t, fate) in fewer { if fate == Fate::Keep { prop_assert_eq!(more[&t], Fate::Keep); } }
            }
        }

        #[test]
        fn the_set_from_before_a_loss_stays_as_long_as_a_kept_set_points_at_it(sets in sets(), rule in rule(), a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>()) {
            prop_assume!(sets.len() > 1);
            let (older, newer) = (a.index(sets.len()), b.index(sets.len()));
            prop_assume!(older < newer && !sets[older].archive_only && !sets[newer].archive_only);
            let mut sets = sets;
            sets[newer].shrunk_since = Some(sets[older].timestamp);
            let fates = fates(&sets, rule);
            prop_assert!(fates[&sets[newer].timestamp] != Fate::Keep || fates[&sets[older].timestamp] == Fate::Keep);
        }

        #[test]
        fn sets_from_the_future_stay_and_push_out_none_of_the_present(sets in sets(), rule in rule(), now in 0i64..20_000_000) {
            let now = at(now);
            let present: Vec<SetFacts> = sets.iter().filter(|s| !is_future(s.timestamp, now)).cloned().collect();
            let (all, without) = (plan(&sets, rule, now), plan(&present, rule, now));
            prop_assert_eq!(&all[..without.len()], &without[..]);
            prop_assert!(all[without.len()..].iter().all(|d| d.fate == Fate::Keep));
        }

        #[test]
        fn a_clock_that_jumps_ahead_makes_the_policy_remove_nothing(sets in sets(), environment in prop_oneof![Just(Environment::Development), Just(Environment::Production)], jump in 0i64..1_000_000_000) {
            let fates = fates_at(&sets, Rule::Ages(environment), NOW + (ARCHIVE_DAYS + 1) * 86_400 + jump);
            prop_assert!(fates.values().all(|f| *f == Fate::Keep));
        }

        #[test]
        fn a_second_clean_up_finds_nothing_to_do(sets in sets(), rule in rule()) {
            let once = after(&sets, rule);
            prop_assert_eq!(after(&once, rule), once);
        }

        #[test]
        fn the_order_of_the_sets_does_not_matter(sets in sets(), rule in rule()) {
            let mut reversed = sets.clone();
            reversed.reverse();
            prop_assert_eq!(fates(&sets, rule), fates(&reversed, rule));
        }
    }
}
