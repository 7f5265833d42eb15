//! Sockets that are queues: what devices dial, and what the world carries from one end to the other.
//!
//! A line is one connection. What is put into it lies there until the world says when it arrives; nothing overtakes anything on
//! one line. A line can be cut, which both ends are told, or go mute, which nobody is.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::{Sink, Stream};
use rejoin::client::{BoxFuture, Dial, DialError, Dialed, Heard, Said};
use rejoin::codec::v1::SUBPROTOCOL;

/// Names a connection.
pub type LineId = u64;

/// How many frames a socket takes of one side before the other has them.
pub const LINE_FRAMES_MAX: usize = 16;

/// All connections. Clones are the same.
#[derive(Clone, Default)]
pub struct Wires(Arc<Mutex<Net>>);

#[derive(Default)]
struct Net {
    lines: BTreeMap<LineId, Line>,
    next: LineId,
    dialed: Vec<LineId>,
    left: Vec<LineId>,
}

/// One direction.
struct Lane<T> {
    fresh: VecDeque<T>,
    flying: VecDeque<T>,
    arrived: VecDeque<T>,
    /// Nothing that is put in now comes before this.
    last: Duration,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self { fresh: VecDeque::new(), flying: VecDeque::new(), arrived: VecDeque::new(), last: Duration::ZERO }
    }
}

impl<T> Lane<T> {
    fn len(&self) -> usize {
        self.fresh.len() + self.flying.len() + self.arrived.len()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Dialing,
    Refused,
    Up,
}

/// A connection, or one that is being made.
struct Line {
    ends: Ends,
    state: State,
    up: Lane<Said>,
    down: Lane<Heard>,
    /// Whoever waits on the device's side: for the connection or for what comes.
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Why nothing comes any more, once what arrived is taken.
    broken: Option<&'static str>,
    frames_max: usize,
    is_mute: bool,
}

/// Between whom a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The device.
    pub node: usize,
    /// The relay.
    pub relay: usize,
    /// Whether the classic protocol is spoken.
    pub is_classic: bool,
}

impl Wires {
    fn net(&self) -> MutexGuard<'_, Net> {
        self.0.lock().unwrap()
    }

    fn with<T>(&self, line: LineId, work: impl FnOnce(&mut Line) -> T) -> Option<T> {
        self.net().lines.get_mut(&line).map(work)
    }

    /// Takes the connections that somebody wants to make.
    pub fn take_dialed(&self) -> Vec<LineId> {
        std::mem::take(&mut self.net().dialed)
    }

    /// Takes the connections that their devices have left.
    pub fn take_left(&self) -> Vec<LineId> {
        std::mem::take(&mut self.net().left)
    }

    /// Returns the lines between a device and a relay.
    pub fn between(&self, node: usize, relay: usize) -> Vec<LineId> {
        let net = self.net();
        let those = net.lines.iter().filter(|(_, line)| line.ends.node == node && line.ends.relay == relay);
        those.map(|(id, _)| *id).collect()
    }

    /// Returns all lines.
    pub fn all(&self) -> Vec<LineId> {
        self.net().lines.keys().copied().collect()
    }

    /// Returns between whom a line is, if it is there.
    pub fn ends(&self, line: LineId) -> Option<Ends> {
        self.with(line, |line| line.ends)
    }

    /// Says whether a line was made and is whole.
    pub fn is_up(&self, line: LineId) -> bool {
        self.with(line, |line| line.state == State::Up && line.broken.is_none()).unwrap_or(false)
    }

    /// Answers who dials.
    pub fn answer(&self, line: LineId, is_taken: bool) {
        self.with(line, |line| {
            line.state = if is_taken { State::Up } else { State::Refused };
            wake(&mut line.reader);
        });
    }

    /// Puts something in for the device.
    pub fn put_down(&self, line: LineId, heard: Heard) {
        self.with(line, |line| line.down.fresh.push_back(heard));
    }

    /// Says whether there is room for more to the device.
    pub fn has_room_down(&self, line: LineId) -> bool {
        self.with(line, |line| line.down.len() < line.frames_max).unwrap_or(false)
    }

    /// Sends what is fresh on its way: `delay` says when each arrives, none before the one in front of it. Returns when something
    /// comes to its end: upwards or not.
    pub fn depart(&self, now: Duration, mut delay: impl FnMut(Ends) -> Duration) -> Vec<(LineId, bool, Duration)> {
        let mut departed = Vec::new();
        for (id, line) in &mut self.net().lines {
            let ends = line.ends;
            while let Some(said) = line.up.fresh.pop_front() {
                line.up.last = (now + delay(ends)).max(line.up.last);
                line.up.flying.push_back(said);
                departed.push((*id, true, line.up.last));
            }
            while let Some(heard) = line.down.fresh.pop_front() {
                line.down.last = (now + delay(ends)).max(line.down.last);
                line.down.flying.push_back(heard);
                departed.push((*id, false, line.down.last));
            }
        }
        departed
    }

    /// Lets what comes next arrive at the relay. Nothing of a mute line does.
    pub fn arrive_up(&self, line: LineId) {
        self.with(line, |line| {
            if let Some(said) = line.up.flying.pop_front()
                && !line.is_mute
            {
                line.up.arrived.push_back(said);
            }
        });
    }

    /// Takes what has arrived at the relay.
    pub fn take_up(&self, line: LineId) -> Option<Said> {
        self.with(line, |line| {
            let said = line.up.arrived.pop_front();
            if said.is_some() {
                wake(&mut line.writer);
            }
            said
        })?
    }

    /// Says whether something has arrived at the relay that it did not take yet.
    pub fn has_arrived(&self, line: LineId) -> bool {
        self.with(line, |line| !line.up.arrived.is_empty()).unwrap_or(false)
    }

    /// Lets what comes next arrive at the device.
    pub fn arrive_down(&self, line: LineId) {
        self.with(line, |line| {
            if let Some(heard) = line.down.flying.pop_front()
                && !line.is_mute
            {
                line.down.arrived.push_back(heard);
                wake(&mut line.reader);
            }
        });
    }

    /// Says whether a line carries nothing any more.
    pub fn is_mute(&self, line: LineId) -> bool {
        self.with(line, |line| line.is_mute).unwrap_or(false)
    }

    /// Has the line carry nothing any more, without telling.
    pub fn mute(&self, line: LineId) {
        self.with(line, |line| line.is_mute = true);
    }

    /// Has nothing that is put in from now on, or is on its way and was not yet announced, arrive before this.
    pub fn stall(&self, line: LineId, until: Duration) {
        self.with(line, |line| {
            line.up.last = line.up.last.max(until);
            line.down.last = line.down.last.max(until);
        });
    }

    /// Has the line hold less.
    pub fn narrow(&self, line: LineId, frames_max: usize) {
        self.with(line, |line| line.frames_max = frames_max);
    }

    /// Ends the line for the device, with the loss of what is on its way.
    pub fn cut(&self, line: LineId, why: &'static str) {
        self.with(line, |line| {
            line.broken.get_or_insert(why);
            line.up.flying.clear();
            line.down.flying.clear();
            line.up.arrived.clear();
            line.up.fresh.clear();
            line.down.fresh.clear();
            wake(&mut line.reader);
            wake(&mut line.writer);
        });
    }

    /// Forgets a line that nobody has any more.
    pub fn forget(&self, line: LineId) {
        self.net().lines.remove(&line);
    }

    /// Returns how many frames the fullest line holds.
    pub fn fullest(&self) -> usize {
        self.net().lines.values().map(|line| line.up.len().max(line.down.len())).max().unwrap_or(0)
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// Dials a relay for a device.
pub struct Phone {
    wires: Wires,
    node: usize,
    relay: usize,
}

impl Phone {
    /// Makes one.
    pub fn new(wires: &Wires, node: usize, relay: usize) -> Self {
        Self { wires: wires.clone(), node, relay }
    }
}

impl Dial for Phone {
    fn dial<'a>(&'a self, subprotocols: &'a [&'static str]) -> BoxFuture<'a, Result<Dialed, DialError>> {
        let is_classic = !subprotocols.contains(&SUBPROTOCOL);
        Box::pin(async move {
            let end = End::dial(&self.wires, Ends { node: self.node, relay: self.relay, is_classic });
            let line = end.line;
            std::future::poll_fn(|context| end.poll_made(context)).await?;
            let incoming = Incoming(end);
            let outgoing = Outgoing { wires: self.wires.clone(), line };
            let subprotocol = (!is_classic).then(|| SUBPROTOCOL.to_owned());
            Ok(Dialed { subprotocol, has_pings: true, incoming: Box::pin(incoming), outgoing: Box::pin(outgoing) })
        })
    }
}

/// The device's end. Dropping it leaves the line.
struct End {
    wires: Wires,
    line: LineId,
}

impl End {
    fn dial(wires: &Wires, ends: Ends) -> Self {
        let mut net = wires.net();
        let line = net.next;
        net.next += 1;
        net.dialed.push(line);
        let (up, down) = (Lane::default(), Lane::default());
        let (state, frames_max) = (State::Dialing, LINE_FRAMES_MAX);
        let made = Line { ends, state, up, down, reader: None, writer: None, broken: None, frames_max, is_mute: false };
        net.lines.insert(line, made);
        drop(net);
        Self { wires: wires.clone(), line }
    }

    fn poll_made(&self, context: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        let made = self.wires.with(self.line, |line| match line.state {
            State::Dialing => {
                line.reader = Some(context.waker().clone());
                Poll::Pending
            }
            State::Refused => Poll::Ready(Err(DialError::Failed("nobody listens there".to_owned()))),
            State::Up => Poll::Ready(Ok(())),
        });
        made.unwrap_or(Poll::Ready(Err(DialError::Failed("the line is gone".to_owned()))))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.wires.net().left.push(self.line);
    }
}

struct Incoming(End);

impl Stream for Incoming {
    type Item = Result<Heard, String>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.0.wires.with(self.0.line, |line| {
            if let Some(heard) = line.down.arrived.pop_front() {
                return Poll::Ready(Some(Ok(heard)));
            }
            if let Some(why) = line.broken {
                return Poll::Ready(Some(Err(why.to_owned())));
            }
            line.reader = Some(context.waker().clone());
            Poll::Pending
        });
        next.unwrap_or(Poll::Ready(None))
    }
}

struct Outgoing {
    wires: Wires,
    line: LineId,
}

impl Sink<Said> for Outgoing {
    type Error = String;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), String>> {
        let ready = self.wires.with(self.line, |line| {
            if let Some(why) = line.broken {
                return Poll::Ready(Err(why.to_owned()));
            }
            if line.up.len() < line.frames_max {
                return Poll::Ready(Ok(()));
            }
            line.writer = Some(context.waker().clone());
            Poll::Pending
        });
        ready.unwrap_or(Poll::Ready(Err("the line is gone".to_owned())))
    }

    fn start_send(self: Pin<&mut Self>, said: Said) -> Result<(), String> {
        self.wires.with(self.line, |line| line.up.fresh.push_back(said)).ok_or("the line is gone".to_owned())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), String>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), String>> {
        Poll::Ready(Ok(()))
    }
}
