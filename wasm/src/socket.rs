//! The WebSocket, which JavaScript holds.
//!
//! A browser says little: not why a connection failed, nothing of pings, and nothing when there is room again to send. So
//! what is on its way out is asked for from time to time, and a server that names no subprotocol is found by trying.
//!
//! A browser takes in whatever comes, whether anybody reads it or not. What waits here is bounded all the same: beyond
//! that the connection breaks, and the next one goes on where this one came to.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use gloo_timers::future::TimeoutFuture;
use js_sys::{Object, Reflect, Uint8Array};
use rejoin::client::{BoxFuture, Dial, DialError, Dialed, Heard, Said};
use rejoin::limits::FRAME_BYTES_MAX;
use wasm_bindgen::prelude::*;

use crate::bindings::{Host, text_property, with_host};

/// The most bytes that came and were not read yet: two of the largest frames. A frame that is larger is not taken at all.
const INCOMING_BYTES_MAX: usize = 2 * FRAME_BYTES_MAX;

/// The most bytes that are given to the browser and have not left: 1 MiB, which a phone sends in seconds.
const BUFFERED_BYTES_MAX: f64 = 1_048_576.0;

/// How often to ask whether there is room again, in milliseconds.
const ROOM_INTERVAL_MS: u32 = 25;

/// The close code of one that has sent too much.
const CLOSE_TOO_BIG: u16 = 4009;

/// What a connection that ended without a close frame reports.
const CLOSE_ABNORMAL: u16 = 1006;

#[wasm_bindgen]
extern "C" {
    /// A socket that the host made.
    #[derive(Debug, Clone)]
    type HostSocket;

    #[wasm_bindgen(method, structural, catch)]
    fn send(this: &HostSocket, data: &[u8]) -> Result<bool, JsValue>;

    #[wasm_bindgen(method, structural, catch)]
    fn buffered(this: &HostSocket) -> Result<f64, JsValue>;

    #[wasm_bindgen(method, structural, catch)]
    fn close(this: &HostSocket, code: u16, reason: &str) -> Result<(), JsValue>;

    #[wasm_bindgen(method, structural, catch)]
    fn socket(this: &Host, url: &str, protocols: Vec<String>, on: &JsValue) -> Result<HostSocket, JsValue>;
}

/// Makes sockets to one relay, by way of the host.
#[derive(Debug)]
pub struct HostDial {
    url: String,
    /// How often in a row it failed with subprotocols asked for.
    failures: AtomicU32,
    /// A server that once named a subprotocol goes on doing so.
    has_named: AtomicBool,
}

impl HostDial {
    /// Makes sockets to this URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), failures: AtomicU32::new(0), has_named: AtomicBool::new(false) }
    }

    /// Says what a failed attempt means.
    ///
    /// A browser breaks a connection to a server that answers without a subprotocol, as if there were no server. So after
    /// every second failure without any success so far, the guess is that: whoever asked then tries without one. Not after
    /// the first, or a relay that just comes up would be spoken to in the lesser protocol.
    fn failed(&self, has_asked: bool, reason: String) -> DialError {
        let failures = self.failures.fetch_add(u32::from(has_asked), Ordering::Relaxed) + 1;
        if has_asked && failures.is_multiple_of(2) && !self.has_named.load(Ordering::Relaxed) {
            return DialError::NotSpoken;
        }
        DialError::Failed(reason)
    }
}

impl Dial for HostDial {
    fn dial<'a>(&'a self, subprotocols: &'a [&'static str]) -> BoxFuture<'a, Result<Dialed, DialError>> {
        Box::pin(async move {
            let has_asked = !subprotocols.is_empty();
            let connection = Connection::open(&self.url, subprotocols).map_err(DialError::Failed)?;
            let opened = std::future::poll_fn(|context| connection.0.borrow_mut().poll_open(context)).await;
            let named = opened.map_err(|reason| self.failed(has_asked, reason))?;
            self.failures.store(0, Ordering::Relaxed);
            self.has_named.fetch_or(!named.is_empty(), Ordering::Relaxed);
            let connection = Rc::new(connection);
            Ok(Dialed {
                subprotocol: Some(named).filter(|named| !named.is_empty()),
                has_pings: false,
                incoming: Box::pin(Incoming(Rc::clone(&connection))),
                outgoing: Box::pin(Outgoing { connection, waiting: None }),
            })
        })
    }
}

/// What is known of a socket.
#[derive(Default)]
struct State {
    socket: Option<HostSocket>,
    /// The subprotocol, once it is open.
    opened: Option<String>,
    queue: VecDeque<Heard>,
    queued_bytes: usize,
    /// Why nothing more is taken in.
    broken: Option<String>,
    /// How it ended.
    closed: Option<(u16, String)>,
    reader: Option<Waker>,
    /// Nobody reads any more.
    is_abandoned: bool,
    /// What JavaScript calls. It stays until the last call has come.
    handlers: Option<Handlers>,
}

struct Handlers {
    _open: Closure<dyn FnMut(String)>,
    _message: Closure<dyn FnMut(JsValue)>,
    _close: Closure<dyn FnMut(f64, String)>,
}

impl State {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn poll_open(&mut self, context: &Context<'_>) -> Poll<Result<String, String>> {
        if let Some(opened) = &self.opened {
            return Poll::Ready(Ok(opened.clone()));
        }
        if let Some((code, reason)) = &self.closed {
            let reason = if reason.is_empty() { "the relay cannot be reached" } else { reason };
            return Poll::Ready(Err(format!("{reason} ({code})")));
        }
        self.reader = Some(context.waker().clone());
        Poll::Pending
    }

    fn poll_heard(&mut self, context: &Context<'_>) -> Poll<Option<Result<Heard, String>>> {
        if let Some(heard) = self.queue.pop_front() {
            if let Heard::Frame(frame) = &heard {
                self.queued_bytes -= frame.len();
            }
            return Poll::Ready(Some(Ok(heard)));
        }
        if let Some(broken) = self.broken.take() {
            return Poll::Ready(Some(Err(broken)));
        }
        match self.closed.take() {
            Some((CLOSE_ABNORMAL, _)) => Poll::Ready(Some(Err("the connection broke".to_owned()))),
            Some((code, reason)) => Poll::Ready(Some(Ok(Heard::Close { code, reason }))),
            None if self.handlers.is_none() => Poll::Ready(None),
            None => {
                self.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Takes in what came. Says whether the connection is to be closed for it.
    fn take_in(&mut self, data: &JsValue) -> bool {
        if self.is_abandoned || self.broken.is_some() {
            return false;
        }
        let heard = match data.dyn_ref::<Uint8Array>() {
            Some(frame) => {
                let length = usize::try_from(frame.length()).unwrap_or(usize::MAX);
                if length > FRAME_BYTES_MAX || self.queued_bytes.saturating_add(length) > INCOMING_BYTES_MAX {
                    self.broken = Some("the relay sends faster than this device can take in".to_owned());
                    self.wake();
                    return true;
                }
                self.queued_bytes += length;
                Heard::Frame(Bytes::from(frame.to_vec()))
            }
            None => Heard::Text,
        };
        self.queue.push_back(heard);
        self.wake();
        false
    }
}

/// A socket with what it says. It is closed when this is dropped.
struct Connection(Rc<RefCell<State>>);

impl Connection {
    fn open(url: &str, subprotocols: &[&'static str]) -> Result<Self, String> {
        let state = Rc::new(RefCell::new(State::default()));
        let on = listen(&state);
        let subprotocols = subprotocols.iter().map(|&name| name.to_owned()).collect();
        match with_host(|host| host.socket(url, subprotocols, &on)) {
            Some(Ok(socket)) => {
                state.borrow_mut().socket = Some(socket);
                Ok(Self(state))
            }
            refused => {
                // Nobody will call them, and they hold the state that holds them.
                let handlers = state.borrow_mut().handlers.take();
                drop(handlers);
                let text = refused.and_then(|refused| text_property(&refused.err()?, "message"));
                Err(text.unwrap_or_else(|| "the host makes no sockets".to_owned()))
            }
        }
    }

    /// Returns the socket while it is open. The state is free again then: what is called may call back.
    fn socket(&self) -> Result<HostSocket, String> {
        let state = self.0.borrow();
        let socket = state.socket.clone().filter(|_| state.handlers.is_some());
        socket.ok_or_else(|| "the connection is closed".to_owned())
    }

    fn close(&self, code: u16, reason: &str) {
        if let Ok(socket) = self.socket() {
            // One that cannot be closed is closed.
            drop(socket.close(code, reason));
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        {
            let mut state = self.0.borrow_mut();
            state.is_abandoned = true;
            state.queue = VecDeque::new();
        }
        self.close(1000, "");
    }
}

/// Makes what JavaScript calls. It holds the state until the close has been told, and the state holds it.
fn listen(state: &Rc<RefCell<State>>) -> JsValue {
    let open = {
        let state = Rc::clone(state);
        Closure::<dyn FnMut(String)>::new(move |protocol| {
            let mut state = state.borrow_mut();
            state.opened = Some(protocol);
            state.wake();
        })
    };
    let message = {
        let state = Rc::clone(state);
        Closure::<dyn FnMut(JsValue)>::new(move |data: JsValue| {
            let is_too_much = state.borrow_mut().take_in(&data);
            let socket = state.borrow().socket.clone().filter(|_| is_too_much);
            if let Some(socket) = socket {
                drop(socket.close(CLOSE_TOO_BIG, "too much at once"));
            }
        })
    };
    let close = {
        let state = Rc::clone(state);
        Closure::<dyn FnMut(f64, String)>::new(move |code: f64, reason| {
            let mut state = state.borrow_mut();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` keeps to the bounds")]
            let code = code as u16;
            state.closed = Some((code, reason));
            let handlers = state.handlers.take();
            // Not here: one of them is running.
            wasm_bindgen_futures::spawn_local(async move { drop(handlers) });
            state.wake();
        })
    };
    let on = Object::new();
    for (name, handler) in [("open", open.as_ref()), ("message", message.as_ref()), ("close", close.as_ref())] {
        // Setting a property of an object that was just made does not fail.
        let _ = Reflect::set(&on, &JsValue::from_str(name), handler);
    }
    state.borrow_mut().handlers = Some(Handlers { _open: open, _message: message, _close: close });
    on.into()
}

/// What comes.
struct Incoming(Rc<Connection>);

impl Stream for Incoming {
    type Item = Result<Heard, String>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.0.borrow_mut().poll_heard(context)
    }
}

/// Where frames go.
struct Outgoing {
    connection: Rc<Connection>,
    /// Until it is looked again whether there is room.
    waiting: Option<TimeoutFuture>,
}

impl Sink<Said> for Outgoing {
    type Error = String;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), String>> {
        loop {
            let socket = self.connection.socket()?;
            if socket.buffered().unwrap_or_default() < BUFFERED_BYTES_MAX {
                self.waiting = None;
                return Poll::Ready(Ok(()));
            }
            let waiting = self.waiting.get_or_insert_with(|| TimeoutFuture::new(ROOM_INTERVAL_MS));
            std::task::ready!(Pin::new(waiting).poll(context));
            self.waiting = None;
        }
    }

    fn start_send(self: Pin<&mut Self>, said: Said) -> Result<(), String> {
        match said {
            Said::Frame(frame) => match self.connection.socket()?.send(&frame) {
                Ok(true) => Ok(()),
                Ok(false) | Err(_) => Err("the connection is closed".to_owned()),
            },
            // A browser has none to send.
            Said::Ping => Ok(()),
            Said::Close { code, reason } => {
                self.connection.close(code, &reason);
                Ok(())
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), String>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), String>> {
        self.connection.close(1000, "");
        Poll::Ready(Ok(()))
    }
}
