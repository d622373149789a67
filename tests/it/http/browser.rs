//! The status page in a real browser: as seen on a desk, a phone or a wall.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::support::browser::Browser;
use crate::support::web::Visitor;
use crate::support::{TestBell, eventually};

/// From a phone that is held upright to a screen on a wall.
const SCREENS: [(u32, u32); 4] = [(390, 844), (768, 1024), (1280, 800), (1920, 1080)];

/// A service at work, its page, and somebody who looks at it; none where there is no browser.
async fn looked_at() -> Option<(TestBell, Visitor, Browser)> {
    let browser = Browser::open().await?;
    let bell = TestBell::start().await;
    let visitor = bell.visitor().await;
    visitor.shows("OK: ").await;
    browser.screen(1280, 800).await;
    browser.go_to(&visitor.url()).await;
    Some((bell, visitor, browser))
}

/// A school that the target refuses, and a role whose school waits.
async fn trouble(bell: &TestBell) -> String {
    bell.target_sql(
        "alter table salesforce.editor__c add constraint no_pirates check (name <> 'Pirate school')",
    )
    .await;
    let school = bell.insert_school("Pirate school").await;
    bell.insert_role(&school, 1).await;
    bell.caught_up().await;
    school
}

async fn well_behaved(browser: &Browser) {
    assert_eq!(browser.console().await, [""; 0]);
}

#[tokio::test]
async fn it_shows_the_flow_and_follows_a_write_without_being_loaded_again() {
    let Some((bell, _visitor, browser)) = looked_at().await else { return };
    assert_eq!(browser.text("h1").await, "Schoolbell");
    browser.shows("[role=status]", "OK: every change is applied.").await;
    let stops = browser
        .says("[...document.querySelectorAll('.flow h3')].map(stop => stop.innerText)")
        .await;
    let words = [
        "captured",
        "waiting for claim",
        "claimed",
        "applied",
        "parked",
        "taken by Heroku Connect",
    ];
    assert_eq!(stops, json!(words));
    browser.shows(".stop.applied .figure", "0").await;
    browser.says("window.stays = document.querySelector('.stop.applied')").await;

    bell.insert_school("Acme").await;

    browser.shows(".stop.applied .figure", "1").await;
    browser.shows(".stop.applied", "1 written").await;
    // The contact of its creator is not there yet.
    browser.shows(".stop.parked .figure", "1").await;
    bell.salesforce_accepts_everything().await;
    browser.shows(".stop.taken .figure", "1").await;
    let same = browser.says("window.stays === document.querySelector('.stop.applied')").await;
    assert_eq!(same, true, "what is shown is changed, not replaced");
    assert_eq!(browser.says("document.title").await, "well · Schoolbell");
    well_behaved(&browser).await;
    browser.close().await;
}

#[tokio::test]
async fn it_shows_a_parked_row_with_its_reason_and_says_what_is_wrong_in_a_sentence() {
    let Some((bell, _visitor, browser)) = looked_at().await else { return };

    let school = trouble(&bell).await;

    browser.shows("[role=status]", "refused for good").await;
    browser.shows("table.parked", &school).await;
    browser.shows("table.parked", "violates check constraint \"no_pirates\"").await;
    browser.shows("table.parked", "waits for school sfid").await;
    browser.shows("table.parked", "fix the source row, or the constraint in the target").await;
    browser.shows(".stop.parked", "1 dead, ").await;
    assert_eq!(browser.says("document.title").await, "attention · Schoolbell");
    assert!(!browser.html().await.contains("Pirate"), "a row's content is nobody's business");
    well_behaved(&browser).await;
    browser.close().await;
}

#[tokio::test]
async fn it_shows_how_far_a_running_resync_is() {
    let Some((mut bell, _visitor, browser)) = looked_at().await else { return };
    // No service continues it, so it stays as it is.
    bell.service_stops().await;

    bell.source_sql(
        "insert into schoolbell.resync (object, state, total, done, written, equal) \
         values ('school', 'running', 3000, 1200, 200, 1000)",
    )
    .await;

    browser.shows(".resyncs", "school running: 1,200 of 3,000 rows, 40 %").await;
    browser.shows(".resyncs", "200 written, 1,000 equal").await;
    let progress =
        "[document.querySelector('progress').value, document.querySelector('progress').max]";
    assert_eq!(browser.says(progress).await, json!([1200, 3000]));
    well_behaved(&browser).await;
    browser.close().await;
}

#[tokio::test]
async fn without_scripts_it_is_whole_and_comes_anew_by_itself() {
    let Some((bell, visitor, browser)) = looked_at().await else { return };
    browser.without_scripts().await;
    let school = trouble(&bell).await;
    browser.go_to(&visitor.url()).await;

    eventually("the page comes anew", || async {
        let html = browser.html().await;
        if html.contains(&school) && html.contains("refused for good") { Ok(()) } else { Err(html) }
    })
    .await;
    let html = browser.html().await;
    assert!(html.contains("<meta http-equiv=\"refresh\" content=\"10\""), "{html}");
    browser.close().await;
}

#[tokio::test]
async fn it_says_when_nobody_answers_and_when_somebody_does_again() {
    let Some((bell, visitor, browser)) = looked_at().await else { return };
    assert_eq!(browser.says("document.getElementById('lost').hidden").await, true);

    visitor.close().await;

    browser.shows("#lost", "No answer from Schoolbell since").await;
    assert_eq!(browser.says("document.title").await, "no answer · Schoolbell");
    assert_eq!(browser.says("document.querySelector('main').className").await, "well old");
    drop(bell);
    browser.close().await;
}

#[tokio::test]
async fn it_fits_every_screen_in_the_light_and_in_the_dark_whatever_it_has_to_tell() {
    let Some((bell, _visitor, browser)) = looked_at().await else { return };
    trouble(&bell).await;
    // As long as keys, reasons and figures get.
    bell.source_sql(&format!(
        "insert into schoolbell.parked (object, key, state, reason, sqlstate, remedy) values \
         ('{0}', '{0}{0}{0}', 'dead', '{0}{0}{0}{0}', '23514', '{0}{0}')",
        "contact_editor_affiliation_without_a_blank"
    ))
    .await;
    bell.source_sql(
        "insert into schoolbell.parked (object, key, state, awaits, awaits_key, reason) \
         select 'role', 'k' || n, 'waiting', 'school sfid', n::text, 'waits' from generate_series(1, 123456) as n",
    )
    .await;
    browser.shows(".stop.parked .figure", "123,4").await;

    for scheme in ["light", "dark"] {
        browser.scheme(scheme).await;
        let mut papers = Vec::new();
        for (width, height) in SCREENS {
            browser.screen(width, height).await;
            let widths = browser.says("[document.documentElement.scrollWidth, innerWidth]").await;
            assert_eq!(
                widths,
                json!([width, width]),
                "{scheme}: nothing is to the right of the screen"
            );
            papers.push(browser.says("getComputedStyle(document.body).backgroundColor").await);
            save(&format!("trouble-{scheme}-{width}"), &browser.picture().await);
        }
        let paper = if scheme == "light" { "rgb(250, 250, 248)" } else { "rgb(18, 20, 21)" };
        assert_eq!(papers, [paper; SCREENS.len()]);
    }
    well_behaved(&browser).await;
    browser.close().await;
}

/// To look at what the browser has drawn.
fn save(name: &str, picture: &[u8]) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{name}.png")), picture).unwrap();
}
