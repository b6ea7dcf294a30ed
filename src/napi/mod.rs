//! FACE: what Node sees. Arguments in, Promises and coded errors out; no file is opened here.

// A test build leaves napi's registration out, and with it every caller.
#![cfg_attr(test, allow(dead_code))]

mod api;
mod error;
mod helper;
mod listing;
mod options;
mod pool;
mod progress;
mod results;
mod runtime;
mod safety;
mod signal;
mod slices;
mod values;
mod verbs;
