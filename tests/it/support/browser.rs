//! A real browser, driven by its own driver: Chromium without a window, spoken to in WebDriver's protocol.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::eventually;
use super::left_out::left_out;
use super::web::ask;

/// Where distributions put the driver, besides PATH.
const PLACES: [&str; 3] = ["/usr/lib/chromium", "/usr/lib64/chromium-browser", "/opt/homebrew/bin"];

/// Runs the driver until its standard input ends, which happens when the test ends, however it ends. The driver alone would
/// leave its browsers behind, and their files.
const UNTIL_NOBODY_LISTENS: &str = "TMPDIR=$(mktemp -d); export TMPDIR; \"$0\" --port=0 & trap '' TERM; \
     cat >/dev/null; kill -TERM 0; wait; rm -rf \"$TMPDIR\"; kill -KILL 0";

/// One window, in a profile of its own. It ends with the test.
pub struct Browser {
    port: u16,
    session: String,
    /// Holds the driver's standard input.
    _driver: Child,
}

impl Browser {
    /// None where Chromium or its driver is not installed.
    pub async fn open() -> Option<Self> {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut folders = path.split(':').chain(PLACES);
        let Some(folder) = folders.find(|folder| Path::new(folder).join("chromedriver").exists())
        else {
            left_out("chromedriver is not there; scripts/setup browser installs it");
            return None;
        };
        let mut driver = Command::new("sh")
            .args(["-c", UNTIL_NOBODY_LISTENS])
            .arg(Path::new(folder).join("chromedriver"))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = loop {
            let line = lines.next_line().await.unwrap().expect("the driver says its port");
            // "ChromeDriver was started successfully on port 41234."
            if let Some((_, port)) = line.split_once("successfully on port ") {
                break port.trim_end_matches('.').parse().unwrap();
            }
        };
        // It must be able to continue talking.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:loggingPrefs": { "browser": "ALL" },
            // The sandbox refuses to run as root, and shared memory is small in containers.
            "goog:chromeOptions": { "args": ["--headless=new", "--no-sandbox", "--disable-gpu",
                "--disable-dev-shm-usage", "--hide-scrollbars"] },
        } } });
        let answer = ask(port, "POST", "/session", &wanted.to_string()).await;
        let session = answer.json()["value"]["sessionId"]
            .as_str()
            .unwrap_or_else(|| panic!("{answer:?}"))
            .to_string();
        Some(Self { port, session, _driver: driver })
    }

    async fn order(&self, command: &str, arguments: Value) -> Value {
        let path = format!("/session/{}/{command}", self.session);
        let answer = ask(self.port, "POST", &path, &arguments.to_string()).await;
        assert_eq!(answer.status, 200, "{command}: {answer:?}");
        answer.json()["value"].clone()
    }

    async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.order("goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await
    }

    pub async fn go_to(&self, url: &str) {
        self.order("url", json!({ "url": url })).await;
    }

    /// What an expression of the page's language says.
    pub async fn says(&self, expression: &str) -> Value {
        self.order("execute/sync", json!({ "script": format!("return {expression}"), "args": [] }))
            .await
    }

    /// The text of an element as it is seen; empty when it is not.
    pub async fn text(&self, selector: &str) -> String {
        let seen = format!(
            "(element => element?.checkVisibility() ? element.innerText : '')(document.querySelector({selector:?}))"
        );
        let text = self.says(&seen).await;
        text.as_str().unwrap_or_default().to_string()
    }

    /// Waits until an element shows this.
    pub async fn shows(&self, selector: &str, text: &str) {
        eventually(&format!("{selector} shows {text:?}"), || async {
            let found = self.text(selector).await;
            if found.contains(text) { Ok(()) } else { Err(found) }
        })
        .await;
    }

    /// A screen of this size; below 500 pixels it is a phone's.
    pub async fn screen(&self, width: u32, height: u32) {
        let screen = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.devtools("Emulation.setDeviceMetricsOverride", screen).await;
    }

    /// `light` or `dark`, as set in the viewer's system.
    pub async fn scheme(&self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": [feature] })).await;
    }

    pub async fn without_scripts(&self) {
        self.devtools("Emulation.setScriptExecutionDisabled", json!({ "value": true })).await;
    }

    /// What the console says since the last time.
    pub async fn console(&self) -> Vec<String> {
        let lines = self.order("se/log", json!({ "type": "browser" })).await;
        lines.as_array().unwrap().iter().map(ToString::to_string).collect()
    }

    /// The document as it is seen by those who cannot run a script in it.
    pub async fn html(&self) -> String {
        let path = format!("/session/{}/source", self.session);
        let answer = ask(self.port, "GET", &path, "").await;
        answer.json()["value"].as_str().unwrap().to_string()
    }

    /// A picture of the screen.
    pub async fn picture(&self) -> Vec<u8> {
        let picture = self.devtools("Page.captureScreenshot", json!({ "format": "png" })).await;
        decoded(picture["data"].as_str().unwrap())
    }

    pub async fn close(self) {
        ask(self.port, "DELETE", &format!("/session/{}", self.session), "").await;
    }
}

/// Base64.
fn decoded(text: &str) -> Vec<u8> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let letters: Vec<u8> = text.bytes().filter(|letter| *letter != b'=').map(value).collect();
    let four = |four: &[u8]| {
        let bits = four.iter().fold(0, |bits, value| bits << 6 | u32::from(*value));
        let bytes = (bits << (6 * (4 - four.len()))).to_be_bytes();
        bytes[1..four.len()].to_vec()
    };
    letters.chunks(4).flat_map(four).collect()
}
