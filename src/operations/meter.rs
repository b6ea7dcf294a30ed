//! The progress of one database in a comparison, of which nobody knows beforehand how much will be read.

use crate::error::Result;
use crate::progress::Monitor;

/// What one database adds to the progress: as many bytes as were announced for it, whatever is read.
pub(super) struct Meter<'m> {
    monitor: &'m Monitor,
    file: &'m str,
    left: u64,
}

impl<'m> Meter<'m> {
    pub fn new(monitor: &'m Monitor, file: &'m str, bytes: u64) -> Self {
        Meter { monitor, file, left: bytes }
    }

    /// Some of them are done. The look at cancellation too.
    pub fn advance(&mut self, bytes: u64) -> Result<()> {
        self.monitor.check()?;
        let bytes = bytes.min(self.left);
        self.left -= bytes;
        self.monitor.advance(self.file, bytes);
        Ok(())
    }

    /// Reports what is left as done.
    pub fn finish(&self) {
        self.monitor.advance(self.file, self.left);
    }

    /// Bytes still to come.
    pub fn left(&self) -> u64 {
        self.left
    }
}
