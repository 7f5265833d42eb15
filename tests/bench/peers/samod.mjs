// samod's server, written in Rust, with automerge-repo's clients: it has no client for JavaScript.

import { binary } from "../lib/binaries.mjs"
import { open } from "./automerge-repo.mjs"

export { open }
export const title = "samod + automerge-repo"
export const packages = ["samod", "@automerge/automerge-repo"]
export const document = "a document, its id known beforehand (the protocol has no list)"
export const durable = {
  client: "files (nodefs), written when flush() returns, not flushed to disk",
  server: "memory only",
}
/** What does without a server is automerge-repo's. */
export const onlyWithServer = true

export const server = {
  command: () => [binary("rejoin-tests-samod-server", "REJOIN_SAMOD_SERVER"), []],
  address: line => (/^\d+$/.test(line) ? `ws://127.0.0.1:${line}` : undefined),
}
