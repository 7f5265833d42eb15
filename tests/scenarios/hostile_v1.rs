//! Relays that speak `rejoin.v1` and mean harm, against native clients over real sockets: no panic, a sound store, the
//! connection to a good relay undisturbed, and everything as usual afterwards. What hostile clients do to a relay is
//! tested with the relay; what damaged bytes do to a session is tested with the session.

#![expect(clippy::print_stdout, reason = "what came of an attack is there to be read")]

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, future, stream};
use rejoin::codec::v1::{
    About, Access, AckRun, ClientMessage, Code, DocumentHeads, EntriesBuilder, ErrorMessage, Limits, Listed,
    ListedState, Outcome, Presence, Reject, RelayMessage, SUBPROTOCOL, Start, Subscription, Welcome, WritesBuilder,
};
use rejoin::deletion::{DeletionKind, Tombstone};
use rejoin::limits::{CREDIT_BYTES, CREDIT_BYTES_MAX, V1_NUMBER_MAX};
use rejoin::{
    ChangeHash, ConnectOptions, Connection, DocHandle, DocumentId, Epoch, Protocol, Receipt, Repo, SpaceId, StorageId,
};
use rejoin_tests::hostile::{base, oracle};
use rejoin_tests::relay::RelayProcess;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

use crate::{PATIENCE, eventually, heads};

/// A client that said nothing for so long has nothing more to say.
const QUIET: Duration = Duration::from_millis(300);
/// How many messages of a client are read at most.
const MESSAGES_MAX: usize = 2_000;
/// How many attacks run at once.
const AT_ONCE: usize = 6;

/// The document that attacks bring along.
const STRANGER: DocumentId = DocumentId::from_bytes([0x5c; 16]);

/// When an attack is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// In answer to `hello`.
    Hello,
    /// Behind the answers to the first subscriptions, after an honest welcome.
    Subscribed,
    /// The same, and again behind each subscription that follows.
    EachSubscribed,
    /// In answer to the first push.
    Pushed,
    /// In answer to each push.
    EachPushed,
}

struct Attack {
    name: &'static str,
    when: When,
    make: fn(&Scene) -> Vec<Message>,
    /// The code with which the client closes the connection, or `None` if it goes on: one that follows `empty` from the
    /// beginning, and one that compares it, because it has another relay.
    closes: [Option<u16>; 2],
}

/// What an attack may be about.
#[derive(Clone)]
struct Scene {
    /// A space with a document.
    team: SpaceId,
    document: DocumentId,
    head: ChangeHash,
    /// A space that is followed and has nothing yet.
    empty: SpaceId,
    /// A document of a third space.
    secret: DocumentId,
    /// The number of the last push, and of its writes.
    batch: (u64, u64),
}

fn raw(bytes: impl Into<Bytes>) -> Message {
    Message::Binary(bytes.into())
}

fn say(message: &RelayMessage) -> Message {
    raw(message.encode())
}

fn welcome(change: impl FnOnce(&mut Welcome)) -> Message {
    let limits = Limits { frame_bytes: 1 << 20, change_bytes: 1 << 20, batch_entries: 1_000, presence_bytes: 1 << 16 };
    let (storage, epoch) = (StorageId::from_bytes([0xbb; 16]), Epoch::from_bytes([0xcc; 16]));
    let mut welcome = Welcome { version: 1, storage, epoch, limits, credit: CREDIT_BYTES, permit_seconds: 0 };
    change(&mut welcome);
    say(&RelayMessage::Welcome(welcome))
}

fn entries(space: SpaceId, first: u64, document: DocumentId, chunks: &[Vec<u8>]) -> Message {
    let mut entries = EntriesBuilder::new(&space, first);
    chunks.iter().for_each(|chunk| assert!(entries.change(&document, chunk)));
    raw(entries.finish())
}

fn fill(space: SpaceId, document: DocumentId, chunks: &[Vec<u8>]) -> Message {
    let mut writes = WritesBuilder::fill(&space);
    chunks.iter().for_each(|chunk| assert!(writes.change(&document, chunk)));
    raw(writes.finish())
}

fn ack(batch: u64, count: u64, outcome: Outcome) -> Message {
    say(&RelayMessage::Ack { batch, results: vec![AckRun { count, outcome }] })
}

fn rejected(code: Code) -> Outcome {
    Outcome::Rejected(Reject::new(code))
}

/// Says that nothing of the last push was taken, for a reason that is not its own.
fn put_off(scene: &Scene, code: Code) -> Message {
    let about = About::Batch(scene.batch.0);
    say(&RelayMessage::Error(ErrorMessage { code, text: String::new(), is_fatal: false, about }))
}

fn caught_up(space: SpaceId, position: u64) -> Message {
    say(&RelayMessage::CaughtUp { space, position })
}

fn tombstone() -> Tombstone {
    Tombstone { kind: DeletionKind::Purged, time_seconds: 1, by: "mallory".to_owned() }
}

fn snapshot(scene: &Scene, position: u64, heads: Vec<ChangeHash>, chunk: impl Into<Bytes>) -> Message {
    let (space, document) = (scene.empty, STRANGER);
    say(&RelayMessage::Snapshot { space, document, position, heads, chunk: chunk.into() })
}

fn honest_heads() -> Vec<ChangeHash> {
    base::heads().into_iter().map(ChangeHash).collect()
}

/// The honest chunks, with something done to the last.
fn chunks_with(spoil: impl FnOnce(&mut Vec<u8>)) -> Vec<Vec<u8>> {
    let mut chunks = base::chunks();
    spoil(chunks.last_mut().unwrap());
    chunks
}

/// Everything that is said to clients, cut off.
fn cut_golden(scene: &Scene) -> Vec<Message> {
    let whole = say(&RelayMessage::CaughtUp { space: scene.empty, position: 3 }).into_data();
    vec![raw(whole.slice(..whole.len() - 1))]
}

#[rustfmt::skip]
fn attacks() -> Vec<Attack> {
    use When::{EachPushed, EachSubscribed, Hello, Pushed, Subscribed};
    let either = |name, when, closes, make| Attack { name, when, make, closes };
    let attack = |name, when, closes, make| either(name, when, [closes; 2], make);
    vec![
        // The handshake.
        attack("says nothing", Hello, None, |_| Vec::new()),
        attack("version of the future", Hello, Some(1002), |_| {
            let mut bytes = welcome(|_| {}).into_data().to_vec();
            bytes[1] = 2;
            vec![raw(bytes)]
        }),
        attack("version 0", Hello, Some(1002), |_| vec![raw([&[2, 0][..], &[0; 40]].concat())]),
        attack("welcome cut off", Hello, Some(1007), |_| vec![raw(welcome(|_| {}).into_data().slice(..20))]),
        attack("welcome with more behind it", Hello, Some(1007), |_| {
            vec![raw([welcome(|_| {}).into_data().as_ref(), &[0]].concat())]
        }),
        attack("welcome twice", Subscribed, Some(1002), |_| vec![welcome(|_| {})]),
        attack("entries before welcome", Hello, Some(1002), |scene| vec![entries(scene.empty, 1, STRANGER, &base::chunks())]),
        attack("never any credit", Hello, None, |_| vec![welcome(|welcome| welcome.credit = 0)]),
        attack("more credit than may be", Hello, Some(1009), |_| vec![welcome(|welcome| welcome.credit = CREDIT_BYTES_MAX + 1)]),
        attack("limits in which nothing fits", Hello, None, |_| {
            vec![welcome(|it| it.limits = Limits { frame_bytes: 1, change_bytes: 1, batch_entries: 1, presence_bytes: 0 })]
        }),
        attack("fatal error and no close", Hello, Some(1013), |_| {
            let (text, about) = ("go away".to_owned(), About::Connection);
            vec![say(&RelayMessage::Error(ErrorMessage { code: Code::Busy, text, is_fatal: true, about }))]
        }),
        // Frames.
        attack("text", Subscribed, Some(1003), |_| vec![Message::Text("hello".into())]),
        attack("nothing in a frame", Subscribed, Some(1007), |_| vec![raw(Bytes::new())]),
        attack("kind that must be understood", Subscribed, Some(1002), |_| vec![raw(vec![0x7f, 1, 2, 3])]),
        attack("kind that may be missed", Subscribed, None, |_| vec![raw(vec![0xf0, 1, 2, 3])]),
        attack("kind of the other side", Subscribed, Some(1002), |_| {
            vec![raw(ClientMessage::Credit { bytes: 1 }.encode()), raw(ClientMessage::Unsubscribe { spaces: vec![SpaceId::DEFAULT] }.encode())]
        }),
        attack("message cut off", Subscribed, Some(1007), cut_golden),
        attack("length of 2^53", Subscribed, Some(1009), |scene| {
            let mut bytes = vec![0x0f];
            bytes.extend_from_slice(scene.empty.as_bytes());
            bytes.push(1);
            bytes.extend_from_slice(STRANGER.as_bytes());
            bytes.extend_from_slice(&[0xff; 7]);
            bytes.push(0x0f);
            vec![raw(bytes)]
        }),
        attack("endless credit", Subscribed, Some(1002), |_| {
            vec![say(&RelayMessage::Credit { bytes: CREDIT_BYTES_MAX }); 100]
        }),
        // Positions.
        attack("gap", Subscribed, None, |scene| vec![entries(scene.empty, 9, STRANGER, &base::chunks())]),
        attack("gap whenever it is asked again", EachSubscribed, Some(1002), |scene| vec![
            entries(scene.empty, 900, STRANGER, &base::chunks()), caught_up(scene.team, 5),
        ]),
        either("positions that go back", Subscribed, [None, Some(1002)], |scene| vec![
            entries(scene.empty, 1, STRANGER, &base::chunks()),
            entries(scene.empty, 1, STRANGER, &base::chunks()),
            entries(scene.empty, 2, STRANGER, &base::chunks()[..1]),
            caught_up(scene.empty, 1),
        ]),
        either("last position there is", Subscribed, [None, Some(1002)], |scene| {
            let mut entries = EntriesBuilder::new(&scene.empty, 1);
            entries.skip(V1_NUMBER_MAX - 1);
            vec![raw(entries.finish()), caught_up(scene.empty, V1_NUMBER_MAX)]
        }),
        attack("positions behind the last", Subscribed, Some(1009), |scene| {
            let mut entries = EntriesBuilder::new(&scene.empty, V1_NUMBER_MAX);
            entries.skip(2);
            vec![raw(entries.finish())]
        }),
        attack("everything seen by everybody", Subscribed, None, |scene| {
            let seen = |storage| say(&RelayMessage::Seen { space: scene.team, storage, position: V1_NUMBER_MAX });
            let hint = say(&RelayMessage::Hint { space: scene.team, end: V1_NUMBER_MAX });
            (0..=u8::MAX).map(|number| seen(StorageId::from_bytes([number; 16]))).chain([hint]).collect()
        }),
        // Contents.
        attack("entries of a space nobody asked for", Subscribed, None, |_| {
            vec![entries(SpaceId::from_bytes([7; 16]), 1, STRANGER, &base::chunks()), caught_up(SpaceId::from_bytes([7; 16]), 3)]
        }),
        attack("change of another space's document", Subscribed, None, |scene| {
            vec![entries(scene.empty, 1, scene.secret, &base::chunks()), fill(scene.empty, scene.secret, &base::chunks())]
        }),
        attack("purge of another space's document", Subscribed, None, |scene| {
            let mut entries = EntriesBuilder::new(&scene.empty, 1);
            assert!(entries.deleted(&scene.secret, &tombstone()));
            vec![raw(entries.finish())]
        }),
        attack("listing that purges another space's document", Subscribed, Some(1002), |scene| {
            let documents = vec![Listed { document: scene.secret, state: ListedState::Deleted(tombstone()) }];
            vec![say(&RelayMessage::Listing { space: scene.empty, position: 1, documents })]
        }),
        attack("bytes that are no change", Subscribed, None, |scene| vec![entries(scene.empty, 1, STRANGER, &[vec![9; 100]])]),
        attack("change with a wrong checksum", Subscribed, None, |scene| {
            vec![entries(scene.empty, 1, STRANGER, &chunks_with(|last| last[5] ^= 1))]
        }),
        attack("change that the gate refuses", Subscribed, None, |scene| {
            let mut hostile = base::next(0);
            hostile.start_op = 1;
            vec![entries(scene.empty, 1, STRANGER, &[base::chunks(), vec![hostile.chunk()]].concat())]
        }),
        attack("change without what it stands on", Subscribed, None, |scene| {
            vec![entries(scene.empty, 1, STRANGER, &base::chunks()[1..])]
        }),
        attack("snapshot of garbage", Subscribed, Some(1000), |scene| {
            vec![snapshot(scene, 1, honest_heads(), vec![0x11; 10_000]), caught_up(scene.empty, 1)]
        }),
        either("snapshot with other heads", Subscribed, [None, Some(1002)], |scene| {
            vec![snapshot(scene, 1, vec![ChangeHash([1; 32])], base::file()), caught_up(scene.empty, 1)]
        }),
        attack("snapshot cut off", Subscribed, Some(1000), |scene| {
            let file = base::file();
            vec![snapshot(scene, 1, honest_heads(), file[..file.len() - 7].to_vec()), caught_up(scene.empty, 1)]
        }),
        attack("presence of the other side of the world", Subscribed, None, |scene| {
            let author = "mallory".to_owned().parse_peer();
            let value = Presence { author, document: scene.secret, key: "k".to_owned(), sequence: V1_NUMBER_MAX, ttl_ms: 1, data: Bytes::from_static(&[0xff; 9]) };
            vec![say(&RelayMessage::Presence { space: scene.empty, values: vec![value; 256] }); 20]
        }),
        // Answers to what was not asked.
        attack("ack of no push", Subscribed, Some(1002), |_| vec![ack(99, 1, Outcome::Duplicate)]),
        attack("subscribed to what nobody asked for", Subscribed, None, |_| vec![subscribed(SpaceId::from_bytes([7; 16]), false, 1)]),
        attack("subscribed twice", Subscribed, Some(1002), |scene| vec![subscribed(scene.empty, false, 1)]),
        attack("opened and listed unasked", Subscribed, Some(1002), |scene| {
            let documents = vec![DocumentHeads { document: STRANGER, heads: honest_heads() }];
            let listed = (0..200).map(|number| Listed {
                document: DocumentId::from_bytes([number; 16]),
                state: ListedState::Present { heads: honest_heads(), changes: V1_NUMBER_MAX, bytes: V1_NUMBER_MAX },
            });
            vec![
                say(&RelayMessage::Opened { space: scene.empty, position: 1, documents }),
                say(&RelayMessage::Listing { space: scene.empty, position: 1, documents: listed.collect() }),
            ]
        }),
        attack("lacking what nobody has", Subscribed, Some(1002), |scene| {
            let unknown = |document| DocumentHeads { document, heads: vec![ChangeHash([9; 32]); 1] };
            let documents = vec![unknown(scene.document), unknown(scene.secret), unknown(STRANGER)];
            vec![say(&RelayMessage::Lacking { space: scene.team, documents, is_last: true })]
        }),
        attack("space forbidden later", Subscribed, None, |scene| {
            let about = About::Space(scene.team);
            vec![say(&RelayMessage::Error(ErrorMessage { code: Code::Forbidden, text: String::new(), is_fatal: false, about }))]
        }),
        // Answers to pushes.
        attack("more results than writes", Pushed, Some(1002), |_| vec![ack(1, 1_000, Outcome::Stored { first: 1 })]),
        attack("stored at the last position", Pushed, None, |_| vec![ack(1, 1, Outcome::Stored { first: V1_NUMBER_MAX })]),
        attack("the same answer twice", Pushed, Some(1002), |_| vec![ack(1, 1, Outcome::Stored { first: 1 }), ack(1, 1, Outcome::Stored { first: 1 })]),
        attack("everything refused", Pushed, None, |_| (1..=2).map(|batch| ack(batch, 1, rejected(Code::ChangeInvalid))).collect()),
        attack("everything refused as an actor's second use", Pushed, None, |_| vec![ack(1, 1, rejected(Code::ActorReused))]),
        attack("everything lacks something", Pushed, None, |_| vec![ack(1, 1, rejected(Code::ChangeMissing))]),
        attack("every write refused", EachPushed, None, |scene| vec![ack(scene.batch.0, scene.batch.1, rejected(Code::Quota))]),
        attack("every push put off, for being busy", EachPushed, None, |scene| vec![put_off(scene, Code::Busy)]),
        attack("every push put off, for going away", EachPushed, None, |scene| vec![put_off(scene, Code::GoingAway)]),
        attack("every push put off, for a failure", EachPushed, None, |scene| vec![put_off(scene, Code::Internal)]),
        attack("unknown code", Pushed, None, |_| vec![raw(vec![9, 1, 1, 1, 2, 0xff, 0x01, 0])]),
    ]
}

/// A relay's answer to a subscription.
fn subscribed(space: SpaceId, is_compared: bool, after: u64) -> Message {
    let (access, end, documents, bytes) = (Access::Admin, after + 1_000, V1_NUMBER_MAX, V1_NUMBER_MAX);
    say(&RelayMessage::Subscribed { space, access, is_compared, after, end, documents, bytes })
}

/// Makes peer ids of text.
trait ParsePeer {
    fn parse_peer(self) -> rejoin::PeerId;
}

impl ParsePeer for String {
    fn parse_peer(self) -> rejoin::PeerId {
        rejoin::PeerId::new(self).unwrap()
    }
}

/// How a client took an attack.
#[derive(Debug)]
struct Reaction {
    close: Option<u16>,
    messages: usize,
}

/// Plays the relay on one connection.
async fn lie(socket: &mut WebSocketStream<TcpStream>, scene: &Scene, attack: &Attack, closes: Option<u16>) -> Reaction {
    let mut reaction = Reaction { close: None, messages: 0 };
    let mut scene = scene.clone();
    let (mut said, mut answered) = (false, BTreeSet::new());
    while reaction.messages < MESSAGES_MAX {
        // Whoever must close the connection does so, however busy the machine is.
        let patience = if said && closes.is_none() { QUIET } else { PATIENCE };
        let heard = match timeout(patience, socket.next()).await {
            Ok(Some(Ok(message))) => message,
            Ok(_) => break,
            Err(_) => {
                assert!(said, "{}: the client never came so far", attack.name);
                break;
            }
        };
        let bytes = match heard {
            Message::Binary(bytes) => bytes,
            Message::Close(frame) => {
                reaction.close = frame.map(|frame| frame.code.into());
                break;
            }
            _ => continue,
        };
        reaction.messages += 1;
        let mut answers = Vec::new();
        let mut is_time = false;
        match ClientMessage::decode(&bytes).unwrap() {
            ClientMessage::Hello(_) if attack.when == When::Hello => is_time = true,
            ClientMessage::Hello(_) => answers.push(welcome(|_| {})),
            ClientMessage::Subscribe { subscriptions } => {
                answers.extend(subscriptions.iter().map(answer));
                answered.extend(subscriptions.iter().map(|one| one.space));
                let is_about = answered.contains(&scene.team) && answered.contains(&scene.empty);
                is_time = is_about && [When::Subscribed, When::EachSubscribed].contains(&attack.when);
            }
            // Whoever compares is told that everything of it is lacking, so that it is pushed.
            ClientMessage::Compare { space, documents, is_last } => {
                let documents = documents.into_iter().map(|one| DocumentHeads { heads: Vec::new(), ..one }).collect();
                answers.push(say(&RelayMessage::Lacking { space, documents, is_last }));
            }
            ClientMessage::Push { batch, writes, .. } => {
                scene.batch = (batch, writes.len() as u64);
                is_time = [When::Pushed, When::EachPushed].contains(&attack.when);
            }
            _ => {}
        }
        if is_time && (!said || [When::EachSubscribed, When::EachPushed].contains(&attack.when)) {
            answers.extend((attack.make)(&scene));
            said = true;
        }
        for answer in answers {
            // A client that has closed the connection reads no more.
            if timeout(PATIENCE, socket.send(answer)).await.unwrap().is_err() {
                break;
            }
        }
    }
    reaction
}

fn answer(subscription: &Subscription) -> Message {
    let after = match subscription.start {
        Start::Cursor { position, .. } => position,
        Start::Beginning | Start::Compare => 0,
    };
    subscribed(subscription.space, subscription.start == Start::Compare, after)
}

async fn accept(listener: &TcpListener) -> WebSocketStream<TcpStream> {
    let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    #[expect(clippy::result_large_err, reason = "the signature is the library's")]
    let choose = |_: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        response.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse().unwrap());
        Ok(response)
    };
    accept_hdr_async(stream, choose).await.unwrap()
}

/// An application's repo, with what attacks are about.
struct Victim {
    repo: Repo,
    document: DocHandle,
    secret: DocHandle,
    scene: Scene,
}

impl Victim {
    async fn new() -> Self {
        let repo = Repo::in_memory().unwrap();
        let (team, empty) = (repo.create_space(), repo.create_space());
        empty.follow().await.unwrap();
        let (document, secret) = (team.create().await.unwrap(), repo.create_space().create().await.unwrap());
        let head = document.set("n", 0).await.unwrap().change().unwrap();
        secret.set("pin", 1234).await.unwrap();
        let (team, empty) = (team.id(), empty.id());
        let scene = Scene { team, document: document.id(), head, empty, secret: secret.id(), batch: (0, 0) };
        Self { repo, document, secret, scene }
    }

    fn connect(&self, url: &str) -> Connection {
        self.repo.connect_with(url, &ConnectOptions::new().protocol(Protocol::RejoinV1)).unwrap()
    }

    /// The application writes, and it goes over the good relay to another device.
    async fn goes_on(&self, witness: &Repo, value: i64) {
        self.document.set("n", value).await.unwrap();
        for handle in [&self.document, &self.secret] {
            eventually("the other device has it", || async {
                match witness.find(handle.id()).await.unwrap() {
                    Some(copy) => heads(&copy).await == heads(handle).await,
                    None => false,
                }
            })
            .await;
        }
        let copy = witness.find(self.document.id()).await.unwrap().unwrap();
        assert_eq!(copy.get("n").await.unwrap().and_then(|value| value.as_i64()), Some(value));
    }
}

/// Tries one attack on a client; one that has a good relay meanwhile, or has none until then.
async fn attack(attack: &Attack, good: &RelayProcess, is_alone: bool) -> Vec<String> {
    let victim = Victim::new().await;
    let witness = Repo::in_memory().unwrap();
    for space in [victim.scene.team, victim.secret.space().await.unwrap()] {
        witness.space(space).follow().await.unwrap();
    }
    let _witnessing = witness.connect_with(&good.url(), &ConnectOptions::new()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let mut to_good = None;
    if !is_alone && attack.when != When::Pushed {
        to_good = Some(victim.connect(&good.url()));
        victim.goes_on(&witness, 1).await;
    }
    let closes = attack.closes[usize::from(!is_alone)];
    let bad = victim.connect(&url);
    let mut socket = accept(&listener).await;
    let reaction = lie(&mut socket, &victim.scene, attack, closes).await;
    if !is_alone {
        // The bad relay still has its socket.
        if to_good.is_none() {
            to_good = Some(victim.connect(&good.url()));
        }
        goes_on_beside(&victim, &witness, attack, &mut socket).await;
    }
    bad.disconnect().await;
    drop(socket);
    let mut wrong = Vec::new();
    println!("{:<48} alone {is_alone:<5} {reaction:?}", attack.name);
    if reaction.close != closes || reaction.messages >= MESSAGES_MAX {
        wrong.push(format!("{}, alone {is_alone}: {reaction:?}, not {closes:?}", attack.name));
    }
    if is_alone {
        for write in victim.repo.rejected().await.unwrap() {
            assert!(!attack.name.contains("put off"), "{}: {write:?}", attack.name);
            victim.repo.retry(&write).await.unwrap();
        }
    } else {
        // What the bad relay refused and the good one took is refused no more.
        eventually(attack.name, || async { victim.repo.rejected().await.unwrap().is_empty() }).await;
    }
    let report = victim.repo.verify().await.unwrap();
    assert!(report.is_sound(), "{}: {report}", attack.name);
    let _to_good = to_good.unwrap_or_else(|| victim.connect(&good.url()));
    victim.goes_on(&witness, 3).await;
    victim.repo.wait_synced(PATIENCE).await.unwrap();
    assert_eq!(victim.repo.rejected().await.unwrap().len(), 0, "{}", attack.name);
    assert_eq!(victim.document.space().await.unwrap(), victim.scene.team);
    let pin = victim.secret.to_json().await.unwrap();
    assert_eq!(pin, serde_json::json!({ "pin": 1234 }), "{}", attack.name);
    let receipt = victim.repo.receipt(victim.document.id(), victim.scene.head).await.unwrap();
    assert!(receipt >= Some(Receipt::Relayed), "{}: {receipt:?}", attack.name);
    wrong
}

/// The application writes and its other relay takes it, while the bad one still has its socket and says what it says.
async fn goes_on_beside(victim: &Victim, witness: &Repo, attack: &Attack, socket: &mut WebSocketStream<TcpStream>) {
    let going = async {
        for value in 10..20 {
            victim.goes_on(witness, value).await;
        }
    };
    let lying = async {
        if attack.when == When::EachPushed {
            lie(socket, &victim.scene, attack, None).await;
        }
        future::pending::<()>().await;
    };
    tokio::select! {
        () = going => {}
        () = lying => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_survives_every_lie_of_a_relay_and_goes_on_with_a_good_one() {
    oracle::listen_for_panics();
    let only = std::env::var("REJOIN_HOSTILE_ONLY").unwrap_or_default();
    let folder = tempfile::tempdir().unwrap();
    let good = RelayProcess::start(folder.path());
    let all = attacks();
    let tries = all.iter().filter(|attack| attack.name.contains(&only)).map(|one| {
        let good = &good;
        async move {
            let (alone, beside) = future::join(attack(one, good, true), attack(one, good, false)).await;
            [alone, beside].concat()
        }
    });
    let wrong = stream::iter(tries).buffer_unordered(AT_ONCE).concat().await;
    let panics = oracle::unexpected_panics();
    assert!(panics.is_empty(), "{}", panics.join("\n"));
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
