//! Whatever arrives on the channel: decoding it must not panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use schoolbell::bell::notice::Notice;

fuzz_target!(|payload: &str| {
    _ = Notice::decode(payload);
});
