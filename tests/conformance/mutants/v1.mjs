// Wrong servers of `rejoin.v1`: each breaks one rule, and names a session that has to notice.
import { decode, encode } from "../lib/v1.mjs"

/** A mutant that changes the messages of the server: `change(message, send, state)` returns a message, or null for none. */
const says = change => () => {
  const state = {}
  return {
    fromServer(bytes, send) {
      const message = change(decode(bytes, "relay"), send, state)
      if (message !== null) send.toClient(encode(message))
    },
  }
}

const hears = change => () => {
  const state = {}
  return {
    fromClient(bytes, send) {
      let message
      try {
        message = decode(bytes, "client")
      } catch {
        return send.toServer(bytes)
      }
      const changed = change(message, send, state)
      if (changed !== null) send.toServer(encode(changed))
    },
  }
}

const only = (kind, change) => (message, send, state) => (message.kind === kind ? change(message, send, state) : message)
const results = change => only("ack", message => ({ ...message, results: change(message.results) }))

export const MUTANTS = {
  "acknowledges out of order": {
    session: "push-ahead", why: /where that of/,
    make: says(only("ack", (message, send, state) => {
      if (!state.held) {
        state.held = message
        return null
      }
      send.toClient(encode(message))
      return state.held
    })),
  },
  "acknowledges with positions that are off by one": {
    session: "push-is-acknowledged", why: /stored is 2/, make: says(results(list => list.map(one => (one.stored ? { ...one, stored: one.stored + 1 } : one)))),
  },
  "acknowledges fewer writes than were pushed": {
    session: "push-is-acknowledged", why: /an ack of/, make: says(results(list => list.map(one => ({ ...one, count: Math.max(1, one.count - 1) })))),
  },
  "takes duplicates for new": {
    session: "duplicate", why: /duplicate/, make: says(results(list => list.map(one => (one.duplicate ? { count: one.count, stored: 900 } : one)))),
  },
  "lets one bad write spoil the rest": {
    session: "rejected-one-by-one", why: /stored/,
    make: says(results(list => {
      const at = list.findIndex(one => one.rejected)
      return list.map((one, index) => (at >= 0 && index > at ? { count: one.count, rejected: "not-stored", text: "spoilt" } : one))
    })),
  },
  "sends entries twice": {
    session: "from-the-beginning", why: /comes after/,
    make: says(only("entries", (message, send) => {
      send.toClient(encode(message))
      return message
    })),
  },
  "leaves a position out": {
    session: "entries-to-others", why: /not told|in vain/,
    make: says(only("entries", (message, _, state) => {
      state.count = (state.count ?? 0) + 1
      return state.count === 1 ? null : message
    })),
  },
  "sends what one pushed back": {
    session: "entries-to-others", why: /comes back to who wrote it|comes after/,
    make: () => {
      const pushes = []
      return {
        fromClient(bytes, send) {
          const message = decode(bytes, "client")
          if (message.kind === "push") pushes.push(message)
          send.toServer(bytes)
        },
        fromServer(bytes, send) {
          const message = decode(bytes, "relay")
          send.toClient(bytes)
          if (message.kind !== "ack") return
          const { space, writes } = pushes.shift()
          if (message.results[0].stored) send.toClient(encode({ kind: "entries", space, first: message.results[0].stored, entries: writes }))
        },
      }
    },
  },
  "is caught up before it is": {
    session: "from-the-beginning", why: /was not told/,
    make: says((message, send) => {
      if (message.kind === "caught-up") return null
      if (message.kind === "subscribed") {
        send.toClient(encode(message))
        return { kind: "caught-up", space: message.space, position: message.end }
      }
      return message
    }),
  },
  "takes any cursor": {
    session: "cursor-ahead", why: /in vain/, make: hears(message => (message.kind === "cursor" ? null : message)),
  },
  "takes a cursor of another epoch for its own": {
    session: "foreign-epoch", why: /compared/, make: says(only("subscribed", message => ({ ...message, compared: false }))),
  },
  "sends without credit": {
    session: "credit-of-client", why: /without credit|must not come/,
    make: hears(message => (message.kind === "hello" ? { ...message, credit: 1_073_741_824 } : message.kind === "credit" ? null : message)),
  },
  "gives no credit back": { session: "credit-comes-back", why: /in vain|closed/, make: says(only("credit", () => null)) },
  "fills changes before those they stand on": {
    session: "compare-with-nothing", why: /on which it stands/, make: says(only("fill", message => ({ ...message, writes: [...message.writes].reverse() }))),
  },
  "never says that all was compared": {
    session: "compare-with-nothing", why: /in vain|caught-up/, make: says(only("lacking", message => ({ ...message, last: false }))),
  },
  "opens documents without their heads": {
    session: "chosen-documents", why: /heads/,
    make: says(only("opened", message => ({ ...message, documents: message.documents.map(one => ({ ...one, heads: [] })) }))),
  },
  "lists deleted documents as if they were there": {
    session: "listing-of-a-deletion", why: /in vain|deleted/,
    make: says(only("listing", message => ({
      ...message, documents: message.documents.map(one => (one.deleted ? { document: one.document, heads: ["00".repeat(32)], changes: 1, bytes: 1 } : one)),
    }))),
  },
  "shows what was deleted": {
    session: "deletion-for-newcomers", why: /told|position|not "nothing"/,
    make: says(only("entries", message => ({
      ...message, entries: message.entries.map(one => (one.skipped ? { document: "77".repeat(16), change: "0102030405060708090a" } : one)),
    }))),
  },
  "signs presence itself": {
    session: "presence", why: /author/,
    make: says(only("presence", message => ({ ...message, values: message.values.map(value => ({ ...value, author: "the relay" })) }))),
  },
  "tells nobody what was seen": { session: "seen", why: /in vain/, make: says(only("seen", () => null)) },
  "says a fatal error as if it were none": {
    session: "hello-once", why: /fatal/, make: says(only("error", message => ({ ...message, fatal: false }))),
  },
  "closes with another code": { session: "bad-cut-off", why: /1011/, make: () => ({ closing: () => ({ code: 1011, reason: "" }) }) },
  "does not bear what may be missed": {
    session: "unknown-kind-ignored", why: /closed|error/,
    make: () => ({ fromClient: (bytes, send) => send.toServer(bytes[0] === 0xf0 ? Buffer.from([0x7f]) : bytes) }),
  },
  "names no subprotocol": { session: "chosen-by-subprotocol", why: /rejoin.v1/, make: () => ({}), names: () => null },
  "grants more than the page allows": {
    session: "hello-is-welcomed", why: /frameBytes/, make: says(only("welcome", message => ({ ...message, frameBytes: 20_000_000 }))),
  },
}
