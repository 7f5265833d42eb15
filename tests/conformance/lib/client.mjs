// What clients of both protocols share: a connection, what came over it, and waiting with patience.
import { connect } from "./websocket.mjs"
import { mismatch, show } from "./match.mjs"

/** The session does not go as its file says. */
export class Failure extends Error {}

export class Client {
  /** `protocol` is the WebSocket subprotocol that is asked for, or null. */
  constructor(name, world, protocol) {
    this.name = name
    this.world = world
    this.protocol = protocol
    this.inbox = []
    this.closed = null
    /** What broke a rule that holds in every session. */
    this.broken = null
    this.waiting = []
  }

  async connect() {
    try {
      this.socket = await connect(this.world.url, { protocol: this.protocol ?? undefined, headers: this.world.headers })
    } catch (error) {
      throw new Failure(`${this.name} cannot connect: ${error.message}`)
    }
    this.socket.onMessage = bytes => this.#take(bytes)
    this.socket.onClose = how => {
      this.closed = how
      this.wake()
    }
  }

  #take(bytes) {
    try {
      if (typeof bytes === "string") throw new Failure("a text message, where all are binary")
      const message = this.read(bytes)
      if (message !== null) this.inbox.push(message)
    } catch (error) {
      this.broken ??= error.message
    }
    this.wake()
  }

  wake() {
    this.waiting.splice(0).forEach(wake => wake())
  }

  send(bytes) {
    this.socket.send(bytes)
  }

  /** Waits until `found()` returns something, and returns it. `what` says what is waited for. */
  async until(what, found, { mayBeClosed = false } = {}) {
    const end = Date.now() + this.world.patience
    for (;;) {
      if (this.broken) throw new Failure(`the server told ${this.name} what it never may: ${this.broken}`)
      const result = found()
      if (result !== undefined && result !== null && result !== false) return result
      if (this.closed && !mayBeClosed) throw new Failure(`the server closed with ${this.closed.code} while ${this.name} waited for ${what}`)
      const left = end - Date.now()
      if (left <= 0) throw new Failure(`${this.name} waited in vain for ${what}; the last that came: ${show(this.inbox.at(-1) ?? this.last)}`)
      await new Promise(resolve => {
        const timer = setTimeout(resolve, left)
        this.waiting.push(() => {
          clearTimeout(timer)
          resolve()
        })
      })
    }
  }

  /** Takes messages until one matches. Others have to be of the types that may come between, and none may match `never`. */
  async expect(pattern, { between = [], never = [] } = {}) {
    return this.until(show(pattern), () => {
      while (this.inbox.length > 0) {
        const message = this.inbox.shift()
        this.last = message
        const bad = never.find(one => mismatch(one, this.view(message)) === null)
        if (bad) throw new Failure(`${this.name} got what must not come: ${show(message)}`)
        const why = mismatch(pattern, this.view(message))
        if (why === null) return message
        const type = message.type ?? message.kind
        if (between !== "any" && !between.includes(type) && !this.between.includes(type)) {
          throw new Failure(`${this.name} got ${show(message)} and not ${show(pattern)}: ${why}`)
        }
      }
    })
  }

  /** Waits for the close, and returns its code and the error that was said before it. */
  async expectClose({ codes, said }) {
    const closed = await this.until("the close", () => this.closed, { mayBeClosed: true })
    const errors = this.inbox.filter(message => (message.type ?? message.kind) === "error")
    if (codes && !codes.includes(closed.code)) {
      throw new Failure(`the server closed ${this.name} with ${closed.code} (${closed.reason}) and not with ${codes.join(" or ")}`)
    }
    if (said && !errors.some(error => mismatch(said, this.view(error)) === null)) {
      throw new Failure(`before the close ${this.name} heard ${show(errors)}, and no ${show(said)}`)
    }
  }

  /** Listens for a while, and fails if a message matches. */
  async nothing(pattern, milliseconds) {
    await new Promise(resolve => setTimeout(resolve, milliseconds))
    const found = this.inbox.find(message => mismatch(pattern, this.view(message)) === null)
    if (found) throw new Failure(`${this.name} got what must not come: ${show(found)}`)
    if (this.broken) throw new Failure(`the server told ${this.name} what it never may: ${this.broken}`)
  }

  /** A message as patterns see it. */
  view(message) {
    return message
  }
}
