// The messages of `rejoin.v1`: from bytes to their meaning as JSON and back.
//
// The meaning of a message is its `kind` by name and its fields. Ids, hashes, changes and data are lower-case hex.
import { BadMessage, hex, unhex } from "./bytes.mjs"
import { leb } from "./sync.mjs"

const NUMBER_MAX = Number.MAX_SAFE_INTEGER
const LIMITS = {
  frame: 16_777_216, peerId: 256, token: 8_192, subscriptions: 1_024, entries: 16_384, change: 8_388_608, by: 256,
  snapshot: 8_388_608, documents: 16_384, heads: 1_024, presenceValues: 256, presenceBytes: 1_048_576, presenceKey: 256,
  ttl: 3_600_000, credit: 1_073_741_824, errorText: 1_024, rejectText: 256,
}

const KINDS = {
  hello: [0x01, "client"], welcome: [0x02, "relay"], error: [0x03, "both"], credit: [0x04, "both"], subscribe: [0x05, "client"],
  subscribed: [0x06, "relay"], unsubscribe: [0x07, "client"], push: [0x08, "client"], ack: [0x09, "relay"],
  entries: [0x0a, "relay"], "caught-up": [0x0b, "relay"], cursor: [0x0c, "client"], compare: [0x0d, "client"],
  lacking: [0x0e, "relay"], fill: [0x0f, "relay"], snapshot: [0x10, "relay"], open: [0x11, "client"], opened: [0x12, "relay"],
  close: [0x13, "client"], listing: [0x14, "relay"], renew: [0x15, "client"], renewed: [0x16, "relay"],
  presence: [0x80, "both"], seen: [0x81, "relay"], hint: [0x82, "relay"],
}
const NAMES = Object.fromEntries(Object.entries(KINDS).map(([name, [number]]) => [number, name]))

/** Which messages are taken off the credit of the side that sends them. */
export const COSTS = new Set(["push", "entries", "compare", "lacking", "fill", "snapshot", "opened", "listing"])

/** Codes of the protocol: number, name, and the close code if it is fatal (0 if it never is). */
export const CODES = {
  1: ["version", 1002], 2: ["frame-malformed", 1007], 3: ["frame-invalid", 1002], 4: ["frame-limit", 1009],
  5: ["frame-unknown-kind", 1002], 6: ["unexpected", 1002], 7: ["credit-overrun", 1002], 8: ["unauthenticated", 1008],
  9: ["forbidden", 1008], 10: ["space-unknown", 1002], 11: ["not-subscribed", 1002], 12: ["cursor-ahead", 1002],
  13: ["too-many", 1008], 14: ["busy", 1013], 15: ["going-away", 1001], 16: ["internal", 1011], 64: ["change-malformed", 0],
  65: ["change-limit", 0], 66: ["change-invalid", 0], 67: ["change-missing", 0], 68: ["change-conflict", 0],
  69: ["document-full", 0], 70: ["actor-reused", 0], 80: ["read-only", 0], 81: ["document-deleted", 0],
  82: ["document-elsewhere", 0], 83: ["quota", 0], 84: ["delete-forbidden", 0], 85: ["not-stored", 0], 86: ["actor-owned", 0],
}
const codeName = number => CODES[number]?.[0] ?? `code-${number}`
const codeNumber = name => Number(Object.keys(CODES).find(number => CODES[number][0] === name) ?? name.replace("code-", ""))

const malformed = text => new BadMessage("frame-malformed", text)
const invalid = text => new BadMessage("frame-invalid", text)
const above = text => new BadMessage("frame-limit", text)

class Reader {
  constructor(bytes) {
    this.bytes = Buffer.from(bytes)
    this.at = 0
  }

  get left() {
    return this.bytes.length - this.at
  }

  raw(count) {
    if (count > this.left) throw malformed("cut off")
    this.at += count
    return this.bytes.subarray(this.at - count, this.at)
  }

  byte() {
    return this.raw(1)[0]
  }

  num(limit = NUMBER_MAX) {
    let number = 0n
    for (let shift = 0n; ; shift += 7n) {
      const byte = this.byte()
      number |= BigInt(byte & 127) << shift
      if (byte < 128) {
        if (byte === 0 && shift > 0n) throw malformed("a number that is not in its shortest form")
        break
      }
      if (shift > 56n) throw malformed("a number above its limit")
    }
    if (number > BigInt(NUMBER_MAX)) throw malformed("a number above its limit")
    if (number > BigInt(limit)) throw above("a number")
    return Number(number)
  }

  positive(limit) {
    const number = this.num(limit)
    if (number === 0) throw invalid("a number that is 0")
    return number
  }

  flag() {
    const byte = this.byte()
    if (byte > 1) throw invalid("a flag that is neither 0 nor 1")
    return byte === 1
  }

  choice(names) {
    const name = names[this.byte()]
    if (name === undefined) throw invalid("a choice that there is not")
    return name
  }

  id() {
    return hex(this.raw(16))
  }

  block(limit) {
    return this.raw(this.num(limit))
  }

  text(limit) {
    const bytes = this.block(limit)
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes)
    } catch {
      throw invalid("a text that is not UTF-8")
    }
  }

  list(limit, bytesEach, item) {
    const count = this.num(limit)
    if (count * bytesEach > this.left) throw malformed("a list longer than what follows")
    return Array.from({ length: count }, item)
  }

  some(limit, bytesEach, item) {
    const items = this.list(limit, bytesEach, item)
    if (items.length === 0) throw invalid("a list that is empty")
    return items
  }

  heads() {
    const heads = this.list(LIMITS.heads, 32, () => hex(this.raw(32)))
    if (heads.some((head, index) => index > 0 && heads[index - 1] >= head)) throw invalid("heads that are not sorted")
    return heads
  }

  tombstone() {
    return { purge: this.flag(), time: this.num(), by: this.text(LIMITS.by) }
  }

  documentHeads() {
    return { document: this.id(), heads: this.heads() }
  }

  subscription() {
    const space = this.id()
    const mode = this.choice(["everything", "listing", "chosen"])
    const start = this.choice(["beginning", "cursor", "compare"])
    if (start !== "cursor") return { space, mode, start }
    return { space, mode, start: { epoch: this.id(), position: this.num() } }
  }

  /** The entries of a batch, to the end of the message. */
  entries(mayskip, first) {
    const named = [], entries = []
    let next = first
    while (this.left > 0) {
      if (entries.length >= LIMITS.entries) throw above("entries")
      const head = this.num()
      if (head === 0) {
        if (!mayskip || entries.at(-1)?.skipped) throw invalid("positions without content that must not be here")
        entries.push({ skipped: this.positive() })
        next += entries.at(-1).skipped
      } else {
        entries.push(this.entry(named, head))
        next += 1
      }
      if (next - 1 > NUMBER_MAX) throw above("the last position")
    }
    if (entries.length === 0) throw malformed("cut off")
    return entries
  }

  pushed() {
    const named = [], writes = []
    let passedOn = false
    while (this.left > 0) {
      if (writes.length >= LIMITS.entries) throw above("entries")
      let head = this.num()
      if (head === 0) {
        passedOn = !passedOn
        head = this.num()
        if (head % 2 === 0) throw invalid("a turn without a change behind it")
      }
      const write = this.entry(named, head)
      writes.push(passedOn && write.change !== undefined ? { ...write, passedOn } : write)
    }
    if (writes.length === 0) throw malformed("cut off")
    return writes
  }

  entry(named, head) {
    const place = Math.floor((head - 1) / 2)
    if (place === 0) named.push(this.id())
    const document = named[place === 0 ? named.length - 1 : place - 1]
    if (document === undefined) throw invalid("a document that was not named")
    if (head % 2 === 0) return { document, deleted: this.tombstone() }
    const change = this.block(LIMITS.change)
    if (change.length < 10) throw invalid("a change shorter than a chunk")
    return { document, change: hex(change) }
  }

  about() {
    const about = this.byte()
    if (about === 1) return { space: this.id() }
    if (about === 2) return { space: this.id(), document: this.id() }
    if (about === 3) return { batch: this.num() }
    return "connection"
  }

  result() {
    const count = this.positive()
    const outcome = this.choice(["stored", "duplicate", "rejected"])
    if (outcome === "stored") return { count, stored: this.positive() }
    if (outcome === "duplicate") return { count, duplicate: true }
    return { count, rejected: codeName(this.num(65_535)), text: this.text(LIMITS.rejectText) }
  }

  listed() {
    const { document, heads } = this.documentHeads()
    if (heads.length === 0) return { document, deleted: this.tombstone() }
    return { document, heads, changes: this.num(), bytes: this.num() }
  }

  value() {
    const author = this.text(LIMITS.peerId), document = this.id(), key = this.text(LIMITS.presenceKey)
    return { author, document, key, sequence: this.num(), ttl: this.num(LIMITS.ttl), data: hex(this.block(LIMITS.presenceBytes)) }
  }
}

const READ = {
  hello(reader) {
    const lowest = reader.positive(), highest = reader.positive()
    if (lowest > highest) throw invalid("the highest version is below the lowest")
    if (lowest > 1) throw new BadMessage("version", `${lowest} to ${highest}`)
    const hello = { lowest, highest, peer: reader.text(LIMITS.peerId) }
    hello.store = reader.flag() ? reader.id() : null
    hello.takesSnapshots = reader.flag()
    hello.token = reader.text(LIMITS.token)
    hello.credit = reader.num(LIMITS.credit)
    hello.subscriptions = reader.list(LIMITS.subscriptions, 18, () => reader.subscription())
    if (highest > 1) reader.at = reader.bytes.length
    return hello
  },
  welcome(reader) {
    const version = reader.positive()
    if (version !== 1) throw new BadMessage("version", String(version))
    return {
      version, store: reader.id(), epoch: reader.id(), frameBytes: reader.positive(), changeBytes: reader.positive(),
      batchEntries: reader.positive(), presenceBytes: reader.num(), credit: reader.num(LIMITS.credit), permitSeconds: reader.num(),
    }
  },
  error(reader) {
    const code = codeName(reader.num(65_535))
    const error = { code, text: reader.text(LIMITS.errorText), fatal: reader.flag(), about: reader.about() }
    reader.at = reader.bytes.length
    return error
  },
  credit: reader => ({ bytes: reader.num(LIMITS.credit) }),
  subscribe: reader => ({ subscriptions: reader.some(LIMITS.subscriptions, 18, () => reader.subscription()) }),
  subscribed: reader => ({
    space: reader.id(), access: reader.choice([undefined, "read", "write", "admin"]), compared: reader.flag(), after: reader.num(),
    end: reader.num(), documents: reader.num(), bytes: reader.num(),
  }),
  unsubscribe: reader => ({ spaces: reader.some(LIMITS.subscriptions, 16, () => reader.id()) }),
  push: reader => ({ batch: reader.positive(), space: reader.id(), writes: reader.pushed() }),
  ack(reader) {
    const batch = reader.positive()
    const results = reader.some(LIMITS.entries, 2, () => reader.result())
    if (results.reduce((sum, { count }) => sum + count, 0) > LIMITS.entries) throw above("results")
    return { batch, results }
  },
  entries(reader) {
    const space = reader.id(), first = reader.positive()
    return { space, first, entries: reader.entries(true, first) }
  },
  "caught-up": reader => ({ space: reader.id(), position: reader.num() }),
  cursor: reader => ({ space: reader.id(), position: reader.num() }),
  compare: reader => ({
    space: reader.id(), documents: reader.list(LIMITS.documents, 17, () => reader.documentHeads()), last: reader.flag(),
  }),
  lacking: reader => READ.compare(reader),
  fill: reader => ({ space: reader.id(), writes: reader.entries(false, 0) }),
  snapshot(reader) {
    const snapshot = { space: reader.id(), document: reader.id(), position: reader.num(), heads: reader.heads() }
    if (snapshot.heads.length === 0) throw invalid("a snapshot without heads")
    return { ...snapshot, chunk: hex(reader.block(LIMITS.snapshot)) }
  },
  open: reader => ({ space: reader.id(), documents: reader.some(LIMITS.documents, 17, () => reader.documentHeads()) }),
  opened: reader => ({
    space: reader.id(), position: reader.num(), documents: reader.some(LIMITS.documents, 17, () => reader.documentHeads()),
  }),
  close: reader => ({ space: reader.id(), documents: reader.some(LIMITS.documents, 16, () => reader.id()) }),
  listing: reader => ({
    space: reader.id(), position: reader.num(), documents: reader.some(LIMITS.documents, 20, () => reader.listed()),
  }),
  renew: reader => ({ token: reader.text(LIMITS.token) }),
  renewed: reader => ({ seconds: reader.num() }),
  presence(reader) {
    const space = reader.id()
    const values = reader.some(LIMITS.presenceValues, 21, () => reader.value())
    if (values.reduce((sum, { data }) => sum + data.length / 2, 0) > LIMITS.presenceBytes) throw above("presence data")
    return { space, values }
  },
  seen: reader => ({ space: reader.id(), store: reader.id(), position: reader.num() }),
  hint: reader => ({ space: reader.id(), end: reader.num() }),
}

/** Reads one message that this side (`client` or `relay`) sent. Throws `BadMessage`. */
export function decode(bytes, side) {
  if (bytes.length > LIMITS.frame) throw above("message")
  const reader = new Reader(bytes)
  const number = reader.byte()
  const kind = NAMES[number]
  if (kind === undefined) throw new BadMessage(number < 0x80 ? "frame-unknown-kind" : "ignore", `kind ${number}`)
  if (![side, "both"].includes(KINDS[kind][1])) throw new BadMessage("frame-unknown-kind", `${kind} goes the other way`)
  const fields = READ[kind](reader)
  if (reader.left > 0) throw malformed("bytes follow the message")
  return { kind, ...fields }
}

class Writer {
  constructor(kind) {
    this.parts = [Buffer.from([KINDS[kind][0]])]
  }

  raw(bytes) {
    this.parts.push(Buffer.from(bytes))
    return this
  }

  num(number) {
    return this.raw(leb(number))
  }

  byte(byte) {
    return this.raw([byte])
  }

  flag(flag) {
    return this.byte(flag ? 1 : 0)
  }

  id(text) {
    return this.raw(unhex(text))
  }

  block(bytes) {
    return this.num(bytes.length).raw(bytes)
  }

  text(text) {
    return this.block(Buffer.from(text))
  }

  list(items, item) {
    this.num(items.length)
    items.forEach(one => item(one))
    return this
  }

  heads(heads) {
    return this.list(heads, head => this.id(head))
  }

  tombstone({ purge = false, time, by }) {
    return this.flag(purge).num(time).text(by)
  }

  documentHeads(documents) {
    return this.list(documents, ({ document, heads = [] }) => this.id(document).heads(heads))
  }

  subscriptions(subscriptions) {
    return this.list(subscriptions, ({ space, mode = "everything", start = "beginning" }) => {
      this.id(space).byte(["everything", "listing", "chosen"].indexOf(mode))
      if (typeof start === "string") this.byte({ beginning: 0, compare: 2 }[start])
      else this.byte(1).id(start.epoch).num(start.position)
    })
  }

  entries(entries) {
    const named = []
    let passedOn = false
    for (const entry of entries) {
      if (entry.skipped !== undefined) {
        this.num(0).num(entry.skipped)
        continue
      }
      const place = named.indexOf(entry.document) + 1
      const deletion = entry.deleted === undefined ? 0 : 1
      if (!deletion && passedOn !== Boolean(entry.passedOn)) {
        passedOn = !passedOn
        this.num(0)
      }
      this.num(1 + 2 * place + deletion)
      if (place === 0) {
        named.push(entry.document)
        this.id(entry.document)
      }
      if (deletion) this.tombstone(entry.deleted)
      else this.block(unhex(entry.change))
    }
    return this
  }
}

const WRITE = {
  hello(writer, { lowest = 1, highest = 1, peer, store = null, takesSnapshots = false, token = "", credit = 2_097_152, subscriptions = [] }) {
    writer.num(lowest).num(highest).text(peer).flag(store !== null)
    if (store !== null) writer.id(store)
    writer.flag(takesSnapshots).text(token).num(credit).subscriptions(subscriptions)
  },
  welcome: (writer, it) =>
    writer.num(it.version).id(it.store).id(it.epoch).num(it.frameBytes).num(it.changeBytes).num(it.batchEntries)
      .num(it.presenceBytes).num(it.credit).num(it.permitSeconds),
  error(writer, { code, text = "", fatal = false, about = "connection" }) {
    writer.num(codeNumber(code)).text(text).flag(fatal)
    if (about === "connection") writer.byte(0)
    else if (about.batch !== undefined) writer.byte(3).num(about.batch)
    else if (about.document !== undefined) writer.byte(2).id(about.space).id(about.document)
    else writer.byte(1).id(about.space)
  },
  credit: (writer, { bytes }) => writer.num(bytes),
  subscribe: (writer, { subscriptions }) => writer.subscriptions(subscriptions),
  subscribed: (writer, it) =>
    writer.id(it.space).byte([null, "read", "write", "admin"].indexOf(it.access)).flag(it.compared).num(it.after).num(it.end)
      .num(it.documents).num(it.bytes),
  unsubscribe: (writer, { spaces }) => writer.list(spaces, space => writer.id(space)),
  push: (writer, { batch, space, writes }) => writer.num(batch).id(space).entries(writes),
  ack: (writer, { batch, results }) =>
    writer.num(batch).list(results, result => {
      writer.num(result.count)
      if (result.stored !== undefined) writer.byte(0).num(result.stored)
      else if (result.duplicate) writer.byte(1)
      else writer.byte(2).num(codeNumber(result.rejected)).text(result.text)
    }),
  entries: (writer, { space, first, entries }) => writer.id(space).num(first).entries(entries),
  "caught-up": (writer, { space, position }) => writer.id(space).num(position),
  cursor: (writer, { space, position }) => writer.id(space).num(position),
  compare: (writer, { space, documents = [], last = true }) => writer.id(space).documentHeads(documents).flag(last),
  lacking: (writer, { space, documents, last }) => writer.id(space).documentHeads(documents).flag(last),
  fill: (writer, { space, writes }) => writer.id(space).entries(writes),
  snapshot: (writer, it) => writer.id(it.space).id(it.document).num(it.position).heads(it.heads).block(unhex(it.chunk)),
  open: (writer, { space, documents }) => writer.id(space).documentHeads(documents),
  opened: (writer, { space, position, documents }) => writer.id(space).num(position).documentHeads(documents),
  close: (writer, { space, documents }) => writer.id(space).list(documents, document => writer.id(document)),
  listing: (writer, { space, position, documents }) =>
    writer.id(space).num(position).list(documents, one => {
      writer.id(one.document).heads(one.heads ?? [])
      if (one.deleted) writer.tombstone(one.deleted)
      else writer.num(one.changes).num(one.bytes)
    }),
  renew: (writer, { token }) => writer.text(token),
  renewed: (writer, { seconds }) => writer.num(seconds),
  presence: (writer, { space, values }) =>
    writer.id(space).list(values, it =>
      writer.text(it.author).id(it.document).text(it.key).num(it.sequence).num(it.ttl).block(unhex(it.data)),
    ),
  seen: (writer, { space, store, position }) => writer.id(space).id(store).num(position),
  hint: (writer, { space, end }) => writer.id(space).num(end),
}

/** Writes a message from its meaning. */
export function encode(message) {
  const writer = new Writer(message.kind)
  WRITE[message.kind](writer, message)
  return Buffer.concat(writer.parts)
}
