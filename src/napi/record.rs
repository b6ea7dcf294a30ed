//! A set's record on its way to JavaScript.
#![allow(unsafe_code)]

use napi::bindgen_prelude::ToNapiValue;
use napi::sys;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::results::plain;
use crate::backup_set::metadata::Metadata;

/// Key that makes no property when it is set, so that it is left out.
const PROTO: &str = "__proto__";

/// What JavaScript sees is what `JSON.parse` would make of it, but for keys `__proto__`.
pub struct Record(pub Metadata);

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Seldom: making it anew takes longer than all the rest.
        if names_proto(&self.0) {
            return plain(serde_json::to_value(&self.0).map_err(serde::ser::Error::custom)?).serialize(serializer);
        }
        self.0.serialize(serializer)
    }
}

impl ToNapiValue for Record {
    // SAFETY: the caller vouches for `env`, which is handed on as it is.
    unsafe fn to_napi_value(env: sys::napi_env, record: Self) -> napi::Result<sys::napi_value> {
        let value = plain(serde_json::to_value(&record.0).map_err(napi::Error::from)?);
        // SAFETY: as above.
        unsafe { Value::to_napi_value(env, value) }
    }
}

fn names_proto(metadata: &Metadata) -> bool {
    let in_database = metadata.databases().iter().any(|d| {
        let in_sqlite = d.sqlite.as_ref().is_some_and(|s| in_map(&s.extra) || s.tables.contains_key(PROTO));
        in_sqlite || in_map(&d.extra)
    });
    in_database || in_map(&metadata.extra)
}

fn in_map(map: &Map<String, Value>) -> bool {
    map.iter().any(|(key, value)| key == PROTO || in_value(value))
}

fn in_value(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(in_value),
        Value::Object(map) => in_map(map),
        _ => false,
    }
}
