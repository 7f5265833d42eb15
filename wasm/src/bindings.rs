//! The class that JavaScript sees, and what it hands in.

use std::cell::RefCell;

use js_sys::{Error, Reflect};
use wasm_bindgen::prelude::*;

use crate::report;

#[wasm_bindgen(typescript_custom_section)]
const HOST: &'static str = r#"
/** What runs the engine and does for it what only JavaScript can do. */
export interface Host {
  /** Takes what happened, for one session or, when that is "", for all. */
  event(session: string, json: string): void;
  /** Opens a WebSocket. */
  socket(url: string, protocols: string[], on: SocketEvents): HostSocket;
  /** Is told which document and change Automerge is about to touch, and `null` after. */
  working(doc: string | null, hash: string | null): void;
  /** Takes the last words of an engine that is about to trap: it is of no use any more. */
  panicked(message: string): void;
  /** Takes a text for a developer, if the host wants any. It holds nothing of any document. */
  log?(level: "warn" | "error", text: string): void;
}
"#;

#[wasm_bindgen]
extern "C" {
    /// What runs the engine and does for it what only JavaScript can do.
    #[wasm_bindgen(typescript_type = "Host")]
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
