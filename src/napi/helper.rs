//! The class `BackupHelper` and the one that is ready to use, `backupHelper`.

use napi::Env;
use napi::bindgen_prelude::{Object, ToNapiValue, Unknown};
use napi::sys;
use napi_derive::napi;

use super::results::{BackupComparison, BackupInspection, BackupResult, Health, RecoveryResult, RestoreResult, StorageUsage};
use super::safety::Local;
use super::verbs::{Answer, Base};

/// The functions of this package, bound to one project. Options of a call go before those of the constructor.
#[napi]
pub struct BackupHelper {
    base: Base,
}

#[napi]
impl BackupHelper {
    /// Never throws for what it is given: a constructor cannot reject, so impossible options are kept, and every method rejects
    /// with `ERR_INVALID_ARG_TYPE` or `ERR_INVALID_ARG_VALUE`.
    #[napi(constructor, ts_args_type = "options?: ProjectOptions | null")]
    pub fn new(env: &Env, options: Unknown<'_>) -> Self {
        BackupHelper { base: Base::new(env, &options) }
    }

    /// Backs up every database of the project, live, while others read and write.
    ///
    /// A job that fails resolves with `success: false`, `error` and `code`. Rejects with `ABORT_ERR` when cancelled, and with
    /// `ERR_INVALID_ARG_TYPE` or `ERR_INVALID_ARG_VALUE` for impossible arguments.
    ///
    /// Durable on return: with `success: true` the set survives a power cut. Until then there is no set at all: it appears whole.
    #[napi(ts_args_type = "options?: CreateBackupOptions | null", ts_return_type = "Promise<BackupResult>")]
    pub fn create_backup<'env>(&self, env: &'env Env, options: Unknown<'env>) -> Answer<'env, BackupResult> {
        self.base.create(env, &options)
    }

    /// Backs up before a dangerous operation: as `createBackup` with `kind: 'safety'`. `operationName` says what is about to happen,
    /// is kept in the set's metadata, and must not be empty.
    ///
    /// Resolves, rejects and lasts as `createBackup`.
    #[napi(ts_args_type = "operationName: string, options?: SafetyBackupOptions | null", ts_return_type = "Promise<BackupResult>")]
    pub fn create_safety_backup<'env>(
        &self,
        env: &'env Env,
        operation_name: Unknown<'env>,
        options: Unknown<'env>,
    ) -> Answer<'env, BackupResult> {
        self.base.create_safety(env, &operation_name, &options)
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
    pub fn restore_backup<'env>(&self, env: &'env Env, timestamp: Unknown<'env>, options: Unknown<'env>) -> Answer<'env, RestoreResult> {
        self.base.restore(env, &timestamp, &options)
    }

    /// Lists the sets, newest first. Takes no lock and opens no database. A folder that is missing is an empty list; one that cannot
    /// be read rejects (`PERMISSION_DENIED`, `IO_ERROR`).
    #[napi(ts_args_type = "options?: ListBackupsOptions | null", ts_return_type = "Promise<BackupInfo[]>")]
    pub fn list_backups<'env>(&self, env: &'env Env, options: Unknown<'env>) -> Answer<'env, Local> {
        self.base.list(env, &options)
    }

    /// Checks a set: sizes, checksums, metadata, structure, archive. False for a set that is missing, incomplete, damaged, or has a
    /// file without a checksum; `inspectBackup` says why. Rejects when the check itself cannot be made (`PERMISSION_DENIED`,
    /// `IO_ERROR`, `LOCK_TIMEOUT`, `ABORT_ERR`, ...).
    #[napi(ts_args_type = "timestamp: string, options?: CallOptions | null", ts_return_type = "Promise<boolean>")]
    pub fn verify_backup<'env>(&self, env: &'env Env, timestamp: Unknown<'env>, options: Unknown<'env>) -> Answer<'env, bool> {
        self.base.verify(env, &timestamp, &options)
    }

    /// Removes old sets: all but the newest `keepLast` (whole, 1 to 1000000, default 10) `automated` ones and, counted apart, the
    /// newest `keepLast` `safety` ones. Archives stay until they are 90 days old; `manual` sets and the newest verified set of any
    /// database stay whatever their age. Resolves with the number of sets removed; all failures reject.
    #[napi(ts_args_type = "keepLast?: number, options?: CallOptions | null", ts_return_type = "Promise<number>")]
    pub fn clean_old_backups<'env>(&self, env: &'env Env, keep_last: Unknown<'env>, options: Unknown<'env>) -> Answer<'env, u32> {
        self.base.clean(env, &keep_last, &options)
    }

    /// Checks a set as `verifyBackup` does, and says what is wrong with which file. Rejects with `BACKUP_NOT_FOUND` when there is no
    /// such set, `INVALID_TIMESTAMP` when there cannot be one.
    #[napi(ts_args_type = "timestamp: string, options?: CallOptions | null", ts_return_type = "Promise<BackupInspection>")]
    pub fn inspect_backup<'env>(&self, env: &'env Env, timestamp: Unknown<'env>, options: Unknown<'env>) -> Answer<'env, BackupInspection> {
        self.base.inspect(env, &timestamp, &options)
    }

    /// Compares a set with the live databases: pages, rows of each table, schema objects. Changes nothing; of a database with a rollback
    /// journal, a temporary copy is made, so that writers wait only for that. With `table`, only that table is compared, and rows are shown.
    ///
    /// Rejects with `BACKUP_NOT_FOUND` when there is no such set, `INVALID_TIMESTAMP` when there cannot be one, `ERR_INVALID_ARG_VALUE` when no
    /// database has the table, `CHECKSUM_MISMATCH` or `BACKUP_DAMAGED` when the set is damaged, `SOURCE_DAMAGED` when a live database is.
    #[napi(ts_args_type = "timestamp: string, options?: CompareBackupOptions | null", ts_return_type = "Promise<BackupComparison>")]
    pub fn compare_backup<'env>(&self, env: &'env Env, timestamp: Unknown<'env>, options: Unknown<'env>) -> Answer<'env, BackupComparison> {
        self.base.compare(env, &timestamp, &options)
    }

    /// Adds up what the backups folder holds, in bytes. Takes no lock; all failures reject.
    #[napi(ts_args_type = "options?: CallOptions | null", ts_return_type = "Promise<StorageUsage>")]
    pub fn storage_usage<'env>(&self, env: &'env Env, options: Unknown<'env>) -> Answer<'env, StorageUsage> {
        self.base.usage(env, &options)
    }

    /// Looks whether every database has a fresh, verified backup, whether backups and databases are undamaged, whether there is room,
    /// and whether a process endangers a database. What is not as it should be is a finding, with a remedy. Changes nothing, and waits
    /// for no other run. Rejects with `NO_DATABASES` when there is nothing to look after, and when the look itself fails.
    #[napi(ts_args_type = "options?: CheckHealthOptions | null", ts_return_type = "Promise<Health>")]
    pub fn check_health<'env>(&self, env: &'env Env, options: Unknown<'env>) -> Answer<'env, Health> {
        self.base.health(env, &options)
    }

    /// Finishes or undoes what a run that died has left behind: a half-done restore, half-made sets. Every operation that takes the
    /// lock does so too; this does nothing else, and nothing at all when there is nothing to do. All failures reject.
    ///
    /// Durable on return: no restore is half-done any more, and that survives a power cut.
    #[napi(ts_args_type = "options?: CallOptions | null", ts_return_type = "Promise<RecoveryResult>")]
    pub fn recover<'env>(&self, env: &'env Env, options: Unknown<'env>) -> Answer<'env, RecoveryResult> {
        self.base.recover(env, &options)
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
        &self,
        env: &'env Env,
        operation_name: Unknown<'env>,
        r#fn: Unknown<'env>,
        options: Unknown<'env>,
    ) -> Answer<'env, Local> {
        self.base.with_safety(env, &operation_name, &r#fn, &options)
    }
}

/// Napi sets constants before there are classes, so the constant only claims the name, for index.js and the types; [`fill_in`] puts
/// the instance there. The type's name is what appears in index.d.ts.
mod placeholder {
    /// Stands for an instance of the class of this name.
    pub struct BackupHelper;
}

impl ToNapiValue for placeholder::BackupHelper {
    #[allow(unsafe_code)]
    unsafe fn to_napi_value(env: sys::napi_env, _: Self) -> napi::Result<sys::napi_value> {
        // SAFETY: the caller vouches for `env`.
        unsafe { <() as ToNapiValue>::to_napi_value(env, ()) }
    }
}

/// A helper for the project that `AQE_PROJECT_ROOT` names, else the one in the current folder: looked up anew on each call.
// Spelled as in JavaScript: `js_name` would rename the type only, not the export.
#[allow(non_upper_case_globals)]
#[napi]
pub const backupHelper: placeholder::BackupHelper = placeholder::BackupHelper;

/// Runs once per environment, after the classes are there.
#[napi_derive::napi(module_exports)]
pub fn fill_in(mut exports: Object<'_>, env: Env) -> napi::Result<()> {
    exports.set("backupHelper", BackupHelper { base: Base::none() }.into_unknown(&env)?)
}
