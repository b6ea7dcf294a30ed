//! What functions and methods have in common: from arguments to the promise, for every verb.

use napi::Env;
use napi::bindgen_prelude::{PromiseRaw, Unknown};

use super::error::{Caught, Failure, Result};
use super::listing;
use super::options::{self, Call, Options, Project};
use super::results::{BackupComparison, BackupInspection, BackupResult, Health, RecoveryResult, RestoreResult, StorageUsage};
use super::runtime::{once_read, start};
use super::safety::Local;
use super::slices;
use crate::error::Error;
use crate::operations::{self as op, Context, CreateOptions};
use crate::store::retention::Rule;

/// What every exported function returns.
pub type Answer<'env, T> = napi::Result<PromiseRaw<'env, T>>;

/// The project of a helper. A constructor cannot reject, so what was wrong with its options is kept, and every method says it.
pub struct Base(Result<Project>);

impl Base {
    /// The base of plain functions: nothing said.
    pub fn none() -> Self {
        Base(Ok(Project::default()))
    }

    /// What a helper was constructed with.
    pub fn new(env: &Env, options: &Unknown<'_>) -> Self {
        Base(Options::of_project(env, options).and_then(|o| o.project(&Project::default())))
    }

    fn project(&self) -> Result<&Project> {
        self.0.as_ref().map_err(Failure::again)
    }

    /// The options of a call that has `own` options besides the common ones.
    pub fn options<'env>(&self, env: &'env Env, value: &Unknown<'env>, own: &[&str]) -> Result<(Call<'env>, Options<'env>)> {
        let base = self.project()?;
        let options = Options::of_call(env, value, own)?;
        Ok((options.call(base)?, options))
    }

    /// A verb whose failures all reject.
    fn plain<'env, T, R>(
        &self,
        env: &'env Env,
        options: &Unknown<'env>,
        job: impl FnOnce(&Context) -> Result<T, Error> + Send + 'static,
    ) -> Answer<'env, R>
    where
        T: Send + 'static,
        R: From<T> + napi::bindgen_prelude::ToNapiValue + 'static,
    {
        once_read(env, self.options(env, options, &[]), |(call, _)| start(env, call, job, |_, finished| Ok(finished.result?.into())))
    }

    /// A verb on one set, whose failures all reject.
    fn on_set<'env, T, R>(
        &self,
        env: &'env Env,
        timestamp: &Unknown<'env>,
        options: &Unknown<'env>,
        job: fn(&Context, &str) -> Result<T, Error>,
    ) -> Answer<'env, R>
    where
        T: Send + 'static,
        R: From<T> + napi::bindgen_prelude::ToNapiValue + 'static,
    {
        once_read(env, self.set_and_options(env, timestamp, options, &[]), |(timestamp, call, _)| {
            start(env, call, move |context| job(context, &timestamp), |_, finished| Ok(finished.result?.into()))
        })
    }

    /// The arguments of a verb on one set that has `own` options besides the common ones.
    fn set_and_options<'env>(
        &self,
        env: &'env Env,
        timestamp: &Unknown<'env>,
        value: &Unknown<'env>,
        own: &[&str],
    ) -> Result<(String, Call<'env>, Options<'env>)> {
        let timestamp = options::timestamp(env, timestamp)?;
        let (call, options) = self.options(env, value, own)?;
        Ok((timestamp, call, options))
    }

    /// createBackup
    pub fn create<'env>(&self, env: &'env Env, value: &Unknown<'env>) -> Answer<'env, BackupResult> {
        let read = self.options(env, value, &Options::CREATE).and_then(|(call, options)| Ok((call, options.create()?)));
        create(env, read)
    }

    /// createSafetyBackup
    pub fn create_safety<'env>(&self, env: &'env Env, name: &Unknown<'env>, value: &Unknown<'env>) -> Answer<'env, BackupResult> {
        create(env, self.safety(env, name, value))
    }

    /// The arguments of createSafetyBackup.
    pub fn safety<'env>(&self, env: &'env Env, name: &Unknown<'env>, value: &Unknown<'env>) -> Result<(Call<'env>, CreateOptions)> {
        let name = options::operation_name(env, name)?;
        let (call, options) = self.options(env, value, &Options::SAFETY)?;
        Ok((call, options.safety(name)?))
    }

    /// restoreBackup
    pub fn restore<'env>(&self, env: &'env Env, timestamp: &Unknown<'env>, value: &Unknown<'env>) -> Answer<'env, RestoreResult> {
        let read = self.set_and_options(env, timestamp, value, &Options::RESTORE);
        let read = read.and_then(|(timestamp, call, options)| Ok((timestamp, call, options.restore()?)));
        once_read(env, read, |(timestamp, call, options)| {
            let asked = timestamp.clone();
            let job = move |context: &Context| op::restore(context, &timestamp, &options);
            start(env, call, job, move |_, finished| Ok(RestoreResult::new(finished, asked)))
        })
    }

    /// listBackups
    pub fn list<'env>(&self, env: &'env Env, value: &Unknown<'env>) -> Answer<'env, Local> {
        let read = || {
            let (call, options) = self.options(env, value, &Options::LIST)?;
            let (archives, (giver, taker)) = (options.archives()?, slices::between(env).caught(env)?);
            Ok((Call { channel: Some(giver.channel()), ..call }, archives, giver, taker))
        };
        once_read(env, read(), |(call, archives, giver, taker)| {
            let job = move |context: &Context| {
                let rows = op::list_as(context, archives, |info| listing::row(&info))?;
                giver.give(rows.into_iter().collect::<Result<_, Error>>()?, &context.monitor)
            };
            start(env, call, job, move |env, finished| taker.end(env, finished.result?).caught(env))
        })
    }

    /// verifyBackup
    pub fn verify<'env>(&self, env: &'env Env, timestamp: &Unknown<'env>, options: &Unknown<'env>) -> Answer<'env, bool> {
        self.on_set(env, timestamp, options, op::verify)
    }

    /// inspectBackup
    pub fn inspect<'env>(&self, env: &'env Env, timestamp: &Unknown<'env>, options: &Unknown<'env>) -> Answer<'env, BackupInspection> {
        self.on_set(env, timestamp, options, op::inspect)
    }

    /// compareBackup
    pub fn compare<'env>(&self, env: &'env Env, timestamp: &Unknown<'env>, value: &Unknown<'env>) -> Answer<'env, BackupComparison> {
        let read = self.set_and_options(env, timestamp, value, &Options::COMPARE);
        let read = read.and_then(|(timestamp, call, options)| Ok((timestamp, call, options.compare()?)));
        once_read(env, read, |(timestamp, call, options)| {
            start(env, call, move |context| op::compare(context, &timestamp, &options), |_, finished| Ok(finished.result?.into()))
        })
    }

    /// cleanOldBackups
    pub fn clean<'env>(&self, env: &'env Env, keep_last: &Unknown<'env>, value: &Unknown<'env>) -> Answer<'env, u32> {
        let read = options::keep_last(env, keep_last).and_then(|keep| Ok((self.options(env, value, &[])?.0, keep)));
        once_read(env, read, |(call, keep)| {
            let options = op::CleanOptions { rule: Rule::Newest(keep), dry_run: false };
            start(env, call, move |context| op::clean(context, &options), |_, finished| Ok(finished.result?.removed))
        })
    }

    /// storageUsage
    pub fn usage<'env>(&self, env: &'env Env, options: &Unknown<'env>) -> Answer<'env, StorageUsage> {
        self.plain(env, options, op::usage)
    }

    /// checkHealth
    pub fn health<'env>(&self, env: &'env Env, value: &Unknown<'env>) -> Answer<'env, Health> {
        let read = self.options(env, value, &Options::HEALTH).and_then(|(call, options)| Ok((call, options.health()?)));
        once_read(env, read, |(call, options)| {
            start(env, call, move |context| op::check(context, &options), |_, finished| Ok(Health::new(finished)?))
        })
    }

    /// recover
    pub fn recover<'env>(&self, env: &'env Env, options: &Unknown<'env>) -> Answer<'env, RecoveryResult> {
        self.plain(env, options, op::recover)
    }
}

fn create<'env>(env: &'env Env, read: Result<(Call<'env>, CreateOptions)>) -> Answer<'env, BackupResult> {
    once_read(env, read, |(call, options)| {
        let kind = options.kind;
        start(env, call, move |context| op::create(context, &options), move |_, finished| Ok(BackupResult::new(finished, kind)))
    })
}
