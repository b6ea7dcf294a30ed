//! Runs an operation on its own threads, away from libuv's, and settles the promise on the JavaScript thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use napi::bindgen_prelude::{PromiseRaw, ToNapiValue};
use napi::{Env, JsValue};

use super::error::{Caught, Failure, Result};
use super::options::{Call, Channel};
use super::pool::Seat;
use super::progress::Reporter;
use super::signal::Watch;
use crate::error::{Code, Error};
use crate::operations::Context;
use crate::progress::Monitor;

/// What a finished operation hands to the code that makes a JavaScript value of it.
pub struct Finished<T> {
    /// The operation's own result. Never `ABORT_ERR` or `ERR_INVALID_ARG_*`: these have been rejected by then.
    pub result: Result<T, Error>,
    /// Milliseconds from the call to the end of the operation.
    pub duration_ms: i64,
    /// Said about the call itself, not by the operation.
    pub warnings: Vec<String>,
}

type Resolver<R> = Box<dyn FnOnce(Env) -> napi::Result<R>>;

/// Runs `job` and settles the promise with what `finish` makes of its result, on the JavaScript thread.
///
/// Whatever fails is a rejection. Only an engine that cannot make a promise is an `Err`, which throws.
pub fn start<'env, T, R>(
    env: &'env Env,
    call: Call<'env>,
    job: impl FnOnce(&Context) -> crate::error::Result<T> + Send + 'static,
    finish: impl FnOnce(&Env, Finished<T>) -> Result<R> + Send + 'static,
) -> napi::Result<PromiseRaw<'env, R>>
where
    T: Send + 'static,
    R: ToNapiValue + 'static,
{
    // The seat comes first: without it nothing has begun that would have to be ended again.
    let begin = || Ok((Seat::take()?, Running::new(env, call)?));
    once_read(env, begin(), |(seat, (context, running))| launch(env, seat, context, running, job, finish))
}

/// What `begin` does with what was `read` of the arguments; or else a rejection that says what is wrong with them.
pub fn once_read<'env, A, R: ToNapiValue>(
    env: &'env Env,
    read: Result<A>,
    begin: impl FnOnce(A) -> napi::Result<PromiseRaw<'env, R>>,
) -> napi::Result<PromiseRaw<'env, R>> {
    match read {
        Ok(arguments) => begin(arguments),
        Err(failure) => rejected(env, failure),
    }
}

fn rejected<'env, R: ToNapiValue>(env: &'env Env, failure: Failure) -> napi::Result<PromiseRaw<'env, R>> {
    let promise = PromiseRaw::<napi::Error>::reject(env, failure.into_rejection(env))?;
    Ok(PromiseRaw::new(env.raw(), promise.raw()))
}

/// The JavaScript side of one running operation.
struct Running {
    watch: Option<Watch>,
    reporter: Option<Reporter>,
    id: u64,
}

impl Running {
    fn new(env: &Env, call: Call<'_>) -> Result<(Context, Self)> {
        let (monitor, reporter) = match call.on_progress {
            Some(callback) => Reporter::new(env, callback).map(|(m, r)| (m, Some(r))).caught(env)?,
            None => (Monitor::default(), None),
        };
        let watch = call.signal.map(|signal| Watch::new(env, &signal, &monitor)).transpose()?;
        let id = remember(env, Kept { monitor: monitor.clone(), _channel: call.channel });
        let context = Context { monitor, ..call.project.context() };
        Ok((context, Running { watch, reporter, id }))
    }

    /// Last reports and the listener's removal. Returns what to warn of, and the signal's reason.
    fn end(self, env: &Env, success: bool) -> (Vec<String>, Option<napi::Error>) {
        forget(self.id);
        let reason = self.watch.and_then(|watch| watch.end(env));
        let thrown = self.reporter.and_then(|reporter| reporter.end(env, success));
        let warning = thrown.map(|message| format!("onProgress threw ({message}); it was not called again"));
        (warning.into_iter().collect(), reason)
    }
}

fn launch<'env, T, R>(
    env: &'env Env,
    seat: Seat,
    context: Context,
    running: Running,
    job: impl FnOnce(&Context) -> crate::error::Result<T> + Send + 'static,
    finish: impl FnOnce(&Env, Finished<T>) -> Result<R> + Send + 'static,
) -> napi::Result<PromiseRaw<'env, R>>
where
    T: Send + 'static,
    R: ToNapiValue + 'static,
{
    let (deferred, promise) = env.create_deferred::<R, Resolver<R>>()?;
    let begun = Instant::now();
    seat.run(Box::new(move || {
        let result = guarded(|| context.monitor.check().and_then(|()| job(&context)));
        // Gone before the promise settles, so that nothing reports afterwards.
        drop(context);
        let duration_ms = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        deferred.resolve(Box::new(move |env| {
            settle(&env, running, result, duration_ms, finish).map_err(|failure| failure.into_rejection(&env))
        }));
    }));
    Ok(PromiseRaw::new(env.raw(), promise.raw()))
}

fn settle<T, R>(
    env: &Env,
    running: Running,
    result: Result<T, Error>,
    duration_ms: i64,
    finish: impl FnOnce(&Env, Finished<T>) -> Result<R>,
) -> Result<R> {
    let (warnings, reason) = running.end(env, result.is_ok());
    match result {
        Err(error) if error.code == Code::Abort => Err(Failure::Aborted(reason)),
        Err(error) if matches!(error.code, Code::InvalidArgType | Code::InvalidArgValue) => Err(error.into()),
        result => finish(env, Finished { result, duration_ms, warnings }),
    }
}

/// A panic is a bug of ours; it becomes an error and takes nothing down.
fn guarded<T>(job: impl FnOnce() -> crate::error::Result<T>) -> crate::error::Result<T> {
    catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Error::new(Code::IoError, format!("internal error, please report it: {}", text.unwrap_or("panic"))))
    })
}

/// What of a running operation stays with the JavaScript thread until it is settled, or that thread ends. Of every function
/// that the operation's own thread calls there, one owner has to be among it: if the last one went in that other thread in the
/// very moment in which the environment ends, Node would be told of a function that it has just freed.
struct Kept {
    /// It owns the function that brings reports, too.
    monitor: Monitor,
    _channel: Option<Channel>,
}

/// The operations begun on this thread, that is in this environment, and not settled.
#[derive(Default)]
struct Begun {
    kept: HashMap<u64, Kept>,
    next: u64,
    hooked: bool,
}

thread_local! {
    static BEGUN: RefCell<Begun> = RefCell::default();
}

/// Notes a running operation, so that a worker that is terminated takes its operations with it: nobody waits for them.
fn remember(env: &Env, kept: Kept) -> u64 {
    BEGUN.with_borrow_mut(|begun| {
        if !begun.hooked {
            // Without the hook they run to their end, which is no harm.
            begun.hooked = env.add_env_cleanup_hook((), |()| cancel_all()).is_ok();
        }
        begun.next += 1;
        begun.kept.insert(begun.next, kept);
        begun.next
    })
}

fn forget(id: u64) {
    // What was kept goes when the list is not in use any more.
    drop(BEGUN.with_borrow_mut(|begun| begun.kept.remove(&id)));
}

fn cancel_all() {
    // The thread's storage may be gone already, and with it the monitors.
    let _ = BEGUN.try_with(|begun| {
        let mut begun = begun.borrow_mut();
        begun.hooked = false;
        // They stay: their functions have not ended yet.
        begun.kept.values().for_each(|kept| kept.monitor.cancel());
    });
}
