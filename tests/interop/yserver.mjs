// The WebSocket server of the Yjs world (@y/websocket-server), in memory, as a peer for the benchmarks. Prints its
// port, then answers `cpu`. The room is the path of the URL.

import { answerCpu, emit, readLines } from "./lines.mjs"
import { parseArgs } from "node:util"
import { setupWSConnection } from "@y/websocket-server/utils"
import { WebSocketServer } from "ws"

const { values: flags } = parseArgs({ options: { port: { type: "string", default: "0" } } })

const sockets = new WebSocketServer({ host: "127.0.0.1", port: Number(flags.port) })
sockets.on("connection", setupWSConnection)
sockets.on("listening", () => emit({ event: "listening", port: sockets.address().port }))
readLines(answerCpu, () => sockets.close())
