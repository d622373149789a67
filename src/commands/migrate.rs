//! `migrate`: the schema and the triggers, brought up to date; what another mapping means for rows that exist.

use crate::worker::page;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use super::Exit;
use crate::capture::deviation::{Deviation, Fault, deviations};
use crate::capture::installation;
use crate::capture::publication::{self, Published};
use crate::capture::schema::Version;
use crate::capture::trigger::{self, Rendered};
use crate::capture::{NotifyMode, install, schema};
use crate::cli::{MigrateOptions, Settings};
use crate::mapping::Mapping;
use crate::mapping::difference::{Difference, Dropped};
use crate::outbox::change;
use crate::outbox::migrated::{self, Migrated};
use crate::outbox::parked;
use crate::outbox::resync::{self, Request};
use crate::outbox::shape;
use crate::plan::Captured;
use crate::plan::{self, SourceSide};
use crate::postgres::db::{Direct, Evaluator, Session};
use crate::postgres::name::TableName;
use crate::postgres::url::DatabaseUrl;
use crate::reports::status;
use crate::visible;

pub async fn run(settings: &Settings, options: &MigrateOptions) -> Result<Exit> {
    let mapping = super::mapping(settings)?;
    let url = super::source_url(settings)?;
    let mut source = super::direct_source(&url, "migrate").await?;
    let evaluator = super::evaluator(&url).await?;
    // Before anything is changed: a mapping that does not fit must leave the database as it is.
    let source_side =
        plan::source_side(&source, &evaluator, &mapping).await.with_context(|| {
            format!("the mapping does not fit the source database ({url}); nothing was changed")
        })?;
    if !options.dry_run {
        super::lock_schema(&source).await?;
    }
    let version = schema::version(&source).await.map_err(super::reason)?;
    if let (Version::Newer(_), Some(remedy)) = (version, version.refusal()) {
        anyhow::bail!(remedy);
    }
    if options.tables_only {
        return tables_only(version);
    }
    refuse_foreign(&source, &source_side).await?;
    let passed_by = source_side.unseen.iter().chain(&source_side.unlogged);
    passed_by.for_each(|sentence| tracing::warn!("{sentence}"));
    let to_do =
        ToDo::find((&source, &evaluator), version, options.notify, &mapping, &source_side).await?;
    if options.dry_run {
        to_do.print(settings, &mapping)?;
        tell!("dry run: nothing was changed");
        return Ok(Exit::Clean);
    }
    to_do.look_at_publications(options.published)?;
    to_do.carry_out(&mut source, &source_side).await?;
    let resyncs = if options.resync { to_do.change.resyncs() } else { Vec::new() };
    let jobs = to_do.change.note(&url, &mapping, &resyncs).await?;
    to_do.conclude(settings, options, &mapping, (&resyncs, &jobs))?;
    Ok(Exit::Clean)
}

/// What the database lacks.
struct ToDo {
    version: Version,
    migrations: Vec<(String, String)>,
    mode: NotifyMode,
    /// The statement that notes another mode than is installed.
    mode_sql: Option<String>,
    deviations: Vec<Deviation>,
    /// By table: why its triggers are renewed, and how.
    ddl: Vec<(TableName, String, String)>,
    change: MappingChange,
    /// Publications that carry our tables.
    published: Option<Published>,
}

impl ToDo {
    async fn find(
        (source, evaluator): (&Session, &Evaluator),
        version: Version,
        asked: Option<NotifyMode>,
        mapping: &Mapping,
        source_side: &SourceSide,
    ) -> Result<Self> {
        let installed = installation::notify_mode(source).await.map_err(super::reason)?;
        let mode = asked.or(installed).unwrap_or(NotifyMode::Doorbell);
        let wanted = trigger::render(&source_side.captures, mode);
        let deviations = deviations(source, &wanted).await.map_err(super::reason)?;
        let change =
            MappingChange::find((source, evaluator), version, mapping, source_side).await?;
        let ddl = install::sql(&wanted, &deviations).into_iter().map(|(table, sql)| {
            let reason = change.why(&table, &wanted, &deviations);
            (table, reason, sql)
        });
        let published = publication::published(source).await.map_err(super::reason)?;
        Ok(Self {
            version,
            migrations: schema::pending(version),
            mode,
            mode_sql: (installed != Some(mode)).then(|| installation::noting(mode)),
            ddl: ddl.collect(),
            deviations,
            change,
            published: Some(published).filter(|published| !published.publications.is_empty()),
        })
    }

    /// Prints the SQL instead of running it.
    fn print(&self, settings: &Settings, mapping: &Mapping) -> Result<()> {
        if let Some(published) = &self.published {
            match self.migrations.is_empty() {
                true => say!("-- {}", notice(published))?,
                false => comment(warning(published).iter())?,
            }
        }
        comment(self.change.said.iter())?;
        if !self.migrations.is_empty() {
            super::say_text(&format!(
                "begin;\nset local {};\ncreate schema if not exists schoolbell;\n\n",
                schema::OWN_PATH
            ))?;
            for (name, sql) in &self.migrations {
                super::say_text(&format!("-- migration {name}\n{}\n\n", sql.trim_end()))?;
            }
            super::say_text(&format!("{}commit;\n\n", schema::history(self.version)))?;
        }
        if let Some(sql) = &self.mode_sql {
            super::say_text(&format!("{};\n\n", sql.trim_end()))?;
        }
        for (table, reason, sql) in &self.ddl {
            say!("-- triggers on {}: {reason}", table.plain())?;
            super::say_sql(&format!("begin;\n{sql}commit;\n\n"))?;
        }
        for sql in self.change.notes(mapping) {
            super::say_sql(&format!("{};\n\n", sql.trim_end()))?;
        }
        comment(self.change.advice(settings, mapping).iter())
    }

    /// Refuses new tables where a publication would carry them, unless its subscribers have them already.
    fn look_at_publications(&self, subscribers_have_them: bool) -> Result<()> {
        match &self.published {
            Some(published) if !self.migrations.is_empty() && !subscribers_have_them => {
                let mut lines = warning(published);
                lines[0] = format!("nothing was changed: {}", lines[0]);
                Err(visible::Lines(lines).into())
            }
            Some(published) => say!("{}", notice(published)),
            None => Ok(()),
        }
    }

    async fn carry_out(&self, source: &mut Direct, source_side: &SourceSide) -> Result<()> {
        schema::migrate(source).await.context("cannot migrate schema schoolbell")?;
        for (name, _) in &self.migrations {
            say!("migrated {name}")?;
        }
        for line in &self.change.said {
            say!("{line}")?;
        }
        if let Some(sql) = &self.mode_sql {
            source.client().batch_execute(sql).await.map_err(super::reason)?;
            say!("notify mode: {}", self.mode)?;
        }
        let lossless = lossless(source_side, &self.deviations);
        let settled = shape::settled(source, &lossless).await.map_err(super::reason)?;
        for (table, reason, sql) in &self.ddl {
            // On the first run all of them are missing, which is not worth a line.
            if self.version != Version::Missing {
                say!("triggers of {}: {reason}", table.plain())?;
            }
            install::run_ddl(source, table, sql)
                .await
                .with_context(|| format!("cannot install the triggers of {}", table.plain()))?;
            say!("triggers of {}: up to date", table.plain())?;
        }
        shape::renew(source, &settled).await.map_err(super::reason)
    }

    /// Says what was not needed, and what comes next.
    fn conclude(
        &self,
        settings: &Settings,
        options: &MigrateOptions,
        mapping: &Mapping,
        (resyncs, jobs): (&[&str], &[i64]),
    ) -> Result<()> {
        let change = &self.change;
        if change.foreign > 0 {
            let resyncs = status::counted(change.foreign, "resync");
            say!("left to whichever mapping the service has: {resyncs} of another one")?;
        }
        if self.migrations.is_empty() && self.ddl.is_empty() && change.is_nothing() {
            say!("nothing to do: schema and triggers are up to date")?;
        }
        match jobs {
            [] if options.resync => say!("nothing to resync: {}", change.why_no_resync()),
            [] => change.advice(settings, mapping).map_or(Ok(()), |advice| say!("{advice}")),
            jobs => {
                let numbers: Vec<String> = jobs.iter().map(i64::to_string).collect();
                say!(
                    "stored as {}: a resync of {}, for a service with this mapping; `schoolbell status` shows how far it \
                     is",
                    numbers.join(", "),
                    resyncs.join(", ")
                )
            }
        }
    }
}

/// The captured tables of which no change was missed, even if their triggers must be renewed.
fn lossless(source_side: &SourceSide, deviations: &[Deviation]) -> Captured {
    let mut captured = source_side.captured();
    captured.retain(|table, _| {
        let mut of_table = deviations.iter().filter(|deviation| deviation.table == *table);
        of_table.all(|deviation| !deviation.fault.has_lost_changes())
    });
    captured
}

/// A role that owns the schema, or anything in it, can replace our tables and functions with its
/// own.
async fn refuse_foreign(source: &Session, source_side: &SourceSide) -> Result<()> {
    let captured: Vec<&TableName> =
        source_side.captures.iter().map(|capture| &capture.table).collect();
    let foreign = schema::foreign_owners(source, &captured).await.map_err(super::reason)?;
    let Some(first) = foreign.first() else { return Ok(()) };
    let more = match foreign.len() {
        1 => String::new(),
        all => format!(" (and {} more)", all - 1),
    };
    anyhow::bail!(
        "{} belongs to {}{more}, who owns no captured table and could replace what is installed there; nothing was \
         changed. Find out who made it; if it is not in use, drop it as a superuser: drop schema schoolbell cascade;",
        first.thing,
        first.owner
    )
}

/// Prints the tables for a subscriber, and nothing that would act there.
fn tables_only(version: Version) -> Result<Exit> {
    say!("-- For a subscriber: tables of schema schoolbell, without triggers and without rows.")?;
    if let Version::Older(installed) = version {
        say!("-- Only what is newer than version {installed}, which it must have.")?;
    }
    super::say_text(&format!("{}\n", schema::tables(version).trim_end()))?;
    Ok(Exit::Clean)
}

/// Our tables are published, and nothing new comes.
fn notice(published: &Published) -> String {
    format!(
        "{} carries the tables of schema schoolbell to its subscribers; `schoolbell doctor` says how to end that",
        published.names()
    )
}

/// New tables would be published: what would happen, and what to do instead.
fn warning(published: &Published) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{} would carry new tables of schema schoolbell to its subscribers. A subscriber that lacks them stops at the \
             first change (`logical replication target relation \"schoolbell.change\" does not exist`), and its slot then \
             keeps WAL here until the disk is full. The keys of captured rows would leave this database, too. {}",
            published.names(),
            published.receivers()
        ),
        "Either let the publication carry everything but schema schoolbell. Subscriptions go on as they are; a table in \
         a schema that is made later must be added:"
            .to_string(),
    ];
    lines
        .extend(published.publications.iter().map(|publication| format!("  {}", publication.cure)));
    lines.extend(
        [
            "Or create the tables on each subscriber, empty and without triggers, then continue:",
            "  schoolbell migrate --dry-run --tables-only | psql SUBSCRIBER_URL",
            "  schoolbell migrate --published",
        ]
        .map(str::to_string),
    );
    lines
}

/// Prints a remark as an SQL comment, because the output is to be run by psql.
fn comment<'a>(mut lines: impl Iterator<Item = &'a String>) -> Result<()> {
    lines.try_for_each(|line| say!("-- {line}"))
}

/// What is known of the previous mapping.
enum Before {
    /// There was none: nothing is installed.
    Nothing,
    /// Something is installed, for a mapping that was not noted or cannot be read.
    Unknown,
    /// The one that was noted.
    Known,
}

/// What the mapping changes.
struct MappingChange {
    before: Before,
    /// Whether what is noted is another text.
    to_note: bool,
    difference: Difference,
    /// What it means, in lines.
    said: Vec<String>,
    /// Columns that another mapping watches, by table.
    watched: BTreeMap<TableName, Watched>,
    /// Unfinished resyncs that were asked for with another mapping.
    foreign: i64,
}

/// Which columns of a table the triggers compare from now on, and which they do not any more.
#[derive(Default)]
struct Watched {
    new: Vec<String>,
    gone: Vec<String>,
}

impl MappingChange {
    async fn find(
        (source, evaluator): (&Session, &Evaluator),
        version: Version,
        mapping: &Mapping,
        source_side: &SourceSide,
    ) -> Result<Self> {
        let noted = migrated::last(source).await.map_err(super::reason)?;
        let mut change = Self {
            before: Before::Unknown,
            to_note: noted.as_ref().is_none_or(|noted| !noted.is(mapping)),
            difference: Difference::default(),
            said: Vec::new(),
            watched: BTreeMap::new(),
            foreign: 0,
        };
        if noted.is_some() {
            change.foreign = resync::foreign(source, mapping).await.map_err(super::reason)?;
        }
        match noted {
            None if version == Version::Missing => {
                change.before = Before::Nothing;
                change.difference = Difference::between(None, mapping);
            }
            None => {}
            Some(noted) => match noted.mapping() {
                Ok(old) => {
                    change.before = Before::Known;
                    change.difference = Difference::between(Some(&old), mapping);
                    change.said = said(source, &noted, &change.difference, mapping).await?;
                    change.watched = watched((source, evaluator), &old, source_side).await;
                }
                Err(unusable) => {
                    change.said = vec![format!(
                        "the mapping of {:.0} ({}) cannot be read by this program, so what this one changes is not \
                         known: {}",
                        noted.migrated_at, noted.file, unusable.findings[0]
                    )];
                }
            },
        }
        Ok(change)
    }

    /// Why the triggers of a table are renewed.
    fn why(&self, table: &TableName, wanted: &[Rendered], deviations: &[Deviation]) -> String {
        let mut by_reason: BTreeMap<Fault, Vec<&str>> = BTreeMap::new();
        for deviation in deviations.iter().filter(|deviation| deviation.table == *table) {
            by_reason.entry(deviation.fault).or_default().push(&deviation.trigger);
        }
        let rendered = wanted.iter().find(|rendered| rendered.table == *table);
        let all = rendered.map_or(0, |rendered| rendered.triggers.len());
        let reasons = by_reason.iter().map(|(fault, triggers)| {
            match triggers.len() == all || (rendered.is_none() && by_reason.len() == 1) {
                true => fault.to_string(),
                false => format!("{} {fault}", triggers.join(", ")),
            }
        });
        let mut reasons: Vec<String> = reasons.collect();
        if let Some(Watched { new, gone }) = self.watched.get(table) {
            let watched = [("watched from now on", new), ("no longer watched", gone)];
            let watched = watched.into_iter().filter(|(_, columns)| !columns.is_empty());
            reasons.extend(watched.map(|(how, columns)| format!("{how}: {}", columns.join(", "))));
        }
        reasons.join("; ")
    }

    /// Nothing that has an effect.
    fn is_nothing(&self) -> bool {
        self.foreign == 0 && self.said.is_empty()
    }

    /// The statements that note the mapping.
    fn notes(&self, mapping: &Mapping) -> Vec<String> {
        let release = (self.foreign > 0).then(|| resync::release(mapping));
        let store = self.to_note.then(|| migrated::store(mapping));
        release.into_iter().chain(store).collect()
    }

    /// Notes the mapping, together with the resyncs that are stored for it. Returns their numbers.
    async fn note(
        &self,
        url: &DatabaseUrl,
        mapping: &Mapping,
        resyncs: &[&str],
    ) -> Result<Vec<i64>> {
        let notes = self.notes(mapping);
        if notes.is_empty() && resyncs.is_empty() {
            return Ok(Vec::new());
        }
        // A session of its own, because the other one is refinery's.
        let mut session = super::source_session(url).await?;
        let evaluator = super::evaluator(url).await?;
        let transaction = session.begin().await.map_err(super::reason)?;
        let mut jobs = Vec::new();
        for object in mapping.objects.iter().filter(|object| resyncs.contains(&&*object.name)) {
            let all = Request::default();
            let total = page::count(&evaluator, object, &all).await?;
            jobs.push(resync::create(&transaction, object, &all, total).await?);
        }
        // Last, because a service that looks for resyncs waits for the session that changes them.
        for sql in notes {
            transaction.execute(&sql, &[]).await.map_err(super::reason)?;
        }
        transaction.commit().await.map_err(super::reason)?;
        if !jobs.is_empty() {
            super::ring(&session).await?;
        }
        Ok(jobs)
    }

    /// The objects whose rows are right only after a resync.
    fn resyncs(&self) -> Vec<&str> {
        self.difference.resyncs()
    }

    fn why_no_resync(&self) -> &'static str {
        match self.before {
            Before::Unknown => {
                "what this mapping changes is not known; `schoolbell resync` resyncs everything"
            }
            Before::Nothing | Before::Known => "no row that exists is changed by the mapping",
        }
    }

    /// The command to run next, if any.
    fn advice(&self, settings: &Settings, mapping: &Mapping) -> Option<String> {
        let resyncs = self.resyncs();
        match self.before {
            Before::Nothing => Some(format!(
                "to write the rows that exist already: {}",
                resync(settings, mapping, &[])
            )),
            _ if resyncs.is_empty() => None,
            Before::Unknown | Before::Known => Some(format!(
                "reload the service (SIGHUP, or a restart); then rows that exist are made right by: {}",
                resync(settings, mapping, &resyncs)
            )),
        }
    }
}

/// The command that resyncs these objects, or all.
fn resync(settings: &Settings, mapping: &Mapping, objects: &[&str]) -> String {
    let mut words = vec!["schoolbell resync".to_string()];
    words.extend(objects.iter().map(|name| shell(name)));
    // Where the variable names the file, the next command finds it by itself.
    if settings.mapping.is_some() && super::environment("SCHOOLBELL_MAPPING").is_none() {
        words.push(format!("--mapping {}", shell(&mapping.file)));
    }
    words.join(" ")
}

/// What the difference means, each line of it.
async fn said(
    source: &Session,
    noted: &Migrated,
    difference: &Difference,
    mapping: &Mapping,
) -> Result<Vec<String>> {
    if difference.is_empty() {
        return Ok(Vec::new());
    }
    let mut lines =
        vec![format!("since the mapping of {:.0} ({}):", noted.migrated_at, noted.file)];
    lines.extend(difference.lines().map(|line| format!("  {line}")));
    for dropped in &difference.dropped {
        lines.extend(left_behind(source, dropped, mapping).await?);
    }
    Ok(lines)
}

/// Changes and parked keys that remain of a dropped object, and how to remove them.
async fn left_behind(
    source: &Session,
    dropped: &Dropped,
    mapping: &Mapping,
) -> Result<Vec<String>> {
    let Dropped { object, source: table, .. } = dropped;
    let read_by_another = mapping.objects.iter().any(|other| other.source == *table);
    let changes =
        change::orphaned(source, object, table, !read_by_another).await.map_err(super::reason)?;
    let counts = parked::counts(source).await.map_err(super::reason)?;
    let of_object = counts.iter().filter(|count| count.object == *object);
    let keys: i64 = of_object.map(|count| count.keys).sum();
    let mut lines = Vec::new();
    if changes > 0 {
        let changes = status::counted(changes, "pending change");
        lines.push(format!(
            "  {object}: {changes} that only the former mapping applies: `schoolbell run --drain` with that; or to \
             forget them: {};",
            change::forget(object, table, !read_by_another)
        ));
    }
    if keys > 0 {
        let keys = status::counted(keys, "parked key");
        let object = shell(object);
        lines.push(format!(
            "  {object}: {keys} that nothing uses any longer: `schoolbell parked drop {object}`"
        ));
    }
    Ok(lines)
}

/// Which columns are watched by one mapping only, by table. The former one may not fit the tables any more.
async fn watched(
    (source, evaluator): (&Session, &Evaluator),
    old: &Mapping,
    new: &SourceSide,
) -> BTreeMap<TableName, Watched> {
    let Ok(old) = plan::source_side(source, evaluator, old).await else { return BTreeMap::new() };
    let (was, is) = (columns(&old), columns(new));
    let mut watched: BTreeMap<TableName, Watched> = BTreeMap::new();
    for (table, column) in is.difference(&was) {
        watched.entry((*table).clone()).or_default().new.push((*column).into());
    }
    for (table, column) in was.difference(&is) {
        watched.entry((*table).clone()).or_default().gone.push((*column).into());
    }
    watched
}

fn columns(side: &SourceSide) -> BTreeSet<(&TableName, &str)> {
    let captures = side.captures.iter();
    captures
        .flat_map(|capture| capture.watched.iter().map(|column| (&capture.table, column.as_str())))
        .collect()
}

/// A word for a shell.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+=,".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_a_shell_would_take_apart_is_quoted() {
        assert_eq!(shell("mappings/a-b_c.toml"), "mappings/a-b_c.toml");
        assert_eq!(shell("it's"), "'it'\\''s'");
        assert_eq!(shell("two words"), "'two words'");
    }
}
