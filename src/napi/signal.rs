//! An `AbortSignal` watched for the length of one call, leaving its `onabort` and other listeners alone.

use std::sync::{Arc, Mutex};

use napi::bindgen_prelude::{FnArgs, Function, FunctionRef, JsObjectValue, Object, Unknown};
use napi::{Env, JsValue};

use super::error::{Caught, Failure, Result, as_object, caught};
use super::options::{function, kind_of};
use crate::progress::Monitor;

type Reason = Arc<Mutex<Option<napi::Error>>>;

/// A signal that has not fired yet and carries our listener.
pub struct Watch {
    /// `removeEventListener`, bound to the signal and our listener.
    remove: FunctionRef<(), Unknown<'static>>,
    reason: Reason,
}

impl Watch {
    /// Starts to watch `signal` for `monitor`. A signal that has fired already is `Aborted`; anything that is no signal is
    /// `ERR_INVALID_ARG_TYPE`.
    pub fn new(env: &Env, signal: &Unknown<'_>, monitor: &Monitor) -> Result<Self> {
        let (signal, add, remove) = parts(env, signal)?;
        if signal.get_named_property_unchecked::<bool>("aborted").caught(env)? {
            return Err(Failure::Aborted(reason(env, &signal)));
        }
        let reason = Reason::default();
        let listener = listener(env, monitor.clone(), reason.clone()).caught(env)?;
        add.apply(signal, FnArgs::from(("abort", listener.to_unknown()))).caught(env)?;
        Ok(Watch { remove: bound(env, &remove, &signal, listener.to_unknown())?, reason })
    }

    /// Takes the listener off the signal and returns the reason it fired with, if it did.
    pub fn end(self, env: &Env) -> Option<napi::Error> {
        // A signal whose removeEventListener throws has only itself to blame; the call is settled all the same.
        if let Err(error) = self.remove.borrow_back(env).and_then(|f| f.apply((), ())) {
            caught(env, error);
        }
        self.reason.lock().ok().and_then(|mut r| r.take())
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

fn listener(env: &Env, monitor: Monitor, slot: Reason) -> napi::Result<Function<'_, (), ()>> {
    env.create_function_from_closure("onAbort", move |call| {
        monitor.cancel();
        let env = &*call.env;
        let reason = call.first_arg::<Unknown<'_>>().ok().and_then(|event| reason_in(env, &event));
        if let Ok(mut slot) = slot.lock() {
            *slot = reason;
        }
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

type Bind<'env> = Function<'env, FnArgs<(Object<'env>, &'static str, Unknown<'env>)>, Function<'env, (), Unknown<'static>>>;

fn bound<'env>(
    env: &Env,
    remove: &Method<'env>,
    signal: &Object<'env>,
    listener: Unknown<'env>,
) -> Result<FunctionRef<(), Unknown<'static>>> {
    let bind: Bind<'env> = remove.get_named_property_unchecked("bind").caught(env)?;
    let removal = bind.apply(remove.to_unknown(), FnArgs::from((*signal, "abort", listener))).caught(env)?;
    removal.create_ref().caught(env)
}
