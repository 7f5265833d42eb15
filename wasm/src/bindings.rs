//! The class that JavaScript sees, and what it hands in; `ts/host/contract.ts` says the same in TypeScript.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use js_sys::{Error, Promise, Reflect};
use rejoin::repo::Precautions;
use rejoin::store::{MemoryStore, Store};
use rejoin::{ChangeHash, ConnectOptions, Connection, DocumentId, Repo, RepoError};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{future_to_promise, spawn_local};

use crate::engine::{self, Answer, Engine, Task};
use crate::errors::Failure;
use crate::file::{self, StoreFile};
use crate::report;
use crate::socket::HostDial;

#[wasm_bindgen]
extern "C" {
    /// What runs the engine and does for it what only JavaScript can do.
    #[derive(Debug, Clone)]
    pub type Host;

    #[wasm_bindgen(method, structural, catch)]
    pub(crate) fn event(this: &Host, session: &str, json: &str) -> Result<(), JsValue>;

    #[wasm_bindgen(method, structural, catch)]
    pub(crate) fn working(this: &Host, doc: Option<&str>, hash: Option<&str>) -> Result<(), JsValue>;

    #[wasm_bindgen(method, structural, catch)]
    pub(crate) fn panicked(this: &Host, message: &str) -> Result<(), JsValue>;

    #[wasm_bindgen(method, structural, catch)]
    pub(crate) fn log(this: &Host, level: &str, text: &str) -> Result<(), JsValue>;
}

thread_local! {
    static HOST: RefCell<Option<Host>> = const { RefCell::new(None) };
}

/// Sets the host for all that the engine does from now on: an instance of the module runs one engine.
pub(crate) fn set_host(host: Host) {
    HOST.set(Some(host));
    report::begin();
}

/// Does something with the host, if there is one. The host may call back meanwhile.
pub(crate) fn with_host<T>(work: impl FnOnce(&Host) -> T) -> Option<T> {
    let host = HOST.try_with(|host| host.try_borrow().ok()?.clone()).ok()??;
    Some(work(&host))
}

/// Returns a property that is a text, if there is such a one.
pub(crate) fn text_property(value: &JsValue, name: &str) -> Option<String> {
    Reflect::get(value, &JsValue::from_str(name)).ok()?.as_string()
}

/// Makes the error that JavaScript gets: an `Error` with a stable `code`.
pub(crate) fn js_error(code: &str, message: &str) -> JsValue {
    let error = Error::new(message);
    // Setting a property of an object that was just made does not fail.
    let _ = Reflect::set(&error, &JsValue::from_str("code"), &JsValue::from_str(code));
    error.into()
}

#[wasm_bindgen]
extern "C" {
    /// What the engine is opened with.
    pub type OpenOptions;

    #[wasm_bindgen(method, getter, structural)]
    fn file(this: &OpenOptions) -> Option<StoreFile>;

    #[wasm_bindgen(method, getter, structural)]
    fn journal(this: &OpenOptions) -> Option<StoreFile>;

    #[wasm_bindgen(method, getter, structural)]
    fn now_quarantined(this: &OpenOptions) -> Option<js_sys::Array>;

    #[wasm_bindgen(method, getter, structural)]
    fn suspect(this: &OpenOptions) -> Option<js_sys::Array>;
}

/// The engine, as JavaScript has it.
#[wasm_bindgen(js_name = Engine)]
#[derive(Debug)]
pub struct JsEngine {
    engine: Engine,
}

#[wasm_bindgen(js_class = Engine)]
impl JsEngine {
    /// Opens the store and begins to serve. An instance of the module runs one engine.
    ///
    /// # Errors
    ///
    /// An error with a stable `code`: the store is in use, damaged, of a newer version, or the disk is full.
    #[expect(clippy::unused_async, reason = "whoever opens it waits, and opening may come to take a while")]
    pub async fn open(options: OpenOptions, host: Host) -> Result<JsEngine, JsValue> {
        set_host(host);
        let opened = || -> Result<Repo, RepoError> {
            let store: Arc<dyn Store> = match options.file() {
                Some(file) => Arc::new(file::open(file, options.journal())?),
                None => Arc::new(MemoryStore::new()),
            };
            Repo::with_precautions(store, precautions(&options))
        };
        let repo = opened().map_err(|error| thrown(&Failure::from(error)))?;
        Ok(Self { engine: Engine::new(repo, Rc::new(Surroundings)) })
    }

    /// Notes that a page came.
    pub fn attach(&self, session: &str) {
        self.engine.attach(session);
    }

    /// Notes that a page went: what it watched and showed of itself ends.
    pub fn detach(&self, session: &str) {
        self.engine.detach(session);
    }

    /// Notes that the network came back, or went: a connection that waits tries again at once.
    pub fn online(&self, is_online: bool) {
        self.engine.online(is_online);
    }

    /// Does what a page asks; numbers are exact up to 2^53.
    ///
    /// # Errors
    ///
    /// An error with a stable `code`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "numbers of JavaScript, which saturate"
    )]
    pub fn call(
        &self,
        session: String,
        id: f64,
        acked: f64,
        method: String,
        args: String,
        bytes: Option<Vec<u8>>,
    ) -> Promise {
        let engine = self.engine.clone();
        future_to_promise(async move {
            match engine.call(&session, id as u64, acked as u64, &method, &args, bytes).await {
                Ok(Answer::Json(json)) => Ok(JsValue::from_str(&json.to_string())),
                Ok(Answer::Bytes(bytes)) => Ok(js_sys::Uint8Array::from(bytes.as_slice()).into()),
                Err(failure) => Err(thrown(&failure)),
            }
        })
    }

    /// Closes the engine: ends what is under way, and waits until the store is released.
    pub fn close(&self) -> Promise {
        let engine = self.engine.clone();
        future_to_promise(async move {
            engine.close().await;
            Ok(JsValue::UNDEFINED)
        })
    }
}

/// Reads what is known of traps. What cannot be read is left out: it is a precaution only.
fn precautions(options: &OpenOptions) -> Precautions {
    let name = |pair: &JsValue| -> Option<(DocumentId, Option<ChangeHash>)> {
        let pair = pair.dyn_ref::<js_sys::Array>()?;
        let document = pair.get(0).as_string()?.parse().ok()?;
        Some((document, pair.get(1).as_string().and_then(|hash| hash.parse().ok())))
    };
    let named = options.now_quarantined().into_iter().flat_map(|all| all.iter().collect::<Vec<_>>());
    let quarantined = named.filter_map(|pair| name(&pair)).filter_map(|(document, hash)| Some((document, hash?)));
    Precautions {
        quarantined: quarantined.collect(),
        suspect: options.suspect().and_then(|pair| Some(name(pair.as_ref())?.0)),
        working: |at| {
            let (document, hash) = at.unzip();
            let (document, hash) = (document.map(|id| id.to_string()), hash.flatten().map(|hash| hash.to_string()));
            // That the host cannot take it changes nothing.
            drop(with_host(|host| host.working(document.as_deref(), hash.as_deref())));
        },
    }
}

/// Makes the error that JavaScript gets of a failure.
fn thrown(failure: &Failure) -> JsValue {
    let error = js_error(failure.code, &failure.message);
    if let Some(details) = failure.details.as_ref().and_then(|details| js_sys::JSON::parse(&details.to_string()).ok()) {
        // As in `js_error`.
        let _ = Reflect::set(&error, &JsValue::from_str("details"), &details);
    }
    error
}

/// What the engine needs of a worker.
struct Surroundings;

impl engine::Host for Surroundings {
    fn event(&self, session: &str, json: &str) {
        // A page that cannot be told is told again when it opens the document anew.
        drop(with_host(|host| host.event(session, json)));
    }

    fn spawn(&self, task: Task) {
        spawn_local(task);
    }

    fn connect(&self, repo: &Repo, url: &str, options: &ConnectOptions) -> Result<Connection, Failure> {
        Ok(repo.connect_by(Arc::new(HostDial::new(url)), options))
    }
}
