/**
 * The seam between the page and the engine: types only.
 *
 * A {@link Link} carries requests to whatever runs the engine (this page's worker, another tab's worker, or this very thread) and brings its
 * events back. `ts/host` makes links, `ts/page` uses them, and tests put a model in between. Arguments and results are JSON values in tagged
 * form (see `values.ts`).
 */
import type { ErrorCode } from "./errors.js";

/** A tagged JSON value, as it travels between page and engine. */
export type Tagged = null | boolean | number | string | Tagged[] | { [key: string]: Tagged };

/** Keys and indices from the root of a document. */
export type WirePath = (string | number)[];

/** One step of an edit, as the engine takes it. */
export type WireOp =
  | ["set", WirePath, Tagged]
  | ["delete", WirePath]
  | ["increment", WirePath, number]
  | ["insert", WirePath, number, Tagged[]]
  | ["remove", WirePath, number, number]
  | ["splice", WirePath, number, number, string]
  | ["update", WirePath, string]
  | ["mark", WirePath, number, number, string, Tagged, string]
  | ["unmark", WirePath, number, number, string, string]
  | ["split", WirePath, number, Tagged]
  | ["join", WirePath, number]
  | ["block", WirePath, number, Tagged];

/** Ids of edits that follow each other travel as the first and the last of their row. */
export type WireIds = (number | [first: number, last: number])[];

/** The state in which the indices of an edit are meant, the session's own edits included; null where it has none. */
export type WireBase = { heads: string[]; own: WireIds } | null;

/** One step of what changed in a document, as the engine tells it. */
export type WirePatch =
  | ["set", WirePath, Tagged]
  | ["delete", WirePath]
  | ["insert", WirePath, number, Tagged[]]
  | ["remove", WirePath, number, number]
  | ["splice", WirePath, number, number, string]
  | ["increment", WirePath, number]
  | ["mark", WirePath]
  | ["conflict", WirePath]
  | ["all", Tagged];

/** What `open` answers. */
export interface WireOpened {
  heads: string[];
  value: Tagged;
  space: string | null;
  /** Changes of this document that no relay has acknowledged. */
  pending: number;
  /** The number of the last patch event before this value; the next one carries `n + 1`. */
  n: number;
  /** As in a patch event. Absent: every edit whose id is below that of this request is in the value. */
  upTo?: number;
}

/** The state of the connection, as the engine tells it; the host adds what it knows of the storage. */
export interface WireStatus {
  state: "offline" | "connecting" | "syncing" | "synced" | "waiting" | "closed" | "none";
  reason?: string;
  /** Milliseconds until the next attempt. */
  retryIn?: number;
  protocol?: string;
  /** Milliseconds until what the relay permits ends, unless the token is renewed. */
  tokenEndsIn?: number;
  progress?: { done: number; total: number; bytesDone: number; bytesTotal: number };
  /** Changes that no relay has acknowledged. */
  pending: number;
  storage: "opfs" | "memory" | "file";
  /** Whether the browser promised not to evict the store. */
  persisted?: boolean;
  /** Bytes used and bytes that may be used, as the browser estimates them. */
  quota?: { usage: number; quota: number };
  /** There was a store once, and it is gone: the browser has removed it, or the tab that had it in memory was closed. */
  evicted?: boolean;
  /** Whether this tab's worker runs the engine. */
  leader?: boolean;
  /** Why the engine or its store does not work, if so. */
  error?: { code: ErrorCode; message: string };
}

/** One value of presence, as the engine tells it. */
export interface WirePresence {
  author: string;
  key: string;
  value: Tagged;
  own: boolean;
  /** When it was set, in milliseconds since 1970. */
  since: number;
}

/** What the engine tells without being asked. */
export type EngineEvent =
  /** `lost`: its store was made just now, so what the page had open may not be in it. */
  | { e: "engine"; lost?: boolean }
  | {
      e: "patch";
      doc: string;
      n: number;
      heads: string[];
      /** The greatest edit id of this session such that all its edits up to it that were done are in this state. */
      upTo: number;
      origin: "local" | "remote";
      patches: WirePatch[];
    }
  | { e: "doc"; doc: string; kind: "deleted" | "rejected" | "rewritten" }
  | { e: "pending"; total: number; docs: Record<string, number> }
  | { e: "presence"; doc: string; values: WirePresence[] }
  | { e: "list" }
  | { e: "space"; space: string }
  | ({ e: "status" } & WireStatus);

/** The way from a page to its engine. */
export interface Link {
  /** Unique to this page's Repo object; 16 random bytes in hex. */
  readonly session: string;
  /** Sends a request. Ids rise by one; a resent request keeps its id, so the engine does it once. */
  request(method: string, args: unknown[], bytes?: Uint8Array): { id: number; result: Promise<unknown> };
  /** Sets the one handler of the engine's events. `{ e: "engine" }` comes each time another engine serves this page. */
  onEvent(handler: (event: EngineEvent) => void): void;
  /** Ends the session. */
  close(): Promise<void>;
}

/** What a host needs to know to make a {@link Link}. */
export interface LinkOptions {
  /** Names the store: tabs that open the same name share one engine. */
  name: string;
  /** Where documents are kept. Default `"auto"`: OPFS in a browser, a file in Node, memory where neither is there. */
  storage?: "auto" | "memory";
  /** In Node: the directory of the store's file. Default: the working directory. */
  directory?: string;
  /** Where the engine's WASM is, if not beside the package's own files. */
  wasm?: string | URL | Uint8Array | WebAssembly.Module;
  /** Makes the worker that may run the engine, where a bundler cannot find it by itself; null runs the engine in this thread. */
  worker?: (() => Worker) | null;
  /** Asks the browser not to evict the store. Default true. */
  persist?: boolean;
}

/** What `ts/host/link.ts` exports as `connectLink`. */
export type ConnectLink = (options: LinkOptions) => Promise<Link>;
