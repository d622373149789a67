//! An outbox has one reader, and a copy of the application's database never writes to the original's target.

use schoolbell::demo::stand_in;

use crate::support::program::Ended;
use crate::support::{TestBell, eventually, texts};

/// A second target beside the first, as another service has it.
struct Second {
    url: String,
    session: tokio_postgres::Client,
}

async fn second(bell: &TestBell) -> Second {
    let name = format!("{}_second", bell.target_name);
    bell.target_cluster().create_database(&name, None).await.unwrap();
    let session = bell.target_cluster().connect(&name).await.unwrap();
    stand_in::install_heroku_connect(&session).await.unwrap();
    let url = bell.target_url().replace(&format!("/{}", bell.target_name), &format!("/{name}"));
    Second { url, session }
}

impl Second {
    async fn names(&self) -> Vec<String> {
        texts(&self.session, "select name from salesforce.editor__c order by 1").await
    }

    async fn run(&self, bell: &TestBell, arguments: &[&str]) -> Ended {
        bell.program(arguments).env("SALESFORCE_CONNECT_URL", &self.url).run().await
    }
}

#[tokio::test]
async fn a_second_target_is_refused_by_name_until_it_is_adopted() {
    let bell = TestBell::start().await;
    let second = second(&bell).await;
    bell.insert_school("First").await;
    bell.target_becomes("select name from salesforce.editor__c", &["First"]).await;

    for command in
        [&["run", "--drain"][..], &["resync", "school"], &["parked", "retry", "--failed", "--yes"]]
    {
        let refused = second.run(&bell, command).await;
        assert_eq!(refused.code, 2, "{refused}");
        let told = format!("the changes of the source go to {} on 127.0.0.1:", bell.target_name);
        assert!(refused.stderr.contains(&told), "{refused}");
        assert!(refused.stderr.contains("schoolbell adopt"), "{refused}");
    }
    let status = second.run(&bell, &["status"]).await;
    assert_eq!(status.code, 1, "{status}");
    assert!(status.stdout.starts_with("now        Nothing is written: the changes"), "{status}");
    assert!(!bell.run(&["status"]).await.stdout.contains("Nothing is written"));
    let examined = second.run(&bell, &["doctor"]).await;
    let told = examined.stdout.lines().find(|line| line.contains("source and target  "));
    assert!(told.is_some_and(|line| line.starts_with("FAILED")), "{examined}");
    assert!(examined.stdout.contains("$ schoolbell adopt"), "{examined}");

    // Both run, and every change goes one way.
    let waiting = bell.program(&["run"]).env("SALESFORCE_CONNECT_URL", &second.url).spawn();
    for n in 0..20 {
        bell.insert_school(&format!("School {n}")).await;
    }
    bell.caught_up().await;
    assert_eq!(bell.target_count("select count(*) from salesforce.editor__c").await, 21);
    assert_eq!(second.names().await, Vec::<String>::new());

    let asked = second.run(&bell, &["adopt"]).await;
    assert_eq!(asked.code, 2, "there is no terminal to ask at: {asked}");
    assert!(asked.stdout.contains("from now on:"), "{asked}");
    let adopted = second.run(&bell, &["adopt", "--yes"]).await;
    assert_eq!(adopted.code, 0, "{adopted}");
    // The one that waits continues by itself, and the other takes nothing from it.
    for n in 0..20 {
        bell.insert_school(&format!("Later {n}")).await;
    }
    eventually("all later ones are there", || async {
        let names = second.names().await;
        if names.len() == 20 { Ok(()) } else { Err(names) }
    })
    .await;
    drop(waiting);
    let again = second.run(&bell, &["adopt", "--yes"]).await;
    assert!(again.stdout.contains("these databases belong together since"), "{again}");
}

#[tokio::test]
async fn a_copy_of_the_source_writes_nothing_until_it_is_adopted() {
    let bell = TestBell::installed().await;
    bell.insert_school("Original").await;
    bell.drain().await;
    // As a dump has it that is restored elsewhere: on another server, or under another name.
    for noted in ["source_system = '1'", "source_database = 'production'"] {
        bell.source_sql(&format!("update schoolbell.pairing set {noted}")).await;
        bell.insert_school("Copy").await;

        let refused = bell.run(&["run", "--drain"]).await;

        assert_eq!(refused.code, 2, "{refused}");
        assert!(
            refused.stderr.contains("nothing is written: the source database is a copy of"),
            "{refused}"
        );
        let status = bell.run(&["status"]).await;
        assert!(status.stdout.starts_with("now        Nothing is written: the source"), "{status}");
        assert_eq!(bell.target_count("select count(*) from salesforce.editor__c").await, 1);
        bell.source_sql("delete from schools where name = 'Copy'").await;
        bell.run_ok(&["adopt", "--yes"]).await;
        bell.drain().await;
    }
}
