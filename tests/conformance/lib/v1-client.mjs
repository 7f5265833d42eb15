// A client of `rejoin.v1`: what it is told to do by the steps of a session.
//
// Acks, entries and fills are collected beside the other messages, because where they come among those is left open; what is said
// of their order is checked in v1-rules.mjs, whatever the session asks.
import { Client, Failure } from "./client.mjs"
import { CODES, COSTS, decode, encode } from "./v1.mjs"
import { changeOf } from "./sync.mjs"
import { unhex } from "./bytes.mjs"
import { mismatch, show } from "./match.mjs"
import { Rules } from "./v1-rules.mjs"

export class V1Client extends Client {
  constructor(name, world) {
    super(name, world, "rejoin.v1")
    this.id = world.variables.get(name)
    this.between = ["credit", "hint", "seen"]
    this.rules = new Rules()
    this.gives = true
    this.batch = 0
    this.acks = []
    /** Space -> position -> what was told of it. */
    this.log = new Map()
    /** Space -> writes that came outside of the log. */
    this.fills = new Map()
  }

  async connect() {
    await super.connect()
    this.world.variables.set(`${this.name}.subprotocol`, this.socket.subprotocol)
  }

  read(bytes) {
    let message
    try {
      message = decode(bytes, "relay")
    } catch (error) {
      if (error.code === "ignore") return null
      throw error
    }
    this.rules.hear(message, bytes.length)
    if (COSTS.has(message.kind) && this.gives) this.say({ kind: "credit", bytes: bytes.length })
    switch (message.kind) {
      case "ack":
        this.acks.push(message.results)
        return null
      case "entries":
        this.#collect(message)
        return null
      case "fill":
        this.filled(message.space).push(...message.writes.map(written))
        return null
      case "error":
        return { ...message, closes: message.fatal ? CODES[codeNumber(message.code)]?.[1] : undefined }
      default:
        return message
    }
  }

  #collect({ space, first, entries }) {
    if (!this.log.has(space)) this.log.set(space, new Map())
    let position = first
    for (const entry of entries) {
      if (entry.skipped === undefined) this.log.get(space).set(position, written(entry))
      else for (let step = 0; step < entry.skipped; step++) this.log.get(space).set(position + step, "nothing")
      position += entry.skipped ?? 1
    }
  }

  filled(space) {
    if (!this.fills.has(space)) this.fills.set(space, [])
    return this.fills.get(space)
  }

  /** Sends a message by its fields. */
  say(message) {
    this.rules.say(message)
    this.send(encode(message))
  }

  async hello({ credit, gives = true, ...fields }) {
    this.gives = gives
    const store = this.world.variables.get(`${this.name}.store`)
    this.say({ kind: "hello", peer: this.id, store, ...fields, ...(credit === undefined ? {} : { credit }) })
    const welcome = await this.expect({ kind: "welcome", version: 1 })
    for (const name of ["epoch", "credit"]) this.world.variables.set(`${this.name}.${name}`, welcome[name])
    this.world.variables.set(`${this.name}.relay-store`, welcome.store)
    this.world.variables.set(`${this.name}.beyond-credit`, welcome.credit + 1)
  }

  push(space, writes) {
    this.batch += 1
    this.say({ kind: "push", batch: this.batch, space, writes })
  }

  /** Pushes the same write over and over until half of the credit is used up, and waits for more. */
  async pushUntilCredit(space, write) {
    const most = this.world.variables.get(`${this.name}.credit`)
    const batch = Array.from({ length: Math.max(1, Math.min(100, Math.floor(most / 4 / (write.change.length / 2 + 32)))) }, () => write)
    this.between = ["hint", "seen"]
    for (let used = 0; used <= most / 2; used += batch.length * (write.change.length / 2)) {
      this.push(space, batch)
      await this.until("an ack", () => this.acks.shift())
    }
    await this.expect({ kind: "credit", bytes: { $at_least: 1 } })
  }

  /** Pushes more than all of the credit in one message, which may be, and then on, which may not. */
  overrun(space, write) {
    const most = this.world.variables.get(`${this.name}.credit`)
    const count = Math.ceil(most / (write.change.length / 2))
    this.push(space, Array.from({ length: count }, () => write))
    for (let more = 0; more < 20; more++) this.push(space, [write])
  }

  /** Waits for the next ack, and compares what became of each of its writes. */
  async acked(results) {
    const runs = await this.until("an ack", () => this.acks.shift())
    const each = runs.flatMap(({ count, ...run }) =>
      Array.from({ length: count }, (_, step) => (run.stored === undefined ? run : { stored: run.stored + step })),
    )
    const why = mismatch(results, each)
    if (why) throw new Failure(`the ack of ${this.name}: ${why}`)
  }

  /** Waits until each of these positions was told by entries, and compares what they hold. */
  async told(space, positions) {
    const wanted = Object.entries(positions)
    await this.until(`entries at ${Object.keys(positions).join(", ")}`, () => {
      const log = this.log.get(space)
      return log !== undefined && wanted.every(([position]) => log.has(Number(position)))
    })
    for (const [position, what] of wanted) {
      const why = mismatch(what, this.log.get(space).get(Number(position)))
      if (why) throw new Failure(`at position ${position} ${this.name} was told: ${why}`)
    }
  }

  /** Waits until these writes have come by fill, in any order and with others or not. */
  async untilFilled(space, writes) {
    const lacks = () => writes.find(write => !this.filled(space).some(one => mismatch(write, one) === null))
    await this.until(`a fill with ${show(writes)}`, () => lacks() === undefined)
  }
}

const codeNumber = name => Object.keys(CODES).find(number => CODES[number][0] === name)

/** What a session compares of a write: the hash of a change, or the tombstone. */
function written({ document, change, deleted }) {
  if (deleted) return { document, deleted }
  const known = changeOf(change)
  return known === null ? { document, bytes: change } : { document, change: known.hash }
}

/** What the steps of a session mean. Each takes the world and the step, with its variables filled in. */
export const STEPS = {
  connect: async (world, { who, protocol = "rejoin.v1" }) => {
    const client = world.client(who, V1Client)
    client.protocol = protocol
    await client.connect()
  },
  hello: async (world, step) => {
    const { do: _, who, ...fields } = step
    const client = world.client(who, V1Client)
    if (!client.socket) await client.connect()
    await client.hello(fields)
  },
  send: (world, { who, message, hex: bytes, text, zeros }) => {
    const client = world.client(who)
    if (message !== undefined) client.say(message)
    else client.send(text ?? (zeros === undefined ? unhex(bytes) : Buffer.alloc(zeros)))
  },
  push: (world, { who, space, writes }) => {
    world.client(who).push(space, writes.map(write => (write.change === undefined ? write : { ...write, change: world.chunk(write.change) })))
  },
  acked: (world, { who, results }) => world.client(who).acked(results),
  told: (world, { who, space, positions }) => {
    const hashed = Object.entries(positions).map(([position, what]) => [position, hashOf(world, what)])
    return world.client(who).told(space, Object.fromEntries(hashed))
  },
  filled: (world, { who, space, writes }) => world.client(who).untilFilled(space, writes.map(write => hashOf(world, write))),
  not_told: async (world, { who, space, positions, milliseconds = 300 }) => {
    const client = world.client(who)
    await new Promise(resolve => setTimeout(resolve, milliseconds))
    const found = positions.find(position => client.log.get(space)?.has(position))
    if (found !== undefined) throw new Failure(`${who} was told of position ${found}, which must not come`)
  },
  push_until_credit: (world, { who, space, document, change }) => world.client(who).pushUntilCredit(space, { document, change: world.chunk(change) }),
  overrun: (world, { who, space, document, change }) => world.client(who).overrun(space, { document, change: world.chunk(change) }),
  not_filled: (world, { who, space, writes }) => {
    const came = world.client(who).filled(space)
    const bad = writes.map(write => hashOf(world, write)).find(write => came.some(one => mismatch(write, one) === null))
    if (bad) throw new Failure(`${who} was filled with what must not come: ${show(bad)}`)
  },
}

const hashOf = (world, what) => (typeof what.change !== "string" ? what : { ...what, change: world.hashes([what.change])[0] })
