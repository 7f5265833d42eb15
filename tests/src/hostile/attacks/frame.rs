//! Attacks on the frames: WebSocket messages and the CBOR inside.

use bytes::Bytes;
use rejoin::limits::{EPHEMERAL_BYTES_MAX, FRAME_BYTES_MAX};

use super::{Attack, Scene, Sent};
use crate::hostile::message::{Cbor, RawSync, head};

/// How many documents one connection asks for.
const DOCUMENTS_SCANNED: u64 = 20_000;

pub(super) fn attacks() -> Vec<Attack> {
    let mut all = malformed();
    all.extend(wrong());
    all.extend(floods());
    all
}

/// A map whose `type` is `sync` and whose `data` is not closed properly.
fn open_sync(scene: &Scene, tail: &[u8]) -> Bytes {
    let mut out = vec![0xa5];
    let entries = [("type", "sync"), ("senderId", &scene.attacker), ("targetId", &scene.victim)];
    for (key, value) in entries {
        out.extend_from_slice(&Cbor::text(key).encode());
        out.extend_from_slice(&Cbor::text(value).encode());
    }
    out.extend_from_slice(&Cbor::text("documentId").encode());
    out.extend_from_slice(&Cbor::text(&scene.document.to_string()).encode());
    out.extend_from_slice(&Cbor::text("data").encode());
    out.extend_from_slice(tail);
    out.into()
}

/// A head that claims more than follows.
fn claim(major: u8, length: u64) -> Vec<u8> {
    let mut out = Vec::new();
    head(&mut out, major, length);
    out
}

fn malformed() -> Vec<Attack> {
    let good = |scene: &Scene| scene.about("sync", scene.document, RawSync::default().encode());
    let nested = |byte: u8, depth: usize| move |_: &Scene| Bytes::from(vec![byte; depth]);
    vec![
        Attack::frame("frame-empty", |_| Bytes::new()).closes(1007),
        Attack::frame("frame-truncated", move |scene| {
            let frame = good(scene);
            frame.slice(..frame.len() - 3)
        })
        .closes(1007),
        Attack::frame("frame-trailing", move |scene| [&good(scene)[..], &[0]].concat().into()).closes(1007),
        Attack::frame("frame-null", |_| Bytes::from_static(&[0xf6])).closes(1002),
        Attack::frame("frame-one", |_| Bytes::from_static(&[0x01])).closes(1002),
        Attack::frame("cbor-arrays-nested-10k", nested(0x81, 10_000)).closes(1007),
        Attack::frame("cbor-arrays-nested-1m-indefinite", nested(0x9f, 1_000_000)).closes(1007),
        Attack::frame("cbor-maps-nested-1m-indefinite", nested(0xbf, 1_000_000)).closes(1007),
        Attack::frame("cbor-tags-nested-1m", nested(0xc1, 1_000_000)).closes(1007),
        Attack::frame("cbor-map-2^32", |_| claim(5, 1 << 32).into()).closes(1007),
        Attack::frame("cbor-map-2^64", |_| claim(5, u64::MAX).into()).closes(1007),
        Attack::frame("cbor-array-2^64", |_| claim(4, u64::MAX).into()).closes(1007),
        Attack::frame("cbor-data-2^32", |scene| open_sync(scene, &claim(2, 1 << 32))).closes(1007),
        Attack::frame("cbor-data-2^64", |scene| open_sync(scene, &claim(2, u64::MAX))).closes(1007),
        Attack::frame("cbor-data-indefinite", |scene| open_sync(scene, b"\x5f\x41\x42\x41\x00\xff")).closes(1002),
        Attack::frame("cbor-data-indefinite-open", |scene| {
            open_sync(scene, &[&[0x5f][..], &[0x41, 0x42].repeat(1 << 20)].concat())
        })
        .closes(1007),
        Attack::frame("cbor-data-is-text", |scene| open_sync(scene, b"\x63abc")).closes(1002),
        Attack::frame("cbor-data-is-empty", |scene| open_sync(scene, &[0x40])).closes(1002),
        Attack::frame("cbor-data-is-reserved", |scene| open_sync(scene, &[0x1c])).closes(1007),
        Attack::frame("cbor-keys-1m", |_| {
            let mut out = claim(5, 1 << 20);
            out.extend([0x60, 0xf6].repeat(1 << 20));
            out.into()
        })
        .closes(1002),
    ]
}

fn wrong() -> Vec<Attack> {
    let mut all = wrong_names();
    all.extend(wrong_handshakes());
    all.extend(wrong_fields());
    all
}

fn wrong_names() -> Vec<Attack> {
    let peer_id = "p".repeat(300);
    vec![
        Attack::new("text-frame", |_| vec![Sent::Text("hello")]).closes(1003),
        Attack::frame("unknown-type", |scene| {
            Cbor::Map(vec![("type", Cbor::text("wobble")), ("senderId", Cbor::text(&scene.attacker))]).encode()
        }),
        Attack::frame("type-missing", |scene| Cbor::Map(vec![("senderId", Cbor::text(&scene.attacker))]).encode())
            .closes(1002),
        Attack::frame("target-wrong", |scene| {
            let scene = Scene { victim: "somebody else".to_owned(), ..scene.clone() };
            scene.about("sync", scene.document, RawSync::default().encode())
        })
        .closes(1002),
        Attack::frame("ephemeral-target-wrong", |scene| {
            ephemeral(&Scene { victim: "somebody else".to_owned(), ..scene.clone() }, 1, vec![0xf6])
        }),
        Attack::frame("sender-changed", |scene| {
            let scene = Scene { attacker: "somebody else".to_owned(), ..scene.clone() };
            scene.about("sync", scene.document, RawSync::default().encode())
        }),
        Attack::frame("peer-id-long", move |scene| {
            let scene = Scene { attacker: peer_id.clone(), ..scene.clone() };
            scene.about("sync", scene.document, RawSync::default().encode())
        })
        .closes(1009),
    ]
}

fn wrong_handshakes() -> Vec<Attack> {
    vec![
        Attack::frame("second-handshake", |scene| scene.hello("1")).closes(1002),
        Attack::frame("version-unsupported", |scene| scene.hello("2")).fresh().closes(1002),
        Attack::frame("sync-before-handshake", |scene| {
            scene.about("sync", scene.document, RawSync::default().encode())
        })
        .fresh()
        .closes(1002),
        Attack::new("text-before-handshake", |_| vec![Sent::Text("hello")]).fresh().closes(1003),
        Attack::frame("versions-17", |scene| {
            Cbor::Map(vec![
                ("type", Cbor::text("join")),
                ("senderId", Cbor::text(&scene.attacker)),
                ("supportedProtocolVersions", Cbor::Array(vec![Cbor::text("9"); 17])),
            ])
            .encode()
        })
        .fresh()
        .closes(1009),
    ]
}

fn wrong_fields() -> Vec<Attack> {
    vec![
        Attack::frame("document-id-damaged", |scene| {
            Cbor::Map(vec![
                ("type", Cbor::text("ephemeral")),
                ("senderId", Cbor::text(&scene.attacker)),
                ("targetId", Cbor::text(&scene.victim)),
                ("documentId", Cbor::text("1111111111111111111111111111")),
                ("count", Cbor::Uint(1)),
                ("sessionId", Cbor::text("s")),
                ("data", Cbor::Bytes(vec![0xf6])),
            ])
            .encode()
        }),
        Attack::frame("heads-gossip-257", |scene| {
            let ids = (0..257).map(|id| Cbor::text(&id.to_string())).collect();
            Cbor::Map(vec![
                ("type", Cbor::text("remote-subscription-change")),
                ("senderId", Cbor::text(&scene.attacker)),
                ("targetId", Cbor::text(&scene.victim)),
                ("add", Cbor::Array(ids)),
            ])
            .encode()
        })
        .closes(1009),
    ]
}

fn floods() -> Vec<Attack> {
    vec![
        Attack::frame("ephemeral-giant", |scene| ephemeral(scene, 1, vec![0; EPHEMERAL_BYTES_MAX + 1])).closes(1009),
        Attack::frame("ephemeral-largest", |scene| ephemeral(scene, 1, vec![0; EPHEMERAL_BYTES_MAX])),
        Attack::frame("ephemeral-count-2^64", |scene| ephemeral(scene, u64::MAX, vec![0xf6])).closes(1002),
        Attack::new("ephemeral-flood-10k", |scene| {
            let one = |count| Sent::Binary(ephemeral(scene, count, vec![0xf6]));
            (1..=10_000).map(one).collect()
        }),
        Attack::frame("frame-largest-of-zeros", |_| vec![0; FRAME_BYTES_MAX].into()).closes(1007),
        Attack::new("documents-20k", |scene| {
            (0..DOCUMENTS_SCANNED).map(|number| Sent::Binary(scene.barrier(number + (1 << 32)).1)).collect()
        }),
        Attack::new("unknown-types-10k", |scene| {
            let one =
                Cbor::Map(vec![("type", Cbor::Text("w".repeat(1_000))), ("senderId", Cbor::text(&scene.attacker))]);
            vec![Sent::Binary(one.encode()); 10_000]
        }),
    ]
}

fn ephemeral(scene: &Scene, count: u64, data: Vec<u8>) -> Bytes {
    Cbor::Map(vec![
        ("type", Cbor::text("ephemeral")),
        ("senderId", Cbor::text(&scene.attacker)),
        ("targetId", Cbor::text(&scene.victim)),
        ("documentId", Cbor::text(&scene.document.to_string())),
        ("count", Cbor::Uint(count)),
        ("sessionId", Cbor::text("session")),
        ("data", Cbor::Bytes(data)),
    ])
    .encode()
}
