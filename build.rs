//! Emits the linker flags a Node addon needs; does nothing for a plain `cargo test`.
fn main() {
    if std::env::var_os("CARGO_FEATURE_NODE").is_some() {
        napi_build::setup();
    }
}
