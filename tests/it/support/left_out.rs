//! Tests that cannot run here, because the machine lacks something, are reported; none passes
//! without having run.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

/// With `1` in it nothing may be left out. `.ci/run` sets it.
const REQUIRE_ALL: &str = "SCHOOLBELL_REQUIRE_ALL";
/// Names a file that gets a line for each test that was left out. `make test` prints it.
const LIST: &str = "SCHOOLBELL_LEFT_OUT";
/// Names the folder of the programs of a server that is too old to work with.
pub const OLD_SERVER: &str = "SCHOOLBELL_OLD_POSTGRES_BIN";
/// Names the folder of the programs of the newest server that is supported.
pub const NEW_SERVER: &str = "SCHOOLBELL_NEW_POSTGRES_BIN";

/// Notes that the test of this thread, or a part of it, is left out. Panics where nothing may be.
pub fn left_out(why: &str) {
    let required = std::env::var(REQUIRE_ALL).is_ok_and(|value| value == "1");
    assert!(!required, "{why}, and {REQUIRE_ALL}=1 requires all tests");
    let thread = std::thread::current();
    let line = format!("left out: {}: {why}\n", thread.name().unwrap_or("a test"));
    print!("{line}");
    if let Some(list) = std::env::var_os(LIST) {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(list);
        file.unwrap().write_all(line.as_bytes()).unwrap();
    }
}

/// The folder of a server's programs that a variable names; none, and the test is left out, where it names none.
pub fn programs(variable: &str) -> Option<PathBuf> {
    let folder: Option<OsString> = std::env::var_os(variable).filter(|folder| !folder.is_empty());
    if folder.is_none() {
        left_out(&format!("{variable} names no folder"));
    }
    folder.map(PathBuf::from)
}
