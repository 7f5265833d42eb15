// A page that connects once, with the ticket that is in its own address, or with none.
import { Repo } from "@automerge/automerge-repo"
import { BrowserWebSocketClientAdapter } from "@automerge/automerge-repo-network-websocket"

const ticket = new URLSearchParams(location.search).get("ticket")
const url = `wss://relay.example.org/${ticket ? `?ticket=${ticket}` : ""}`
export const repo = new Repo({ network: [new BrowserWebSocketClientAdapter(url)] })
