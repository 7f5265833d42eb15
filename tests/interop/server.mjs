// The library's own WebSocket server, as its sync server uses it. Prints where it listens; answers the line "cpu" with
// what the process has used.
import { createInterface } from "node:readline"
import { Repo } from "@automerge/automerge-repo"
import { WebSocketServerAdapter } from "@automerge/automerge-repo-network-websocket"
import { NodeFSStorageAdapter } from "@automerge/automerge-repo-storage-nodefs"
import { WebSocketServer } from "ws"

const storageFlag = process.argv.indexOf("--storage")
const storage = storageFlag > 0 ? new NodeFSStorageAdapter(process.argv[storageFlag + 1]) : undefined
const sockets = new WebSocketServer({ host: "127.0.0.1", port: 0 })
new Repo({ storage, network: [new WebSocketServerAdapter(sockets)], sharePolicy: async () => false })
sockets.on("listening", () => process.stdout.write(JSON.stringify({ event: "listening", port: sockets.address().port }) + "\n"))

const lines = createInterface({ input: process.stdin })
lines.on("close", () => process.exit(0))
lines.on("line", line => {
  if (line.trim() !== "cpu") return
  const { user, system } = process.cpuUsage()
  process.stdout.write(JSON.stringify({ cpu_user_us: user, cpu_system_us: system, rss: process.memoryUsage().rss }) + "\n")
})
