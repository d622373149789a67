//! What separates two mappings, object by object, and what that means for rows that exist.
//!
//! Promise: every setting of an object counts; its line, the comments around it and the order in the file do not.

use std::collections::BTreeMap;
use std::fmt;

use super::{Brake, Field, Mapping, Object, OnDelete, Parent, Touch, Value, Winner};
use crate::postgres::name::{TableName, fingerprint};

/// A longer value is not repeated to people.
const SHOWN_CHARS: usize = 60;

impl Object {
    /// The settings by name, each as one text: equal texts mean the same.
    pub fn settings(&self) -> BTreeMap<String, String> {
        // Named one by one, so that a setting that is added to objects cannot be forgotten here.
        let Self {
            name: _,
            source,
            key,
            filter,
            winner,
            since,
            target,
            external_id,
            fields,
            parents,
            touched_by,
            update_only,
            on_delete,
            brake,
            line: _,
            lines: _,
        } = self;
        let (prefer, order) = match winner {
            Some(Winner { prefer, order }) => (prefer.as_deref(), Some(order.as_str())),
            None => (None, None),
        };
        let on_delete = match on_delete {
            OnDelete::Keep => "keep",
            OnDelete::Delete => "delete",
        };
        let texts = [
            ("source", Some(source.plain())),
            ("key", Some(key.clone())),
            ("filter", filter.clone()),
            ("winner.prefer", prefer.map(str::to_string)),
            ("winner.order", order.map(str::to_string)),
            ("since", since.clone()),
            ("target", Some(target.plain())),
            ("external_id", Some(external_id.clone())),
            ("on_delete", Some(on_delete.to_string())),
        ];
        let texts = texts.into_iter().filter_map(|(name, text)| Some((name, quoted(&text?))));
        let lists =
            [("parents", listed(parents, parent)), ("touched_by", listed(touched_by, touch))];
        let lists = lists.into_iter().filter_map(|(name, list)| Some((name, list?)));
        let brake = (*brake != Brake::default()).then(|| ("brake", braked(brake)));
        let flag = ("update_only", update_only.to_string());
        let named = texts
            .chain(lists)
            .chain(brake)
            .chain([flag])
            .map(|(name, text)| (name.to_string(), text));
        let fields = fields.iter().map(|field| (format!("fields.{}", field.column), set(field)));
        named.chain(fields).collect()
    }

    /// Identifies the object with all its settings: different settings give a different text.
    pub fn fingerprint(&self) -> String {
        let settings = self.settings();
        let texts = settings.iter().flat_map(|(name, text)| [name.as_str(), text]);
        // With the lengths no two lists of texts look the same.
        let texts = std::iter::once(self.name.as_str()).chain(texts);
        fingerprint(&texts.map(|text| format!("{} {text}", text.len())).collect::<String>())
    }

    fn field(&self, column: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.column == column)
    }
}

/// As in a mapping file.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

fn value(value: &Value) -> String {
    match value {
        Value::Column(column) => quoted(column),
        Value::Sql(sql) => format!("{{ sql = {} }}", quoted(sql)),
    }
}

fn set(field: &Field) -> String {
    let mut text = value(&field.value);
    for (says, what) in [
        (field.insert_only, "insert only"),
        (!field.compared && !field.insert_only, "not compared"),
        (field.encrypted, "encrypted"),
    ] {
        if says {
            text.push_str(&format!(" ({what})"));
        }
    }
    text
}

fn parent(parent: &Parent) -> String {
    format!("{} by {}", parent.object, value(&parent.key))
}

fn touch(touch: &Touch) -> String {
    let mut columns: Vec<String> = touch.columns.iter().map(|column| quoted(column)).collect();
    columns.sort();
    format!("{} [{}] {}", touch.table.plain(), columns.join(", "), quoted(&touch.keys))
}

fn braked(brake: &Brake) -> String {
    let Brake { rows, share, within } = brake;
    format!("{{ rows = {rows}, share = {share}, within = \"{}s\" }}", within.as_secs_f64())
}

/// Sorted, because the order means nothing; none when the list is empty.
fn listed<T>(list: &[T], text: fn(&T) -> String) -> Option<String> {
    let mut texts: Vec<String> = list.iter().map(text).collect();
    texts.sort();
    (!texts.is_empty()).then(|| texts.join(", "))
}

/// What another mapping changes.
#[derive(Debug, Clone, Default)]
pub struct Difference {
    /// Objects that are new or altered, parents first.
    pub changed: Vec<ChangedObject>,
    /// Objects that are no longer there.
    pub dropped: Vec<Dropped>,
}

/// An object that is new or altered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedObject {
    /// The object.
    pub object: String,
    /// What is different, setting by setting.
    pub notes: Vec<Note>,
}

/// One thing that is different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What it is.
    pub what: String,
    /// What it means for rows that exist.
    pub means: String,
    /// Whether rows that exist are right only after a resync.
    pub resync: bool,
}

/// An object that is no longer there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// The object.
    pub object: String,
    /// The table it was read from.
    pub source: TableName,
    /// The table that keeps its rows.
    pub target: TableName,
}

impl Difference {
    /// The difference from one mapping to another; from none, every object is new.
    pub fn between(old: Option<&Mapping>, new: &Mapping) -> Self {
        let before = |name: &str| old.and_then(|old| old.object(name));
        let changed = new.objects.iter().map(|object| ChangedObject {
            object: object.name.clone(),
            notes: match before(&object.name) {
                Some(before) => notes(before, object),
                None => vec![Note::resync("is new".into(), "its rows are written by a resync")],
            },
        });
        let gone = old.iter().flat_map(|old| &old.objects);
        let gone = gone.filter(|object| new.object(&object.name).is_none());
        Self {
            changed: changed.filter(|changed| !changed.notes.is_empty()).collect(),
            dropped: gone
                .map(|object| Dropped {
                    object: object.name.clone(),
                    source: object.source.clone(),
                    target: object.target.clone(),
                })
                .collect(),
        }
    }

    /// No difference has an effect.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.dropped.is_empty()
    }

    /// The objects whose existing rows are right only after a resync, parents first.
    pub fn resyncs(&self) -> Vec<&str> {
        let changed = self.changed.iter();
        let changed = changed.filter(|changed| changed.notes.iter().any(|note| note.resync));
        changed.map(|changed| changed.object.as_str()).collect()
    }
}

/// A line for each thing that is different.
impl Difference {
    /// What it means, each as a line. A line may quote any text of a mapping.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let changed = self.changed.iter().flat_map(|ChangedObject { object, notes }| {
            let notes = notes.iter();
            notes.map(move |Note { what, means, .. }| format!("{object}: {what}: {means}"))
        });
        let dropped = self.dropped.iter().map(|Dropped { object, target, .. }| {
            let target = target.plain();
            format!("{object}: is dropped: its rows in {target} stay as they are")
        });
        changed.chain(dropped)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().collect::<Vec<_>>().join("\n"))
    }
}

impl Note {
    fn resync(what: String, means: &str) -> Self {
        Self { what, means: means.into(), resync: true }
    }

    fn of(what: String, (resync, means): (bool, &str)) -> Self {
        Self { what, means: means.into(), resync }
    }
}

/// What is different between two objects of a name.
fn notes(old: &Object, new: &Object) -> Vec<Note> {
    let (was, is) = (old.settings(), new.settings());
    let names: std::collections::BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    let differing = names.into_iter().filter(|name| was.get(*name) != is.get(*name));
    let note = |name: &String| {
        let (was, is) = (was.get(name), is.get(name));
        match name.strip_prefix("fields.") {
            Some(column) => {
                let means = field(old.field(column), new.field(column));
                Note::of(told(column, was, is), means)
            }
            None => Note::of(told(name, was, is), setting(name, old, new)),
        }
    };
    differing.map(note).collect()
}

/// A setting with what it was and what it is.
fn told(name: &str, was: Option<&String>, is: Option<&String>) -> String {
    let short = |text: &String| text.chars().count() <= SHOWN_CHARS;
    match (was, is) {
        (None, Some(is)) if short(is) => format!("{name} = {is} is new"),
        (None, _) => format!("{name} is new"),
        (Some(_), None) => format!("{name} is gone"),
        (Some(was), Some(is)) if short(was) && short(is) => format!("{name} = {is}, before {was}"),
        (Some(_), Some(_)) => format!("{name} is another"),
    }
}

/// Whether rows that exist need a resync because of a field, and what becomes of them.
fn field(old: Option<&Field>, new: Option<&Field>) -> (bool, &'static str) {
    let Some(new) = new else {
        return (false, "it keeps its values in the target");
    };
    if new.insert_only {
        return match old {
            Some(old) if !old.insert_only => (false, "rows that exist keep what they have"),
            _ => (false, "only rows that are inserted from now on get it"),
        };
    }
    if !new.compared {
        return (
            false,
            "it is no reason to write a row: one that exists gets it when it is written for another",
        );
    }
    match old {
        // Asterisks are what is expected from now on, so the rows that have them are right.
        Some(old) if old.compared && old.value == new.value && new.encrypted => {
            (false, "asterisks in the target no longer count as a difference")
        }
        _ => (true, "rows that exist get it by a resync"),
    }
}

/// The same for a setting that is no field.
fn setting(name: &str, old: &Object, new: &Object) -> (bool, &'static str) {
    match name {
        "source" => (
            true,
            "a resync writes its rows; those of the former table stay: `schoolbell verify` counts them",
        ),
        "key" => (
            true,
            "a resync writes rows under the new key; those under the former stay: `schoolbell verify` counts them",
        ),
        "target" => {
            (true, "a resync writes the rows there; those in the former table stay as they are")
        }
        "external_id" => (
            true,
            "target rows are found by it: by a resync, those in which it is empty are written a second time",
        ),
        "filter" if old.filter.is_none() => {
            (false, "target rows that it leaves out stay: `schoolbell verify` counts them")
        }
        "filter" if new.filter.is_none() => (true, "rows that it left out are written by a resync"),
        "filter" => (
            true,
            "rows that it takes now are written by a resync; target rows that it leaves out stay: `schoolbell verify` \
             counts them",
        ),
        "winner.prefer" | "winner.order" => {
            (true, "another row may speak for a key: a resync writes its values")
        }
        "since" => (false, "only `schoolbell resync --since` looks at it"),
        "parents" if lost(&old.parents, &new.parents, parent) => {
            (true, "rows that wait for a former parent are looked at again by a resync")
        }
        "parents" => (false, "rows that are written from now on wait for it"),
        "touched_by" if lost(&new.touched_by, &old.touched_by, touch) => {
            (true, "what such changes should have touched until now is made right by a resync")
        }
        "touched_by" => (false, "changes there no longer affect rows of this object"),
        "update_only" if new.update_only => {
            (false, "missing rows are waited for; rows are no longer inserted or deleted")
        }
        "update_only" => (true, "rows that are missing are inserted by a resync"),
        "on_delete" if new.on_delete == OnDelete::Delete => (
            false,
            "target rows that were kept until now are deleted by `schoolbell verify --repair`",
        ),
        "on_delete" => (false, "target rows are kept from now on"),
        "brake" => (false, "it counts for what is deleted from now on"),
        // A setting that is not handled here: too much is resynced rather than too little.
        _ => (true, "rows that exist are made right by a resync"),
    }
}

/// Whether the first list has something that the second has not.
fn lost<T>(before: &[T], after: &[T], text: fn(&T) -> String) -> bool {
    let after: Vec<String> = after.iter().map(text).collect();
    before.iter().any(|one| !after.contains(&text(one)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUB: &str = "version = 1
[object.club]
source = 'clubs'
key = 'id'
filter = 'members > 0'
target = 'club__c'
external_id = 'clubuuid__c'
[object.club.fields]
name = 'name'
town__c = 'town'
[object.club.insert_only]
status__c = { sql = \"'New'\" }
";

    fn mapping(text: &str) -> Mapping {
        Mapping::parse("m.toml", text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    fn fingerprint_of(text: &str) -> String {
        mapping(text).objects[0].fingerprint()
    }

    fn with(from: &str, to: &str) -> String {
        assert!(CLUB.contains(from), "{from}");
        CLUB.replacen(from, to, 1)
    }

    /// What is said about the change from the first to the second, and whether a resync is needed.
    fn told(old: &str, new: &str) -> (String, bool) {
        let difference = Difference::between(Some(&mapping(old)), &mapping(new));
        (difference.to_string(), !difference.resyncs().is_empty())
    }

    #[test]
    fn lines_comments_and_order_are_no_difference() {
        let same = [
            format!("# A comment\n\n{CLUB}"),
            with(
                "name = 'name'\ntown__c = 'town'",
                "town__c = { column = \"town\" }\nname = 'name'",
            ),
            with("key = 'id'\n", "on_delete = 'keep'\nkey = 'id'\nupdate_only = false\n"),
            with("source = 'clubs'", "source = 'public.clubs'"),
        ];
        for text in same {
            assert_eq!(told(CLUB, &text), (String::new(), false), "{text}");
            assert_eq!(fingerprint_of(CLUB), fingerprint_of(&text), "{text}");
        }
    }

    #[test]
    fn each_change_is_told_with_what_it_means_and_has_another_fingerprint() {
        let resync = [
            (
                "name = 'name'",
                "name = 'title'",
                "club: name = \"title\", before \"name\": rows that exist get it",
            ),
            (
                "town__c = 'town'",
                "town__c = 'town'\nx__c = 'x'",
                "club: x__c = \"x\" is new: rows that exist get",
            ),
            (
                "town__c = 'town'",
                "town__c = { sql = 'town' }",
                "town__c = { sql = \"town\" }, before \"town\"",
            ),
            (
                "key = 'id'",
                "key = 'uuid'",
                "club: key = \"uuid\", before \"id\": a resync writes rows under",
            ),
            (
                "source = 'clubs'",
                "source = 'teams'",
                "club: source = \"public.teams\", before \"public.clubs\"",
            ),
            (
                "target = 'club__c'",
                "target = 'team__c'",
                "those in the former table stay as they are",
            ),
            ("external_id = 'clubuuid__c'", "external_id = 'uuid__c'", "are written a second time"),
            (
                "members > 0",
                "members > 1",
                "rows that it takes now are written by a resync; target rows that",
            ),
            (
                "filter = 'members > 0'\n",
                "",
                "club: filter is gone: rows that it left out are written",
            ),
            (
                "key = 'id'",
                "key = 'id'\nwinner = { order = 'id' }",
                "winner.order = \"id\" is new: another row",
            ),
            (
                "[object.club.insert_only]\n",
                "",
                "club: status__c = { sql = \"'New'\" }, before { sql = \"'New'\" } (insert only)",
            ),
            (
                "[object.club.fields]",
                "[[object.club.touched_by]]\ntable = 't'\nkeys = 'k'\n[object.club.fields]",
                "what such changes should have touched",
            ),
        ];
        let nothing = [
            ("town__c = 'town'\n", "", "club: town__c is gone: it keeps its values in the target"),
            ("'town'", "{ column = 'town', compare = false }", "it is no reason to write a row"),
            ("'town'", "{ column = 'town', encrypted = true }", "asterisks in the target"),
            (
                "[object.club.insert_only]",
                "[object.club.insert_only]\nx__c = 'x'",
                "only rows that are inserted from now on",
            ),
            ("'New'", "'Old'", "only rows that are inserted from now on"),
            (
                "key = 'id'",
                "key = 'id'\nsince = 'updated_at'",
                "club: since = \"updated_at\" is new: only",
            ),
            (
                "key = 'id'",
                "key = 'id'\non_delete = 'delete'",
                "deleted by `schoolbell verify --repair`",
            ),
        ];
        let mut seen = vec![fingerprint_of(CLUB)];
        for (cases, resyncs) in [(&resync[..], true), (&nothing[..], false)] {
            for (from, to, means) in cases {
                let text = with(from, to);
                let (told, needs) = told(CLUB, &text);
                assert!(told.contains(means), "{means}: {told}");
                assert_eq!(told.lines().count(), 1, "{told}");
                assert_eq!(needs, resyncs, "{told}");
                let fingerprint = fingerprint_of(&text);
                assert!(!seen.contains(&fingerprint), "{text}");
                seen.push(fingerprint);
            }
        }
    }

    #[test]
    fn a_brake_that_is_written_out_as_it_is_by_default_is_none() {
        let deleting = with("key = 'id'", "key = 'id'\non_delete = 'delete'");
        let brake = |brake: &str| format!("{deleting}[object.club.brake]\n{brake}\n");
        assert_eq!(told(&deleting, &brake("rows = 100\nwithin = '60m'")), (String::new(), false));
        let (tighter, resync) = told(&deleting, &brake("rows = 99"));
        assert!(
            !resync && tighter.starts_with("club: brake = { rows = 99, share = 0.1, "),
            "{tighter}"
        );
    }

    #[test]
    fn a_change_and_its_reverse_mean_different_things() {
        let wider = with("filter = 'members > 0'\n", "");
        assert!(!told(&wider, CLUB).1, "a narrower filter needs no resync");
        let compared = with("'town'", "{ column = 'town', compare = false }");
        assert!(told(&compared, CLUB).1, "a field that is compared from now on does");
        let owned = with("key = 'id'", "key = 'id'\nupdate_only = true")
            .replace("[object.club.insert_only]", "[object.club.fields.x__c]\nsql = '1'\n#")
            .replace("status__c", "#");
        let created = owned.replace("update_only = true", "update_only = false");
        assert!(told(&owned, &created).1);
        assert!(!told(&created, &owned).1);
    }

    #[test]
    fn a_parent_that_is_added_holds_back_new_rows_only_and_one_that_goes_frees_those_that_wait() {
        let child = format!(
            "{CLUB}[object.member]\nsource = 'm'\nkey = 'id'\ntarget = 'm__c'\nexternal_id = 'e'\n[object.member.fields]\n"
        );
        let with_parent =
            format!("{child}[[object.member.parents]]\nobject = 'club'\nkey = 'club_id'\n");

        let added = Difference::between(Some(&mapping(&child)), &mapping(&with_parent));
        assert_eq!(added.resyncs(), [""; 0]);
        assert_eq!(
            added.to_string(),
            "member: parents = club by \"club_id\" is new: rows that are written from now on wait for it"
        );
        let gone = Difference::between(Some(&mapping(&with_parent)), &mapping(&child));
        assert_eq!(gone.resyncs(), ["member"]);
    }

    #[test]
    fn objects_are_added_and_dropped_and_resynced_parents_first() {
        let child = "[object.a_member]\nsource = 'm'\nkey = 'id'\ntarget = 'm__c'\nexternal_id = 'e'\n\
                     [[object.a_member.parents]]\nobject = 'club'\nkey = 'club_id'\n";
        let both = format!("{CLUB}{child}");

        let added = Difference::between(Some(&mapping(CLUB)), &mapping(&both));
        assert_eq!(added.to_string(), "a_member: is new: its rows are written by a resync");
        let dropped = Difference::between(Some(&mapping(&both)), &mapping(CLUB));
        assert_eq!(
            dropped.to_string(),
            "a_member: is dropped: its rows in salesforce.m__c stay as they are"
        );
        assert_eq!(dropped.resyncs(), [""; 0]);
        let first = Difference::between(None, &mapping(&both));
        assert_eq!(first.resyncs(), ["club", "a_member"]);
    }

    #[test]
    fn another_name_is_another_object() {
        assert_ne!(
            fingerprint_of(CLUB),
            fingerprint_of(&CLUB.replace("object.club", "object.team"))
        );
    }
}
