//! The package's functions: names, types and documentation; the verbs do the rest. All return promises, none throws.

use napi::Env;
use napi::bindgen_prelude::Unknown;
use napi_derive::napi;

use super::options::{self, Call, Project};
use super::results::{BackupComparison, BackupInspection, BackupResult, Health, RecoveryResult, RestoreResult, StorageUsage};
use super::runtime::{once_read, start};
use super::safety::Local;
use super::verbs::{Answer, Base};

/// Backs up every database of the project, live, while others read and write.
///
/// A job that fails resolves with `success: false`, `error` and `code`. Rejects with `ABORT_ERR` when cancelled, and with
/// `ERR_INVALID_ARG_TYPE` or `ERR_INVALID_ARG_VALUE` for impossible arguments.
///
/// Durable on return: with `success: true` the set survives a power cut. Until then there is no set at all: it appears whole.
#[napi(ts_args_type = "options?: CreateBackupOptions | null", ts_return_type = "Promise<BackupResult>")]
pub fn create_backup<'env>(env: &'env Env, options: Unknown<'env>) -> Answer<'env, BackupResult> {
    Base::none().create(env, &options)
}

/// Backs up before a dangerous operation: as `createBackup` with `kind: 'safety'`. `operationName` says what is about to happen,
/// is kept in the set's metadata, and must not be empty.
///
/// Resolves, rejects and lasts as `createBackup`.
#[napi(ts_args_type = "operationName: string, options?: SafetyBackupOptions | null", ts_return_type = "Promise<BackupResult>")]
pub fn create_safety_backup<'env>(env: &'env Env, operation_name: Unknown<'env>, options: Unknown<'env>) -> Answer<'env, BackupResult> {
    Base::none().create_safety(env, &operation_name, &options)
}

/// Puts a set's databases back, in place, under the eyes of programs that have them open. The present state is saved to a safety
/// set first; databases that the set lacks are left alone.
///
/// A job that fails resolves with `success: false`, `error` and `code`: everything is then as it was, except with
/// `RESTORE_INCOMPLETE`, which `recover()` finishes or undoes. Rejects with `ABORT_ERR` when cancelled, and with
/// `ERR_INVALID_ARG_TYPE` or `ERR_INVALID_ARG_VALUE` for impossible arguments.
///
/// Durable on return: with `success: true` all databases hold the backup's content, and do so after a power cut.
#[napi(ts_args_type = "timestamp: string, options?: RestoreBackupOptions | null", ts_return_type = "Promise<RestoreResult>")]
pub fn restore_backup<'env>(env: &'env Env, timestamp: Unknown<'env>, options: Unknown<'env>) -> Answer<'env, RestoreResult> {
    Base::none().restore(env, &timestamp, &options)
}

/// Lists the sets, newest first. Takes no lock and opens no database. A folder that is missing is an empty list; one that cannot
/// be read rejects (`PERMISSION_DENIED`, `IO_ERROR`).
#[napi(ts_args_type = "options?: ListBackupsOptions | null", ts_return_type = "Promise<BackupInfo[]>")]
pub fn list_backups<'env>(env: &'env Env, options: Unknown<'env>) -> Answer<'env, Local> {
    Base::none().list(env, &options)
}

/// Checks a set: sizes, checksums, metadata, structure, archive. False for a set that is missing, incomplete, damaged, or has a
/// file without a checksum; `inspectBackup` says why. Rejects when the check itself cannot be made (`INVALID_TIMESTAMP`,
/// `PERMISSION_DENIED`, `IO_ERROR`, `LOCK_TIMEOUT`, `ABORT_ERR`, ...).
#[napi(ts_args_type = "timestamp: string, options?: CallOptions | null", ts_return_type = "Promise<boolean>")]
pub fn verify_backup<'env>(env: &'env Env, timestamp: Unknown<'env>, options: Unknown<'env>) -> Answer<'env, bool> {
    Base::none().verify(env, &timestamp, &options)
}

/// Removes old sets: all but the newest `keepLast` (whole, 1 to 1000000, default 10) `automated` ones and, counted apart, the
/// newest `keepLast` `safety` ones. Archives stay until they are 90 days old; `manual` sets and the newest verified set of any
/// database stay whatever their age. Resolves with the number of sets removed; all failures reject.
#[napi(ts_args_type = "keepLast?: number, options?: CallOptions | null", ts_return_type = "Promise<number>")]
pub fn clean_old_backups<'env>(env: &'env Env, keep_last: Unknown<'env>, options: Unknown<'env>) -> Answer<'env, u32> {
    Base::none().clean(env, &keep_last, &options)
}

/// Checks a set as `verifyBackup` does, and says what is wrong with which file. Rejects with `BACKUP_NOT_FOUND` when there is no
/// such set, `INVALID_TIMESTAMP` when there cannot be one.
#[napi(ts_args_type = "timestamp: string, options?: CallOptions | null", ts_return_type = "Promise<BackupInspection>")]
pub fn inspect_backup<'env>(env: &'env Env, timestamp: Unknown<'env>, options: Unknown<'env>) -> Answer<'env, BackupInspection> {
    Base::none().inspect(env, &timestamp, &options)
}

/// Compares a set with the live databases: pages, rows of each table, schema objects. Changes nothing; of a database with a rollback
/// journal, a temporary copy is made, so that writers wait only for that. With `table`, only that table is compared, and rows are shown.
///
/// Rejects with `BACKUP_NOT_FOUND` when there is no such set, `INVALID_TIMESTAMP` when there cannot be one, `ERR_INVALID_ARG_VALUE` when no
/// database has the table, `CHECKSUM_MISMATCH` or `BACKUP_DAMAGED` when the set is damaged, `SOURCE_DAMAGED` when a live database is.
#[napi(ts_args_type = "timestamp: string, options?: CompareBackupOptions | null", ts_return_type = "Promise<BackupComparison>")]
pub fn compare_backup<'env>(env: &'env Env, timestamp: Unknown<'env>, options: Unknown<'env>) -> Answer<'env, BackupComparison> {
    Base::none().compare(env, &timestamp, &options)
}

/// Adds up what the backups folder holds, in bytes. Takes no lock; all failures reject.
#[napi(ts_args_type = "options?: CallOptions | null", ts_return_type = "Promise<StorageUsage>")]
pub fn storage_usage<'env>(env: &'env Env, options: Unknown<'env>) -> Answer<'env, StorageUsage> {
    Base::none().usage(env, &options)
}

/// Looks whether every database has a fresh, verified backup, whether backups and databases are undamaged, whether there is room,
/// and whether a process endangers a database. What is not as it should be is a finding, with a remedy. Changes nothing, and waits
/// for no other run. Rejects with `NO_DATABASES` when there is nothing to look after, and when the look itself fails.
#[napi(ts_args_type = "options?: CheckHealthOptions | null", ts_return_type = "Promise<Health>")]
pub fn check_health<'env>(env: &'env Env, options: Unknown<'env>) -> Answer<'env, Health> {
    Base::none().health(env, &options)
}

/// Finishes or undoes what a run that died has left behind: a half-done restore, half-made sets. Every operation that takes the
/// lock does so too; this does nothing else, and nothing at all when there is nothing to do. All failures reject.
///
/// Durable on return: no restore is half-done any more, and that survives a power cut.
#[napi(ts_args_type = "options?: CallOptions | null", ts_return_type = "Promise<RecoveryResult>")]
pub fn recover<'env>(env: &'env Env, options: Unknown<'env>) -> Answer<'env, RecoveryResult> {
    Base::none().recover(env, &options)
}

/// Makes a safety backup, calls `fn`, and resolves with its value. If `fn` throws or its promise is rejected, the databases are
/// restored (with `force`) and the promise is rejected with that very value.
///
/// Rejects with the safety backup's code, without calling `fn`, if there is no healthy backup to return to. If the restore fails too,
/// rejects with the restore's code and a message that tells both; `cause` is what `fn` threw. `signal` stops the safety backup only.
/// `onProgress` hears of the safety backup and, if it comes to that, of the restore.
#[napi(
    ts_generic_types = "T",
    ts_args_type = "operationName: string, fn: () => T | PromiseLike<T>, options?: SafetyBackupOptions | null",
    ts_return_type = "Promise<T>"
)]
pub fn with_safety_backup<'env>(
    env: &'env Env,
    operation_name: Unknown<'env>,
    r#fn: Unknown<'env>,
    options: Unknown<'env>,
) -> Answer<'env, Local> {
    Base::none().with_safety(env, &operation_name, &r#fn, &options)
}

/// The command line, for `bin`: resolves with the exit code.
#[napi(skip_typescript)]
pub fn run_cli<'env>(env: &'env Env, args: Unknown<'env>, signal: Unknown<'env>) -> Answer<'env, i32> {
    once_read(env, options::arguments(env, &args), |args| {
        let call = Call { project: Project::default(), signal: Some(signal), on_progress: None, channel: None };
        start(env, call, |context| Ok(crate::cli::run(args, context.monitor.clone())), |_, finished| Ok(finished.result?))
    })
}

/// For `bin`: the command was sent `signal` (its number). False if the process should end at once.
#[napi(skip_typescript)]
pub fn note_signal(signal: i32) -> bool {
    crate::cli::signals::note(signal)
}
