//! How a failure looks in JavaScript: an `Error` with `name`, `code`, `message` and `cause`, made on the JavaScript thread.
#![allow(unsafe_code)]

use std::ptr;

use napi::bindgen_prelude::{FromNapiValue, JsObjectValue, Object, ToNapiValue, Unknown};
use napi::{Env, JsError, JsRangeError, JsTypeError, Property, PropertyAttributes, Status, sys};

use crate::error::{Code, Error};

/// Why a promise is going to be rejected.
pub enum Failure {
    /// The crate's own error.
    Coded(Error),
    /// Cancelled, with the signal's reason if it is known.
    Aborted(Option<napi::Error>),
    /// The crate's own error, brought about by a value that JavaScript threw.
    CausedBy(Error, napi::Error),
    /// A value that JavaScript threw; it goes back as that very value.
    Thrown(napi::Error),
}

/// Result of everything in this face that can fail.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Coded(error)
    }
}

impl Failure {
    /// An argument of the wrong type.
    pub fn wrong_type(message: impl Into<String>) -> Self {
        Failure::Coded(Error::new(Code::InvalidArgType, message))
    }

    /// An argument of the right type with an impossible value.
    pub fn wrong_value(message: impl Into<String>) -> Self {
        Failure::Coded(Error::new(Code::InvalidArgValue, message))
    }

    /// A copy, for a failure that has to be told more than once. The cause of the crate's own errors stays behind.
    pub fn again(&self) -> Self {
        let copy = |e: &Error| Error::new(e.code, e.message.clone());
        let share = |e: &napi::Error| e.try_clone().unwrap_or_else(|_| napi::Error::new(e.status, e.reason.clone()));
        match self {
            Failure::Coded(e) => Failure::Coded(copy(e)),
            Failure::Aborted(reason) => Failure::Aborted(reason.as_ref().map(share)),
            Failure::CausedBy(e, value) => Failure::CausedBy(copy(e), share(value)),
            Failure::Thrown(value) => Failure::Thrown(share(value)),
        }
    }

    /// The rejection: an error of napi that holds the finished JavaScript value.
    pub fn into_rejection(self, env: &Env) -> napi::Error {
        match self.into_value(env) {
            Ok(value) => napi::Error::from_unknown_without_coercion(value),
            Err(error) => error,
        }
    }

    fn into_value(self, env: &Env) -> napi::Result<Unknown<'_>> {
        match self {
            Failure::Coded(error) => coded(env, &error, cause_of(env, &error)?),
            Failure::CausedBy(error, value) => coded(env, &error, Some(value.into_unknown(env)?)),
            Failure::Aborted(reason) => {
                let error = Error::new(Code::Abort, "The operation was aborted");
                coded(env, &error, reason.map(|r| r.into_unknown(env)).transpose()?)
            }
            Failure::Thrown(value) => value.into_unknown(env),
        }
    }
}

/// Node's own classes for wrong arguments, `AbortError` for a cancellation, a plain `Error` for the rest.
fn coded<'env>(env: &'env Env, error: &Error, cause: Option<Unknown<'env>>) -> napi::Result<Unknown<'env>> {
    let bare = napi::Error::new(error.code.as_str(), error.message.clone());
    let value = match error.code {
        Code::InvalidArgType => JsTypeError::from(bare).into_unknown(*env),
        Code::InvalidArgValue => JsRangeError::from(bare).into_unknown(*env),
        _ => JsError::from(bare).into_unknown(*env),
    };
    let mut object = as_object(env, &value)?;
    if error.code == Code::Abort {
        hidden(&mut object, "name", &"AbortError".into_unknown(env)?)?;
    }
    if let Some(cause) = cause {
        hidden(&mut object, "cause", &cause)?;
    }
    Ok(value)
}

/// The chain of causes as errors within errors. Our own keep their code; others have only a message.
fn cause_of<'env>(env: &'env Env, error: &(dyn std::error::Error + 'static)) -> napi::Result<Option<Unknown<'env>>> {
    let Some(source) = error.source() else { return Ok(None) };
    let deeper = cause_of(env, source)?;
    if let Some(ours) = source.downcast_ref::<Error>() {
        return coded(env, ours, deeper).map(Some);
    }
    let mut value = env.create_error(napi::Error::new(Status::GenericFailure, source.to_string()))?;
    value.delete_named_property("code")?;
    if let Some(deeper) = deeper {
        hidden(&mut value, "cause", &deeper)?;
    }
    value.into_unknown(env).map(Some)
}

/// Sets a property as JavaScript's own errors have it: writable, not enumerable.
fn hidden(object: &mut Object<'_>, name: &str, value: &Unknown<'_>) -> napi::Result<()> {
    let attributes = PropertyAttributes::Writable | PropertyAttributes::Configurable;
    object.define_properties(&[Property::new().with_utf8_name(name)?.with_value(value).with_property_attributes(attributes)])
}

/// `value`, known to be an object.
pub fn as_object<'env>(env: &'env Env, value: &Unknown<'env>) -> napi::Result<Object<'env>> {
    // SAFETY: `value` is a live handle of this `env`; the conversion only re-labels it.
    unsafe { Object::from_napi_value(env.raw(), napi::JsValue::raw(value)) }
}

/// What a failed call into JavaScript means: the value it threw, taken out of `env` so that nothing stays pending.
pub fn caught(env: &Env, error: napi::Error) -> Failure {
    let mut pending = false;
    let mut value = ptr::null_mut();
    // SAFETY: both calls only write to the locals they are given, on the thread that owns `env`.
    let taken = unsafe {
        sys::napi_is_exception_pending(env.raw(), &mut pending) == sys::Status::napi_ok
            && pending
            && sys::napi_get_and_clear_last_exception(env.raw(), &mut value) == sys::Status::napi_ok
    };
    if !taken {
        return Failure::Thrown(error);
    }
    // SAFETY: Node-API has just handed out `value` as a handle of this `env`.
    Failure::Thrown(napi::Error::from_unknown_without_coercion(unsafe { Unknown::from_raw_unchecked(env.raw(), value) }))
}

/// Attaches [`caught`] to the result of a call into JavaScript.
pub trait Caught<T> {
    /// Turns napi's error into what JavaScript threw.
    fn caught(self, env: &Env) -> Result<T>;
}

impl<T> Caught<T> for napi::Result<T> {
    fn caught(self, env: &Env) -> Result<T> {
        self.map_err(|error| caught(env, error))
    }
}

/// What a thrown value says for itself, for a sentence of ours.
pub fn words(thrown: &napi::Error) -> &str {
    if thrown.reason.is_empty() { "a value without a message" } else { &thrown.reason }
}
