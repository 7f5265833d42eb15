//! OTLP: spans and events sent to a collector, over HTTP, in the JSON form of the protocol.
//!
//! The protocol's JSON is small, and what a relay sends is two messages of it. So this is made with what is here anyway; the
//! libraries for it would be some 40 packages more, most of them for what a relay does not do.
//!
//! What is told goes through a bounded queue to a thread. A collector that is slow or gone costs nothing but what it misses.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::NoSubscriber;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::LogError;
use crate::limits::{OTLP_BATCH_MAX, OTLP_INTERVAL, OTLP_QUEUE_MAX, OTLP_TIMEOUT};

/// Tells a collector of spans and events.
#[derive(Debug, Clone)]
pub struct Otlp {
    queue: SyncSender<Told>,
}

/// What is told.
#[derive(Debug)]
enum Told {
    Span(Value),
    Event(Value),
    /// Send what there is, then say so.
    Flush(SyncSender<()>),
}

/// What is kept of a span while it lasts.
#[derive(Debug)]
struct Open {
    trace: String,
    id: String,
    parent: Option<String>,
    begun: u64,
    fields: Fields,
}

/// The fields of a span or an event, in the protocol's form.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    each: BTreeMap<&'static str, Value>,
}

impl Otlp {
    /// Starts the thread that sends to this collector: `http://127.0.0.1:4318`, without the paths.
    ///
    /// # Errors
    ///
    /// [`LogError::Otlp`] if that is no address by HTTP, or the system gives no thread.
    pub fn start(endpoint: &str) -> Result<Self, LogError> {
        let fail = |detail: String| LogError::Otlp { endpoint: endpoint.to_owned(), detail };
        let base = endpoint.trim_end_matches('/');
        if !base.starts_with("http://") && !base.starts_with("https://") {
            return Err(fail("it begins with http:// or https://, such as http://127.0.0.1:4318".to_owned()));
        }
        let (queue, inbox) = sync_channel(OTLP_QUEUE_MAX);
        let config = ureq::Agent::config_builder().timeout_global(Some(OTLP_TIMEOUT)).build();
        let sender = Sender { agent: config.into(), base: base.to_owned(), is_failing: false };
        let thread = std::thread::Builder::new().name("otlp".to_owned()).spawn(move || sender.run(&inbox));
        thread.map_err(|error| fail(format!("the system gives no thread: {error}")))?;
        Ok(Self { queue })
    }

    /// Waits until what was told so far is sent, or the time is over.
    pub fn flush(&self, patience: Duration) {
        let (done, is_done) = sync_channel(1);
        if self.queue.try_send(Told::Flush(done)).is_ok() {
            // Past the time it is lost, which is all that a collector that is gone costs.
            let _ = is_done.recv_timeout(patience);
        }
    }

    fn tell(&self, told: Told) {
        // Beyond the bound it is not told: a collector's slowness is not the relay's.
        let _ = self.queue.try_send(told);
    }
}

impl<S> Layer<S> for Otlp
where
    S: Subscriber + for<'l> LookupSpan<'l>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let (trace, parent) = match span.parent().and_then(|parent| ids(&parent)) {
            Some((trace, parent)) => (trace, Some(parent)),
            None => (random_hex::<16>(), None),
        };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let open = Open { trace, id: random_hex::<8>(), parent, begun: now_nanos(), fields };
        span.extensions_mut().insert(open);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(open) = span.extensions_mut().get_mut::<Open>()
        {
            values.record(&mut open.fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let around = context.event_span(event).and_then(|span| ids(&span));
        self.tell(Told::Event(event_json(event.metadata(), fields, around)));
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(open) = span.extensions_mut().remove::<Open>() else { return };
        self.tell(Told::Span(span_json(span.name(), open)));
    }
}

/// Returns a span's trace and its own id.
fn ids<'l, S: LookupSpan<'l>>(span: &tracing_subscriber::registry::SpanRef<'l, S>) -> Option<(String, String)> {
    span.extensions().get::<Open>().map(|open| (open.trace.clone(), open.id.clone()))
}

fn span_json(name: &str, open: Open) -> Value {
    let Open { trace, id, parent, begun, fields } = open;
    json!({
        "traceId": trace, "spanId": id, "parentSpanId": parent.unwrap_or_default(), "name": name, "kind": 1,
        "startTimeUnixNano": begun.to_string(), "endTimeUnixNano": now_nanos().to_string(),
        "attributes": fields.into_attributes(), "status": {},
    })
}

fn event_json(what: &Metadata<'_>, mut fields: Fields, around: Option<(String, String)>) -> Value {
    let now = now_nanos().to_string();
    let (trace, span) = around.unwrap_or_default();
    fields.each.insert("target", json!({ "stringValue": what.target() }));
    json!({
        "timeUnixNano": now, "observedTimeUnixNano": now, "severityNumber": severity(*what.level()),
        "severityText": what.level().as_str(), "body": { "stringValue": std::mem::take(&mut fields.message) },
        "attributes": fields.into_attributes(), "traceId": trace, "spanId": span,
    })
}

/// Returns the protocol's number of a level.
fn severity(level: Level) -> u8 {
    match level {
        Level::TRACE => 1,
        Level::DEBUG => 5,
        Level::INFO => 9,
        Level::WARN => 13,
        Level::ERROR => 17,
    }
}

impl Fields {
    fn into_attributes(self) -> Value {
        self.each.into_iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
    }
}

impl Visit for Fields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.each.insert(field.name(), json!({ "boolValue": value }));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.each.insert(field.name(), json!({ "intValue": value.to_string() }));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        // What is beyond the protocol's whole numbers is told as text.
        let value = match i64::try_from(value) {
            Ok(value) => json!({ "intValue": value.to_string() }),
            Err(_) => json!({ "stringValue": value.to_string() }),
        };
        self.each.insert(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.each.insert(field.name(), json!({ "doubleValue": value }));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.each.insert(field.name(), json!({ "stringValue": value }));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

fn now_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn random_hex<const N: usize>() -> String {
    let mut bytes = [0; N];
    // Without random bytes the ids are all zeros, which the protocol takes for none.
    let _ = getrandom::fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The thread that sends.
struct Sender {
    agent: ureq::Agent,
    base: String,
    is_failing: bool,
}

impl Sender {
    fn run(mut self, inbox: &Receiver<Told>) {
        loop {
            let (mut spans, mut events, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
            let until = Instant::now() + OTLP_INTERVAL;
            while spans.len() + events.len() < OTLP_BATCH_MAX && waiting.is_empty() {
                match inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(Told::Span(span)) => spans.push(span),
                    Ok(Told::Event(event)) => events.push(event),
                    Ok(Told::Flush(done)) => waiting.push(done),
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            self.send("/v1/traces", "resourceSpans", "scopeSpans", "spans", spans);
            self.send("/v1/logs", "resourceLogs", "scopeLogs", "logRecords", events);
            for done in waiting {
                let _ = done.send(());
            }
        }
    }

    fn send(&mut self, path: &str, resources: &str, scopes: &str, name: &str, what: Vec<Value>) {
        if what.is_empty() {
            return;
        }
        let count = what.len();
        let body = json!({ resources: [{
            "resource": { "attributes": [
                { "key": "service.name", "value": { "stringValue": "rejoin-relay" } },
                { "key": "service.version", "value": { "stringValue": env!("CARGO_PKG_VERSION") } },
            ] },
            scopes: [{ "scope": { "name": "rejoin-relay" }, name: what }],
        }] });
        // What the client below says of this request is not told by another one.
        let outcome = tracing::subscriber::with_default(NoSubscriber::new(), || {
            self.agent.post(format!("{}{path}", self.base)).send_json(&body)
        });
        match outcome {
            Ok(_) if self.is_failing => {
                self.is_failing = false;
                tracing::info!("the collector takes spans and events again");
            }
            Ok(_) => {}
            Err(error) if !self.is_failing => {
                self.is_failing = true;
                tracing::warn!(%error, count, "the collector does not take spans and events: they are lost to it");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Takes one request, answers it well, and returns its path and body.
    fn take(listener: &TcpListener) -> (String, Value) {
        let (stream, _): (TcpStream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let (mut path, mut length) = (String::new(), 0);
        let mut line = String::new();
        while reader.read_line(&mut line).unwrap() > 2 {
            if path.is_empty() {
                path = line.split(' ').nth(1).unwrap().to_owned();
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        reader.get_mut().write_all(answer).unwrap();
        (path, serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn spans_and_events_reach_a_collector_in_the_protocols_form() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}/", listener.local_addr().unwrap());
        let collector = std::thread::spawn(move || [take(&listener), take(&listener)]);
        let otlp = Otlp::start(&endpoint).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::Registry::default().with(otlp.clone()), || {
            let span = tracing::info_span!("connection", id = 5, protocol = "v1");
            span.in_scope(|| tracing::warn!(count = 7_u64, is_fatal = true, share = 0.5, "something is wrong"));
        });
        otlp.flush(Duration::from_secs(30));
        let [(spans_path, spans), (logs_path, logs)] = collector.join().unwrap();
        assert_eq!((spans_path.as_str(), logs_path.as_str()), ("/v1/traces", "/v1/logs"));
        let resource = &spans["resourceSpans"][0];
        assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "rejoin-relay");
        let span = &resource["scopeSpans"][0]["spans"][0];
        assert_eq!((&span["name"], span["traceId"].as_str().unwrap().len()), (&json!("connection"), 32));
        assert_eq!(span["spanId"].as_str().unwrap().len(), 16);
        assert!(span["startTimeUnixNano"].as_str().unwrap() <= span["endTimeUnixNano"].as_str().unwrap());
        assert_eq!(span["attributes"][1], json!({ "key": "protocol", "value": { "stringValue": "v1" } }));
        let event = &logs["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
        assert_eq!((&event["severityNumber"], &event["severityText"]), (&json!(13), &json!("WARN")));
        assert_eq!(event["body"]["stringValue"], "something is wrong");
        assert_eq!((&event["traceId"], &event["spanId"]), (&span["traceId"], &span["spanId"]));
        assert_eq!(event["attributes"][0], json!({ "key": "count", "value": { "intValue": "7" } }));
        assert_eq!(event["attributes"][1], json!({ "key": "is_fatal", "value": { "boolValue": true } }));
        assert_eq!(event["attributes"][2], json!({ "key": "share", "value": { "doubleValue": 0.5 } }));
    }

    #[test]
    fn collector_that_is_gone_holds_nobody_up() {
        // Nobody listens there any more.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let otlp = Otlp::start(&format!("http://{address}")).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::Registry::default().with(otlp.clone()), || {
            (0..2 * OTLP_QUEUE_MAX).for_each(|number| tracing::info!(number, "many"));
        });
        otlp.flush(Duration::from_secs(30));
        assert!(Otlp::start("collector:4318").is_err());
    }
}
