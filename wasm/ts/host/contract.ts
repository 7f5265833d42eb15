/**
 * What the engine and its host are to each other. The engine is a WASM module; whatever it needs of the world it asks of the host, and both
 * sides are small enough that a test can stand in for either.
 */

/**
 * A file that answers at once: an OPFS sync access handle, a file descriptor, or memory.
 *
 * Throws `{ code: "quota" }` when there is no room left.
 */
export interface StoreFile {
  /** Reads from an offset into the whole of `into`, and says how many bytes there were. */
  read(at: number, into: Uint8Array): number;
  /** Writes the whole of `from`. */
  write(at: number, from: Uint8Array): void;
  size(): number;
  /** Cuts the file to this size, or lengthens it with zeros. */
  truncate(size: number): void;
  /** Returns when everything written is safe from a power loss. */
  flush(): void;
  close(): void;
}

/** The files of a store. */
export interface StoreFiles {
  file: StoreFile;
  journal: StoreFile;
  fresh: boolean;
}

/** A change of a document, by the document's id and the change's hash. */
export type ChangeName = [doc: string, hash: string];

/** What the engine is opened with. */
export interface OpenOptions {
  /** Absent: the engine keeps everything in its own memory. */
  file?: StoreFile;
  /** Where small writes go first. It belongs to the file: both are there, or the last writes are not. */
  journal?: StoreFile;
  /** Changes that must never be applied again, because applying them trapped. */
  now_quarantined?: ChangeName[];
  /** The document whose changes are to be applied one at a time, each reported, because applying them trapped. */
  suspect?: [doc: string, hash: string | null];
}

/** What the engine hears of a socket. `close` comes last, once, and also when there was no `open`. */
export interface SocketEvents {
  open(protocol: string): void;
  /** Null stands for a text frame, which no protocol here has. */
  message(data: Uint8Array | null): void;
  close(code: number, reason: string): void;
}

/** A socket in the hands of the engine. */
export interface Socket {
  /** False when the socket is no longer open. The bytes are the engine's own again when this returns. */
  send(data: Uint8Array): boolean;
  /** Bytes that were sent and did not leave yet. */
  buffered(): number;
  close(code: number, reason: string): void;
}

/** What the engine asks of its host. */
export interface Host {
  /** Tells a session, or all of them ("" ), something. */
  event(session: string, json: string): void;
  socket(url: string, protocols: string[], on: SocketEvents): Socket;
  /** Called before Automerge touches a document, and with nulls after: after a trap the host knows which it was. */
  working(doc: string | null, hash: string | null): void;
  /** Told by the engine's panic hook, if it has one: the last words before the trap. */
  panicked(message: string): void;
  /** Takes a text for a developer. It holds nothing of any document. */
  log(level: "warn" | "error", text: string): void;
}

/** An engine that runs. */
export interface Engine {
  attach(session: string): void;
  detach(session: string): void;
  /** Rejects with `{ code, message, details? }`; with anything else, the engine has trapped. */
  call(session: string, id: number, acked: number, method: string, args: string, bytes?: Uint8Array): Promise<string | Uint8Array>;
  close(): Promise<void>;
  /** The network came back (or went): the engine tries again at once. Engines that do not have it find out by themselves. */
  online?(isOnline: boolean): void;
}

/** One instance of the WASM module. A trap leaves its memory in any state, so the next engine needs a new instance. */
export interface Instance {
  open(options: OpenOptions, host: Host): Promise<Engine>;
  /** Silences the instance: its timers and tasks do not run any more. */
  kill(): void;
}

/** Makes an instance. Traps in its timers and tasks, where nobody waits for an answer, are told to `trap`. */
export interface LoadEngine {
  (trap: (error: unknown) => void): Promise<Instance>;
  /** Fetches and compiles the module ahead of its first instance. */
  preload(): Promise<unknown>;
}

/** Where a store lives. */
export interface Place {
  readonly kind: "opfs" | "memory" | "file";
  /** Opens the store's files. `fresh` says that there were none. Rejects with `{ code: "store_in_use" }` while another holds them. */
  open(): Promise<StoreFiles>;
  /** Notes that an engine has opened the file: from now on it is never made anew. */
  completed(): Promise<void>;
  /** Removes a file whose making was interrupted; false (and nothing removed) if an engine ever opened it. */
  discard(): Promise<boolean>;
  /** The changes that {@link keepQuarantine} kept. */
  quarantine(): Promise<ChangeName[]>;
  keepQuarantine(changes: ChangeName[]): Promise<void>;
  estimate(): Promise<{ usage: number; quota: number } | undefined>;
  /** Removes the store with all that belongs to it. The file is closed. */
  remove(): Promise<void>;
  /** Lets others have the store. */
  release(): Promise<void>;
}
