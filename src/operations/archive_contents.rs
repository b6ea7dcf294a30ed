//! What an archive holds and whether it hangs together: one reading and one judgement, for verify and for restore.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use super::inspect;
use super::record_check;
use crate::backup_set::archive;
use crate::backup_set::checksum;
use crate::backup_set::metadata::{DatabaseRecord, Metadata};
use crate::backup_set::names::{self, Artefact};
use crate::backup_set::seal::Seal;
use crate::backup_set::timestamp::Timestamp;
use crate::durable;
use crate::error::{Code, Error, IoContext, Result};
use crate::progress::Monitor;
use crate::project::Project;
use crate::store::space;

/// No deflate stream grows by more than 1032 times; a member that claims more is not there.
const MOST_GROWTH: u64 = 1100;

/// All of an archive, read once.
pub(super) struct Contents {
    pub timestamp: Timestamp,
    /// Its own record.
    pub metadata: Option<Metadata>,
    /// Whether that is what was written.
    pub seal: Seal,
    /// Copies: name → bytes and hash.
    pub copies: BTreeMap<String, (u64, String)>,
    /// Checksum files: name of the copy → text.
    sidecars: BTreeMap<String, Vec<u8>>,
}

/// Reads every member, writing nothing. `known`: the record beside it, whose sizes no member may exceed.
pub(super) fn read(path: &Path, known: Option<&Metadata>, monitor: &Monitor) -> Result<Contents> {
    let packed = path.metadata().context("look at", path)?.len();
    let most = |name: &str| known.and_then(|m| m.databases().iter().find(|d| d.file == name)).map(|d| d.size);
    let (mut record, mut seal) = (None, None);
    let (mut copies, mut sidecars) = (BTreeMap::new(), BTreeMap::new());
    let timestamp = archive::read(path, |member, body| {
        monitor.check()?;
        let (name, size) = (member.name, member.size);
        match &member.artefact {
            Artefact::Metadata => record = Some(Metadata::read_bytes(body, name)?),
            Artefact::Seal => seal = Some(whole(path, body)?),
            Artefact::Sidecar(base) => drop(sidecars.insert(names::database(base, member.timestamp), whole(path, body)?)),
            Artefact::Database(_) => {
                if size > packed.saturating_mul(MOST_GROWTH) || most(name).is_some_and(|most| size > most) {
                    let message =
                        format!("archive {} is damaged: {name:?} in it claims to have {size} bytes; use another backup", path.display());
                    return Err(Error::new(Code::BackupDamaged, message));
                }
                let (hash, read) = checksum::hash_reader(body, |_| monitor.check().map_err(io::Error::other))
                    .map_err(|e| monitor.check().err().unwrap_or_else(|| broken(path, e)))?;
                copies.insert(name.to_owned(), (read, hash));
            }
            Artefact::Archive | Artefact::ArchiveSidecar => {}
        }
        Ok(())
    })?;
    let metadata = record.as_deref().map(|bytes| Metadata::parse(bytes, &names::metadata(timestamp))).transpose();
    let metadata = metadata.map_err(|e| {
        let code = e.code;
        e.wrap(code, format!("archive {}", path.display()))
    })?;
    let seal = match (&record, &metadata) {
        (Some(bytes), Some(m)) => Seal::judge(bytes, m.is_sealed(), seal.as_deref(), timestamp),
        _ if seal.is_some() => Seal::Alone,
        _ => Seal::None,
    };
    Ok(Contents { timestamp, metadata, seal, copies, sidecars })
}

fn whole(path: &Path, body: &mut dyn Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    body.read_to_end(&mut bytes).map_err(|e| broken(path, e))?;
    Ok(bytes)
}

fn broken(path: &Path, e: io::Error) -> Error {
    Error::new(Code::BackupDamaged, format!("archive {} is damaged: {e}; use another backup", path.display())).caused_by(e)
}

impl Contents {
    /// What is wrong in it, but for what is only unproven.
    pub fn problems(&self, path: &Path, project: &Project) -> Vec<(Code, String)> {
        let shown = path.display();
        let mut found = Vec::new();
        if let Some(m) = &self.metadata {
            let judged = record_check::problem(m, self.timestamp, self.copies.keys().map(String::as_str), project);
            found.extend(judged.map(|(code, why)| (code, format!("{shown}: {why}"))));
        }
        found.extend(
            self.seal.problem(self.timestamp).filter(|(code, _)| *code != Code::NeedsForce).map(|(c, why)| (c, format!("{shown}: {why}"))),
        );
        for d in self.metadata.iter().flat_map(Metadata::databases) {
            let wanted = (d.size, d.sha256.to_ascii_lowercase());
            match self.copies.get(&d.file) {
                Some(copy) if *copy == wanted => {}
                Some(_) => found.push((Code::ChecksumMismatch, format!("{shown}: {} in it is not the one that was backed up", d.file))),
                None => found.push((Code::BackupDamaged, format!("{shown}: {} is not in it", d.file))),
            }
        }
        let strict = self.is_sealed();
        for (file, text) in self.sidecars.iter().filter(|(file, _)| self.copies.contains_key(*file)) {
            let hash = inspect::parse_sidecar(text, file, strict);
            if hash.as_ref() != self.copies.get(file).map(|c| &c.1) {
                found.push((Code::ChecksumMismatch, format!("{shown}: the checksum file of {file} in it is not one of {file}")));
            }
        }
        if self.copies.is_empty() {
            found.push((Code::BackupDamaged, format!("{shown} holds no database; use another backup")));
        }
        found
    }

    /// What nothing in it speaks for: `NEEDS_FORCE`.
    pub fn unproven(&self, path: &Path) -> Vec<(Code, String)> {
        let bare = self.copies.keys().filter(|file| !self.sidecars.contains_key(*file));
        let bare = bare.map(|file| (Code::NeedsForce, format!("{}: {file} in it has no checksum file (.sha256)", path.display())));
        bare.chain(self.unsealed(path)).collect()
    }

    /// That its record lacks the seal that it says it has.
    pub fn unsealed(&self, path: &Path) -> Option<(Code, String)> {
        let missing = self.seal.problem(self.timestamp).filter(|(code, _)| *code == Code::NeedsForce);
        missing.map(|(code, why)| (code, format!("{}: {why}", path.display())))
    }

    fn require_space(&self, path: &Path, dir: &Path) -> Result<()> {
        let (needed, free) = (space::with_margin(self.copies.values().map(|c| c.0).sum()), space::free(dir)?);
        if free >= needed {
            return Ok(());
        }
        let message = format!(
            "what is in {} needs up to {needed} bytes to be unpacked, and only {free} are free in {}; free some space",
            path.display(),
            dir.display()
        );
        Err(Error::new(Code::NoSpace, message))
    }

    pub fn is_sealed(&self) -> bool {
        self.metadata.as_ref().is_some_and(Metadata::is_sealed)
    }

    /// Writes copies and their checksum files into the new folder `dir`: no more than was read before, nor than the record
    /// says that there is, whether or not anything is verified.
    pub fn unpack(&self, path: &Path, dir: &Path, monitor: &Monitor) -> Result<()> {
        let is_longer = |d: &&DatabaseRecord| self.copies.get(&d.file).is_some_and(|c| c.0 > d.size);
        if let Some(d) = self.metadata.iter().flat_map(Metadata::databases).find(is_longer) {
            let message =
                format!("archive {} is damaged: {} in it is longer than its record says; use another backup", path.display(), d.file);
            return Err(Error::new(Code::BackupDamaged, message));
        }
        durable::remove_dir_all(dir)?;
        durable::create_private_dir(dir)?;
        self.require_space(path, dir)?;
        archive::read(path, |member, body| {
            let most = match &member.artefact {
                Artefact::Database(_) => self.copies.get(member.name).map(|c| c.0),
                Artefact::Sidecar(_) | Artefact::Seal | Artefact::Metadata => Some(member.size),
                Artefact::Archive | Artefact::ArchiveSidecar => return Ok(()),
            };
            if most != Some(member.size) {
                return Err(broken(path, io::Error::other(format!("{:?} in it changed while it was read", member.name))));
            }
            extract(body, &dir.join(member.name), path, monitor)
        })?;
        durable::sync_dir(dir)
    }
}

fn extract(body: &mut dyn Read, to: &Path, archive: &Path, monitor: &Monitor) -> Result<()> {
    let mut file = durable::create_exclusive(to)?;
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        monitor.check()?;
        let n = body.read(&mut buffer).map_err(|e| broken(archive, e))?;
        if n == 0 {
            return file.sync_all().context("flush", to);
        }
        io::Write::write_all(&mut file, &buffer[..n]).context("write", to)?;
    }
}
