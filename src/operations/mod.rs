//! One file per verb: options → plan → execute → outcome.

mod archive_run;
mod blocks;
mod capture;
mod clean;
mod compare;
mod copier;
mod create;
mod inspect;
mod intent;
mod list;
mod pending_restore;
mod preview;
mod provenance;
mod recover;
mod restore;
mod restore_apply;
mod restore_commit;
mod restore_prepare;
mod restore_targets;
mod session;
mod set_files;
mod shrinkage;
mod sources;
pub mod types;
mod usage;

pub use clean::{clean, delete};
pub use compare::compare;
pub use create::create;
pub use inspect::{inspect, verify};
pub use list::{info, list};
pub use preview::{preview, preview_archive};
pub use recover::recover;
pub use restore::{restore, restore_archive};
pub use types::*;
pub use usage::usage;
