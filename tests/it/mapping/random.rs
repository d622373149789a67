//! Random mappings: key types, filters and values that raise errors, winners, parents, touches, and random changes and
//! resyncs under them; compared with what a simple reading of the mapping says.
//!
//! `PROPTEST_CASES`, `PROPTEST_RNG_SEED` and the file of failed cases work as in `model.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use proptest::prelude::*;
use tokio::runtime::Runtime;

use crate::support::{self, HEROKU_CONNECT, TestBell, rows};

/// What an ordinary run can afford.
const CASES: u32 = 8;

/// Types of keys, each with the three keys that are used, as the database writes them.
const KEYS: [(&str, [&str; 3]); 8] = [
    ("bigint", ["1", "20", "-3"]),
    ("text", ["a", "B b", "Ж'\"\\"]),
    ("citext", ["ann", "Ann", "ANN"]),
    ("char(3)", ["FR", "D", "GBR"]),
    (
        "uuid",
        [
            "00000000-0000-0000-0000-000000000001",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ],
    ),
    ("date", ["2026-02-01", "2026-01-02", "1999-12-31"]),
    ("numeric(6, 2)", ["1.00", "-2.50", "1234.56"]),
    ("timestamptz", ["2026-02-01 03:04:05+00", "2026-01-02 00:00:00+00", "2026-07-01 10:00:00+00"]),
];
/// The place of the type whose equal values are written in several ways: only one row of these three can be there.
const FOLDING: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filter {
    None,
    /// Leaves out the rows with n = 0.
    Plain,
    /// Raises an error for the rows with n = 0.
    Raises,
}

/// A mapping.
#[derive(Debug, Clone)]
struct World {
    key: usize,
    filter: Filter,
    /// The value raises an error for rows with n = 3.
    value_raises: bool,
    /// Several rows may have a key, and the one with the largest n wins, those without n come last;
    /// of equal ones the last wins.
    winner: bool,
    /// The key has an index.
    indexed: bool,
    parent: bool,
    touched: bool,
    deletes: bool,
}

/// A source row, by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    key: usize,
    n: Option<i8>,
    parent: Option<u8>,
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, Row),
    Number(u8, Option<i8>),
    Key(u8, usize),
    Delete(u8),
    /// The label of a key, in another table.
    Label(usize, Option<u8>),
    Accept(u8),
    Drain,
    Resync(bool),
    Truncate,
}

fn world() -> impl Strategy<Value = World> {
    let filter = proptest::sample::select(&[Filter::None, Filter::Plain, Filter::Raises][..]);
    let flags =
        (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (0..KEYS.len(), filter, flags).prop_map(
        |(key, filter, (value_raises, winner, indexed, parent, touched, deletes))| World {
            key,
            filter,
            value_raises,
            // Where texts fold, a winner is refused.
            winner: winner && key != FOLDING,
            indexed,
            parent,
            touched,
            deletes,
        },
    )
}

fn row() -> impl Strategy<Value = Row> {
    let n = proptest::option::weighted(0.8, 0..5_i8);
    (0..3_usize, n, proptest::option::of(1..3_u8)).prop_map(|(key, n, parent)| Row {
        key,
        n,
        parent,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let id = || 1..5_u8;
    prop_oneof![
        8 => (id(), row()).prop_map(|(id, row)| Step::Put(id, row)),
        5 => (id(), proptest::option::weighted(0.8, 0..5_i8)).prop_map(|(id, n)| Step::Number(id, n)),
        4 => (id(), 0..3_usize).prop_map(|(id, key)| Step::Key(id, key)),
        3 => id().prop_map(Step::Delete),
        3 => (0..3_usize, proptest::option::of(0..3_u8)).prop_map(|(key, label)| Step::Label(key, label)),
        3 => (1..3_u8).prop_map(Step::Accept),
        4 => Just(Step::Drain),
        2 => any::<bool>().prop_map(Step::Resync),
        1 => Just(Step::Truncate),
    ]
}

impl World {
    fn values(&self) -> [&'static str; 3] {
        KEYS[self.key].1
    }

    fn source(&self) -> String {
        let sql_type = KEYS[self.key].0;
        let index = match (self.winner, self.indexed) {
            (false, _) => "create unique index on item (k)",
            (true, true) => "create index on item (k)",
            (true, false) => "",
        };
        format!(
            "create extension citext; create table parent (id integer primary key, name text); \
             create table item (id integer primary key, k {sql_type} not null, n integer, parent integer); {index}; \
             create table label (k {sql_type} primary key, label text)"
        )
    }

    fn mapping(&self) -> String {
        let mut text = "version = 1\n[object.parent]\nsource = \"parent\"\nkey = \"id\"\ntarget = \"parent__c\"\n\
                        external_id = \"id__c\"\n[object.parent.fields]\nname__c = \"name\"\n\
                        [object.item]\nsource = \"item\"\nkey = \"k\"\ntarget = \"item__c\"\nexternal_id = \"k__c\"\n"
            .to_string();
        match self.filter {
            Filter::None => {}
            Filter::Plain => text += "filter = \"n is distinct from 0\"\n",
            Filter::Raises => text += "filter = \"n is null or 100 / n > 0\"\n",
        }
        if self.deletes {
            text += "on_delete = \"delete\"\nbrake = { rows = 1000000, share = 1 }\n";
        }
        text += match self.value_raises {
            true => "[object.item.fields]\nn__c = { sql = \"n + 0 / (n - 3)\" }\n",
            false => "[object.item.fields]\nn__c = \"n\"\n",
        };
        if self.touched {
            text += "label__c = { sql = \"(select l.label from label l where l.k = source.k)\" }\n";
        }
        if self.parent {
            text += "parent__r__id__c = \"parent\"\n";
        }
        if self.winner {
            text += "[object.item.winner]\norder = \"n desc nulls last, id desc\"\n";
        }
        if self.parent {
            text += "[[object.item.parents]]\nobject = \"parent\"\nkey = \"parent\"\n";
        }
        if self.touched {
            text += "[[object.item.touched_by]]\ntable = \"label\"\ncolumns = [\"label\"]\nkeys = \"select changed.k \
                     from changed\"\n";
        }
        text
    }
}

/// What must become of a key when it is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Gone,
    Dead,
    Waits,
    Written(String),
}

/// The source, and what of the target decides.
#[derive(Debug, Default)]
struct Model {
    rows: BTreeMap<u8, Row>,
    labels: BTreeMap<usize, u8>,
    accepted: BTreeSet<u8>,
    /// What each key's row may have been in the target at any time.
    seen: BTreeMap<usize, BTreeSet<Option<String>>>,
}

impl Model {
    fn verdict(&self, world: &World, key: usize) -> Verdict {
        let mut published = Vec::new();
        for (id, row) in self.rows.iter().filter(|(_, row)| row.key == key) {
            match (world.filter, row.n) {
                (Filter::Raises, Some(0)) => return Verdict::Dead,
                (Filter::Plain, Some(0)) => {}
                _ => published.push((row.n, *id, row)),
            }
        }
        if world.value_raises && published.iter().any(|(n, ..)| *n == Some(3)) {
            return Verdict::Dead;
        }
        let Some((_, _, row)) = published.into_iter().max_by_key(|(n, id, _)| (*n, *id)) else {
            return Verdict::Gone;
        };
        if let Some(parent) =
            row.parent.filter(|parent| world.parent && !self.accepted.contains(parent))
        {
            _ = parent;
            return Verdict::Waits;
        }
        let text = |value: Option<String>| value.unwrap_or_else(|| "null".into());
        let label =
            self.labels.get(&key).filter(|_| world.touched).map(|label| format!("L{label}"));
        let parent = row.parent.filter(|_| world.parent).map(|parent| parent.to_string());
        let n = row.n.map(|n| n.to_string());
        Verdict::Written(format!("{} {} {}", text(n), text(label), text(parent)))
    }

    /// The states that a row may have been seen in, if the service looked now.
    fn passes(&mut self, world: &World) {
        for key in 0..3 {
            let verdict = self.verdict(world, key);
            let seen = self.seen.entry(key).or_insert_with(|| BTreeSet::from([None]));
            match verdict {
                Verdict::Written(content) => _ = seen.insert(Some(content)),
                Verdict::Gone if world.deletes => _ = seen.insert(None),
                _ => {}
            }
        }
    }

    /// A key whose index refuses it, or which folds with another one.
    fn refuses(&self, world: &World, id: u8, key: usize) -> bool {
        let others = || self.rows.iter().filter(|(other, _)| **other != id);
        match world.key {
            FOLDING => others().next().is_some(),
            _ => !world.winner && others().any(|(_, row)| row.key == key),
        }
    }
}

struct Run {
    world: World,
    model: Model,
    bell: TestBell,
    file: String,
}

impl Run {
    async fn start(world: World) -> Self {
        let mut bell = TestBell::bare().await;
        bell.source_sql(&world.source()).await;
        bell.target_sql(&format!(
            "create table salesforce.parent__c (id__c double precision unique, name__c varchar(80), {HEROKU_CONNECT}); \
             create table salesforce.item__c (k__c varchar(255) unique, n__c double precision, label__c varchar(80), \
             parent__r__id__c double precision, {HEROKU_CONNECT})"
        ))
        .await;
        bell.use_mapping(&world.mapping()).await;
        let file = bell.mapping_file(&world.mapping()).display().to_string();
        bell.source_sql("insert into parent values (1, 'One'), (2, 'Two')").await;
        Self { world, model: Model::default(), bell, file }
    }

    async fn step(&mut self, step: &Step) {
        let key = |place: usize| self.world.values()[place].replace('\'', "''");
        let number = |n: Option<i8>| n.map_or("null".to_string(), |n| n.to_string());
        match step {
            Step::Put(id, row) if !self.model.refuses(&self.world, *id, row.key) => {
                let parent = row.parent.map_or("null".to_string(), |parent| parent.to_string());
                let (key, n) = (key(row.key), number(row.n));
                self.bell
                    .source_sql(&format!(
                        "insert into item values ({id}, '{key}', {n}, {parent}) on conflict (id) do update \
                         set k = excluded.k, n = excluded.n, parent = excluded.parent"
                    ))
                    .await;
                self.model.rows.insert(*id, *row);
            }
            Step::Number(id, n) => {
                let sql = format!("update item set n = {} where id = {id}", number(*n));
                self.bell.source_sql(&sql).await;
                if let Some(row) = self.model.rows.get_mut(id) {
                    row.n = *n;
                }
            }
            Step::Key(id, place) if !self.model.refuses(&self.world, *id, *place) => {
                let sql = format!("update item set k = '{}' where id = {id}", key(*place));
                self.bell.source_sql(&sql).await;
                if let Some(row) = self.model.rows.get_mut(id) {
                    row.key = *place;
                }
            }
            Step::Delete(id) => {
                self.bell.source_sql(&format!("delete from item where id = {id}")).await;
                self.model.rows.remove(id);
            }
            Step::Label(place, label) if self.world.key != FOLDING => {
                let sql = match label {
                    None => format!("delete from label where k = '{}'", key(*place)),
                    Some(label) => format!(
                        "insert into label values ('{}', 'L{label}') on conflict (k) do update set label = excluded.label",
                        key(*place)
                    ),
                };
                self.bell.source_sql(&sql).await;
                match label {
                    None => _ = self.model.labels.remove(place),
                    Some(label) => _ = self.model.labels.insert(*place, *label),
                }
            }
            Step::Truncate => {
                self.bell.source_sql("truncate item").await;
                self.model.rows.clear();
            }
            Step::Accept(parent) => {
                self.drain().await;
                self.bell
                    .target_sql(&format!(
                        "begin; set local xmlbinary = 'hex'; update salesforce.parent__c set sfid = 'a{parent}' \
                         where id__c = {parent}; commit"
                    ))
                    .await;
                self.model.accepted.insert(*parent);
            }
            Step::Drain => self.drain().await,
            Step::Resync(missing) => {
                let missing = missing.then_some("--missing");
                let arguments = ["resync", "item", "--mapping", &self.file].into_iter();
                let arguments: Vec<&str> = arguments.chain(missing).collect();
                let ended = self.bell.run(&arguments).await;
                assert!(ended.code < 2, "{ended}");
            }
            Step::Put(..) | Step::Key(..) | Step::Label(..) => return,
        }
        self.model.passes(&self.world);
    }

    async fn drain(&self) {
        // What has arrived is found by a sweep, and written by the next look.
        for _ in 0..2 {
            self.bell.drain().await;
        }
    }

    /// Of rows that nobody has named, as after a TRUNCATE, none is deleted unasked.
    async fn deletions_are_released(&self) {
        let held = "select count(*) from schoolbell.parked where held";
        if self.bell.source_count(held).await > 0 {
            let retry = ["parked", "retry", "item", "--yes", "--mapping", &self.file];
            let ended = self.bell.run(&retry).await;
            assert!(ended.code < 2, "{ended}");
            self.drain().await;
        }
    }

    async fn is_right(&self) {
        let Self { world, model, bell, .. } = self;
        let mut wrong = String::new();
        let place = |key: &str| world.values().iter().position(|value| *value == key);
        let held: BTreeMap<Option<usize>, String> = rows(
            &bell.target,
            "select k__c, concat_ws(' ', coalesce(n__c::text, 'null'), coalesce(label__c, 'null'), \
             coalesce(parent__r__id__c::text, 'null')) as content from salesforce.item__c",
        )
        .await
        .into_iter()
        .map(|mut row| {
            (place(row["k__c"].as_ref().unwrap()), row.remove("content").unwrap().unwrap())
        })
        .collect();
        let parked: BTreeMap<Option<usize>, String> =
            rows(&bell.source, "select key, state from schoolbell.parked where object = 'item'")
                .await
                .into_iter()
                .map(|mut row| {
                    (place(row["key"].as_ref().unwrap()), row.remove("state").unwrap().unwrap())
                })
                .collect();
        let seen_before = BTreeSet::from([None]);
        for key in 0..3 {
            let (has, state) =
                (held.get(&Some(key)).cloned(), parked.get(&Some(key)).map(String::as_str));
            let verdict = model.verdict(world, key);
            let seen = model.seen.get(&key).unwrap_or(&seen_before);
            let is_right = match &verdict {
                Verdict::Written(content) => has.as_ref() == Some(content) && state.is_none(),
                Verdict::Gone if world.deletes => has.is_none() && state.is_none(),
                Verdict::Gone => seen.contains(&has) && state.is_none(),
                Verdict::Dead => seen.contains(&has) && state == Some("dead"),
                Verdict::Waits => seen.contains(&has) && state == Some("waiting"),
            };
            if !is_right {
                writeln!(wrong, "{key} must be {verdict:?} and is {has:?}, {state:?}").unwrap();
            }
        }
        let left = "select (select count(*) from schoolbell.change) \
                    + (select count(*) from schoolbell.resync where state <> 'done')";
        assert_eq!(bell.source_count(left).await, 0, "something is left");
        let strangers = held.keys().chain(parked.keys()).filter(|key| key.is_none()).count();
        assert!(wrong.is_empty() && strangers == 0, "{wrong}{held:?} {parked:?}\n{model:#?}");
        let verified = bell.run(&["verify", "--mapping", &self.file]).await;
        let dead = parked.values().any(|state| state == "dead");
        assert!(verified.code == 0 || dead && verified.code == 1, "{verified}");
    }
}

async fn runs(world: World, steps: &[Step]) {
    let mut run = Run::start(world).await;
    for step in steps {
        run.step(step).await;
    }
    run.drain().await;
    run.deletions_are_released().await;
    run.is_right().await;
}

proptest! {
    #![proptest_config(support::drawn(CASES, "mappings"))]

    #[test]
    fn whatever_the_mapping_says_the_target_holds_what_it_means(
        world in world(),
        steps in proptest::collection::vec(step(), 5..20),
    ) {
        Runtime::new().unwrap().block_on(runs(world, &steps));
    }
}
