//! Every input of `fuzz/corpus`, seeds and what fuzzing has found, against the property of its folder.

use std::fs;
use std::path::Path;

#[path = "../fuzz/properties.rs"]
mod properties;

#[test]
fn all_inputs_of_the_corpus_hold() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, property) in properties::ALL {
        let mut inputs = 0;
        for entry in fs::read_dir(corpus.join(name))? {
            let path = entry?.path();
            property(&fs::read(&path)?);
            inputs += 1;
        }
        assert!(inputs > 0, "{name} has no inputs");
    }
    assert_eq!(fs::read_dir(&corpus)?.count(), properties::ALL.len(), "there is a folder that belongs to no property");
    Ok(())
}
