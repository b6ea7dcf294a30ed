//! Values of ours as JavaScript takes them.

use std::path::{Path, PathBuf};

use napi::bindgen_prelude::{Either, Null};
use serde_json::{Map, Number, Value};

use crate::backup_set::timestamp::Timestamp;

/// A value that is `null` when there is none, where an absent key would hide that it was looked for.
pub fn nullable<T>(value: Option<T>) -> Either<T, Null> {
    value.map_or(Either::B(Null), Either::A)
}

pub fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

pub fn paths(all: &[PathBuf]) -> Vec<String> {
    all.iter().map(|p| path(p)).collect()
}

pub fn name(set: Option<Timestamp>) -> Option<String> {
    set.map(|t| t.to_string())
}

/// Counts go out signed: napi makes a BigInt of an unsigned 64-bit number.
pub fn bytes(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// JSON as `JSON.parse` would give it: large integers as numbers, not as BigInt. A key `__proto__` is left out, since setting it
/// would not make a property.
pub fn plain(value: Value) -> Value {
    match value {
        Value::Number(n) if n.as_i64().is_none_or(|i| i32::try_from(i).is_err()) => {
            n.as_f64().and_then(Number::from_f64).map_or(Value::Null, Value::Number)
        }
        Value::Array(items) => Value::Array(items.into_iter().map(plain).collect()),
        Value::Object(map) => {
            Value::Object(map.into_iter().filter(|(k, _)| k != "__proto__").map(|(k, v)| (k, plain(v))).collect::<Map<_, _>>())
        }
        other => other,
    }
}
