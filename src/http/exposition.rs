//! `/metrics`: what was counted and what was last seen, in the form that Prometheus reads.

use std::fmt;
use std::sync::Arc;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::Shown;
use crate::metrics::{self, Definition, Labels, Metrics, Role};
use crate::outbox::verified::Verified;
use crate::reports::heroku_connect::Mirror;
use crate::reports::look::{Look, Seen, View};
use crate::visible;

/// OpenMetrics, which Prometheus has read since 2.5.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn respond(shown: &Shown) -> Response {
    let Shown { now, ref seen, ref metrics, .. } = *shown;
    let moment = Exposition { now, seen: seen.clone(), metrics: metrics.clone() };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(moment));
    let mut text = String::new();
    encode(&mut text, &registry).expect("a String takes everything");
    let text = visible::metrics(&text).into_owned();
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}

#[derive(Debug)]
struct Exposition {
    now: Timestamp,
    seen: Arc<Seen>,
    metrics: Arc<Metrics>,
}

impl Collector for Exposition {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = ExpositionText(encoder);
        self.counted(&mut page)?;
        self.looked_at(&mut page)
    }
}

impl Exposition {
    fn counted(&self, page: &mut ExpositionText<'_>) -> fmt::Result {
        let m = &*self.metrics;
        let role = m.standing().role;
        page.write(&metrics::BUILD_INFO, &Info::new([("version", env!("CARGO_PKG_VERSION"))]))?;
        page.gauge(&metrics::ENABLED, Some(f64::from(u8::from(role != Role::Disabled))))?;
        let roles = Role::ALL.map(|each| ([("role", each.name())], u8::from(each == role).into()));
        page.gauges(&metrics::ROLE, roles)?;
        page.write(&metrics::INTERRUPTIONS, &m.interruptions)?;
        page.write(&metrics::BELL_LISTENING, &m.bell_listening)?;
        page.write(&metrics::BELL_ARMED, &m.bell_armed)?;
        page.family(&metrics::NOTICES, &m.notices)?;
        page.write(&metrics::BATCHES, &m.batches)?;
        page.write(&metrics::CLAIMED_CHANGES, &m.claimed_changes)?;
        page.write(&metrics::ACKNOWLEDGED_CHANGES, &m.acknowledged_changes)?;
        page.family(&metrics::APPLIED_KEYS, &m.applied_keys)?;
        page.family(&metrics::EQUAL_KEYS, &m.equal_keys)?;
        page.family(&metrics::WRITTEN_ROWS, &m.written_rows)?;
        page.family(&metrics::DELETED_ROWS, &m.deleted_rows)?;
        page.family(&metrics::KEPT_ROWS, &m.kept_rows)?;
        page.family(&metrics::PARKINGS, &m.parkings)?;
        let mut steps = page.begin(&metrics::STEP_SECONDS)?;
        for (step, histogram) in m.steps() {
            histogram.encode(steps.encode_family(&[("step", step)])?)?;
        }
        page.write(&metrics::DELIVERY_SECONDS, &m.delivery)?;
        page.write(&metrics::FAILED_RESYNCS, &m.failed_resyncs)
    }

    /// What is not known at this moment has no value: an old one would look like a new one.
    fn looked_at(&self, page: &mut ExpositionText<'_>) -> fmt::Result {
        let fresh = match self.seen.at(self.now) {
            View::Fresh(look) => Some(look),
            View::Old(..) => None,
        };
        self.look_itself(page, fresh)?;
        outbox(page, fresh)?;
        self.parked(page, fresh)?;
        resyncs(page, fresh)?;
        self.verified(page, fresh)?;
        salesforce(page, fresh)
    }

    fn seconds_since(&self, moment: Timestamp) -> f64 {
        self.now.duration_since(moment).as_secs_f64().max(0.0)
    }

    fn look_itself(&self, page: &mut ExpositionText<'_>, fresh: Option<&Look>) -> fmt::Result {
        let last = self.seen.last.as_deref();
        let age = last.map(|look| self.seconds_since(look.at));
        page.gauge(&metrics::LOOK_AGE_SECONDS, age)?;
        page.gauge(&metrics::LOOK_DURATION_SECONDS, last.map(|look| look.took.as_secs_f64()))?;
        let target_up = fresh.map(|look| look.status.target_problem.is_none());
        let up = [("source", Some(fresh.is_some())), ("target", target_up)];
        let up = up.into_iter().filter_map(|(database, up)| {
            Some(([("database", database)], f64::from(u8::from(up?))))
        });
        page.gauges(&metrics::DATABASE_UP, up)
    }

    fn parked(&self, page: &mut ExpositionText<'_>, fresh: Option<&Look>) -> fmt::Result {
        let parked = || fresh.iter().flat_map(|look| &look.status.parked);
        let state = |count: &crate::outbox::parked::Count| {
            [("object", count.object.clone()), ("state", count.state.clone())]
        };
        page.gauges(
            &metrics::PARKED_KEYS,
            parked().map(|count| (state(count), count.keys as f64)),
        )?;
        page.gauges(
            &metrics::PARKED_OLDEST_SECONDS,
            parked().map(|count| (state(count), self.seconds_since(count.oldest))),
        )
    }

    fn verified(&self, page: &mut ExpositionText<'_>, fresh: Option<&Look>) -> fmt::Result {
        let verified = || fresh.iter().flat_map(|look| &look.status.verified);
        let compared = |last: &Verified| [("object", last.object.clone())];
        page.gauges(
            &metrics::VERIFIED_AGE_SECONDS,
            verified().map(|last| (compared(last), self.seconds_since(last.verified_at))),
        )?;
        page.gauges(
            &metrics::VERIFIED_ROWS,
            verified().map(|last| (compared(last), last.rows as f64)),
        )?;
        page.gauges(
            &metrics::VERIFIED_WRONG_KEYS,
            verified().map(|last| (compared(last), last.wrong() as f64)),
        )
    }
}

fn outbox(page: &mut ExpositionText<'_>, fresh: Option<&Look>) -> fmt::Result {
    let of = |value: fn(&Look) -> f64| fresh.map(value);
    page.gauge(&metrics::LAG_SECONDS, of(|look| look.status.lag_seconds))?;
    page.gauge(&metrics::PENDING_CHANGES, of(|look| look.status.pending_changes as f64))?;
    let writers = fresh.filter(|look| look.status.target_problem.is_none());
    let writers = writers.map(|look| u8::from(look.status.writer.is_some()).into());
    page.gauge(&metrics::WRITERS, writers)?;
    let strangers = fresh.into_iter().flat_map(|look| {
        let status = &look.status;
        let writer = status.target_problem.is_none().then_some(&status.writer_blocked_by);
        let writer = writer.map(|stranger| ("writer", usize::from(stranger.is_some())));
        writer.into_iter().chain([("bell", status.bell_blocked_by.len())])
    });
    let strangers = strangers.map(|(lock, count)| ([("lock", lock)], count as f64));
    page.gauges(&metrics::LOCK_STRANGERS, strangers)?;
    page.gauge(&metrics::NOTIFICATION_QUEUE_RATIO, of(|look| look.status.notification_queue))?;
    page.gauge(&metrics::CAPTURE_PROBLEMS, of(|look| look.status.capture_problems.len() as f64))?;
    page.gauge(&metrics::MAPPING_PROBLEMS, of(|look| look.status.mapping_problems.len() as f64))
}

fn resyncs(page: &mut ExpositionText<'_>, fresh: Option<&Look>) -> fmt::Result {
    let resyncs = || fresh.iter().flat_map(|look| &look.status.resyncs);
    let resync = |report: &crate::outbox::resync::JobReport| {
        [("resync", report.id.to_string()), ("object", report.object.clone())]
    };
    page.gauges(
        &metrics::RESYNC_ROWS,
        resyncs().map(|report| (resync(report), report.total as f64)),
    )?;
    page.gauges(
        &metrics::RESYNC_DONE_ROWS,
        resyncs().map(|report| (resync(report), report.progress.done as f64)),
    )
}

fn salesforce(page: &mut ExpositionText<'_>, fresh: Option<&Look>) -> fmt::Result {
    let mirrors = || fresh.iter().flat_map(|look| &look.status.salesforce);
    let object = |mirror: &Mirror| [("object", mirror.object.clone())];
    let rows = mirrors().flat_map(|mirror| {
        mirror.rows.iter().map(|(state, rows)| {
            let labels = [("object", mirror.object.clone()), ("state", state.clone())];
            (labels, *rows as f64)
        })
    });
    page.gauges(&metrics::SALESFORCE_ROWS, rows)?;
    let unsent = || mirrors().filter_map(|mirror| Some((object(mirror), mirror.unsent.as_ref()?)));
    page.gauges(
        &metrics::SALESFORCE_UNSENT_ENTRIES,
        unsent().map(|(labels, unsent)| (labels, unsent.entries as f64)),
    )?;
    page.gauges(
        &metrics::SALESFORCE_UNSENT_OLDEST_SECONDS,
        unsent().map(|(labels, unsent)| (labels, unsent.oldest_seconds)),
    )?;
    let answers = mirrors().filter_map(|mirror| Some((mirror, mirror.answered.as_ref()?)));
    let answers = answers.flat_map(|(mirror, way)| {
        [("0.5", way.median_seconds), ("0.99", way.p99_seconds)].map(|(quantile, seconds)| {
            ([("object", mirror.object.clone()), ("quantile", quantile.into())], seconds)
        })
    });
    page.gauges(&metrics::SALESFORCE_ANSWER_SECONDS, answers)
}

/// The text as it grows. Each metric is named with its help, also when it has no value at the moment.
struct ExpositionText<'a>(DescriptorEncoder<'a>);

impl ExpositionText<'_> {
    fn begin(&mut self, definition: &'static Definition) -> Result<MetricEncoder<'_>, fmt::Error> {
        self.0.encode_descriptor(definition.family(), definition.help, None, definition.kind)
    }

    fn write(&mut self, definition: &'static Definition, metric: &dyn EncodeMetric) -> fmt::Result {
        metric.encode(self.begin(definition)?)
    }

    fn family<const N: usize>(
        &mut self,
        definition: &'static Definition,
        family: &Family<Labels<N>, Counter>,
    ) -> fmt::Result {
        self.write(definition, family)
    }

    fn gauge(&mut self, definition: &'static Definition, value: Option<f64>) -> fmt::Result {
        let mut metric = self.begin(definition)?;
        value.map_or(Ok(()), |value| metric.encode_gauge(&value))
    }

    fn gauges<L: EncodeLabelSet>(
        &mut self,
        definition: &'static Definition,
        values: impl IntoIterator<Item = (L, f64)>,
    ) -> fmt::Result {
        let mut metric = self.begin(definition)?;
        for (labels, value) in values {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }
}
