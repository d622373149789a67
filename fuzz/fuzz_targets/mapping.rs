//! Whatever a mapping file holds: it is a mapping, or there are findings about it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use schoolbell::mapping::Mapping;

fuzz_target!(|text: &str| {
    if let Err(unusable) = Mapping::parse("fuzz.toml", text) {
        assert!(!unusable.findings.is_empty());
        assert!(!unusable.to_string().is_empty());
    }
});
