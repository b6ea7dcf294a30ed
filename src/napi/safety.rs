//! withSafetyBackup: a safety backup, the caller's function, and the way back if it fails.

use napi::bindgen_prelude::{FromNapiValue, Function, FunctionRef, PromiseRaw, ToNapiValue, Unknown};
use napi::{Env, JsValue, sys};

use super::error::{Caught, Failure, Result, caught, words};
use super::options::{self, Call, Project};
use super::progress::Callback;
use super::runtime::{Finished, once_read, start};
use super::verbs::{Answer, Base};
use crate::error::Error;
use crate::operations::{self as op, Context, CreateOptions, CreateOutcome, RestoreOptions, RestoreOutcome};
use crate::store::pin::Pin;

/// A JavaScript value on its way out, within the scope it was made in.
pub struct Local(sys::napi_value);

#[allow(unsafe_code)]
impl ToNapiValue for Local {
    // SAFETY: a `Local` is made by a `finish` closure and converted right after it returns, in the same handle scope and `env`.
    unsafe fn to_napi_value(_env: sys::napi_env, value: Self) -> napi::Result<sys::napi_value> {
        Ok(value.0)
    }
}

#[allow(unsafe_code)]
impl FromNapiValue for Local {
    // SAFETY: nothing is read; the handle is only passed on, within the scope in which it is given.
    unsafe fn from_napi_value(_env: sys::napi_env, value: sys::napi_value) -> napi::Result<Self> {
        Ok(Local(value))
    }
}

/// The caller's function: no arguments, any value or promise.
type Deed = FunctionRef<(), Unknown<'static>>;

impl Base {
    /// withSafetyBackup
    pub fn with_safety<'env>(
        &self,
        env: &'env Env,
        name: &Unknown<'env>,
        function: &Unknown<'env>,
        value: &Unknown<'env>,
    ) -> Answer<'env, Local> {
        once_read(env, self.plan(env, name, function, value), |(call, options, plan)| {
            let job = move |context: &Context| op::create(context, &options).and_then(healthy);
            start(env, call, job, move |env, finished| plan.run(env, finished))
        })
    }

    fn plan<'env>(
        &self,
        env: &'env Env,
        name: &Unknown<'env>,
        function: &Unknown<'env>,
        value: &Unknown<'env>,
    ) -> Result<(Call<'env>, CreateOptions, Plan)> {
        let deed: Function<'_, (), Unknown<'static>> = options::function(env, function, "fn")?;
        let deed = deed.create_ref().caught(env)?;
        let (call, options) = self.safety(env, name, value)?;
        // Nobody removes it, the function itself included, until its end is known.
        let options = CreateOptions { pin: true, ..options };
        let operation = options.operation.clone().unwrap_or_default();
        let plan = Plan { deed, operation, project: call.project.clone(), on_progress: call.on_progress.clone() };
        Ok((call, options, plan))
    }
}

/// A set that cannot bring the state back is no safety backup.
fn healthy(outcome: CreateOutcome) -> Result<CreateOutcome, Error> {
    match outcome.failure {
        Some(error) => Err(error),
        None => Ok(outcome),
    }
}

struct Plan {
    deed: Deed,
    operation: String,
    project: Project,
    on_progress: Option<Callback>,
}

impl Plan {
    /// The safety backup is there (or its error is): runs the function and watches over what becomes of it.
    fn run(self, env: &Env, finished: Finished<CreateOutcome>) -> Result<Local> {
        let outcome = finished.result?;
        let (set, pin) = (outcome.timestamp.to_string(), outcome.pin);
        let value = self.deed.borrow_back(env).and_then(|f| f.apply((), ()));
        let undo = Undo { set, operation: self.operation, project: self.project, on_progress: self.on_progress };
        match value {
            Ok(value) => watch(env, value, undo, pin).caught(env),
            Err(error) => match caught(env, error) {
                Failure::Thrown(original) => undo.start(env, original).and_then(|p| released(p, pin)).caught(env),
                other => Err(other),
            },
        }
    }
}

/// A promise for `value`, settled or not, that turns to `undo` should it be rejected.
fn watch(env: &Env, value: Unknown<'_>, undo: Undo, pin: Option<Pin>) -> napi::Result<Local> {
    let promise = PromiseRaw::<Unknown<'_>>::resolve(env, value)?;
    let watched = promise.catch::<Unknown<'_>, Local, _>(move |rejection| {
        let original = napi::Error::from_unknown_without_coercion(rejection.value);
        undo.start(&rejection.env, original).map(|p| Local(p.raw()))
    })?;
    released(watched, pin)
}

/// `promise`; once it is settled, the set may be removed.
fn released(mut promise: PromiseRaw<'_, Local>, pin: Option<Pin>) -> napi::Result<Local> {
    let mut pin = Some(pin);
    let promise = promise.finally::<(), _>(move |_| {
        drop(pin.take());
        Ok(())
    })?;
    Ok(Local(promise.raw()))
}

struct Undo {
    set: String,
    operation: String,
    project: Project,
    on_progress: Option<Callback>,
}

impl Undo {
    /// Restores the safety set. The promise is rejected in any case: with `original` itself once the state is back.
    ///
    /// The caller's signal does not stop this: being cancelled is one of the reasons for which it is needed.
    fn start<'env>(self, env: &'env Env, original: napi::Error) -> napi::Result<PromiseRaw<'env, Local>> {
        let Undo { set, operation, project, on_progress } = self;
        let call = Call { project, signal: None, on_progress, channel: None };
        let timestamp = set.clone();
        let job = move |context: &Context| op::restore(context, &timestamp, &RestoreOptions { verify: true, force: true });
        let finish = move |_: &Env, finished: Finished<RestoreOutcome>| -> Result<Local> {
            Err(match finished.result {
                Ok(_) => Failure::Thrown(original),
                Err(error) => both(&operation, &set, error, original),
            })
        };
        start(env, call, job, finish)
    }
}

/// The function failed and so did the way back: the restore's code, both messages, the original as cause.
fn both(operation: &str, set: &str, error: Error, original: napi::Error) -> Failure {
    let message = format!(
        "{operation} failed ({}), and restoring the state from before failed too: {}. That state is in backup {set}",
        words(&original),
        error.message
    );
    Failure::CausedBy(Error::new(error.code, message), original)
}
