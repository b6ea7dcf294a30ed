//! Reads arguments: key by key, so that a stranger among the keys or a value of the wrong type is named and nothing is coerced.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use napi::bindgen_prelude::{Array, Function, JsObjectValue, Object, Unknown};
use napi::threadsafe_function::ThreadsafeFunctionHandle;
use napi::{Env, JsValue, ValueType};

use super::error::{Caught, Failure, Result, as_object};
use super::progress::Callback;
use crate::backup_set::metadata::Kind;
use crate::operations::{CompareOptions, Context, CreateOptions, HealthOptions, MOST_ROWS, RestoreOptions};

const PROJECT: [&str; 5] = ["root", "backupDir", "databases", "busyTimeoutMs", "lockTimeoutMs"];
const CALL: [&str; 2] = ["signal", "onProgress"];

/// Longest time-out: what `setTimeout` can wait, and far beyond any use.
const MAX_TIMEOUT_MS: f64 = 2_147_483_647.0;
/// Oldest backup that can be allowed: a century.
const MAX_HOURS: f64 = 876_600.0;
/// Largest whole number that JavaScript has.
const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;
/// Most sets that can be asked for.
const MAX_KEEP: f64 = 1_000_000.0;

/// Where to work and how long to wait, as far as the caller said so.
#[derive(Clone, Default)]
pub struct Project {
    root: Option<PathBuf>,
    backup_dir: Option<PathBuf>,
    databases: Option<Vec<String>>,
    busy_timeout: Option<Duration>,
    lock_timeout: Option<Duration>,
}

impl Project {
    /// The operations' context: what was said here, defaults for the rest.
    pub fn context(&self) -> Context {
        let mut context = Context { root: self.root.clone(), ..Context::default() };
        context.backup_dir.clone_from(&self.backup_dir);
        context.databases.clone_from(&self.databases);
        context.busy_timeout = self.busy_timeout.unwrap_or(context.busy_timeout);
        context.lock_timeout = self.lock_timeout.unwrap_or(context.lock_timeout);
        context
    }
}

/// The options that every call takes: the project, a signal, and whom to tell of progress.
pub struct Call<'env> {
    /// The helper's project, overridden by this call's options.
    pub project: Project,
    /// Not looked into yet.
    pub signal: Option<Unknown<'env>>,
    /// Called on the JavaScript thread.
    pub on_progress: Option<Callback>,
    /// By which its thread reaches JavaScript otherwise.
    pub channel: Option<Channel>,
}

/// One owner of a function that other threads call.
pub type Channel = Arc<ThreadsafeFunctionHandle>;

/// An options argument.
pub struct Options<'env> {
    env: &'env Env,
    object: Option<Object<'env>>,
}

impl<'env> Options<'env> {
    /// Options of a call: the common ones and those in `own`. `undefined` and `null` are no options.
    pub fn of_call(env: &'env Env, value: &Unknown<'env>, own: &[&str]) -> Result<Self> {
        Self::open(env, value, &[&PROJECT[..], own, &CALL[..]].concat())
    }

    /// Options of a helper.
    pub fn of_project(env: &'env Env, value: &Unknown<'env>) -> Result<Self> {
        Self::open(env, value, &PROJECT)
    }

    fn open(env: &'env Env, value: &Unknown<'env>, known: &[&str]) -> Result<Self> {
        let object = match kind_of(env, value)? {
            "undefined" | "null" => None,
            "object" => Some(as_object(env, value).caught(env)?),
            other => return Err(Failure::wrong_type(format!("options must be an object, got {other}"))),
        };
        if let Some(object) = &object {
            refuse_strangers(env, object, known)?;
        }
        Ok(Options { env, object })
    }

    /// The common options, on top of `base`.
    pub fn call(&self, base: &Project) -> Result<Call<'env>> {
        Ok(Call { project: self.project(base)?, on_progress: self.callback("onProgress")?, signal: self.get("signal")?, channel: None })
    }

    /// The project options, on top of `base`.
    pub fn project(&self, base: &Project) -> Result<Project> {
        let base = base.clone();
        Ok(Project {
            root: self.path("root")?.or(base.root),
            backup_dir: self.path("backupDir")?.or(base.backup_dir),
            databases: self.strings("databases")?.or(base.databases),
            busy_timeout: self.milliseconds("busyTimeoutMs")?.or(base.busy_timeout),
            lock_timeout: self.milliseconds("lockTimeoutMs")?.or(base.lock_timeout),
        })
    }

    /// The options of create.
    pub const CREATE: [&'static str; 5] = ["compress", "verify", "kind", "label", "keepLast"];
    /// The options of a safety backup: as create, but the kind is given.
    pub const SAFETY: [&'static str; 4] = ["compress", "verify", "label", "keepLast"];
    /// The options of restore.
    pub const RESTORE: [&'static str; 2] = ["verify", "force"];
    /// The options of compare.
    pub const COMPARE: [&'static str; 2] = ["table", "limit"];
    /// The options of list.
    pub const LIST: [&'static str; 1] = ["archives"];

    /// The options of a check of health.
    pub const HEALTH: [&'static str; 3] = ["maxAgeHours", "maxSizeBytes", "quick"];

    /// Reads [`Options::HEALTH`].
    pub fn health(&self) -> Result<HealthOptions> {
        let default = HealthOptions::default();
        Ok(HealthOptions {
            max_age: self.hours("maxAgeHours")?.unwrap_or(default.max_age),
            max_size: self.size("maxSizeBytes")?,
            quick: self.boolean("quick", default.quick)?,
        })
    }

    /// Reads [`Options::CREATE`].
    pub fn create(&self) -> Result<CreateOptions> {
        let common = self.backup()?;
        Ok(CreateOptions { kind: self.kind(common.kind)?, ..common })
    }

    /// Reads [`Options::SAFETY`].
    pub fn safety(&self, operation: String) -> Result<CreateOptions> {
        Ok(CreateOptions { kind: Kind::Safety, operation: Some(operation), ..self.backup()? })
    }

    /// What both have.
    fn backup(&self) -> Result<CreateOptions> {
        let default = CreateOptions::default();
        Ok(CreateOptions {
            compress: self.boolean("compress", default.compress)?,
            verify: self.boolean("verify", default.verify)?,
            label: self.string("label")?,
            keep_last: self.keep_last(default.keep_last)?,
            ..default
        })
    }

    /// Reads [`Options::RESTORE`].
    pub fn restore(&self) -> Result<RestoreOptions> {
        let default = RestoreOptions::default();
        Ok(RestoreOptions { verify: self.boolean("verify", default.verify)?, force: self.boolean("force", default.force)? })
    }

    /// Reads [`Options::COMPARE`].
    pub fn compare(&self) -> Result<CompareOptions> {
        let default = CompareOptions::default();
        let table = self.string("table")?;
        let limit = match self.get("limit")? {
            None => default.limit,
            Some(_) if table.is_none() => return Err(Failure::wrong_value("options.limit is of rows, which only come with options.table")),
            // In range and whole, so the conversion is exact.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            Some(value) => whole(self.env, &value, "options.limit", 1.0, f64::from(MOST_ROWS), "")? as u32,
        };
        Ok(CompareOptions { table, limit })
    }

    /// Reads [`Options::LIST`].
    pub fn archives(&self) -> Result<bool> {
        self.boolean("archives", false)
    }

    fn get(&self, name: &str) -> Result<Option<Unknown<'env>>> {
        let Some(object) = &self.object else { return Ok(None) };
        let value: Unknown<'env> = object.get_named_property_unchecked(name).caught(self.env)?;
        Ok((kind_of(self.env, &value)? != "undefined").then_some(value))
    }

    fn boolean(&self, name: &str, default: bool) -> Result<bool> {
        let Some(value) = self.get(name)? else { return Ok(default) };
        expect(self.env, &value, "boolean", &format!("options.{name}"), "a boolean")?;
        value.coerce_to_bool().caught(self.env)
    }

    fn string(&self, name: &str) -> Result<Option<String>> {
        self.get(name)?.map(|value| string(self.env, &value, &format!("options.{name}"))).transpose()
    }

    fn path(&self, name: &str) -> Result<Option<PathBuf>> {
        let Some(text) = self.string(name)? else { return Ok(None) };
        if text.is_empty() {
            return Err(Failure::wrong_value(format!("options.{name} must not be empty")));
        }
        Ok(Some(text.into()))
    }

    fn strings(&self, name: &str) -> Result<Option<Vec<String>>> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        expect(self.env, &value, "array", &format!("options.{name}"), "an array of strings")?;
        let array = as_object(self.env, &value).caught(self.env)?;
        let length = array.get_array_length().caught(self.env)?;
        let item = |i| string(self.env, &array.get_element(i).caught(self.env)?, &format!("options.{name}[{i}]"));
        (0..length).map(item).collect::<Result<_>>().map(Some)
    }

    fn kind(&self, default: Kind) -> Result<Kind> {
        let Some(text) = self.string("kind")? else { return Ok(default) };
        Kind::parse(&text)
            .ok_or_else(|| Failure::wrong_value(format!("options.kind must be 'automated', 'manual' or 'safety', got {text:?}")))
    }

    fn keep_last(&self, default: Option<u32>) -> Result<Option<u32>> {
        let Some(value) = self.get("keepLast")? else { return Ok(default) };
        if kind_of(self.env, &value)? == "null" {
            return Ok(None);
        }
        keep(self.env, &value, "options.keepLast", " (or null: no clean-up)").map(Some)
    }

    fn milliseconds(&self, name: &str) -> Result<Option<Duration>> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        let ms = whole(self.env, &value, &format!("options.{name}"), 0.0, MAX_TIMEOUT_MS, "")?;
        Ok(Some(Duration::from_secs_f64(ms / 1000.0)))
    }

    fn hours(&self, name: &str) -> Result<Option<Duration>> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        expect(self.env, &value, "number", &format!("options.{name}"), "a number")?;
        let hours: f64 = value_as(self.env, &value)?;
        if hours > 0.0 && hours <= MAX_HOURS {
            return Ok(Some(Duration::from_secs_f64(hours * 3600.0)));
        }
        Err(Failure::wrong_value(format!("options.{name} must be more than 0 and at most {MAX_HOURS}, got {}", shown(hours))))
    }

    fn size(&self, name: &str) -> Result<Option<u64>> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        // In range and whole, so the conversion is exact.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        whole(self.env, &value, &format!("options.{name}"), 1.0, MAX_SAFE_INTEGER, "").map(|n| Some(n as u64))
    }

    fn callback(&self, name: &str) -> Result<Option<Callback>> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        function(self.env, &value, &format!("options.{name}"))?.create_ref().caught(self.env).map(|f| Some(f.into()))
    }
}

/// The name of a set, as it stands: whether it is a timestamp is for the operations to say.
pub fn timestamp(env: &Env, value: &Unknown<'_>) -> Result<String> {
    expect(env, value, "string", "timestamp", "a string")?;
    text(env, value)
}

/// What a safety backup precedes.
pub fn operation_name(env: &Env, value: &Unknown<'_>) -> Result<String> {
    let name = string(env, value, "operationName")?;
    if name.trim().is_empty() {
        return Err(Failure::wrong_value("operationName must not be empty"));
    }
    Ok(name)
}

/// The `keepLast` argument of a clean-up.
pub fn keep_last(env: &Env, value: &Unknown<'_>) -> Result<u32> {
    match kind_of(env, value)? {
        "undefined" => Ok(10),
        _ => keep(env, value, "keepLast", ""),
    }
}

/// A function argument.
pub fn function<'env, Args, Return>(env: &Env, value: &Unknown<'env>, name: &str) -> Result<Function<'env, Args, Return>>
where
    Args: napi::bindgen_prelude::JsValuesTupleIntoVec,
{
    expect(env, value, "function", name, "a function")?;
    value_as(env, value)
}

/// The arguments of a command line.
pub fn arguments(env: &Env, value: &Unknown<'_>) -> Result<Vec<String>> {
    expect(env, value, "array", "args", "an array of strings")?;
    let array: Array<'_> = value_as(env, value)?;
    (0..array.len()).map(|i| string(env, &array.get_element(i).caught(env)?, &format!("args[{i}]"))).collect()
}

fn keep(env: &Env, value: &Unknown<'_>, name: &str, or: &str) -> Result<u32> {
    // In range and whole, so the conversion is exact.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    whole(env, value, name, 1.0, MAX_KEEP, or).map(|n| n as u32)
}

fn whole(env: &Env, value: &Unknown<'_>, name: &str, min: f64, max: f64, or: &str) -> Result<f64> {
    expect(env, value, "number", name, &format!("a number{or}"))?;
    let number: f64 = value_as(env, value)?;
    if number.fract() == 0.0 && (min..=max).contains(&number) {
        return Ok(number);
    }
    Err(Failure::wrong_value(format!("{name} must be a whole number from {min} to {max}{or}, got {}", shown(number))))
}

/// A number as JavaScript writes it.
fn shown(number: f64) -> String {
    if number.is_infinite() { format!("{}Infinity", if number < 0.0 { "-" } else { "" }) } else { number.to_string() }
}

fn string(env: &Env, value: &Unknown<'_>, name: &str) -> Result<String> {
    expect(env, value, "string", name, "a string")?;
    let text = text(env, value)?;
    if text.contains('\0') {
        return Err(Failure::wrong_value(format!("{name} must not contain a NUL character")));
    }
    Ok(text)
}

fn text(env: &Env, value: &Unknown<'_>) -> Result<String> {
    value_as(env, value)
}

/// The value as `T`, whose JavaScript type was checked before.
#[allow(unsafe_code)]
fn value_as<T: napi::bindgen_prelude::FromNapiValue>(env: &Env, value: &Unknown<'_>) -> Result<T> {
    // SAFETY: `value` is a live handle of this `env`.
    unsafe { T::from_napi_value(env.raw(), value.raw()) }.caught(env)
}

fn expect(env: &Env, value: &Unknown<'_>, kind: &str, name: &str, wanted: &str) -> Result<()> {
    match kind_of(env, value)? {
        found if found == kind => Ok(()),
        found => Err(Failure::wrong_type(format!("{name} must be {wanted}, got {found}"))),
    }
}

/// The word for a value's type: as `typeof`, but telling `null` and arrays from objects.
pub fn kind_of(env: &Env, value: &Unknown<'_>) -> Result<&'static str> {
    Ok(match value.get_type().caught(env)? {
        ValueType::Undefined => "undefined",
        ValueType::Null => "null",
        ValueType::Boolean => "boolean",
        ValueType::Number => "number",
        ValueType::String => "string",
        ValueType::Symbol => "symbol",
        ValueType::Function => "function",
        ValueType::Object if as_object(env, value).and_then(|o| o.is_array()).caught(env)? => "array",
        ValueType::Object => "object",
        ValueType::BigInt => "bigint",
        _ => "something else",
    })
}

fn refuse_strangers(env: &Env, object: &Object<'_>, known: &[&str]) -> Result<()> {
    let keys = object.get_property_names().caught(env)?;
    for i in 0..keys.get_array_length().caught(env)? {
        let key: String = keys.get_element(i).caught(env)?;
        if !known.contains(&key.as_str()) {
            return Err(Failure::wrong_value(format!("unknown option {key:?}; known: {}", known.join(", "))));
        }
    }
    Ok(())
}
