//! What a backup set is: names, metadata, checksums, archive. Values in, values out, but for `archive`, which writes a stream.

pub mod metadata;
pub mod timestamp;
