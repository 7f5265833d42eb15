// A server that is wrong on purpose: it passes all on to a right one, and changes on the way what a mutant changes.
import { createServer } from "node:http"
import { accept, connect } from "../lib/websocket.mjs"

/**
 * Listens before `upstream`. `make()` is called for each connection and may return `fromServer(bytes, send)`, `fromClient(bytes,
 * send)` and `closing({ code, reason })`, which take the place of passing on; `send.toClient` and `send.toServer` send. `names(chosen)`
 * changes the subprotocol that is answered. Returns the address and a function that stops it.
 */
export async function proxy(upstream, make, { names = chosen => chosen } = {}) {
  const server = createServer()
  const sockets = new Set()
  accept(server, asked => names(asked.includes("rejoin.v1") ? "rejoin.v1" : null), async (client, request) => {
    sockets.add(client)
    // A mutant that names no subprotocol speaks it all the same.
    const protocol = request.headers["sec-websocket-protocol"]
    const early = []
    client.onMessage = bytes => early.push(bytes)
    const upper = await connect(upstream, { protocol }).catch(() => null)
    if (upper === null) return client.cut()
    sockets.add(upper)
    const mutant = make()
    const send = { toClient: bytes => client.send(bytes), toServer: bytes => upper.send(bytes) }
    upper.onMessage = bytes => (mutant.fromServer ? mutant.fromServer(bytes, send) : send.toClient(bytes))
    client.onMessage = bytes => (mutant.fromClient ? mutant.fromClient(bytes, send) : send.toServer(bytes))
    upper.onClose = how => {
      const { code, reason } = mutant.closing?.(how) ?? how
      if (code === 1005 || code === 1006) client.cut()
      else client.close(code, reason)
    }
    client.onClose = () => upper.close()
    early.splice(0).forEach(bytes => client.onMessage(bytes))
  })
  await new Promise(resolve => server.listen(0, "127.0.0.1", resolve))
  const stop = () => {
    sockets.forEach(socket => socket.cut())
    server.close()
  }
  return { url: `ws://127.0.0.1:${server.address().port}/`, stop }
}
