//! One connection of `rejoin.v1`: drives a session over a WebSocket, in one task.
//!
//! As a classic connection does ([`connection`](crate::connection)), the task waits for whatever comes first and makes frames
//! only while the socket takes them. Other than there, frames are read on while pushes wait for their commit, as many as the
//! session wants: a push has a number and its own answer, so nothing has to wait for it but what its client says.
//!
//! What is new in a space comes as a number from the hub, and as frames that all its followers share ([`live`](crate::live)).

use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::ws::{Message, WebSocket};
use futures_util::stream::SplitStream;
use futures_util::{FutureExt, StreamExt};
use rejoin::codec::v1::Code;
use rejoin::ledger::{self, log};
use rejoin::store::StoreError;
use rejoin::sync::v1::{Offered, RelayIdentity, RelayOutput, RelaySession};
use tokio::task::yield_now;
use tokio::time::{Sleep, sleep, sleep_until};

use crate::auth::{Permit, Refusal};
use crate::departure::{self, Shown};
use crate::ending::{self, Ending, Over};
use crate::followers::{Follower, News};
use crate::glance::Glance;
use crate::limits::{
    COMPLAINTS_LOGGED_MAX, FRAME_OVERHEAD_BYTES, GATHER_BYTES_MAX, LARGE_FRAME_BYTES, SEND_BATCH_BYTES,
};
use crate::log::{AppendError, Author};
use crate::metrics::{Connected, Direction, Protocol, RefusedConnection};
use crate::outbound::{Outbound, Timed};
use crate::presence;
use crate::quota::Meter;
use crate::registry::{Registered, Spoken};
use crate::shared::{
    KICKED, Next, Pulse, Received, Shared, TOO_MUCH, beside, bytes_of, drained, in_span, is_too_long, linger,
    note_unsendable, read,
};
use crate::show::Foreign;
use crate::socket::Activity;

pub(crate) mod pushes;

use pushes::{Answer, Pushes};

/// Something that the connection waited for.
enum Event {
    Sent(Result<(), axum::Error>),
    Received(Received),
    News,
    Answered(Answer),
    Timer,
    Late,
    Kicked,
    Over(Over),
    /// There is room again for what the client sends.
    Room,
    Drain,
}

struct Connection {
    shared: Arc<Shared>,
    session: RelaySession,
    registered: Registered,
    /// Where the client is: bad tokens from there are counted together.
    address: IpAddr,
    /// What the client was let in with: before its hello, by what came with the socket.
    permit: Option<Permit>,
    ending: Ending,
    follower: Follower,
    outbound: Outbound,
    pushes: Pushes,
    /// What it showed of its peer.
    shown: Shown,
    meter: Meter,
    /// How many bytes may wait for the socket before nothing is read any more.
    queue_bytes_max: usize,
    /// What was read too early.
    unread: Option<Received>,
    /// The other side is gone.
    ended: bool,
    /// The other side sends a message above its bound, and the rest of it stays unread.
    is_overrun: bool,
    /// The relay stops: nothing more is read.
    draining: bool,
    /// Whether the session may have a frame to send: saves a look.
    may_transmit: bool,
    pulse: Pulse,
    complaints: u64,
    /// When the last frame was received.
    received: Instant,
    /// Since when the answer that is made now has been waited for.
    answering: Option<Instant>,
    /// Since when the next frame that is made has been waited for.
    news: Option<Instant>,
    counted: Connected,
}

/// Serves a WebSocket until it ends. `permit` is what its upgrade was shown to grant; a token in the client's hello stands in its
/// place.
pub(crate) async fn serve(
    socket: Box<WebSocket>,
    shared: Arc<Shared>,
    activity: Activity,
    permit: Option<Permit>,
    meter: Meter,
) {
    let follower = Follower::new(&shared.hub);
    let pulse = Pulse::new(activity.clone(), &shared);
    // What is told to a client holds for as long as it is connected.
    let limits = shared.config().limits.clone();
    let mut session = RelaySession::new(RelayIdentity { limits: limits.of_v1(), ..shared.v1 });
    session.set_bounds(limits.subscriptions_max, limits.open_documents_max);
    let mut connection = Connection {
        session,
        meter,
        queue_bytes_max: limits.outbound_queue_bytes_max,
        registered: shared.registry.enter(follower.id(), Spoken::V1, &activity),
        address: activity.address().ip(),
        permit,
        ending: Ending::never(),
        pushes: Pushes::new(Arc::clone(&shared.log)),
        shown: Shown::default(),
        follower,
        outbound: Outbound::new(Arc::clone(&shared.metrics), Protocol::V1),
        counted: shared.metrics.connected(Protocol::V1),
        shared,
        unread: None,
        ended: false,
        is_overrun: false,
        draining: false,
        may_transmit: false,
        pulse,
        complaints: 0,
        received: Instant::now(),
        answering: None,
        news: None,
    };
    let id = connection.follower.id();
    let run = pin!(async {
        connection.run(socket).await;
        connection.complaints
    });
    in_span(id, Spoken::V1, run).await;
}

impl Connection {
    async fn run(&mut self, socket: Box<WebSocket>) {
        let (sink, mut stream) = socket.split();
        let mut sink = pin!(sink);
        let mut draining = self.shared.draining.clone();
        let mut late = pin!(sleep(self.shared.config().limits.handshake_seconds));
        let mut timer = pin!(sleep_until(self.pulse.next()));
        loop {
            if let Err(error) = self.advance() {
                self.store_failed(&error);
            }
            self.counted.behind(self.news.is_some());
            if self.is_over() {
                break;
            }
            self.pulse.note(self.is_listening());
            let event = tokio::select! {
                sent = self.outbound.pump(sink.as_mut()), if !self.outbound.is_idle() && !self.ended => Event::Sent(sent),
                message = read(&mut self.unread, &mut stream), if self.is_listening() => Event::Received(message),
                () = self.follower.inbox().notified() => Event::News,
                answer = self.pushes.answered() => Event::Answered(answer),
                () = timer.as_mut() => Event::Timer,
                () = late.as_mut(), if self.session.peer().is_none() && !self.outbound.is_closing() => Event::Late,
                () = self.registered.kicked(), if !self.outbound.is_closing() => Event::Kicked,
                over = self.ending.over() => Event::Over(over),
                () = self.meter.room() => Event::Room,
                () = drained(&mut draining), if !self.draining => Event::Drain,
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
        // Whatever happens now, the connection follows nothing any more.
        self.follower = Follower::new(&self.shared.hub);
        departure::tell(&self.shared, self.shown.take_back(|_| true, Instant::now()));
        linger(sink, stream, self.is_overrun).await;
    }

    /// Takes in what has arrived already, so that pushes of many frames share a commit and the answers to them a write.
    fn gather(&mut self, stream: &mut SplitStream<Box<WebSocket>>) {
        let mut bytes = 0;
        while bytes < GATHER_BYTES_MAX {
            if let Err(error) = self.carry_out() {
                return self.store_failed(&error);
            }
            if !self.is_listening() {
                return;
            }
            // Whoever polls last is woken: the loop that calls this polls again before it waits.
            let Some(message) = stream.next().now_or_never() else { return };
            let Some(Ok(message)) = message else {
                self.unread = Some(message);
                return;
            };
            bytes += FRAME_OVERHEAD_BYTES;
            if let Message::Binary(frame) = &message {
                bytes += frame.len();
            }
            self.received(message);
        }
    }

    /// Says whether nothing is left to do: what a peer pushed before it went is still stored.
    fn is_over(&self) -> bool {
        self.ended && self.pushes.is_idle() || self.outbound.is_closing() && (self.ended || self.outbound.is_idle())
    }

    /// Says whether frames are taken from the peer.
    fn is_listening(&self) -> bool {
        let has_room = !self.outbound.is_full() && self.outbound.queued_bytes() < self.queue_bytes_max;
        let goes_on = !self.ended && !self.draining && !self.outbound.is_closing() && !self.meter.is_held();
        goes_on && has_room && self.session.wants_frames()
    }

    fn handle(&mut self, event: Event, timer: Pin<&mut Sleep>) -> Next {
        match event {
            Event::Sent(Ok(())) | Event::News | Event::Room => {}
            Event::Sent(Err(error)) => {
                note_unsendable(&error, &self.shared.metrics);
                return Next::End;
            }
            Event::Received(None) => return Next::End,
            Event::Received(Some(Err(error))) => return self.unreadable(&error),
            Event::Received(Some(Ok(message))) => self.received(message),
            Event::Answered(answer) => {
                if let Err(error) = self.answered(answer) {
                    self.store_failed(&error);
                }
            }
            Event::Timer => {
                // What was granted may have been taken away, and the client not be told for want of news.
                self.session.handle_rights_changed();
                return self.pulse.tick(&mut self.outbound, timer);
            }
            Event::Over(Over::Permit(ended)) => {
                self.session.handle_refused(Code::Unauthenticated, ending::reason(ended));
            }
            // It does not read why.
            Event::Over(Over::Connection) => return Next::End,
            Event::Late => {
                self.shared.metrics.connection_refused(RefusedConnection::Late);
                self.session.handle_refused(Code::Unexpected, "no hello in time");
            }
            Event::Kicked => self.session.handle_refused(Code::GoingAway, KICKED),
            Event::Drain => self.draining = true,
        }
        Next::Continue
    }

    fn received(&mut self, message: Message) {
        self.pulse.heard(&message);
        self.meter.read(bytes_of(&message));
        match message {
            Message::Binary(frame) => {
                self.may_transmit = true;
                self.received = Instant::now();
                self.shared.metrics.frame(Protocol::V1, Direction::In, frame.len());
                let (session, store) = (&mut self.session, &self.shared.store);
                let is_long = frame.len() >= LARGE_FRAME_BYTES;
                if let Err(error) = beside(is_long, || session.handle_frame(&frame, &Glance::new(&**store))) {
                    self.store_failed(&error);
                }
            }
            Message::Text(_) => self.session.handle_text(),
            // The library answers pings and closes; any byte has reset the silence.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {}
        }
    }

    fn unreadable(&mut self, error: &axum::Error) -> Next {
        if !is_too_long(error) {
            tracing::debug!(error = %Foreign(&error.to_string()), "failed to read from a peer");
            return Next::End;
        }
        self.is_overrun = true;
        let reason = format!("a message may have {} bytes", self.shared.config().limits.v1_frame_bytes_max());
        self.session.handle_refused(Code::FrameLimit, &reason);
        Next::Continue
    }

    fn answered(&mut self, (batch, since, answer): Answer) -> Result<(), StoreError> {
        self.may_transmit = true;
        // What is sent now, if anything, is the answer.
        self.carry_out()?;
        self.answering = Some(since);
        match answer {
            Ok(outcomes) => self.session.handle_appended(batch, outcomes, &Glance::new(&*self.shared.store))?,
            Err(error) => {
                let code = if error == AppendError::Stopped { Code::GoingAway } else { Code::NotStored };
                self.session.handle_append_failed(batch, code, &Glance::new(&*self.shared.store))?;
            }
        }
        self.carry_out()?;
        self.answering = None;
        Ok(())
    }

    /// Does what the session wants, and makes frames while there is room for them.
    fn advance(&mut self) -> Result<(), StoreError> {
        self.hear_news()?;
        self.carry_out()?;
        if self.draining && self.pushes.is_idle() && !self.outbound.is_closing() {
            let goodbye = self.shared.goodbye();
            self.session.handle_refused(Code::GoingAway, &goodbye);
            self.carry_out()?;
        }
        if self.may_transmit && self.outbound.has_room() {
            self.transmit()?;
        }
        self.meter.missed(self.session.take_missed_tenths());
        // What was pushed before is answered first.
        if self.meter.cut().is_some() && self.pushes.is_idle() && !self.outbound.is_closing() {
            self.session.handle_refused(Code::Busy, TOO_MUCH);
            self.carry_out()?;
        }
        Ok(())
    }

    /// Tells the session what the hub has.
    fn hear_news(&mut self) -> Result<(), StoreError> {
        let News { ends, changed, since } = self.follower.inbox().take_news();
        self.news = self.news.or(since);
        // Who pushed is answered before the followers are told: the answers to what these ends hold are there.
        while let Some(answer) = self.pushes.answered().now_or_never() {
            self.answered(answer)?;
        }
        let seen = self.follower.inbox().take_seen();
        self.may_transmit |= !ends.is_empty() || !seen.is_empty() || !changed.is_empty();
        for document in changed {
            self.session.handle_document_changed(&document);
        }
        for (space, end) in ends {
            self.session.handle_end_changed(&space, end);
        }
        for ((space, storage), position) in seen {
            self.session.handle_seen(&space, storage, position);
        }
        while self.outbound.has_room()
            && let Some((space, frame)) = self.follower.inbox().take_presence()
        {
            self.session.handle_presence(&space, frame);
            self.may_transmit = true;
        }
        Ok(())
    }

    fn carry_out(&mut self) -> Result<(), StoreError> {
        while let Some(output) = self.session.poll_output() {
            self.perform(output)?;
        }
        Ok(())
    }

    fn perform(&mut self, output: RelayOutput) -> Result<(), StoreError> {
        match output {
            RelayOutput::Send(frame) => self.outbound.push_timed(frame, self.answering.take().map(Timed::Answer)),
            RelayOutput::Hello { peer, storage, token } => {
                let remembered = storage.is_some();
                self.registered.set_peer(peer.as_str());
                tracing::debug!(peer = %Foreign(peer.as_str()), remembered, "a peer says hello");
                self.admit(token.as_str())?;
            }
            RelayOutput::Renew { token } => self.renew(token.as_str()),
            RelayOutput::Follow { space } => {
                self.follower.follow(space);
                self.registered.set_subscriptions(self.follower.count());
                // What came between the session's look into the store and now was announced to nobody here.
                let end = log::end(&*self.shared.store.read()?, &space)?;
                self.session.handle_end_changed(&space, end);
                for (storage, position) in self.shared.hub.followers().furthest(&space) {
                    self.session.handle_seen(&space, storage, position);
                }
                self.may_transmit = true;
            }
            RelayOutput::Unfollow { space } => {
                self.follower.unfollow(&space);
                self.registered.set_subscriptions(self.follower.count());
                self.leave_spaces();
            }
            RelayOutput::OpenDocuments { documents } => {
                if let Some(folding) = &self.shared.folding {
                    let tx = self.shared.store.read()?;
                    for document in &documents {
                        folding.subscribed(*document, ledger::state(&*tx, document)?.map_or(0, |state| state.count));
                    }
                }
                self.follower.open(documents);
                self.registered.set_subscriptions(self.follower.count());
            }
            RelayOutput::CloseDocuments { documents } => {
                self.follower.close(&documents);
                self.registered.set_subscriptions(self.follower.count());
                self.leave_spaces();
            }
            RelayOutput::Append { batch, space, writes } => {
                self.meter.appended(writes.len(), writes.iter().map(Offered::bytes).sum());
                self.pushes.push(batch, self.received, self.author(), space, writes);
            }
            RelayOutput::Refused { document, code, rule, count } => {
                self.shared.metrics.refused(code, rule, count);
                self.shared.refusals.note(&self.author(), &document, code.name(), None, count);
            }
            RelayOutput::Cursor { space, storage, position } => {
                self.shared.hub.followers().note_seen(&space, &storage, position, self.follower.id());
            }
            RelayOutput::Presence { space, frame, values } => {
                let now = Instant::now();
                values.iter().for_each(|value| self.shown.note(&space, value, now));
                presence::from_v1(&self.shared, &space, &frame, values, self.follower.id())?;
            }
            RelayOutput::PeerError { code, text, is_fatal } => self.note_complaint(code, &text, is_fatal),
            RelayOutput::Close { code, reason } => {
                tracing::info!(code, reason = %Foreign(&reason), "a connection is closed");
                self.outbound.close(code, &reason);
            }
            // What a later version of the session wants is not done by this one.
            _ => {}
        }
        Ok(())
    }

    /// Takes back what was shown in spaces that are not subscribed to any more.
    fn leave_spaces(&mut self) {
        let left = self.shown.take_back(|space| !self.session.is_subscribed(space), Instant::now());
        departure::tell(&self.shared, left);
    }

    fn author(&self) -> Author {
        let principal = self.permit.as_ref().and_then(Permit::principal).cloned();
        Author { connection: self.follower.id(), principal, permit: None }
    }

    /// Lets the client in by the token of its hello, or else by what came with the socket.
    fn admit(&mut self, token: &str) -> Result<(), StoreError> {
        let admitted = match (token, self.permit.take()) {
            ("", Some(permit)) => Ok(permit),
            ("", None) => self.shared.directory.admit(None),
            (token, _) => self.shared.directory.admit_from(self.address, Some(token)),
        };
        match admitted {
            Ok(permit) if self.registered.admit(permit.principal()).is_err() => {
                self.shared.metrics.connection_refused(RefusedConnection::Principal);
                self.session.handle_refused(Code::TooMany, TOO_MANY);
            }
            Ok(permit) => {
                self.pulse.admitted();
                self.hold(&permit);
                let (grants, seconds) = (self.shared.allowed(&permit), ending::seconds_left(&permit));
                self.session.handle_admitted(grants, seconds, &Glance::new(&*self.shared.store))?;
                self.may_transmit = true;
            }
            Err(refusal) => {
                self.shared.metrics.connection_refused(RefusedConnection::Unauthenticated);
                self.session.handle_refused(Code::Unauthenticated, &advice(refusal));
            }
        }
        Ok(())
    }

    /// Lets the client go on by another token, if it is the same principal's.
    fn renew(&mut self, token: &str) {
        let principal = self.permit.as_ref().and_then(Permit::principal);
        match self.shared.directory.admit_from(self.address, Some(token)) {
            Ok(permit) if principal.is_some() && permit.principal() == principal => {
                self.hold(&permit);
                self.session.handle_renewed(self.shared.allowed(&permit), ending::seconds_left(&permit));
                self.may_transmit = true;
            }
            Ok(_) => {
                let text = "the token is of another principal: connect again with it";
                self.session.handle_renewal_refused(text);
            }
            Err(refusal) => self.session.handle_renewal_refused(&advice(refusal)),
        }
    }

    /// Holds on to a permit, and waits for its end.
    fn hold(&mut self, permit: &Permit) {
        self.ending = Ending::of(permit);
        self.meter.set_principal(permit.principal());
        self.permit = Some(permit.clone());
    }

    fn transmit(&mut self) -> Result<(), StoreError> {
        let tx = Glance::new(&*self.shared.store);
        let mut bytes = 0;
        while bytes < SEND_BATCH_BYTES {
            let Some(frame) = self.session.poll_transmit(&tx, self.shared.hub.followers().live())? else {
                self.may_transmit = false;
                // What was committed was nothing to tell this peer of.
                self.news = None;
                break;
            };
            bytes += frame.len();
            self.outbound.push_timed(frame, self.news.take().map(Timed::News));
        }
        Ok(())
    }

    fn note_complaint(&mut self, code: Code, text: &str, is_fatal: bool) {
        self.complaints += 1;
        if self.complaints <= COMPLAINTS_LOGGED_MAX {
            // Its text is the peer's own, and may be about anything.
            tracing::info!(%code, text_bytes = text.len(), is_fatal, "a peer reports an error");
        }
    }

    fn store_failed(&mut self, error: &StoreError) {
        tracing::error!(%error, "failed to read the store");
        self.may_transmit = false;
        self.session.handle_refused(Code::Internal, "the relay failed to read its store");
        // The rest of what it wants would need the store.
        while let Some(output) = self.session.poll_output() {
            match output {
                RelayOutput::Send(frame) => self.outbound.push(frame),
                RelayOutput::Close { code, reason } => self.outbound.close(code, &reason),
                _ => {}
            }
        }
        self.outbound.close(Code::Internal.close_code(), "the relay failed to read its store");
    }
}

/// What a client is told whose principal has as many connections as it may.
const TOO_MANY: &str = "the principal has too many connections: close one";

/// Says to a client why its token is not taken, and what to do.
fn advice(refusal: Refusal) -> String {
    format!("{refusal}: connect with a good one")
}
