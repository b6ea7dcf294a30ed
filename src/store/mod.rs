//! The backups folder: who may change it, what is in it, how sets come and go.

pub mod catalog;
pub mod folder;
mod lanes;
pub mod lock;
pub mod naming;
pub mod pin;
pub mod record;
pub mod retention;
pub mod set_facts;
pub mod space;
pub mod staging;
