//! Hands many rows over to JavaScript in slices, between which its event loop turns; as JSON, of which the engine's own
//! parser makes objects several times faster than they can be made one property after the other.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use napi::bindgen_prelude::{Function, FunctionRef};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Status};

use super::error::words;
use super::options::Channel;
use super::safety::Local;
use crate::error::{Code, Error, Result};
use crate::progress::Monitor;

/// Bytes of a slice: about a millisecond's work. A row that is longer is a slice of its own.
const SLICE: usize = 64 << 10;
/// After a slice. What is handed over in the very moment in which the last slice is done, Node does in the same turn of its
/// event loop.
const PAUSE: Duration = Duration::from_micros(200);
/// How often a thread that waits for JavaScript looks whether the call was cancelled, or its environment has gone.
const LOOK: Duration = Duration::from_millis(50);

/// Takes a slice in; gives all rows so far. Only whoever made it can reach them.
const COLLECT: &str = "(() => {
  const { parse } = JSON, rows = [];
  return (slice) => {
    for (const row of parse(slice)) rows.push(row);
    return rows;
  };
})()";

/// The end that runs beside JavaScript.
pub struct Giver {
    collect: ThreadsafeFunction<String, Local, String, Status, false>,
}

/// The end in JavaScript.
pub struct Taker {
    collect: FunctionRef<String, Local>,
}

/// Both ends. To be called on the JavaScript thread.
pub fn between(env: &Env) -> napi::Result<(Giver, Taker)> {
    let collect: Function<'_, String, Local> = env.run_script(COLLECT)?;
    Ok((Giver { collect: collect.build_threadsafe_function().build()? }, Taker { collect: collect.create_ref()? }))
}

impl Giver {
    /// What JavaScript has to keep, for as long as this end may be in use.
    pub fn channel(&self) -> Channel {
        Arc::clone(&self.collect.handle)
    }

    /// Hands `rows` over, each of them JSON: all but the last slice, which is for [`Taker::end`].
    pub fn give(self, rows: Vec<String>, monitor: &Monitor) -> Result<String> {
        let mut slice = String::from("[");
        for row in rows {
            if slice.len() > 1 && slice.len() + row.len() > SLICE {
                slice.push(']');
                self.give_slice(std::mem::replace(&mut slice, "[".into()), monitor)?;
            }
            if slice.len() > 1 {
                slice.push(',');
            }
            slice.push_str(&row);
        }
        slice.push(']');
        Ok(slice)
    }

    /// Waits until JavaScript has taken it: more than one at a time would be taken in one go.
    fn give_slice(&self, slice: String, monitor: &Monitor) -> Result<()> {
        let failed = |why: &str| Error::new(Code::IoError, format!("the answer can't be handed to JavaScript: {why}"));
        let (done, outcome) = sync_channel(1);
        let status = self.collect.call_with_return_value(slice, ThreadsafeFunctionCallMode::NonBlocking, move |taken, _| {
            // Nobody waits any more for a call that was cancelled.
            let _ = done.send(taken.map(|_| ()).map_err(|e| words(&e).to_owned()));
            Ok(())
        });
        if status != Status::Ok {
            return Err(failed(&format!("its environment has gone ({status})")));
        }
        loop {
            match outcome.recv_timeout(LOOK) {
                Ok(Ok(())) => break,
                Ok(Err(why)) => return Err(failed(&why)),
                // Monitors are cancelled when an environment ends.
                Err(RecvTimeoutError::Timeout) => monitor.check()?,
                Err(RecvTimeoutError::Disconnected) => return Err(failed("its environment has gone")),
            }
        }
        thread::sleep(PAUSE);
        monitor.check()
    }
}

impl Taker {
    /// Takes the last slice; all rows, as an array.
    pub fn end(self, env: &Env, slice: String) -> napi::Result<Local> {
        self.collect.borrow_back(env)?.call(slice)
    }
}
