// The rules of `rejoin.v1` that hold on every connection, whatever a session asks.
import { Failure } from "./client.mjs"
import { COSTS } from "./v1.mjs"
import { changeOf } from "./sync.mjs"

export class Rules {
  constructor() {
    this.hasHeard = false
    /** How many bytes the server may still send. */
    this.credit = 0
    /** How many writes each push without an answer has. */
    this.pushes = []
    this.batch = 0
    /** Space -> what was told of it. */
    this.spaces = new Map()
    /** Hashes that this side has shown to have, or got. */
    this.known = new Set()
  }

  /** Takes note of what the client says. */
  say(message) {
    switch (message.kind) {
      case "hello":
        this.credit = message.credit ?? 2_097_152
        return this.#subscribe(message.subscriptions ?? [])
      case "subscribe":
        return this.#subscribe(message.subscriptions)
      case "credit":
        this.credit += message.bytes
        return
      case "push":
        this.pushes.push({ space: message.space, writes: message.writes })
        return message.writes.forEach(({ change }) => change && this.#know(changeOf(change)))
      case "compare":
      case "open":
        return (message.documents ?? []).forEach(({ heads = [] }) => heads.forEach(hash => this.known.add(hash)))
      default:
    }
  }

  #subscribe(subscriptions) {
    for (const { space, mode = "everything" } of subscriptions) {
      this.spaces.set(space, { mode, isAnswered: false, isCaughtUp: false, told: new Set(), own: new Set(), last: 0, after: 0 })
    }
  }

  #know(change) {
    if (change) this.known.add(change.hash)
  }

  /** Checks what the server says. Throws a `Failure`. */
  hear(message, length) {
    if (!this.hasHeard && message.kind !== "welcome" && !(message.kind === "error" && message.fatal)) {
      throw new Failure(`${message.kind} comes first, and neither welcome nor a fatal error`)
    }
    if (this.hasHeard && message.kind === "welcome") throw new Failure("a second welcome")
    this.hasHeard = true
    if (COSTS.has(message.kind)) {
      if (this.credit <= 0) throw new Failure(`${message.kind} without credit`)
      this.credit -= length
    }
    if (message.space !== undefined && !this.spaces.has(message.space)) {
      throw new Failure(`${message.kind} about a space that was never asked for`)
    }
    CHECKS[message.kind]?.call(this, message, this.spaces.get(message.space))
  }

  /** Checks that each change of a fill stands on what the client has. */
  stands({ change }) {
    const known = change && changeOf(change)
    if (!known) return
    const missing = known.deps.find(hash => !this.known.has(hash))
    if (missing) throw new Failure(`a change comes before ${missing.slice(0, 8)}.., on which it stands`)
    this.#know(known)
  }
}

const CHECKS = {
  ack({ batch, results }) {
    this.batch += 1
    if (batch !== this.batch) throw new Failure(`the ack of batch ${batch}, where that of ${this.batch} is due`)
    const push = this.pushes.shift()
    if (!push) throw new Failure("an ack of what was not pushed")
    const count = results.reduce((sum, result) => sum + result.count, 0)
    if (count !== push.writes.length) throw new Failure(`an ack of ${count} writes, and ${push.writes.length} were pushed`)
    const space = this.spaces.get(push.space)
    for (const { count, stored } of results) {
      if (stored === undefined || !space) continue
      for (let position = stored; position < stored + count; position++) {
        if (space.told.has(position)) throw new Failure(`position ${position} is told by ack, and was told by entries`)
        space.own.add(position)
      }
    }
  },

  subscribed({ compared, after, end }, space) {
    if (after > end) throw new Failure(`entries after ${after}, and the log ends at ${end}`)
    if (space.mode !== "everything" && compared) throw new Failure("nobody compares in this mode")
    Object.assign(space, { isAnswered: true, compared, after, end, last: after })
  },

  entries({ first, entries }, space) {
    if (!space.isAnswered) throw new Failure("entries before subscribed")
    if (space.mode === "chosen") throw new Failure("entries, where fill is due")
    let position = first
    for (const { skipped, document, change } of entries) {
      for (const end = position + (skipped ?? 1); position < end; position++) {
        if (position <= space.last) throw new Failure(`position ${position} comes after ${space.last}`)
        if (document && space.own.has(position)) throw new Failure(`position ${position} comes back to who wrote it`)
        space.last = position
        space.told.add(position)
      }
      if (change) this.known.add(changeOf(change)?.hash)
    }
    if (space.mode !== "everything") return
    for (let before = space.after + 1; before < first; before++) {
      if (!space.told.has(before) && !space.own.has(before)) throw new Failure(`entries from ${first}, and ${before} was not told`)
    }
  },

  "caught-up"({ position }, space) {
    if (!space.isAnswered) throw new Failure("caught-up before subscribed")
    if (space.isCaughtUp) throw new Failure("caught-up twice")
    space.isCaughtUp = true
    if (position < space.after) throw new Failure(`caught up at ${position}, before the ${space.after} of subscribed`)
    if (space.mode !== "everything" || space.compared) return
    for (let told = space.after + 1; told <= position; told++) {
      if (!space.told.has(told) && !space.own.has(told)) throw new Failure(`caught up at ${position}, and ${told} was not told`)
    }
  },

  lacking(_, space) {
    if (!space.compared) throw new Failure("lacking, where nothing is compared")
  },

  fill({ writes }) {
    writes.forEach(write => this.stands(write))
  },

  opened({ documents }, space) {
    if (space.mode === "everything") throw new Failure("opened, where everything comes")
    documents.forEach(({ heads }) => heads.forEach(hash => this.known.add(hash)))
  },

  snapshot({ heads }) {
    heads.forEach(hash => this.known.add(hash))
  },
}
