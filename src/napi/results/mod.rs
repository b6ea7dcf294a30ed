//! What promises resolve to: the operations' outcomes as plain objects.

mod backup;
mod comparison;
mod health;
mod inspection;
mod restore;
mod usage;

pub use backup::BackupResult;
pub use comparison::BackupComparison;
pub use health::Health;
pub use inspection::BackupInspection;
pub use restore::{RecoveryResult, RestoreResult};
pub use usage::StorageUsage;
