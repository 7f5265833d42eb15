// WebSockets (RFC 6455) in plain code, both ends: the kit needs Node and nothing else, and may send what a library would refuse.
import { createHash, randomBytes } from "node:crypto"
import { request as overHttp } from "node:http"
import { request as overHttps } from "node:https"

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
const CONTINUED = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10

const acceptOf = key => createHash("sha1").update(key + GUID).digest("base64")

/**
 * One connection. `onMessage(bytes | string)` is called for each whole message, `onClose({ code, reason })` once; the code is 1006
 * where the other side went without a word, and 1005 where its close frame names none.
 */
export class Socket {
  constructor(stream, { masks, head, subprotocol = null }) {
    this.stream = stream
    this.masks = masks
    this.subprotocol = subprotocol
    this.onMessage = () => {}
    this.onClose = () => {}
    this.buffer = Buffer.alloc(0)
    this.parts = []
    this.partsType = 0
    this.said = null
    this.isClosed = false
    stream.setNoDelay?.(true)
    stream.on("data", bytes => this.#take(bytes))
    stream.on("error", () => {})
    stream.on("close", () => this.#closed(this.said ?? { code: 1006, reason: "" }))
    stream.on("end", () => stream.end())
    if (head?.length > 0) stream.unshift(head)
  }

  /** Sends one message: a text, or bytes. */
  send(message) {
    if (typeof message === "string") this.#write(TEXT, Buffer.from(message))
    else this.#write(BINARY, Buffer.from(message))
  }

  /** Says that it closes, and closes when the other side has answered, or soon. */
  close(code = 1000, reason = "") {
    if (this.isClosed || this.isClosing) return
    this.isClosing = true
    const payload = Buffer.alloc(2 + Buffer.byteLength(reason))
    payload.writeUInt16BE(code)
    payload.write(reason, 2)
    this.#write(CLOSE, payload)
    setTimeout(() => this.stream.destroy(), 500).unref()
  }

  /** Goes without a word. */
  cut() {
    this.stream.destroy()
  }

  #write(type, payload) {
    if (this.isClosed || this.stream.destroyed) return
    const mask = this.masks ? 0x80 : 0
    let head
    if (payload.length < 126) {
      head = Buffer.from([0x80 | type, mask | payload.length])
    } else if (payload.length < 65_536) {
      head = Buffer.from([0x80 | type, mask | 126, payload.length >> 8, payload.length & 255])
    } else {
      head = Buffer.alloc(10)
      head[0] = 0x80 | type
      head[1] = mask | 127
      head.writeBigUInt64BE(BigInt(payload.length), 2)
    }
    if (!this.masks) return void this.stream.write(Buffer.concat([head, payload]))
    const key = randomBytes(4)
    const masked = Buffer.from(payload)
    for (let at = 0; at < masked.length; at++) masked[at] ^= key[at & 3]
    this.stream.write(Buffer.concat([head, key, masked]))
  }

  #take(bytes) {
    this.buffer = this.buffer.length === 0 ? bytes : Buffer.concat([this.buffer, bytes])
    for (;;) {
      const frame = this.#next()
      if (frame === null) return
      this.#frame(frame)
    }
  }

  #next() {
    const { buffer } = this
    if (buffer.length < 2) return null
    const isMasked = (buffer[1] & 0x80) !== 0
    let length = buffer[1] & 0x7f, at = 2
    if (length === 126) {
      if (buffer.length < 4) return null
      length = buffer.readUInt16BE(2)
      at = 4
    } else if (length === 127) {
      if (buffer.length < 10) return null
      length = Number(buffer.readBigUInt64BE(2))
      at = 10
    }
    const end = at + (isMasked ? 4 : 0) + length
    if (buffer.length < end) return null
    const payload = Buffer.from(buffer.subarray(end - length, end))
    if (isMasked) for (let byte = 0; byte < length; byte++) payload[byte] ^= buffer[at + (byte & 3)]
    this.buffer = buffer.subarray(end)
    return { isLast: (buffer[0] & 0x80) !== 0, type: buffer[0] & 0x0f, payload }
  }

  #frame({ isLast, type, payload }) {
    if (type === PING) return this.#write(PONG, payload)
    if (type === PONG) return
    if (type === CLOSE) {
      this.said ??= {
        code: payload.length >= 2 ? payload.readUInt16BE(0) : 1005,
        reason: payload.subarray(2).toString(),
      }
      if (!this.isClosing) this.#write(CLOSE, payload.subarray(0, 2))
      this.isClosing = true
      return this.stream.end()
    }
    if (type !== CONTINUED) {
      this.parts = []
      this.partsType = type
    }
    this.parts.push(payload)
    if (!isLast) return
    const whole = Buffer.concat(this.parts)
    this.parts = []
    this.onMessage(this.partsType === TEXT ? whole.toString() : whole)
  }

  #closed(how) {
    if (this.isClosed) return
    this.isClosed = true
    this.onClose(how)
  }
}

/** Opens a connection. Rejects if the server does not switch to WebSocket. */
export function connect(url, { protocol, headers = {} } = {}) {
  const address = new URL(url)
  const isSecure = address.protocol === "wss:"
  const key = randomBytes(16).toString("base64")
  const asked = {
    ...headers,
    Connection: "Upgrade",
    Upgrade: "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": key,
    ...(protocol ? { "Sec-WebSocket-Protocol": protocol } : {}),
  }
  const options = {
    hostname: address.hostname,
    port: address.port || (isSecure ? 443 : 80),
    path: address.pathname + address.search,
    headers: asked,
    agent: false,
  }
  return new Promise((resolve, reject) => {
    const request = (isSecure ? overHttps : overHttp)(options)
    request.on("upgrade", (response, stream, head) => {
      if (response.headers["sec-websocket-accept"] !== acceptOf(key)) {
        stream.destroy()
        return reject(new Error("the server's Sec-WebSocket-Accept is wrong"))
      }
      resolve(new Socket(stream, { masks: true, head, subprotocol: response.headers["sec-websocket-protocol"] ?? null }))
    })
    request.on("response", response => {
      response.resume()
      reject(new Error(`the server answers ${response.statusCode} instead of speaking WebSocket`))
    })
    request.on("error", reject)
    request.end()
  })
}

/** Takes connections on an HTTP server. `onSocket(socket, request)`; `choose(asked)` names the subprotocol to answer, or null. */
export function accept(server, choose, onSocket) {
  server.on("upgrade", (request, stream, head) => {
    const asked = (request.headers["sec-websocket-protocol"] ?? "").split(",").map(name => name.trim()).filter(Boolean)
    const chosen = choose(asked)
    const lines = [
      "HTTP/1.1 101 Switching Protocols",
      "Upgrade: websocket",
      "Connection: Upgrade",
      `Sec-WebSocket-Accept: ${acceptOf(request.headers["sec-websocket-key"])}`,
      ...(chosen ? [`Sec-WebSocket-Protocol: ${chosen}`] : []),
    ]
    stream.write(lines.join("\r\n") + "\r\n\r\n")
    onSocket(new Socket(stream, { masks: false, head, subprotocol: chosen }), request)
  })
}
