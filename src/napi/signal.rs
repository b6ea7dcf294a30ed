//! An `AbortSignal` watched for the length of the calls that were given it, leaving its `onabort` and other listeners alone.
//! However many calls share it, it carries one listener of ours: Node warns of a leak from the eleventh on.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use napi::bindgen_prelude::{FnArgs, Function, JsObjectValue, Object, ObjectRef, Unknown};
use napi::{Env, JsValue, sys};

use super::error::{Caught, Failure, Result, as_object, caught};
use super::options::{function, kind_of};
use crate::progress::Monitor;

/// The calls that watch one signal.
#[derive(Default)]
struct Watchers {
    monitors: HashMap<u64, Monitor>,
    next: u64,
    /// Why the signal fired, once it has.
    reason: Option<napi::Error>,
}

type Group = Arc<Mutex<Watchers>>;

fn lock(group: &Group) -> MutexGuard<'_, Watchers> {
    group.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A signal that carries our listener.
struct Watched {
    env: sys::napi_env,
    signal: ObjectRef<false>,
    listener: ObjectRef<false>,
    group: Group,
}

/// The signals that are being watched on this thread.
#[derive(Default)]
struct Signals {
    watched: Vec<Watched>,
    /// The environments that take theirs along when they end.
    hooked: Vec<sys::napi_env>,
}

thread_local! {
    static SIGNALS: RefCell<Signals> = RefCell::default();
}

/// A signal that has not fired yet, watched for one call.
pub struct Watch {
    id: u64,
    group: Group,
}

impl Watch {
    /// Starts to watch `signal` for `monitor`. A signal that has fired already is `Aborted`; anything that is no signal is
    /// `ERR_INVALID_ARG_TYPE`.
    pub fn new(env: &Env, signal: &Unknown<'_>, monitor: &Monitor) -> Result<Self> {
        let (signal, add, _) = parts(env, signal)?;
        if signal.get_named_property_unchecked::<bool>("aborted").caught(env)? {
            return Err(Failure::Aborted(reason(env, &signal)));
        }
        let group = match find(env, &signal) {
            Some(group) => group,
            None => listen(env, signal, &add)?,
        };
        let mut watchers = lock(&group);
        let id = watchers.next;
        watchers.next += 1;
        watchers.monitors.insert(id, monitor.clone());
        drop(watchers);
        Ok(Watch { id, group })
    }

    /// Ends the watch; the last one takes the listener off. Returns the reason the signal fired with, if it did.
    pub fn end(self, env: &Env) -> Option<napi::Error> {
        let (reason, last) = {
            let mut watchers = lock(&self.group);
            watchers.monitors.remove(&self.id);
            (watchers.reason.as_ref().and_then(|r| r.try_clone().ok()), watchers.monitors.is_empty())
        };
        if last && let Some(watched) = forget(&self.group) {
            // A signal whose removeEventListener throws has only itself to blame; the call is settled all the same.
            if let Err(error) = watched.unlisten(env) {
                caught(env, error);
            }
        }
        reason
    }
}

/// The calls that watch `signal` already.
fn find(env: &Env, signal: &Object<'_>) -> Option<Group> {
    SIGNALS.with_borrow(|signals| {
        let ours = signals.watched.iter().filter(|w| w.env == env.raw());
        let mut same = ours.filter(|w| w.signal.get_value(env).and_then(|s| env.strict_equals(s, *signal)).unwrap_or(false));
        same.next().map(|w| w.group.clone())
    })
}

/// Adds the listener. `signal` carries none of ours yet.
fn listen(env: &Env, signal: Object<'_>, add: &Method<'_>) -> Result<Group> {
    let group = Group::default();
    let listener = listener(env, group.clone()).caught(env)?.to_unknown();
    let watched = Watched {
        env: env.raw(),
        signal: signal.create_ref().caught(env)?,
        listener: as_object(env, &listener).and_then(|o| o.create_ref()).caught(env)?,
        group: group.clone(),
    };
    let added = hook(env).and_then(|()| add.apply(signal, FnArgs::from(("abort", listener))));
    if let Err(error) = added {
        // The error that matters is the one that `add` threw.
        let failure = caught(env, error);
        let _ = watched.unref(env);
        return Err(failure);
    }
    SIGNALS.with_borrow_mut(|signals| signals.watched.push(watched));
    Ok(group)
}

/// Has the references of `env` forgotten when it ends: they end with it, and its address may come to be another's.
fn hook(env: &Env) -> napi::Result<()> {
    let raw = env.raw();
    if SIGNALS.with_borrow(|signals| signals.hooked.contains(&raw)) {
        return Ok(());
    }
    env.add_env_cleanup_hook(raw, |raw| {
        // The thread's storage may be gone already, and all of this with it.
        let _ = SIGNALS.try_with(|signals| {
            let mut signals = signals.borrow_mut();
            signals.watched.retain(|w| w.env != raw);
            signals.hooked.retain(|e| *e != raw);
        });
    })?;
    SIGNALS.with_borrow_mut(|signals| signals.hooked.push(raw));
    Ok(())
}

/// Takes the signal of `group` off the list.
fn forget(group: &Group) -> Option<Watched> {
    SIGNALS.with_borrow_mut(|signals| {
        let at = signals.watched.iter().position(|w| Arc::ptr_eq(&w.group, group))?;
        Some(signals.watched.swap_remove(at))
    })
}

impl Watched {
    /// Takes the listener off the signal.
    fn unlisten(self, env: &Env) -> napi::Result<()> {
        let (signal, listener) = (self.signal.get_value(env)?, self.listener.get_value(env)?);
        let remove = signal
            .get_named_property_unchecked::<Method<'_>>("removeEventListener")
            .and_then(|remove| remove.apply(signal, FnArgs::from(("abort", listener.to_unknown()))));
        let unref = self.unref(env);
        remove.map(drop).and(unref)
    }

    fn unref(self, env: &Env) -> napi::Result<()> {
        self.signal.unref(env).and(self.listener.unref(env))
    }
}

type Method<'env> = Function<'env, FnArgs<(&'static str, Unknown<'env>)>, Unknown<'env>>;

fn parts<'env>(env: &Env, value: &Unknown<'env>) -> Result<(Object<'env>, Method<'env>, Method<'env>)> {
    let refuse = |found: &str| Failure::wrong_type(format!("options.signal must be an AbortSignal, got {found}"));
    let found = kind_of(env, value)?;
    if found != "object" {
        return Err(refuse(found));
    }
    let signal = object(env, value)?;
    let get = |name| signal.get_named_property_unchecked::<Unknown<'env>>(name).caught(env);
    if kind_of(env, &get("aborted")?)? != "boolean" {
        return Err(refuse("another object"));
    }
    let method = |name| function(env, &get(name)?, name).map_err(|_| refuse("another object"));
    Ok((signal, method("addEventListener")?, method("removeEventListener")?))
}

#[allow(unsafe_code)]
fn object<'env>(env: &Env, value: &Unknown<'env>) -> Result<Object<'env>> {
    // SAFETY: `value` is a live handle of this `env`, and was seen to be an object.
    unsafe { napi::bindgen_prelude::FromNapiValue::from_napi_value(env.raw(), value.raw()) }.caught(env)
}

fn listener(env: &Env, group: Group) -> napi::Result<Function<'_, (), ()>> {
    env.create_function_from_closure("onAbort", move |call| {
        let env = &*call.env;
        let reason = call.first_arg::<Unknown<'_>>().ok().and_then(|event| reason_in(env, &event));
        let mut watchers = lock(&group);
        watchers.reason = reason;
        watchers.monitors.values().for_each(Monitor::cancel);
        Ok(())
    })
}

/// The reason in an abort event, which is that of the signal it came from.
fn reason_in(env: &Env, event: &Unknown<'_>) -> Option<napi::Error> {
    let event = as_object(env, event).ok()?;
    match event.get_named_property_unchecked::<Object<'_>>("target") {
        Ok(signal) => reason(env, &signal),
        Err(error) => {
            caught(env, error);
            None
        }
    }
}

fn reason(env: &Env, signal: &Object<'_>) -> Option<napi::Error> {
    match signal.get_named_property_unchecked::<Unknown<'_>>("reason") {
        Ok(reason) => Some(napi::Error::from_unknown_without_coercion(reason)),
        Err(error) => {
            caught(env, error);
            None
        }
    }
}
