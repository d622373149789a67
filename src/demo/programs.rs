//! Finds what a throw-away server needs on this machine: Postgres programs, and a user who may run them.
//!
//! Nothing is installed or changed here; `scripts/postgres` installs.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::postgres::supported;

/// The variable that names the folder of `initdb` and `postgres`.
pub const BIN_VARIABLE: &str = "SCHOOLBELL_POSTGRES_BIN";
/// The oldest major version that Schoolbell supports.
pub const OLDEST: u32 = *supported::VERSIONS.start() as u32;

/// Where packages put one folder per version: the parent, and what comes before the version.
const USUAL_PLACES: [(&str, &str); 5] = [
    ("/usr/lib/postgresql", ""),
    ("/usr", "pgsql-"),
    ("/opt/homebrew/opt", "postgresql@"),
    ("/usr/local/opt", "postgresql@"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql@"),
];

/// The folder that holds `initdb` and `postgres`; an error says in one sentence how to get them.
pub fn find() -> Result<PathBuf, String> {
    // Somebody who names a folder wants that one: finding another would hide the mistake.
    if let Some(named) = env::var_os(BIN_VARIABLE).filter(|value| !value.is_empty()) {
        return checked(BIN_VARIABLE, named.into());
    }
    on_path().or_else(in_usual_places).ok_or_else(|| {
        format!(
            "found no PostgreSQL server programs (initdb, postgres): run scripts/postgres, or install the server \
             package (Debian postgresql, Fedora postgresql-server, Homebrew postgresql@17), or set {BIN_VARIABLE} \
             to their folder"
        )
    })
}

/// A folder that somebody has named, unless it lacks the programs; `who` is how it was named.
pub fn checked(who: &str, folder: PathBuf) -> Result<PathBuf, String> {
    match complete(&folder) {
        true => Ok(folder),
        false => Err(format!("{who}: {} has no initdb and postgres", folder.display())),
    }
}

fn complete(folder: &Path) -> bool {
    folder.join("initdb").is_file() && folder.join("postgres").is_file()
}

fn on_path() -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        // Often a link, and the other programs need not be linked next to it.
        .filter_map(|folder| fs::canonicalize(folder.join("initdb")).ok())
        .filter_map(|initdb| initdb.parent().map(Path::to_path_buf))
        .find(|folder| complete(folder))
}

fn in_usual_places() -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = USUAL_PLACES
        .iter()
        .filter_map(|(parent, prefix)| Some((fs::read_dir(parent).ok()?, prefix)))
        .flat_map(|(folders, prefix)| {
            folders.flatten().filter_map(move |folder| {
                let name = folder.file_name();
                Some((version(name.to_str()?, prefix)?, folder.path().join("bin")))
            })
        })
        .filter(|(version, folder)| *version >= OLDEST && complete(folder))
        .collect();
    found.sort();
    found.pop().map(|(_, folder)| folder)
}

/// `pgsql-16` without `pgsql-`, as a number.
fn version(name: &str, prefix: &str) -> Option<u32> {
    name.strip_prefix(prefix)?.parse().ok()
}

/// A user of this machine, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Who runs the server: nobody else (`None`) unless we are root, whom Postgres refuses to serve.
///
/// `ours` is a file that this process has just made: its owner is who we are.
pub fn other_user(ours: &Path) -> Result<Option<User>, String> {
    let owner = fs::metadata(ours).map_err(|error| format!("{}: {error}", ours.display()))?.uid();
    if owner != 0 {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    ["postgres", "nobody"].iter().find_map(|name| user(&passwd, name)).map(Some).ok_or_else(|| {
        "PostgreSQL refuses to run as root, and this machine has neither a user postgres nor nobody: \
         run this as an ordinary user"
            .to_string()
    })
}

fn user(passwd: &str, name: &str) -> Option<User> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        // macOS writes nobody's ids as -2.
        let mut id = || fields.next()?.parse::<i64>().ok().map(|id| id as u32);
        id(); // The password.
        let (uid, gid) = (id()?, id()?);
        (uid != 0).then_some(User { uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_folder_of_each_package() {
        assert_eq!(version("16", ""), Some(16));
        assert_eq!(version("pgsql-9.6", "pgsql-"), None);
        assert_eq!(version("postgresql@17", "postgresql@"), Some(17));
        assert_eq!(version("share", ""), None);
    }

    #[test]
    fn a_user_is_read_from_passwd_and_is_never_root() {
        let passwd = "root:x:0:0::/root:/bin/sh\n\
                      postgres2:x:7:7::/:/bin/sh\n\
                      postgres:x:101:104:PostgreSQL:/var/lib/postgresql:/bin/bash\n\
                      nobody:*:-2:-2:Unprivileged:/var/empty:/usr/bin/false\n\
                      broken\n\
                      toor:x:0:0::/:/bin/sh\n";
        assert_eq!(user(passwd, "postgres"), Some(User { uid: 101, gid: 104 }));
        assert_eq!(user(passwd, "nobody"), Some(User { uid: u32::MAX - 1, gid: u32::MAX - 1 }));
        assert_eq!(user(passwd, "toor"), None);
        assert_eq!(user(passwd, "broken"), None);
        assert_eq!(user(passwd, "missing"), None);
    }
}
