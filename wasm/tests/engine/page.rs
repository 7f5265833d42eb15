//! A page, as far as it shows documents: it applies patches to what it was given.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, sink, stream};
use rejoin::client::{Dial, DialError, Dialed, Heard};
use rejoin::store::MemoryStore;
use rejoin::{ConnectOptions, Connection, DocumentId, Repo};
use rejoin_wasm::values::key_to_json;
use rejoin_wasm::{Answer, Engine, Failure, Host, Task};
use serde_json::{Value as Json, json};

/// Collects events.
#[derive(Default)]
pub(crate) struct TestHost {
    pub(crate) events: RefCell<Vec<(String, Json)>>,
}

impl Host for TestHost {
    fn event(&self, session: &str, json: &str) {
        self.events.borrow_mut().push((session.to_owned(), serde_json::from_str(json).unwrap()));
    }

    fn spawn(&self, task: Task) {
        tokio::task::spawn_local(task);
    }

    fn connect(&self, repo: &Repo, url: &str, options: &ConnectOptions) -> Result<Connection, Failure> {
        if !url.starts_with("ws") {
            return Err(Failure::argument("no address"));
        }
        Ok(repo.connect_by(Arc::new(Nobody { shuts_the_door: url == "ws://door" }), options))
    }
}

/// A relay that is not there, or lets nobody in.
struct Nobody {
    shuts_the_door: bool,
}

impl Dial for Nobody {
    fn dial<'a>(
        &'a self,
        _: &'a [&'static str],
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Dialed, DialError>> + Send + 'a>> {
        Box::pin(async {
            if !self.shuts_the_door {
                return Err(DialError::Failed("nobody is there".to_owned()));
            }
            let close = Heard::Close { code: 1008, reason: "unauthenticated: the token is expired".to_owned() };
            Ok(Dialed {
                subprotocol: None,
                has_pings: false,
                incoming: Box::pin(stream::iter([Ok(close)])),
                outgoing: Box::pin(sink::drain().sink_map_err(|never| match never {})),
            })
        })
    }
}

/// An engine with a repo in memory.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) host: Rc<TestHost>,
    pub(crate) repo: Repo,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(Repo::with_store(Arc::new(MemoryStore::new())).unwrap())
    }

    /// An engine with this repo.
    pub(crate) fn of(repo: Repo) -> Self {
        let host = Rc::new(TestHost::default());
        Self { engine: Engine::new(repo.clone(), Rc::<TestHost>::clone(&host)), host, repo }
    }

    pub(crate) fn page(&self, session: &str) -> Page {
        self.engine.attach(session);
        let (engine, host) = (self.engine.clone(), Rc::clone(&self.host));
        Page { engine, host, session: session.to_owned(), next: 0.into(), read: 0, docs: HashMap::new() }
    }

    /// Waits until an event is there.
    pub(crate) async fn event(&self, is_wanted: impl Fn(&Json) -> bool) -> Json {
        for _ in 0..5_000 {
            let found =
                self.host.events.borrow().iter().find(|(_, event)| is_wanted(event)).map(|found| found.1.clone());
            if let Some(found) = found {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("the event never came: {:?}", self.host.events.borrow());
    }
}

/// A document, as a page shows it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Shown {
    pub(crate) value: Json,
    pub(crate) heads: Json,
    pub(crate) n: u64,
    pub(crate) up_to: u64,
    pub(crate) patches: Vec<Json>,
}

pub(crate) struct Page {
    pub(crate) engine: Engine,
    host: Rc<TestHost>,
    pub(crate) session: String,
    next: std::cell::Cell<u64>,
    read: usize,
    pub(crate) docs: HashMap<String, Shown>,
}

pub(crate) fn id(number: u8) -> String {
    DocumentId::from_bytes([number; 16]).to_string()
}

impl Page {
    pub(crate) fn id(&self) -> u64 {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }

    pub(crate) async fn ask(&self, method: &str, args: Json, bytes: Option<Vec<u8>>) -> Result<Answer, Failure> {
        let id = self.id();
        self.engine.call(&self.session, id, id - 1, method, &args.to_string(), bytes).await
    }

    pub(crate) async fn try_call(&self, method: &str, args: Json) -> Result<Json, Failure> {
        match self.ask(method, args, None).await? {
            Answer::Json(json) => Ok(json),
            Answer::Bytes(bytes) => panic!("{method} answers bytes: {bytes:?}"),
        }
    }

    pub(crate) async fn call(&self, method: &str, args: Json) -> Json {
        self.try_call(method, args).await.unwrap_or_else(|failure| panic!("{method} failed: {failure:?}"))
    }

    pub(crate) async fn fails(&self, method: &str, args: Json) -> &'static str {
        self.try_call(method, args).await.expect_err("it was to fail").code
    }

    pub(crate) async fn create(&self, number: u8, value: Json) -> String {
        let doc = id(number);
        self.call("create", json!([doc, null, value])).await;
        doc
    }

    pub(crate) async fn edit(&self, doc: &str, ops: Json) -> Json {
        self.call("edit", json!([doc, null, ops])).await
    }

    pub(crate) async fn open(&mut self, doc: &str) -> Json {
        let opened = self.call("open", json!([doc, false])).await;
        self.read = self.host.events.borrow().len();
        let shown = Shown {
            value: opened["value"].clone(),
            heads: opened["heads"].clone(),
            n: opened["n"].as_u64().unwrap(),
            ..Shown::default()
        };
        self.docs.insert(doc.to_owned(), shown);
        opened
    }

    /// Applies the patches that came since.
    pub(crate) fn receive(&mut self) {
        let events = self.host.events.borrow();
        for (session, event) in &events[self.read..] {
            if *session != self.session || event["e"] != "patch" {
                continue;
            }
            let Some(shown) = self.docs.get_mut(event["doc"].as_str().unwrap()) else { continue };
            assert_eq!(event["n"].as_u64().unwrap(), shown.n + 1, "a patch was left out or came twice");
            shown.n += 1;
            shown.heads = event["heads"].clone();
            shown.up_to = shown.up_to.max(event["upTo"].as_u64().unwrap());
            for patch in event["patches"].as_array().unwrap() {
                apply(&mut shown.value, patch);
                shown.patches.push(patch.clone());
            }
        }
        self.read = events.len();
    }

    /// Waits until the page shows what is, and checks that it shows it right.
    pub(crate) async fn settle(&mut self, doc: &str) -> Json {
        let heads = self.call("heads", json!([doc])).await;
        for _ in 0..5_000 {
            self.receive();
            if self.docs[doc].heads == heads {
                let value = self.call("json", json!([doc])).await;
                assert_eq!(self.docs[doc].value, value, "after {:?}", self.docs[doc].patches);
                return value;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("the patch never came: {:?} instead of {heads}", self.docs[doc].heads);
    }
}

/// Finds the place of a path.
fn place<'a>(value: &'a mut Json, path: &[Json]) -> &'a mut Json {
    path.iter().fold(value, |value, step| match step {
        Json::String(key) => value.get_mut(key_to_json(key).as_ref()).unwrap_or_else(|| panic!("no {key}")),
        step => value.get_mut(usize::try_from(step.as_u64().unwrap()).unwrap()).unwrap_or_else(|| panic!("no {step}")),
    })
}

/// Applies one patch.
pub(crate) fn apply(root: &mut Json, patch: &Json) {
    let number = |at: usize| usize::try_from(patch[at].as_u64().unwrap()).unwrap();
    let kind = patch[0].as_str().unwrap();
    if kind == "all" {
        *root = patch[1].clone();
        return;
    }
    let path = patch[1].as_array().unwrap().clone();
    match kind {
        "set" | "delete" => {
            let (last, parents) = path.split_last().unwrap();
            match (place(root, parents), last) {
                (Json::Object(map), Json::String(key)) if kind == "set" => {
                    map.insert(key_to_json(key).into_owned(), patch[2].clone());
                }
                (Json::Object(map), Json::String(key)) => {
                    // One that was made and deleted between two looks never showed.
                    map.remove(key_to_json(key).as_ref());
                }
                (Json::Array(list), index) => {
                    list[usize::try_from(index.as_u64().unwrap()).unwrap()] = patch[2].clone();
                }
                (other, last) => panic!("{last} of {other}"),
            }
        }
        "insert" => {
            let list = place(root, &path).as_array_mut().unwrap();
            let new = patch[3].as_array().unwrap().clone();
            list.splice(number(2)..number(2), new);
        }
        "remove" => {
            let list = place(root, &path).as_array_mut().unwrap();
            list.drain(number(2)..number(2) + number(3));
        }
        "splice" => {
            let text = place(root, &path);
            let mut units: Vec<u16> = text.as_str().unwrap().encode_utf16().collect();
            units.splice(number(2)..number(2) + number(3), patch[4].as_str().unwrap().encode_utf16());
            *text = Json::from(String::from_utf16(&units).unwrap());
        }
        "increment" => {
            let counter = &mut place(root, &path)["$counter"];
            *counter = json!(counter.as_i64().unwrap() + patch[2].as_i64().unwrap());
        }
        "mark" | "conflict" => {}
        other => panic!("{other}"),
    }
}

/// Sorted, for comparing.
pub(crate) fn sorted(values: &Json) -> BTreeMap<String, ()> {
    values.as_array().unwrap().iter().map(|value| (value.to_string(), ())).collect()
}
