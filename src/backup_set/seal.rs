//! The seal: the checksum file of a set's record, which says where every file goes back to. It tells of accidents and of
//! careless hands; it is no signature. Values in, values out.

use super::checksum;
use super::names;
use super::timestamp::Timestamp;
use crate::error::Code;

/// What the seal says of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    /// There is none, and none was made: a set of an older tool, or no record at all.
    None,
    /// The record is what was written.
    Sound,
    /// The record says that it has one, and it has not.
    Missing,
    /// It is there and is no checksum of the record.
    Unreadable,
    /// The record is not what was written.
    Changed,
    /// It is there and the record is not.
    Alone,
}

impl Seal {
    /// Judges the bytes of a record by those of its seal. `says`: the record says that it has one.
    pub fn judge(record: &[u8], says: bool, seal: Option<&[u8]>, timestamp: Timestamp) -> Self {
        let Some(seal) = seal else { return if says { Seal::Missing } else { Seal::None } };
        match std::str::from_utf8(seal).ok().and_then(|text| checksum::parse_sidecar_of(text, &names::metadata(timestamp))) {
            None => Seal::Unreadable,
            Some(hash) if hash == checksum::hash_bytes(record) => Seal::Sound,
            Some(_) => Seal::Changed,
        }
    }

    /// Whether the record is all that it should be.
    pub fn is_good(self) -> bool {
        matches!(self, Seal::None | Seal::Sound)
    }

    /// Whether the record may be another than was written.
    pub fn is_broken(self) -> bool {
        matches!(self, Seal::Unreadable | Seal::Changed | Seal::Alone)
    }

    /// What is wrong, with the way out. `NEEDS_FORCE`: nothing says that the record is the right one.
    pub fn problem(self, timestamp: Timestamp) -> Option<(Code, String)> {
        let (record, seal) = (names::metadata(timestamp), names::seal(timestamp));
        let on_purpose = format!("if it was changed on purpose, sha256sum {record} > {seal} in its folder makes it count");
        match self {
            Seal::None | Seal::Sound => None,
            Seal::Missing => Some((
                Code::NeedsForce,
                format!(
                    "{record}: its checksum file {seal} is missing, so nothing says that it is what was written; if it is, sha256sum {record} > {seal} in its folder makes a new one"
                ),
            )),
            Seal::Unreadable => Some((Code::ChecksumMismatch, format!("{record}: {seal} is no checksum of it; {on_purpose}"))),
            Seal::Changed => Some((
                Code::ChecksumMismatch,
                format!(
                    "{record} is not what was written, and it says where files go; use the archive of this backup, or another backup; {on_purpose}"
                ),
            )),
            Seal::Alone => Some((
                Code::BackupDamaged,
                format!(
                    "{record} is gone and its checksum file {seal} is not; use the archive of this backup, or another backup; remove {seal} to treat this as a backup without metadata"
                ),
            )),
        }
    }
}

/// The seal of a record with these bytes: what its file holds.
pub fn line(record: &[u8], timestamp: Timestamp) -> String {
    checksum::sidecar_line(&checksum::hash_bytes(record), &names::metadata(timestamp))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stamp() -> Timestamp {
        "20250116-120000".parse().unwrap_or_else(|e| panic!("{e}"))
    }

    proptest! {
        #[test]
        fn a_record_with_its_own_seal_is_sound_and_any_other_is_not(record in proptest::collection::vec(any::<u8>(), 0..60), other in proptest::collection::vec(any::<u8>(), 0..60)) {
            let seal = line(&record, stamp());
            prop_assert_eq!(Seal::judge(&record, true, Some(seal.as_bytes()), stamp()), Seal::Sound);
            prop_assert_eq!(Seal::judge(&other, true, Some(seal.as_bytes()), stamp()) == Seal::Sound, record == other);
        }

        #[test]
        fn arbitrary_bytes_are_no_seal(seal in proptest::collection::vec(any::<u8>(), 0..120)) {
            prop_assert_eq!(Seal::judge(b"{}", true, Some(&seal), stamp()), Seal::Unreadable);
        }
    }

    #[test]
    fn a_record_without_seal_is_suspect_only_if_it_says_that_it_has_one() {
        assert_eq!([true, false].map(|says| Seal::judge(b"{}", says, None, stamp())), [Seal::Missing, Seal::None]);
    }
}
