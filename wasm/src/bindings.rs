//! The class that JavaScript sees, and what it hands in.

use js_sys::{Error, Reflect};
use wasm_bindgen::prelude::*;

#[wasm_bindgen(typescript_custom_section)]
const HOST: &'static str = r#"
/** What runs the engine and does for it what only JavaScript can do. */
export interface Host {
  /** Takes what happened, for one session or, when that is "", for all. */
  event(session: string, json: string): void;
  /** Opens a WebSocket. Of the three, `close` is called last, and exactly once. */
  socket(url: string, protocols: string[], on: SocketHandlers): HostSocket;
  /** Is told which document and change Automerge is about to touch, and `null` after. */
  working(doc: string | null, hash: string | null): void;
  /** Takes a text for a developer. After "panic" the engine is of no use any more. */
  log(level: "warn" | "error" | "panic", text: string): void;
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
    pub(crate) fn log(this: &Host, level: &str, text: &str) -> Result<(), JsValue>;
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
