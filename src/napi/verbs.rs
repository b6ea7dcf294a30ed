//! What functions and methods have in common: from arguments to the promise, for every verb.

use napi::Env;
use napi::bindgen_prelude::{PromiseRaw, Unknown};

use super::error::{Caught, Failure, Result};
use super::listing;
use super::options::{self, Call, Options, Project};
use super::results::{BackupComparison, BackupInspection, BackupResult, Health, RecoveryResult, RestoreResult, StorageUsage};
use super::runtime::{rejected, start};
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
        let call = self.options(env, options, &[]).map(|(call, _)| call);
        start(env, call, job, |_, finished| Ok(finished.result?.into()))
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
        let (timestamp, call) = match self.set_and_call(env, timestamp, options) {
            Ok((timestamp, call)) => (timestamp, Ok(call)),
            Err(failure) => (String::new(), Err(failure)),
        };
        start(env, call, move |context| job(context, &timestamp), |_, finished| Ok(finished.result?.into()))
    }

    fn set_and_call<'env>(&self, env: &'env Env, timestamp: &Unknown<'env>, options: &Unknown<'env>) -> Result<(String, Call<'env>)> {
        Ok((options::timestamp(env, timestamp)?, self.options(env, options, &[])?.0))
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
        let read = || {
            let timestamp = options::timestamp(env, timestamp)?;
            let (call, options) = self.options(env, value, &Options::RESTORE)?;
            Ok((timestamp, call, options.restore()?))
        };
        let (timestamp, call, options) = match read() {
            Ok((timestamp, call, options)) => (timestamp, Ok(call), options),
            Err(failure) => (String::new(), Err(failure), op::RestoreOptions::default()),
        };
        let asked = timestamp.clone();
        let job = move |context: &Context| op::restore(context, &timestamp, &options);
        start(env, call, job, move |_, finished| Ok(RestoreResult::new(finished, asked)))
    }

    /// listBackups
    pub fn list<'env>(&self, env: &'env Env, value: &Unknown<'env>) -> Answer<'env, Local> {
        let read = || {
            let (call, options) = self.options(env, value, &Options::LIST)?;
            let (archives, (giver, taker)) = (options.archives()?, slices::between(env).caught(env)?);
            Ok((Call { channel: Some(giver.channel()), ..call }, archives, giver, taker))
        };
        let (call, archives, giver, taker) = match read() {
            Ok(read) => read,
            Err(failure) => return rejected(env, failure),
        };
        let job = move |context: &Context| {
            let rows = op::list_as(context, archives, |info| listing::row(&info))?;
            giver.give(rows.into_iter().collect::<Result<_, Error>>()?, &context.monitor)
        };
        start(env, Ok(call), job, move |env, finished| taker.end(env, finished.result?).caught(env))
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
        let read = || {
            let timestamp = options::timestamp(env, timestamp)?;
            let (call, options) = self.options(env, value, &Options::COMPARE)?;
            Ok((timestamp, call, options.compare()?))
        };
        let (timestamp, call, options) = match read() {
            Ok((timestamp, call, options)) => (timestamp, Ok(call), options),
            Err(failure) => (String::new(), Err(failure), op::CompareOptions::default()),
        };
        start(env, call, move |context| op::compare(context, &timestamp, &options), |_, finished| Ok(finished.result?.into()))
    }

    /// cleanOldBackups
    pub fn clean<'env>(&self, env: &'env Env, keep_last: &Unknown<'env>, value: &Unknown<'env>) -> Answer<'env, u32> {
        let read = options::keep_last(env, keep_last).and_then(|keep| Ok((self.options(env, value, &[])?.0, keep)));
        let (call, keep) = match read {
            Ok((call, keep)) => (Ok(call), keep),
            Err(failure) => (Err(failure), 0),
        };
        let options = op::CleanOptions { rule: Rule::Newest(keep), dry_run: false };
        start(env, call, move |context| op::clean(context, &options), |_, finished| Ok(finished.result?.removed))
    }

    /// storageUsage
    pub fn usage<'env>(&self, env: &'env Env, options: &Unknown<'env>) -> Answer<'env, StorageUsage> {
        self.plain(env, options, op::usage)
    }

    /// checkHealth
    pub fn health<'env>(&self, env: &'env Env, value: &Unknown<'env>) -> Answer<'env, Health> {
        let read = self.options(env, value, &Options::HEALTH).and_then(|(call, options)| Ok((call, options.health()?)));
        let (call, options) = match read {
            Ok((call, options)) => (Ok(call), options),
            Err(failure) => (Err(failure), op::HealthOptions::default()),
        };
        start(env, call, move |context| op::check(context, &options), |_, finished| Ok(Health::new(finished)?))
    }

    /// recover
    pub fn recover<'env>(&self, env: &'env Env, options: &Unknown<'env>) -> Answer<'env, RecoveryResult> {
        self.plain(env, options, op::recover)
    }
}

fn create<'env>(env: &'env Env, read: Result<(Call<'env>, CreateOptions)>) -> Answer<'env, BackupResult> {
    let (call, options) = match read {
        Ok((call, options)) => (Ok(call), options),
        Err(failure) => (Err(failure), CreateOptions::default()),
    };
    let kind = options.kind;
    start(env, call, move |context| op::create(context, &options), move |_, finished| Ok(BackupResult::new(finished, kind)))
}
