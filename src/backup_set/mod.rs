//! What a backup set is: names, metadata, checksums, archive. Values in, values out, but for `archive`, which writes a stream.

pub mod archive;
pub mod checksum;
pub mod gzip_blocks;
pub mod gzip_gaps;
pub mod metadata;
pub mod names;
pub mod seal;
pub mod tar_stream;
pub mod timestamp;
mod worker_threads;
