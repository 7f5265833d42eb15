// Why we lose, where we do: by workload and figure. RESULTS.md lists every lost figure by itself; what is not explained here is called so there.

const ENGINE = "Every write is an Automerge change of its own: encoded, hashed by SHA-256, put into the graph and the registers, in WASM that is built for size (`opt-level = \"z\"`, about half as fast)."
const FLUSH = "A write is done here when it is flushed to disk, redb's commit of about 18 pages; nobody else's here survives a power failure."
const LEAN = "Yjs, Loro and TinyBase write no hashes and keep no chain of them: an update is a few bytes or a timestamp."
const JAVASCRIPT = "They are JavaScript; ours, Automerge's and Loro's are engines in WASM. Ours brings the store (redb), the sync sessions and the gate along, which the others' 800 kB do not."
const WASM_START = "Node compiles our 3.7 MB of WASM at each start (browsers too, while it comes) and opens a database file; a library of JavaScript that parses one file is there at once."
const ONE_BY_ONE = "Reading a document through the API is a request to the engine, which looks its registers up in the store; TinyBase and the like have everything in memory already."
const COMMIT = "The relay passes nothing on before it is flushed to disk; commits begin 10 ms apart where changes come one by one, and the disk here is shared. Yjs, Hocuspocus, TinyBase and Loro pass on from memory and store later. And all readers share one process here, on a busy machine: what an engine in WASM does for each change (see the last figure) delays the others."
const READERS = "Nine tenths of it are the clients': each of the 20 readers is a WASM engine that checks every change at the gate and files it, where Yjs applies a few bytes."
const HISTORY = "All 50,000 changes are kept one by one with their hashes until they are packed, and redb's file has free pages (`Repo::compact` gives them back: see the native table). TinyBase keeps the last value and its time only, Loro and Automerge one compressed block; Yjs drops what was overwritten."

export const reasons = {
  "write/write": `${ENGINE} ${LEAN} And they flush nothing.`,
  "write-each/write": `${FLUSH} Then: ${ENGINE.charAt(0).toLowerCase()}${ENGINE.slice(1)}`,
  "read/read": "A snapshot of the document is a plain object here, and reading it a property; what is measured beside that is a call of the API.",
  "open/first": WASM_START,
  "open/all": `${WASM_START} ${ONE_BY_ONE}`,
  "save/save": "A document of maps is never in memory here: exporting it loads its history from the store into Automerge, once, and takes in what was written since. The others hold it already.",
  "save/size": "TinyBase keeps no history. Otherwise it is Automerge's format to the byte.",
  "sync/time": "Each document's change is checked at the gate, filed with its graph and registers and flushed to disk; what has fewer checks and no flush may be sooner.",
  "sync/bytes": "Nothing is compressed between changes of different documents.",
  "catch-up/time": `${WASM_START} After that little is left to do.`,
  "catch-up/bytes": "Every change comes with its history; TinyBase and PouchDB send the last value only.",
  "reconnect/time": `${WASM_START} All engines are started within the time measured, one WASM instance each.`,
  "reconnect/bytes": "Hashes of what is there, once; a handshake with tokens and limits.",
  "reconnect/server": "Too small to be measured well.",
  "fan-out/server": "Changes are checked, granted, logged and flushed before they are passed on.",
  "fan-out/middle": COMMIT,
  "fan-out/slow": COMMIT,
  "fan-out/all": READERS,
  "idle/each": "A connection has its session, its queue and a document of its own in the log.",
  "store/size": HISTORY,
  "store/time": `${ENGINE} ${FLUSH}`,
  "wasm-size/all": JAVASCRIPT,
  "wasm-size/wasm": JAVASCRIPT,
  "wasm-speed/write": `${ENGINE} A write also travels from the page to the engine as a request, and back as an answer and a patch, because in a browser they are in different threads. ${LEAN}`,
  "wasm-speed/read": "The snapshot of a document that is being written is made anew from its patches; small, and noisy.",
}

// What we know of cells that failed, by workload and peer.
export const failures = {
  "catch-up/hocuspocus":
    "Some documents lacked, after half a minute and more, changes that the server had acknowledged; in other runs everything arrived. Not settled; its SQLite extension does not wait for what it stores (`store` does not await `db.run`), so a document that is opened again at once may be read before it was written.",
  "idle/samod":
    "Waiting until the server shows the same heads did not end; with fewer connections it does. Whether samod or our way to wait (automerge-repo has none) is at fault is not settled.",
  "open/automerge-repo":
    "In the last of three rounds one document of 1,000 could not be read from its store within half a minute; in the others all could. Not settled.",
  "store/pouchdb": "50,000 revisions, one after the other, at 2.5 ms and more each on this machine, take longer than the cell may.",
}
