//! Checks of the mapping against both catalogues, with the result for the checks that build on it.

use tokio::time::timeout;

use super::report::{CHECK_TIMEOUT, Diagnosis, Place};
use super::side::{Hindrance, Side};
use crate::mapping::{Mapping, Object, Unusable};
use crate::plan::{self, Route, SourceSide, Unplannable};
use crate::postgres::catalogue::Table;
use crate::postgres::name::ident;

/// The mapping checked against the databases.
pub(super) struct Fit<'a> {
    pub mapping: &'a Mapping,
    source: Result<SourceSide, Unfit>,
    target: Result<Vec<Route>, Unfit>,
}

/// Why there is no plan.
enum Unfit {
    /// What does not fit.
    Findings(Unusable),
    /// It could not be looked at.
    Hindered(Hindrance),
}

impl From<Unplannable> for Unfit {
    fn from(unplannable: Unplannable) -> Self {
        match unplannable {
            Unplannable::Mapping(unusable) => Self::Findings(unusable),
            Unplannable::Database(error) => Self::Hindered(error.into()),
        }
    }
}

/// What a question returns, one level for each way to fail.
async fn settled<T>(
    question: impl Future<Output = Result<Result<T, Unplannable>, Hindrance>>,
    aged: impl FnOnce(Hindrance) -> Hindrance,
) -> Result<T, Unfit> {
    match timeout(CHECK_TIMEOUT, question).await {
        Ok(Ok(planned)) => planned.map_err(|unplannable| match unplannable.into() {
            Unfit::Hindered(hindrance) => Unfit::Hindered(aged(hindrance)),
            unfit @ Unfit::Findings(_) => unfit,
        }),
        Ok(Err(hindrance)) => Err(Unfit::Hindered(hindrance)),
        Err(_) => Err(Unfit::Hindered(Hindrance::new(format!(
            "the catalogues were not read within {} s",
            CHECK_TIMEOUT.as_secs()
        )))),
    }
}

impl<'a> Fit<'a> {
    pub async fn of(source: &Side, target: &Side, mapping: &'a Mapping) -> Self {
        let asked = source.ask(async |session| {
            Ok::<_, Hindrance>(plan::source_side(session, source.evaluator()?, mapping).await)
        });
        let source_side = settled(asked, |hindrance| source.aged(hindrance)).await;
        let routes = match &source_side {
            Err(Unfit::Hindered(hindrance)) => Err(Unfit::Hindered(hindrance.clone())),
            Err(Unfit::Findings(_)) => {
                Err(Unfit::Hindered(Hindrance::new("the mapping must fit the source first")))
            }
            Ok(source_side) => {
                let asked = source.ask_both(target, async |source, target| {
                    Ok::<_, Hindrance>(plan::routes(source_side, source, target, mapping).await)
                });
                let aged = |hindrance| source.aged(target.aged(hindrance));
                settled(asked, aged).await.map(|(routes, _)| routes)
            }
        };
        Self { mapping, source: source_side, target: routes }
    }

    /// What the source has, where the mapping fits it.
    pub fn source_side(&self) -> Result<&SourceSide, Hindrance> {
        usable(&self.source, "the mapping does not fit the source")
    }

    /// The objects with their types, where the mapping fits both sides.
    pub fn routes(&self) -> Result<&[Route], Hindrance> {
        usable(&self.target, "the mapping does not fit the databases").map(Vec::as_slice)
    }

    pub async fn source_check(&self) -> Result<Diagnosis, Hindrance> {
        checked(&self.source, self.mapping, "source")
    }

    pub async fn target_check(&self) -> Result<Diagnosis, Hindrance> {
        checked(&self.target, self.mapping, "target")
    }

    /// Two rows of one key would both be written, and a batch must not read the whole table.
    pub async fn unique_check(&self, target: &Side) -> Result<Diagnosis, Hindrance> {
        let (mut without, mut absent) = (Vec::new(), Vec::new());
        for object in &self.mapping.objects {
            let table =
                target.ask(async |target| Table::read(target, &object.target).await).await?;
            match table.as_ref().and_then(|table| table.column(&object.external_id)) {
                Some(column) if column.unique => {}
                Some(_) => without.push(object),
                None => absent.push(format!("{}.{}", object.target.plain(), object.external_id)),
            }
        }
        if without.is_empty() && !absent.is_empty() {
            return Err(Hindrance::new(format!("{} is not there", absent.join(", "))));
        }
        if without.is_empty() {
            return Ok(Diagnosis::ok("each object's has a unique index"));
        }
        let details = without.iter().map(|object| {
            let (table, column) = (object.target.plain(), &object.external_id);
            format!("object {}: {table} has no unique index on {column}", object.name)
        });
        let create = without.iter().map(|object| {
            format!(
                "create unique index concurrently on {} ({});",
                object.target,
                ident(&object.external_id)
            )
        });
        let mut twice = Vec::new();
        for object in &without {
            let sql = format!("select exists ({})", several(object));
            // Where the rows cannot be read, the advice remains.
            let found = target.ask(async |target| target.row_once(&sql).await).await;
            if found.is_ok_and(|row| row.get(0)) {
                twice.push(format!("{};", several(object)));
            }
        }
        let diagnosis = match twice.is_empty() {
            true => Diagnosis::advice(
                "two rows may get the same key, and each batch may read a whole table",
            ),
            false => {
                Diagnosis::failed("several rows have the same key, and all of them are written")
                    .say("first leave one row of each:")
            }
        };
        Ok(diagnosis
            .detail(details)
            .sql(Place::Target, twice)
            .say(
                "best: flag the field as unique external id in Salesforce and make it the mapping's identifier; \
                 an index of ours goes when Heroku Connect makes the table anew:",
            )
            .sql(Place::Target, create))
    }
}

/// Finds the keys of several rows.
fn several(object: &Object) -> String {
    let (table, key) = (&object.target, ident(&object.external_id));
    format!(
        "select t.{key} from {table} as t where t.{key} is not null group by t.{key} having count(*) > 1"
    )
}

fn usable<'a, T>(plan: &'a Result<T, Unfit>, unfit: &str) -> Result<&'a T, Hindrance> {
    plan.as_ref().map_err(|reason| match reason {
        Unfit::Findings(_) => Hindrance::new(unfit),
        Unfit::Hindered(hindrance) => hindrance.clone(),
    })
}

fn checked<T>(
    plan: &Result<T, Unfit>,
    mapping: &Mapping,
    side: &str,
) -> Result<Diagnosis, Hindrance> {
    match plan {
        Ok(_) => Ok(Diagnosis::ok(format!(
            "{} objects of the {} fit",
            mapping.objects.len(),
            mapping.file
        ))),
        Err(Unfit::Hindered(hindrance)) => Err(hindrance.clone()),
        Err(Unfit::Findings(Unusable { file, findings })) => {
            Ok(Diagnosis::failed(format!("{file} does not fit the {side}"))
                .detail(findings.iter().map(|finding| finding.in_file(file)))
                .say(format!("change the {side}, or a copy of the mapping, until this is content:"))
                .command("schoolbell mapping --check"))
        }
    }
}
