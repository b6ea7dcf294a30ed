//! Health as metrics: the text format of Prometheus, in a file for the textfile collector of its node_exporter.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use super::units::now;
use crate::durable;
use crate::error::{Code, Error, IoContext, Result};
use crate::operations::{Context, FindingCode, Health};
use crate::project::Project;

/// Samples, each with the project's root among its labels: the collector refuses two files that have the same sample.
struct Metrics {
    root: String,
    text: String,
}

impl Metrics {
    fn new(root: &Path) -> Self {
        Metrics { root: escaped(&root.display().to_string()), text: String::new() }
    }

    /// Begins a metric. `help` is one line without backslashes.
    fn gauge(&mut self, name: &str, help: &str) {
        // Writing to a string can't fail.
        let _ = write!(self.text, "# HELP aqe_backup_{name} {help}\n# TYPE aqe_backup_{name} gauge\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let _ = write!(self.text, "aqe_backup_{name}{{root=\"{}\"", self.root);
        for (label, value) in labels {
            let _ = write!(self.text, ",{label}=\"{}\"", escaped(value));
        }
        let _ = writeln!(self.text, "}} {value}");
    }

    /// A metric with one sample.
    fn one(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.gauge(name, help);
        self.sample(name, &[], value);
    }

    /// What is said of every check, whether or not it could be made.
    fn of_check(&mut self, success: bool) {
        self.one("check_success", "Whether the check could be made; if not, the other metrics are missing.", u8::from(success));
        self.one("check_timestamp_seconds", "When the check was made.", now().to_unix());
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// All that is known after a check.
pub(super) fn metrics(h: &Health, duration: Duration) -> String {
    let mut m = Metrics::new(&h.root);
    m.of_check(true);
    m.one("check_duration_seconds", "How long the check took.", format!("{:.3}", duration.as_secs_f64()));
    m.one("healthy", "1 if there is no critical finding.", u8::from(h.healthy()));
    findings(&mut m, h);
    databases(&mut m, h);
    storage(&mut m, h);
    if let Some(p) = h.processes {
        m.gauge("processes", "Processes that have a database open (using), that were looked at, and that could not be.");
        for (state, n) in [("using", p.using), ("examined", p.examined), ("unreadable", p.unreadable)] {
            m.sample("processes", &[("state", state)], n);
        }
    }
    m.text
}

fn findings(m: &mut Metrics, h: &Health) {
    m.gauge("findings", "Findings of each kind; those that there are none of too.");
    for code in FindingCode::ALL {
        for severity in code.severities() {
            let n = h.findings.iter().filter(|f| (f.code, f.severity) == (code, *severity)).count();
            m.sample("findings", &[("code", code.as_str()), ("severity", severity.as_str())], n);
        }
    }
}

fn databases(m: &mut Metrics, h: &Health) {
    m.gauge("last_verified_timestamp_seconds", "When the newest verified, undamaged backup was made; 0 if there is none.");
    for d in &h.databases {
        m.sample("last_verified_timestamp_seconds", &[("database", &d.source)], d.newest_backup.map_or(0, |t| t.to_unix()));
    }
    m.gauge("database_bytes", "Bytes of the database and its write-ahead log.");
    for d in &h.databases {
        m.sample("database_bytes", &[("database", &d.source)], d.size);
    }
}

fn storage(m: &mut Metrics, h: &Health) {
    m.gauge("storage_bytes", "Bytes in the backups folder.");
    let other = h.total_size.saturating_sub(h.databases_size + h.archives_size);
    for (kind, size) in [("databases", h.databases_size), ("archives", h.archives_size), ("other", other)] {
        m.sample("storage_bytes", &[("kind", kind)], size);
    }
    if let Some(max) = h.max_size {
        m.one("storage_limit_bytes", "What the backups folder may take.", max);
    }
    m.gauge("sets", "Backups by kind; archive: those of which only the archive is left.");
    for (kind, n) in h.kinds {
        m.sample("sets", &[("kind", kind.as_str())], n);
    }
    m.sample("sets", &[("kind", "archive")], h.archives_only);
    m.one("damaged_sets", "Backups that are damaged, or copies of a database that was.", h.damaged);
    m.one("free_bytes", "Free bytes where the backups are.", h.free);
    m.one("next_backup_bytes", "What has to be free for the next backup.", h.next_backup);
}

/// All that is known when the check could not be made.
pub(super) fn failure(ctx: &Context) -> String {
    let root = Project::open(ctx.root.as_deref(), ctx.backup_dir.as_deref()).map(|p| p.root);
    let mut m = Metrics::new(&root.or_else(|e| ctx.root.clone().ok_or(e)).unwrap_or_default());
    m.of_check(false);
    m.text
}

/// What every file of ours begins with.
const BEGINNING: &[u8] = b"# HELP aqe_backup_";

/// A path that was mistyped must not cost a database, a backup or a device: only what is ours is replaced. Opening a
/// database that was named by mistake costs nobody a lock: the command is a process of its own, and its connections are
/// closed by now.
fn require_own(path: &Path) -> Result<()> {
    let meta = match path.symlink_metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.context("look at", path)?,
    };
    let mut start = vec![0; BEGINNING.len()];
    let mut is_ours = || std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut start)).is_ok_and(|()| start == BEGINNING);
    if meta.is_file() && is_ours() {
        return Ok(());
    }
    let message = format!("{} is there and was not written by check; name another file, or remove it", path.display());
    Err(Error::new(Code::InvalidArgValue, message))
}

/// Puts `text` at `path` at once: the collector sees the old file or the new one. Its name until then does not end in
/// `.prom`, so the collector leaves it alone.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    require_own(path)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut staged =
        tempfile::Builder::new().prefix(".aqe-backup-").suffix(".tmp").tempfile_in(folder).context("create a file in", folder)?;
    staged.write_all(text.as_bytes()).context("write", staged.path())?;
    // The collector runs under an account of its own.
    durable::set_mode(staged.as_file(), 0o644).context("set the mode of", staged.path())?;
    staged.persist(path).map_err(|e| e.error).context("put in place", path)?;
    Ok(())
}
