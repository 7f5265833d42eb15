//! One connection: drives a classic session over a WebSocket, in one task.
//!
//! The task waits for whatever comes first: a frame, room in the socket, a hint from the hub, the answer to an append, a
//! timer, the relay's end. After each it does what the session wants and makes frames, but only while the socket takes
//! them: a peer that reads slowly costs no memory and gets the newest state when it reads again.
//!
//! While changes of this connection wait for their commit, no further frame is read from it: that keeps the order, and a
//! peer that sends faster than the disk writes is slowed down by its own socket. Pings go on meanwhile.
//!
//! Reads from the store run on the runtime's own threads: most are a few lookups in pages that are in memory. Work that
//! is known to be long moves aside first (see [`beside`]).

use std::collections::VecDeque;
use std::future::pending;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::SplitStream;
use futures_util::{FutureExt, StreamExt};
use rejoin::codec::v1::{Code, Reject};
use rejoin::deletion::Tombstone;
use rejoin::gate::{CheckedChange, GateError};
use rejoin::store::StoreError;
use rejoin::sync::WholeDocuments;
use rejoin::sync::classic::{CLOSE_POLICY, CLOSE_PROTOCOL_ERROR, ClassicSession, Output, Polled, Role};
use rejoin::{DocumentId, ledger};
use tokio::task::yield_now;
use tokio::time::{Sleep, sleep, sleep_until};

use crate::auth::Permit;
use crate::deletion::Deletions;
use crate::departure::{self, Shown};
use crate::ending::{self, Ending, Over};
use crate::glance::Glance;
use crate::hub::{Ephemeral, Member};
use crate::limits::{
    COMPLAINTS_LOGGED_MAX, FRAME_OVERHEAD_BYTES, GATHER_BYTES_MAX, LARGE_FRAME_BYTES, SEND_BATCH_BYTES,
};
use crate::log::{AppendError, Author, Results};
use crate::metrics::{Connected, Direction, Protocol, RefusedConnection};
use crate::outbound::{Outbound, Timed};
use crate::presence;
use crate::quota::Meter;
use crate::registry::{Registered, Spoken};
use crate::shared::{
    CLOSE_GOING_AWAY, CLOSE_INTERNAL, CLOSE_TOO_BIG, CLOSE_TRY_AGAIN, KICKED, Next, Pulse, Received, Shared, TOO_MUCH,
    alone, beside, bytes_of, drained, in_span, is_too_long, linger, note_unsendable, read,
};
use crate::show::Foreign;
use crate::socket::Activity;

type Answers = Vec<(DocumentId, Result<Results, AppendError>)>;
type Appending = Pin<Box<dyn Future<Output = Answers> + Send>>;

/// Something that the connection waited for.
enum Event {
    Sent(Result<(), axum::Error>),
    Received(Received),
    Hint,
    Appended(Answers),
    Deleted(DocumentId, Tombstone, Result<(), AppendError>),
    Timer,
    Late,
    Kicked,
    Over(Over),
    /// There is room again for what the peer sends.
    Room,
    Drain,
}

/// What a peer brought, to be appended.
enum Brought {
    Changes(Vec<CheckedChange>),
    /// A whole document, which has to be taken apart first.
    Whole(Bytes),
}

struct Connection {
    shared: Arc<Shared>,
    session: ClassicSession,
    registered: Registered,
    /// What the other side was let in with.
    permit: Permit,
    ending: Ending,
    member: Member,
    meter: Meter,
    outbound: Outbound,
    appending: Option<Appending>,
    appends: VecDeque<(DocumentId, Brought)>,
    deletions: Deletions,
    /// What it showed of its peer.
    shown: Shown,
    /// What has to wait for the appends before it, so that whoever is answered knows that they are done.
    waiting: VecDeque<Output>,
    /// What was read too early, for the same reason.
    unread: Option<Received>,
    /// Whether the append under way is one of changes.
    appends_changes: bool,
    /// The other side is gone.
    ended: bool,
    /// The other side sends a message above its bound, and the rest of it stays unread.
    is_overrun: bool,
    /// How much was read since the last append began.
    gathered_bytes: usize,
    /// Whether the session may have a frame to send: saves a look into the store.
    may_transmit: bool,
    pulse: Pulse,
    complaints: u64,
    /// When the first frame of the append under way was received.
    append_since: Option<Instant>,
    /// When the oldest frame that waits to be appended was received.
    received_since: Option<Instant>,
    /// Since when the next frame that is made has been waited for.
    timed: Option<Timed>,
    counted: Connected,
}

/// Serves a WebSocket until it ends, or what it was let in with does.
pub(crate) async fn serve(
    socket: Box<WebSocket>,
    shared: Arc<Shared>,
    activity: Activity,
    permit: Permit,
    mut meter: Meter,
) {
    activity.unfinished().admit();
    meter.set_principal(permit.principal());
    let mut session = ClassicSession::new(Role::Server, shared.identity.clone());
    session.set_documents_max(shared.config().limits.open_documents_max);
    session.set_whole_documents(shared.whole_documents);
    session.set_rights(shared.allowed(&permit));
    let member = shared.hub.enter();
    let pulse = Pulse::new(activity.clone(), &shared);
    let mut connection = Connection {
        session,
        outbound: Outbound::new(Arc::clone(&shared.metrics), Protocol::Classic),
        counted: shared.metrics.connected(Protocol::Classic),
        meter,
        registered: shared.registry.enter(member.id(), Spoken::Classic, &activity),
        ending: Ending::of(&permit),
        permit,
        member,
        shared,
        appending: None,
        appends: VecDeque::new(),
        deletions: Deletions::default(),
        shown: Shown::default(),
        waiting: VecDeque::new(),
        unread: None,
        appends_changes: false,
        ended: false,
        is_overrun: false,
        gathered_bytes: 0,
        may_transmit: false,
        pulse,
        complaints: 0,
        append_since: None,
        received_since: None,
        timed: None,
    };
    if connection.registered.admit(connection.permit.principal()).is_err() {
        connection.shared.metrics.connection_refused(RefusedConnection::Principal);
        connection.outbound.close(CLOSE_POLICY, "the principal has too many connections: close one");
    }
    let id = connection.member.id();
    let run = pin!(async {
        connection.run(socket).await;
        connection.complaints
    });
    in_span(id, Spoken::Classic, run).await;
}

impl Connection {
    async fn run(&mut self, socket: Box<WebSocket>) {
        let (sink, mut stream) = socket.split();
        let mut sink = pin!(sink);
        let mut draining = self.shared.draining.clone();
        let mut late = pin!(sleep(self.shared.config().limits.handshake_seconds));
        let mut timer = pin!(sleep_until(self.pulse.next()));
        loop {
            if let Err(error) = self.advance().await {
                self.store_failed(&error);
            }
            self.counted.behind(matches!(self.timed, Some(Timed::News(_))));
            if self.is_over() {
                break;
            }
            self.pulse.note(self.is_listening());
            let event = tokio::select! {
                sent = self.outbound.pump(sink.as_mut()), if !self.outbound.is_idle() && !self.ended => Event::Sent(sent),
                message = read(&mut self.unread, &mut stream), if self.is_listening() => Event::Received(message),
                () = self.member.mailbox().notified() => Event::Hint,
                answers = answer(&mut self.appending) => Event::Appended(answers),
                (document, tombstone, outcome) = self.deletions.finished() => Event::Deleted(document, tombstone, outcome),
                () = timer.as_mut() => Event::Timer,
                () = late.as_mut(), if self.session.peer().is_none() && !self.outbound.is_closing() => Event::Late,
                () = self.registered.kicked(), if !self.outbound.is_closing() => Event::Kicked,
                over = self.ending.over() => Event::Over(over),
                () = self.meter.room() => Event::Room,
                () = drained(&mut draining), if self.may_drain() => Event::Drain,
            };
            let gathers = matches!(event, Event::Received(_));
            if self.handle(event, timer.as_mut()) == Next::End {
                self.ended = true;
            } else if gathers {
                self.gather(&mut stream);
                // Whoever sends without a pause is never done: others have their turn on this thread first.
                yield_now().await;
            }
        }
        // Whatever happens now, the connection takes part in nothing any more.
        self.member = self.shared.hub.enter();
        departure::tell(&self.shared, self.shown.take_back(|_| true, Instant::now()));
        linger(sink, stream, self.is_overrun).await;
    }

    /// Takes in what has arrived already, so that the changes of many frames share an append and an answer.
    fn gather(&mut self, stream: &mut SplitStream<Box<WebSocket>>) {
        while self.gathered_bytes < GATHER_BYTES_MAX && !self.outbound.is_full() && !self.outbound.is_closing() {
            self.put_aside();
            if !self.waiting.is_empty() || self.meter.is_held() {
                break;
            }
            // Whoever polls last is woken: the loop that calls this polls again before it waits.
            let Some(message) = stream.next().now_or_never() else { break };
            if !matches!(message, Some(Ok(_))) {
                self.unread = Some(message);
                break;
            }
            if self.receive(message) == Next::End {
                self.ended = true;
                break;
            }
        }
        self.put_aside();
        self.gathered_bytes = 0;
    }

    /// Takes what the session wants of the frames gathered so far: the changes to append, and for later what has to come
    /// after them.
    fn put_aside(&mut self) {
        while let Some(output) = self.session.poll_output() {
            let comes_after = matches!(
                output,
                Output::Send(_) | Output::Close { .. } | Output::Delete { .. } | Output::Ephemeral { .. }
            );
            if !self.waiting.is_empty() || comes_after {
                self.waiting.push_back(output);
            } else if let Err(error) = self.perform(output) {
                self.store_failed(&error);
            }
        }
    }

    /// Says whether nothing is left to do: what a peer brought before it went is still appended.
    fn is_over(&self) -> bool {
        let waits = !self.appends.is_empty() || !self.deletions.is_idle();
        let appends = self.appending.is_some() || waits && !self.outbound.is_closing();
        self.ended && !appends || self.outbound.is_closing() && self.outbound.is_idle()
    }

    /// Says whether frames are taken from the peer: not before the earlier ones are dealt with.
    fn is_listening(&self) -> bool {
        let is_done = self.appending.is_none() && self.appends.is_empty() && self.deletions.is_idle();
        is_done && !self.ended && !self.outbound.is_full() && !self.outbound.is_closing() && !self.meter.is_held()
    }

    /// Says whether a stopping relay may close now: an append is answered first.
    fn may_drain(&self) -> bool {
        !self.outbound.is_closing() && self.appending.is_none() && self.deletions.is_idle()
    }

    fn handle(&mut self, event: Event, timer: Pin<&mut Sleep>) -> Next {
        let outcome = match event {
            Event::Sent(Ok(())) | Event::Hint | Event::Room => Ok(()),
            Event::Sent(Err(error)) => {
                note_unsendable(&error, &self.shared.metrics);
                return Next::End;
            }
            Event::Received(message) => return self.receive(message),
            Event::Appended(answers) => {
                self.appending = None;
                // The next frame says what became of it.
                self.timed = self.append_since.take().map(Timed::Answer).or(self.timed);
                answers.into_iter().try_for_each(|(document, results)| self.appended(document, results))
            }
            Event::Deleted(document, tombstone, outcome) => {
                self.deleted(document, &tombstone, outcome);
                Ok(())
            }
            Event::Timer => return self.pulse.tick(&mut self.outbound, timer),
            Event::Late => {
                self.shared.metrics.connection_refused(RefusedConnection::Late);
                self.outbound.close(CLOSE_PROTOCOL_ERROR, "no join in time");
                Ok(())
            }
            Event::Kicked => {
                self.outbound.close(CLOSE_GOING_AWAY, KICKED);
                Ok(())
            }
            Event::Over(Over::Permit(ended)) => {
                self.outbound.close(CLOSE_POLICY, ending::reason(ended));
                Ok(())
            }
            // It does not read why.
            Event::Over(Over::Connection) => return Next::End,
            Event::Drain => {
                self.outbound.close(CLOSE_GOING_AWAY, &self.shared.goodbye());
                Ok(())
            }
        };
        if let Err(error) = outcome {
            self.store_failed(&error);
        }
        Next::Continue
    }

    fn receive(&mut self, message: Received) -> Next {
        match message {
            None => return Next::End,
            Some(Err(error)) => return self.unreadable(&error),
            Some(Ok(message)) => {
                if let Err(error) = self.received(message) {
                    self.store_failed(&error);
                }
            }
        }
        Next::Continue
    }

    fn received(&mut self, message: Message) -> Result<(), StoreError> {
        self.pulse.heard(&message);
        self.meter.read(bytes_of(&message));
        self.gathered_bytes += FRAME_OVERHEAD_BYTES;
        match message {
            Message::Binary(frame) => {
                self.may_transmit = true;
                self.gathered_bytes += frame.len();
                self.shared.metrics.frame(Protocol::Classic, Direction::In, frame.len());
                self.received_since.get_or_insert_with(Instant::now);
                let (session, store) = (&mut self.session, &self.shared.store);
                beside(frame.len() >= LARGE_FRAME_BYTES, || session.handle_frame(&frame, &Glance::new(&**store)))
            }
            Message::Text(_) => {
                self.session.handle_text();
                Ok(())
            }
            // The library answers pings and closes; any byte has reset the silence.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => Ok(()),
        }
    }

    fn unreadable(&mut self, error: &axum::Error) -> Next {
        if !is_too_long(error) {
            let text = error.to_string();
            tracing::debug!(error = %Foreign(&text), "failed to read from a peer");
            return Next::End;
        }
        self.is_overrun = true;
        let reason = format!("a message may have {} bytes", self.shared.config().limits.frame_bytes_max);
        tracing::info!(reason, "a connection is closed");
        self.outbound.close(CLOSE_TOO_BIG, &reason);
        Next::Continue
    }

    fn appended(&mut self, document: DocumentId, results: Result<Results, AppendError>) -> Result<(), StoreError> {
        match results {
            Ok(Results { appended: results, owned, full }) => {
                self.may_transmit = true;
                self.note_dropped(&document, &owned, "their actor belongs to somebody else");
                self.note_dropped(&document, &full, "there is no room for them");
                let (session, store) = (&mut self.session, &self.shared.store);
                // The next changes of a long message are then checked.
                let bytes: usize = results.iter().map(|(change, _)| change.bytes().len()).sum();
                self.meter.appended(results.len() + owned.len() + full.len(), bytes);
                beside(bytes >= LARGE_FRAME_BYTES, || session.handle_appended(document, results, &*store.read()?))
            }
            Err(error) => {
                self.close_after(error);
                Ok(())
            }
        }
    }

    fn deleted(&mut self, document: DocumentId, tombstone: &Tombstone, outcome: Result<(), AppendError>) {
        match outcome {
            Ok(()) => self.session.handle_deleted(document, tombstone),
            Err(error) => self.close_after(error),
        }
    }

    fn close_after(&mut self, error: AppendError) {
        let (code, reason) = match error {
            AppendError::Stopped => (CLOSE_GOING_AWAY, "the relay is stopping, connect again later"),
            AppendError::Moved => (CLOSE_TRY_AGAIN, "a document came to be in another space: connect again"),
            AppendError::Whole => (CLOSE_TRY_AGAIN, "a whole document was refused: connect again and send changes"),
            AppendError::Store => (CLOSE_INTERNAL, "the relay failed to store a change"),
        };
        self.outbound.close(code, reason);
    }

    /// Does what the session wants, and makes frames while there is room for them.
    async fn advance(&mut self) -> Result<(), StoreError> {
        let (changed, since) = self.member.mailbox().take_changed();
        self.timed = self.timed.or(since.map(Timed::News));
        for document in changed {
            self.session.handle_changed(document, &*self.shared.store)?;
            self.may_transmit = true;
        }
        self.carry_out()?;
        self.send_ephemerals()?;
        self.begin_append();
        // What the peer brought is not known here before its commit: until then it would be asked for it again.
        if self.may_transmit && !self.appends_changes && self.outbound.has_room() {
            self.transmit().await?;
        }
        self.meter.missed(self.session.take_missed_tenths());
        if self.meter.cut().is_some() && self.appends.is_empty() && self.may_drain() {
            self.outbound.close(CLOSE_TRY_AGAIN, TOO_MUCH);
        }
        Ok(())
    }

    fn carry_out(&mut self) -> Result<(), StoreError> {
        loop {
            while let Some(output) = self.session.poll_output() {
                self.perform(output)?;
            }
            if self.appending.is_some() || !self.appends.is_empty() {
                return Ok(());
            }
            let Some(output) = self.waiting.pop_front() else { return Ok(()) };
            self.perform(output)?;
        }
    }

    fn perform(&mut self, output: Output) -> Result<(), StoreError> {
        match output {
            Output::Send(frame) => self.outbound.push(frame),
            Output::Established { peer, storage, .. } => {
                let remembered = storage.is_some();
                self.registered.set_peer(peer.as_str());
                tracing::debug!(peer = %Foreign(peer.as_str()), remembered, "a peer joined");
            }
            Output::Delete { document, tombstone } => self.deletions.push(document, tombstone),
            Output::Forbidden { document, is_deletion } => self.note_forbidden(&document, is_deletion),
            Output::Subscribe { document } => self.subscribe(document)?,
            Output::Append { document, changes } => self.bring(document, changes),
            Output::Snapshot { document, chunk, .. } => self.appends.push_back((document, Brought::Whole(chunk))),
            Output::Ephemeral { document, sender, session_id, count, data } => {
                // What it passes on of others is not its own to take back.
                let is_own = self.session.peer() == Some(&sender);
                let message = Ephemeral { document, sender, session_id, count, data };
                let passed_on = presence::from_classic(&self.shared, message, self.member.id())?;
                if let Some((space, value)) = passed_on.filter(|_| is_own) {
                    self.shown.note(&space, &value, Instant::now());
                }
            }
            Output::Refused { document, error } => {
                self.shared.metrics.gate_rejected(error.rule());
                self.note_refused(&document, &error);
            }
            Output::Ignored { reason } => self.note_ignored(&reason),
            Output::Close { code, reason } => {
                tracing::info!(code, reason = %Foreign(&reason), "a connection is closed");
                self.outbound.close(code, &reason);
            }
            // What a peer lacks says nothing about what the relay should do, nor does what it has.
            _ => {}
        }
        Ok(())
    }

    fn subscribe(&mut self, document: DocumentId) -> Result<(), StoreError> {
        self.member.subscribe(document);
        self.registered.set_subscriptions(self.member.count());
        // The session looked into the store before; what came between that and now was announced to nobody here.
        if let Some(state) = ledger::state(&*self.shared.store.read()?, &document)? {
            self.session.handle_heads_changed(document);
            self.may_transmit = true;
            if let Some(folding) = &self.shared.folding {
                folding.subscribed(document, state.count);
            }
        }
        if self.shared.folding.as_ref().is_some_and(|folding| !folding.may_ask_for(&document)) {
            self.session.set_whole_documents_of(&document, WholeDocuments::Refused);
        }
        Ok(())
    }

    fn send_ephemerals(&mut self) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let tx = Glance::new(&*shared.store);
        while self.outbound.has_room()
            && let Some(message) = self.member.mailbox().take_ephemeral()
        {
            let Ephemeral { document, sender, session_id, count, data } = &*message;
            self.session.send_ephemeral(*document, sender, session_id, *count, data, &tx)?;
            self.carry_out()?;
        }
        Ok(())
    }

    async fn transmit(&mut self) -> Result<(), StoreError> {
        let mut bytes = 0;
        while self.transmit_until_long(&mut bytes)? {
            let (session, shared) = (&mut self.session, &self.shared);
            let long = || session.poll_transmit_from(shared.hub.recent(), &Glance::new(&*shared.store));
            let frame = alone(long).await?;
            self.push_frame(frame, &mut bytes);
        }
        Ok(())
    }

    /// Queues frames up to one that takes long to make; says whether there is one.
    fn transmit_until_long(&mut self, bytes: &mut usize) -> Result<bool, StoreError> {
        let shared = Arc::clone(&self.shared);
        let tx = Glance::new(&*shared.store);
        while *bytes < SEND_BATCH_BYTES && self.may_transmit {
            let frame = match self.session.poll_transmit_unless_long(shared.hub.recent(), &tx)? {
                Polled::Frame(frame) => Some(frame),
                Polled::Nothing => None,
                Polled::Long => return Ok(true),
            };
            self.push_frame(frame, bytes);
        }
        Ok(false)
    }

    fn push_frame(&mut self, frame: Option<Bytes>, bytes: &mut usize) {
        let Some(frame) = frame else {
            self.may_transmit = false;
            // What was waited for was nothing to tell this peer of.
            self.timed = None;
            return;
        };
        *bytes += frame.len();
        self.outbound.push_timed(frame, self.timed.take());
    }

    /// Queues changes to be appended: with those of the same document that wait already, behind any whole form of it.
    fn bring(&mut self, document: DocumentId, changes: Vec<CheckedChange>) {
        match self.appends.iter_mut().rev().find(|(waiting, _)| *waiting == document) {
            Some((_, Brought::Changes(waiting))) => waiting.extend(changes),
            _ => self.appends.push_back((document, Brought::Changes(changes))),
        }
    }

    /// Begins to append what the peer brought: the changes of all documents at once, so that they share a commit, or one
    /// whole document.
    fn begin_append(&mut self) {
        if self.appending.is_some() || self.outbound.is_closing() {
            return;
        }
        self.appends_changes = matches!(self.appends.front(), Some((_, Brought::Changes(_))));
        let since = self.received_since.take();
        if self.appends.is_empty() {
            // After what came before it, so that a connection's requests keep their order.
            return self.deletions.begin(&self.shared, self.author());
        }
        self.append_since = since;
        let (shared, author) = (Arc::clone(&self.shared), self.author());
        if self.appends_changes {
            let others = self.appends.iter().position(|(_, brought)| !matches!(brought, Brought::Changes(_)));
            let first = self.appends.drain(..others.unwrap_or(self.appends.len()));
            let requests = first.filter_map(|(document, brought)| {
                let Brought::Changes(changes) = brought else { return None };
                let (shared, author) = (Arc::clone(&shared), author.clone());
                Some(async move { (document, shared.log.append(author, document, changes).await) })
            });
            self.appending = Some(Box::pin(join_all(requests.collect::<Vec<_>>())));
        } else if let Some((document, Brought::Whole(chunk))) = self.appends.pop_front() {
            self.appending = Some(Box::pin(async move {
                let appended = match unfold(&shared, document, chunk).await {
                    Ok(changes) => shared.log.append(author, document, changes).await,
                    Err(error) => Err(error),
                };
                vec![(document, appended)]
            }));
        }
    }

    fn author(&self) -> Author {
        let permit = self.permit.clone();
        Author { connection: self.member.id(), principal: permit.principal().cloned(), permit: Some(permit) }
    }

    fn note_forbidden(&mut self, document: &DocumentId, is_deletion: bool) {
        let code = if is_deletion { Code::DeleteForbidden } else { Code::ReadOnly };
        self.shared.refusals.note(&self.author(), document, code.name(), None, 1);
        if self.may_complain() {
            tracing::info!(document = %document.label(), is_deletion, "a peer without the right to it wrote or deleted");
        }
    }

    fn note_dropped(&mut self, document: &DocumentId, changes: &[CheckedChange], why: &'static str) {
        if !changes.is_empty() {
            self.session.refuse(document, changes);
            if self.may_complain() {
                tracing::info!(document = %document.label(), count = changes.len(), why, "changes were refused");
            }
        }
    }

    fn note_refused(&mut self, document: &DocumentId, error: &GateError) {
        self.shared.refusals.note(&self.author(), document, Reject::from(error).code.name(), None, 1);
        if self.may_complain() {
            tracing::info!(document = %document.label(), rule = error.rule().code(), %error, "a change was refused");
        }
    }

    fn note_ignored(&mut self, reason: &str) {
        if self.may_complain() {
            tracing::info!(reason = %Foreign(reason), "a frame was ignored");
        }
    }

    fn may_complain(&mut self) -> bool {
        self.complaints += 1;
        self.complaints <= COMPLAINTS_LOGGED_MAX
    }

    fn store_failed(&mut self, error: &StoreError) {
        tracing::error!(%error, "failed to read the store");
        self.may_transmit = false;
        self.outbound.close(CLOSE_INTERNAL, "the relay failed to read its store");
    }
}

/// Takes a whole document apart. Of one that cannot be, nothing is appended, and the session asks for its changes by name;
/// but a peer that was told to send whole documents would never send them on this connection.
async fn unfold(shared: &Shared, document: DocumentId, chunk: Bytes) -> Result<Vec<CheckedChange>, AppendError> {
    let changes = match &shared.folding {
        Some(folding) => folding.unfold(document, chunk).await,
        None => None,
    };
    match changes {
        None if shared.whole_documents == WholeDocuments::AskedFor => Err(AppendError::Whole),
        changes => Ok(changes.unwrap_or_default()),
    }
}

/// Waits for an append under way, for ever if there is none.
async fn answer(appending: &mut Option<Appending>) -> Answers {
    match appending {
        Some(appending) => appending.await,
        None => pending().await,
    }
}
