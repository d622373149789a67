//! Which row wins for a key; and a row for which the mapping's SQL fails does not affect others.

use crate::support::{HEROKU_CONNECT, TestBell};

/// What the key may have: no index, an index of all rows, one of the preferred rows only.
const INDEXES: [&str; 3] = [
    "",
    "create unique index on public.people (code)",
    "create unique index on public.people (code) where not retired",
];
/// Settings of an object of `people`: one row per key, the winner of several, the preferred first.
const WINNERS: [&str; 3] = [
    "",
    "winner = { order = \"n desc\" }\n",
    "winner = { prefer = \"not retired\", order = \"n desc\" }\n",
];

async fn people(table: &str, index: &str) -> TestBell {
    let bell = TestBell::bare().await;
    bell.source_sql(&format!("create table public.people ({table}); {index}")).await;
    bell.target_sql(&format!(
        "create table salesforce.person__c (code__c text, name__c varchar(80), {HEROKU_CONNECT})"
    ))
    .await;
    bell
}

fn mapping(settings: &str, fields: &str) -> String {
    format!(
        "version = 1\n[object.person]\nsource = \"people\"\nkey = \"code\"\ntarget = \"person__c\"\n\
         external_id = \"code__c\"\n{settings}[object.person.fields]\nname__c = {fields}\n"
    )
}

/// The planner is free to evaluate the filter for rows that are not wanted, and then one bad row
/// affects all.
#[tokio::test]
async fn a_row_that_the_filter_or_the_preference_is_refused_for_is_refused_alone() {
    let refusing = "1 / (length(name) - 3) > -9";
    for index in INDEXES {
        // One row per key needs a unique index.
        let unique = index.contains("unique") && !index.contains("where");
        for winner in WINNERS.into_iter().filter(|winner| unique || !winner.is_empty()) {
            // An index of some rows has none that its condition is refused for.
            let preferring = format!("prefer = \\\"not retired and {refusing}\\\"");
            let preferring =
                winner.replace("prefer = \"not retired\"", &preferring.replace('\\', ""));
            let cases = match (winner.contains("prefer"), index.contains("where")) {
                (true, false) => vec![(refusing, winner), ("true", preferring.as_str())],
                _ => vec![(refusing, winner)],
            };
            for (filter, winner) in cases {
                let case = format!("{filter:?} {winner:?} {index:?}");
                let table = "n int primary key, code text, name text, retired bool default false";
                let mut bell = people(table, index).await;
                bell.use_mapping(&mapping(&format!("filter = \"{filter}\"\n{winner}"), "\"name\""))
                    .await;
                bell.source_sql(
                    "insert into people select g, 'c' || g, case g when 7 then 'bad' else 'name ' || g end \
                     from generate_series(1, 20) g; analyze people",
                )
                .await;
                bell.drain().await;
                let dead =
                    "select key from schoolbell.parked where state = 'dead' and sqlstate = '22012'";
                assert_eq!(bell.source_texts(dead).await, ["c7"], "{case}");
                let there = "select count(*) from salesforce.person__c";
                assert_eq!(bell.target_count(there).await, 19, "{case}");

                // A single change of another, while the bad row is there.
                bell.source_sql("update people set name = 'changed' where n = 3").await;
                bell.drain().await;
                let changed = "select code__c from salesforce.person__c where name__c = 'changed'";
                assert_eq!(bell.target_texts(changed).await, ["c3"], "{case}");

                // And a resync.
                bell.target_sql("delete from salesforce.person__c").await;
                bell.source_sql("insert into schoolbell.resync (object) values ('person')").await;
                bell.drain().await;
                assert_eq!(bell.target_count(there).await, 19, "{case}");
                assert_eq!(bell.source_texts(dead).await, ["c7"], "{case}");
                assert_eq!(
                    bell.source_texts("select state from schoolbell.resync").await,
                    ["done"],
                    "{case}"
                );
            }
        }
    }
}

/// A list to sort by takes a bare name for a column of the result first: ours must not be found there.
#[tokio::test]
async fn columns_with_the_names_of_ours_decide_which_row_speaks() {
    let ours = [
        "present",
        "key",
        "f0",
        "p0",
        "external_id",
        "position",
        "wanted",
        "source",
        "r",
        "t",
        "o",
        "k",
    ];
    for name in ours {
        for index in INDEXES {
            let table = format!(
                "n int primary key, code text, name text, retired bool default false, \"{name}\" int"
            );
            let index = index
                .replace("create unique", "create")
                .replace("where not retired", "where not retired and n < 0");
            let mut bell = people(&table, &index).await;
            // A table whose name is one of ours, too.
            bell.source_sql(&format!(
                "create table if not exists public.wanted (code text); create table public.rest \
                                      (code text); insert into wanted values ('{name}')"
            ))
            .await;
            let text = mapping(
                &format!(
                    "filter = \"exists (select from wanted where code = '{name}')\"\nwinner = {{ prefer = \"not \
                     retired\", order = '\"{name}\" desc' }}\n"
                ),
                "{ sql = \"name || (select count(*) from rest)\" }",
            );
            bell.use_mapping(&text).await;
            bell.source_sql(&format!(
                "insert into people (n, code, name, \"{name}\") values (1, 'a', 'second', 1), (2, 'a', 'first', 2), \
                 (3, 'a', 'third', 0), (4, 'b', 'only', 9)"
            ))
            .await;
            bell.drain().await;
            let rows = "select code__c || ' ' || name__c from salesforce.person__c order by 1";
            assert_eq!(bell.target_texts(rows).await, ["a first0", "b only0"], "{name} {index}");
            let path = bell.mapping_file(&text).display().to_string();
            let verified = bell.run(&["verify", "--mapping", &path]).await;
            assert_eq!(verified.code, 0, "{name} {index}: {verified}");
            bell.target_sql(
                "update salesforce.person__c set name__c = 'third0' where code__c = 'a'",
            )
            .await;
            let verified = bell.run(&["verify", "--mapping", &path]).await;
            assert_eq!(verified.code, 1, "{name} {index}: {verified}");
        }
    }
}

#[tokio::test]
async fn names_that_our_statements_use_are_refused_in_a_mapping() {
    let bell = people("n int primary key, code text, name text", "").await;
    for settings in [
        "filter = \"exists (select from schoolbell__wanted)\"\n",
        "winner = { order = \"Schoolbell__f0 desc\" }\n",
        "winner = { order = '\"schoolbell__f0\"' }\n",
    ] {
        let path = bell.mapping_file(&mapping(settings, "\"name\"")).display().to_string();
        let checked = bell.run(&["mapping", "--check", &path]).await;
        assert_eq!(checked.code, 2, "{settings}: {checked}");
        let told = "has a name with schoolbell__, which is reserved for statements of Schoolbell";
        assert!(format!("{checked}").contains(told), "{checked}");
    }
}
