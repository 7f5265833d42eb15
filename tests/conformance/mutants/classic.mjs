// Wrong servers of the classic protocol: each breaks one rule, and names a session that has to notice.
import { decode, encode } from "../lib/classic.mjs"
import { decodeSync, encodeSync } from "../lib/sync.mjs"
import { hex, unhex } from "../lib/bytes.mjs"

/** A mutant that changes the messages of the server: `change(message, send, state)` returns a message, or null for none. */
const says = change => () => {
  const state = {}
  return {
    fromServer(bytes, send) {
      const message = change(decode(bytes, { takesAnyDocument: true }), send, state)
      if (message !== null) send.toClient(encode(message))
    },
  }
}

/** One that changes those of the client. What it cannot read it passes on. */
const hears = change => () => ({
  fromClient(bytes, send) {
    let message
    try {
      message = decode(bytes, { takesAnyDocument: true })
    } catch {
      return send.toServer(bytes)
    }
    const changed = change(message, send)
    if (changed !== null) send.toServer(changed === message ? bytes : encode(changed))
  },
})

const only = (type, change) => (message, send, state) => (message.type === type ? change(message, send, state) : message)

export const MUTANTS = {
  "speaks under another name": {
    session: "create-and-read", why: /senderId/, make: says(only("sync", message => ({ ...message, senderId: "somebody else" }))),
  },
  "does not give the peer id back as it came": {
    session: "handshake-strange-name", why: /targetId/, make: says(only("peer", message => ({ ...message, targetId: message.targetId.trim() }))),
  },
  "chooses a version of its own": {
    session: "handshake", why: /selectedProtocolVersion/, make: says(only("peer", message => ({ ...message, selectedProtocolVersion: "2" }))),
  },
  "never says doc-unavailable": { session: "unknown-document", why: /in vain/, make: says(only("doc-unavailable", () => null)) },
  "forgets who asked in vain": {
    session: "available-later", why: /in vain/,
    make: says((message, _, state) => {
      if (message.type === "doc-unavailable") state.isForgotten = true
      return message.type === "sync" && state.isForgotten ? null : message
    }),
  },
  "sends a document once and then no more": {
    session: "live", why: /in vain/,
    make: says(only("sync", (message, _, state) => {
      const isFirst = !state.sent
      state.sent ||= decodeSync(unhex(message.data)).changes.length > 0
      return isFirst ? message : null
    })),
  },
  "loses a change on the way": {
    session: "no-whole-document", why: /changes/,
    make: says(only("sync", message => {
      const sync = decodeSync(unhex(message.data))
      return { ...message, data: hex(encodeSync({ ...sync, changes: sync.changes.slice(1) })) }
    })),
  },
  "speaks of documents that nobody asked for": {
    session: "silence-of-the-server", why: /not spoken of/,
    make: (others => () => ({
      fromServer(bytes, send) {
        others.add(send)
        send.toClient(bytes)
        const message = decode(bytes, { takesAnyDocument: true })
        if (message.type === "peer") send.id = message.targetId
        if (message.type === "sync") {
          others.forEach(other => other !== send && other.id && other.toClient(encode({ ...message, targetId: other.id })))
        }
      },
    }))(new Set()),
  },
  "echoes ephemeral messages": {
    session: "ephemeral-no-echo", why: /comes back to its author/,
    make: hears(only("ephemeral", (message, send) => {
      send.toClient(encode({ ...message, targetId: message.senderId }))
      return message
    })),
  },
  "signs ephemeral messages itself": {
    session: "ephemeral", why: /senderId/, make: says(only("ephemeral", message => ({ ...message, senderId: "the server" }))),
  },
  "delivers ephemeral messages twice": {
    session: "ephemeral-once", why: /ephemeral/,
    make: says(only("ephemeral", (message, send) => {
      send.toClient(encode(message))
      return message
    })),
  },
  "rewrites the count of ephemeral messages": {
    session: "ephemeral-float-count", why: /count/, make: says(only("ephemeral", message => ({ ...message, count: message.count % 2 ** 32 }))),
  },
  "says what samod does not know": {
    session: "handshake", why: /senderId|targetId|unknown|comes first/,
    make: says(only("peer", (message, send) => {
      send.toClient(encode({ type: "rejoin-hello", senderId: message.senderId, targetId: message.targetId }))
      return message
    })),
  },
  "bears what is not CBOR": {
    session: "bad-cbor", why: /in vain/,
    make: () => ({
      fromClient(bytes, send) {
        try {
          decode(bytes, { takesAnyDocument: true })
          send.toServer(bytes)
        } catch {
          // As if it had not come.
        }
      },
    }),
  },
  "closes on a type that it does not know": {
    session: "unknown-type", why: /closed|error/,
    make: () => ({ fromClient: (bytes, send) => send.toServer(bytes.includes("wobble") ? Buffer.from([0xff]) : bytes) }),
  },
  "closes without a reason": { session: "code-cbor", why: /1000/, make: () => ({ closing: () => ({ code: 1000, reason: "" }) }) },
  "says nothing before it closes": { session: "code-map", why: /closed/, make: says(only("error", () => null)) },
  "never asks for what it lacks": {
    session: "dependency-first", why: /need/,
    make: says(only("sync", message => ({ ...message, data: hex(encodeSync({ ...decodeSync(unhex(message.data)), need: [] })) }))),
  },
}
