//! What the target must hold and what must be parked, in plain collections: CONTRACT's rules once more, without
//! the mapping, without SQL, and without knowing how the service works.
//!
//! The rules are exact about everything at rest. While the service works nobody can say which of several quick
//! versions of a row it has seen, so a row that can no longer be written may have stopped at any of them: those
//! are its `trail`, and what is seen of it at rest must be among them.

use std::collections::{BTreeMap, BTreeSet};

/// Which object a key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    School,
    Role,
    Contact,
}

impl Object {
    pub const ALL: [Self; 3] = [Self::School, Self::Role, Self::Contact];

    pub fn name(self) -> &'static str {
        match self {
            Self::School => "school",
            Self::Role => "role",
            Self::Contact => "contact",
        }
    }
}

/// An object and a small number; `operation.rs` knows which uuid that is.
pub type Key = (Object, u8);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct School {
    pub name: &'static str,
    pub creator: Option<u8>,
    pub agrees: Option<bool>,
    pub rejected: bool,
    /// The day of `updated_at`.
    pub updated: u8,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    pub user: Option<u8>,
    pub school: Option<u8>,
    /// As in the table: 0 is a student.
    pub kind: Option<u8>,
    pub updated: u8,
}

/// The source rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    pub schools: BTreeMap<u8, School>,
    pub roles: BTreeMap<u8, Role>,
}

/// The source rows after a statement, and whose table it truncated.
pub struct Step {
    pub rows: Source,
    pub truncated: Option<Object>,
}

impl Source {
    /// Whether the source's own unique indexes allow these rows.
    pub fn is_allowed(&self) -> bool {
        let mut creators = BTreeSet::new();
        let mut roles = BTreeSet::new();
        let standing = self.schools.values().filter(|school| !school.rejected);
        let mut named = self.roles.values().filter_map(|role| {
            Some((role.user?, role.school?, role.kind?)) // Nulls are never equal.
        });
        standing.filter_map(|school| school.creator).all(|creator| creators.insert(creator))
            && named.all(|role| roles.insert(role))
    }

    /// The school that wins for a person.
    fn winner(&self, person: u8) -> Option<&School> {
        let by_person = self.schools.iter().filter(|(_, school)| school.creator == Some(person));
        by_person
            .max_by_key(|(id, school)| (!school.rejected, school.updated, **id))
            .map(|(_, school)| school)
    }

    /// The keys that concern a published row at this moment.
    fn published(&self, object: Object) -> BTreeSet<Key> {
        let numbers: BTreeSet<u8> = match object {
            Object::School => self.schools.keys().copied().collect(),
            Object::Role => {
                let published = self.roles.iter().filter(|(_, role)| role.kind != Some(0));
                published.map(|(id, _)| *id).collect()
            }
            Object::Contact => self.schools.values().filter_map(|school| school.creator).collect(),
        };
        numbers.into_iter().map(|number| (object, number)).collect()
    }

    /// The keys that must be looked at when these rows became those.
    fn touched(&self, now: &Self) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        for id in self.schools.keys().chain(now.schools.keys()) {
            let (before, after) = (self.schools.get(id), now.schools.get(id));
            // What is the school's alone, and what is its creator's.
            let of_school = |school: &School| School { agrees: None, ..school.clone() };
            let of_contact = |school: &School| School { name: "", ..school.clone() };
            if before.map(of_school) != after.map(of_school) {
                keys.insert((Object::School, *id));
            }
            if before.map(of_contact) != after.map(of_contact) {
                let creators = before.into_iter().chain(after).filter_map(|school| school.creator);
                keys.extend(creators.map(|creator| (Object::Contact, creator)));
            }
        }
        let roles = self.roles.keys().chain(now.roles.keys());
        let changed = roles.filter(|id| self.roles.get(id) != now.roles.get(id));
        keys.extend(changed.map(|id| (Object::Role, *id)));
        keys
    }
}

/// What becomes of a key when it is looked at.
enum Verdict {
    /// No row is published under it: what the target holds stays.
    Gone,
    /// It waits, for what.
    Waits(Awaits),
    /// The target does not take this content, unless it holds it already.
    Refused(String),
    Written(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Awaits {
    /// That a parent is known to Salesforce.
    Sfid(Key),
    /// That Salesforce creates the row itself.
    Row(Key),
}

/// Why a key is parked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parked {
    Waiting(Awaits),
    Dead,
}

impl Parked {
    /// As `parked` has it.
    pub fn text(&self) -> String {
        match self {
            Self::Waiting(Awaits::Sfid((object, number))) => {
                format!("waiting for {} sfid {number}", object.name())
            }
            Self::Waiting(Awaits::Row((object, number))) => {
                format!("waiting for {} row {number}", object.name())
            }
            Self::Dead => "dead".into(),
        }
    }
}

/// A resync that was asked for and not carried out yet.
#[derive(Debug, Clone)]
enum Resync {
    Published {
        object: Object,
        missing: bool,
    },
    /// After a TRUNCATE: the keys of all target rows.
    Held(Object),
}

/// Everything that decides what must be in the target.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub source: Source,
    /// The target's rows, in words.
    pub held: BTreeMap<Key, String>,
    /// Of them, those with an `sfid`; a contact always has one.
    accepted: BTreeSet<Key>,
    /// Names of schools and types of roles that the target refuses.
    refused: BTreeSet<&'static str>,
    pub parked: BTreeMap<Key, Parked>,
    /// Parked keys that a human wants tried.
    retried: BTreeSet<Key>,
    /// Keys with changes that were not acknowledged, as of the last rest.
    changed: BTreeSet<Key>,
    resyncs: Vec<Resync>,
    /// What a row may have become since the last rest, in the order of time.
    trail: BTreeMap<Key, Vec<Option<String>>>,
    /// At most this many writes has Salesforce got.
    pub writes: usize,
    pub running: bool,
    /// Some of what is due may have been done already.
    pub unclear: bool,
}

impl Model {
    /// A transaction is committed: the rows after each of its statements.
    pub fn commits(&mut self, steps: Vec<Step>) {
        for step in steps {
            self.changed.extend(self.source.touched(&step.rows));
            self.resyncs.extend(step.truncated.map(Resync::Held));
            self.source = step.rows;
        }
        self.works_if_running();
    }

    pub fn service_starts(&mut self) {
        self.running = true;
        self.works_if_running();
    }

    /// However it ends: what it has not done yet is done by the next one.
    pub fn service_ends(&mut self) {
        self.running = false;
    }

    /// `resync`, carried out at once by the program itself if nobody else does and it is not to be left to others.
    pub fn resyncs(&mut self, object: Option<Object>, missing: bool, detached: bool) {
        let objects =
            Object::ALL.into_iter().filter(|one| object.is_none_or(|object| object == *one));
        self.resyncs.extend(objects.map(|object| Resync::Published { object, missing }));
        match detached {
            true => self.works_if_running(),
            false => self.works(),
        }
    }

    /// Whether a resync that was not carried out yet is only about keys that the target lacks.
    pub fn looks_for_missing(&self) -> bool {
        let missing = |resync: &Resync| matches!(resync, Resync::Published { missing: true, .. });
        self.resyncs.iter().any(missing)
    }

    pub fn retries(&mut self, object: Option<Object>) {
        let chosen = |(one, _): &Key| object.is_none_or(|object| object == *one);
        self.retried.extend(self.parked.keys().copied().filter(chosen));
        self.works_if_running();
    }

    /// `parked drop`, at rest.
    pub fn drops(&mut self, object: Object) {
        self.parked.retain(|key, _| key.0 != object);
        self.retried.retain(|key| key.0 != object);
    }

    /// Salesforce accepts all that is there, at rest.
    pub fn accepts(&mut self) {
        self.accepted.extend(self.held.keys().copied());
        self.works_if_running();
    }

    pub fn contact_arrives(&mut self, person: u8) {
        self.held.insert((Object::Contact, person), flag(None));
        self.works_if_running();
    }

    /// At rest.
    pub fn contact_leaves(&mut self, person: u8) {
        self.held.remove(&(Object::Contact, person));
    }

    pub fn has_contact(&self, person: u8) -> bool {
        self.held.contains_key(&(Object::Contact, person))
    }

    /// Heroku Connect reloads its tables, at rest: what Salesforce does not know is gone.
    pub fn reloads(&mut self) {
        let accepted = &self.accepted;
        self.held.retain(|key, _| key.0 == Object::Contact || accepted.contains(key));
    }

    /// Somebody edits a school in Salesforce, at rest. It stays so until its key is looked at again.
    pub fn edits(&mut self, school: u8) {
        if let Some(content) = self.held.get_mut(&(Object::School, school)) {
            *content = "Edited standing 9".into();
        }
    }

    /// At rest.
    pub fn refuses(&mut self, word: &'static str) {
        self.refused.insert(word);
    }

    /// At rest.
    pub fn admits(&mut self, word: &'static str) {
        self.refused.remove(word);
    }

    /// All that is due is done. `seen` are the target's rows, asked only about keys of which several states are right.
    /// Returns what is wrong about them.
    pub fn comes_to_rest(&mut self, seen: Option<&BTreeMap<Key, String>>) -> Vec<String> {
        self.works();
        let mut wrong = Vec::new();
        let trail = std::mem::take(&mut self.trail);
        for key in self.due() {
            let verdict = self.verdict(key);
            if let (Some(trail), Some(seen)) = (trail.get(&key), seen)
                && !matches!(verdict, Verdict::Written(_))
            {
                let seen = seen.get(&key).cloned();
                if !trail.contains(&seen) {
                    wrong.push(format!("{key:?} is {seen:?}, which is none of {trail:?}"));
                }
                self.hold(key, seen);
            }
            self.parked.remove(&key);
            match verdict {
                Verdict::Gone => {}
                Verdict::Waits(awaits) => {
                    self.parked.insert(key, Parked::Waiting(awaits));
                }
                Verdict::Refused(content) => {
                    if self.held.get(&key) != Some(&content) {
                        self.parked.insert(key, Parked::Dead);
                    }
                }
                Verdict::Written(content) => self.hold(key, Some(content)),
            }
        }
        self.changed.clear();
        self.retried.clear();
        self.resyncs.clear();
        self.unclear = false;
        wrong
    }

    /// The rows that must be in the target, and what must be parked.
    pub fn expected(&self) -> (BTreeMap<Key, String>, BTreeMap<Key, String>) {
        let parked = self.parked.iter().map(|(key, parked)| (*key, parked.text()));
        (self.held.clone(), parked.collect())
    }

    fn hold(&mut self, key: Key, content: Option<String>) {
        match content {
            Some(content) => _ = self.held.insert(key, content),
            None => _ = self.held.remove(&key),
        }
    }

    fn works_if_running(&mut self) {
        if self.running {
            self.works();
        }
    }

    /// What is due may be done now, or later.
    fn works(&mut self) {
        for key in self.due() {
            self.unclear = true;
            if let Verdict::Written(content) = self.verdict(key) {
                let held = self.held.get(&key).cloned();
                let trail = self.trail.entry(key).or_insert_with(|| vec![held]);
                if trail.last().is_some_and(|last| last.as_ref() != Some(&content)) {
                    trail.push(Some(content));
                    self.writes += 1;
                }
            }
        }
        self.unclear |= !self.resyncs.is_empty();
    }

    fn due(&self) -> BTreeSet<Key> {
        let mut due: BTreeSet<Key> = self.changed.union(&self.retried).copied().collect();
        due.extend(
            self.parked.iter().filter(|(_, parked)| self.has_arrived(parked)).map(|(key, _)| *key),
        );
        for resync in &self.resyncs {
            match resync {
                Resync::Published { object, missing } => {
                    let published = self.source.published(*object).into_iter();
                    due.extend(published.filter(|key| !missing || !self.held.contains_key(key)));
                }
                Resync::Held(object) => {
                    due.extend(self.held.keys().copied().filter(|key| key.0 == *object));
                }
            }
        }
        due
    }

    fn has_arrived(&self, parked: &Parked) -> bool {
        match parked {
            Parked::Waiting(Awaits::Sfid(key)) => self.has_sfid(*key),
            Parked::Waiting(Awaits::Row(key)) => self.held.contains_key(key),
            Parked::Dead => false,
        }
    }

    fn has_sfid(&self, key: Key) -> bool {
        self.held.contains_key(&key) && (key.0 == Object::Contact || self.accepted.contains(&key))
    }

    fn verdict(&self, key: Key) -> Verdict {
        match key {
            (Object::School, id) => match self.source.schools.get(&id) {
                None => Verdict::Gone,
                Some(school) => self.refusable(school.name.trim(), editor(school)),
            },
            (Object::Role, id) => match self.source.roles.get(&id) {
                None | Some(Role { kind: Some(0), .. }) => Verdict::Gone,
                Some(role) => {
                    let school = role.school.map(|id| (Object::School, id));
                    let user = role.user.map(|id| (Object::Contact, id));
                    match school.into_iter().chain(user).find(|parent| !self.has_sfid(*parent)) {
                        Some(parent) => Verdict::Waits(Awaits::Sfid(parent)),
                        None => self.refusable(kind(role), affiliation(role)),
                    }
                }
            },
            (Object::Contact, person) => match self.source.winner(person) {
                None => Verdict::Gone,
                Some(_) if !self.held.contains_key(&key) => Verdict::Waits(Awaits::Row(key)),
                Some(school) => Verdict::Written(flag(school.agrees)),
            },
        }
    }

    fn refusable(&self, word: &str, content: String) -> Verdict {
        match self.refused.contains(word) {
            true => Verdict::Refused(content),
            false => Verdict::Written(content),
        }
    }
}

fn editor(school: &School) -> String {
    let rejected = if school.rejected { "rejected" } else { "standing" };
    format!("{} {rejected} {}", school.name.trim(), school.updated)
}

fn affiliation(role: &Role) -> String {
    let number =
        |number: Option<u8>| number.map_or("nobody".to_string(), |number| number.to_string());
    format!("{} in {} as {} {}", number(role.user), number(role.school), kind(role), role.updated)
}

fn kind(role: &Role) -> &'static str {
    match role.kind {
        Some(1) => "teacher",
        Some(2) => "owner",
        _ => "nothing",
    }
}

fn flag(agrees: Option<bool>) -> String {
    agrees.map_or("unknown".to_string(), |agrees| agrees.to_string())
}
