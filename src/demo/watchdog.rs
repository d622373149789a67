//! Promise: when this process ends, however it ends, the throw-away server ends and its folder vanishes.
//!
//! A small shell reads from a pipe that we hold open. The kernel closes the pipe when we are gone, SIGKILL
//! included, and then the shell does what we would have done.

use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

/// The shell reads lines, each of which replaces the one before: `server PID`, `others PID…`.
///
/// The others are killed first, because what is left of them would only complain about the lost server. The
/// server is given ten seconds: it waits for its own children, which may still write into the folder.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
folder=$1
server=
others=
while read -r what pids; do
    case $what in
        server) server=$pids ;;
        others) others=$pids ;;
    esac
done
for pid in $others; do
    kill -KILL "$pid"
done
if [ -n "$server" ] && kill -QUIT "$server"; then
    tries=0
    # Whoever should reap the server may not do so; then its lock file tells that it has ended.
    while [ -e "$folder/data/postmaster.pid" ] && kill -0 "$server"; do
        tries=$((tries + 1))
        if [ "$tries" -gt 100 ]; then
            kill -KILL "$server"
            break
        fi
        sleep 0.1
    done
fi
tries=0
while [ -e "$folder" ] && [ "$tries" -lt 50 ]; do
    rm -rf "$folder" || sleep 0.1
    tries=$((tries + 1))
done
"#;

/// Holds the pipe.
#[derive(Debug)]
pub struct Watchdog {
    shell: Child,
    /// None once it is closed.
    pipe: Option<ChildStdin>,
    folder: PathBuf,
}

impl Watchdog {
    /// Starts to watch over `folder`.
    pub fn start(folder: &Path) -> io::Result<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "schoolbell-watchdog"])
            .arg(folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            // A reader of our output must not have to wait for the shell to end.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C in a terminal goes to every process of our group: the shell must outlive it.
            .process_group(0)
            .spawn()?;
        let pipe = shell.stdin.take();
        Ok(Self { shell, pipe, folder: folder.to_path_buf() })
    }

    /// Says which server is to be ended now; none: it has ended by itself.
    pub fn server(&mut self, pid: Option<u32>) -> io::Result<()> {
        self.say("server", pid.as_slice())
    }

    /// Names the other processes that are to be killed, in place of those named before.
    pub fn others(&mut self, pids: &[u32]) -> io::Result<()> {
        self.say("others", pids)
    }

    fn say(&mut self, what: &str, pids: &[u32]) -> io::Result<()> {
        let mut line = what.to_string();
        for pid in pids {
            line.push_str(&format!(" {pid}"));
        }
        line.push('\n');
        self.pipe.as_mut().expect("the pipe is open until the end").write_all(line.as_bytes())
    }

    /// Makes the shell act, and waits until it has. A second time it does nothing.
    pub fn finish(&mut self) {
        drop(self.pipe.take());
        let _ = self.shell.wait();
        // Nothing is left to remove unless somebody has killed the shell.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_and_the_processes_end_with_the_pipe() {
        let folder = tempfile::tempdir().expect("a temporary folder").keep();
        fs::write(folder.join("file"), "").expect("a file");
        let mut other = Command::new("sleep").arg("600").spawn().expect("sleep");

        let mut watchdog = Watchdog::start(&folder).expect("sh");
        watchdog.others(&[]).expect("the pipe");
        watchdog.others(&[other.id()]).expect("the pipe");
        drop(watchdog);

        assert!(!folder.exists());
        assert!(!other.wait().expect("its end").success());
    }
}
