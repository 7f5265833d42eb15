/**
 * `rejoin/testing`: repos for the tests of applications.
 *
 * They run the real engine, in memory and in the thread of the test: what an application sees of its documents is what it will see in use. There
 * is no network: {@link exchange} carries changes from one repo to another as files would, so receipts stay at `local` and the status at `none`,
 * and spaces are not carried along. For receipts, spaces and rights, give {@link createTestRepo} the address of a relay that runs beside the test.
 *
 * @packageDocumentation
 */
import { connectLink } from "./host/link.js";
import { newId, parseDocumentId } from "./page/ids.js";
import type { EngineEvent, Link, WirePresence } from "./page/link.js";
import type { RepoOptions } from "./page/options.js";
import { Repo } from "./page/repo.js";
import type { Status } from "./page/status.js";
import { encode } from "./page/values.js";

// Taken before a test may replace it by one of its own.
const { setTimeout } = globalThis;
const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));

/** Requests that wait for something to happen elsewhere: nobody can say that they will end. */
const WAITING = new Set(["wait", "reached", "synced", "signOut"]);

/** A link that knows what is unanswered, and says more than the engine does. */
class TestLink implements Link {
  readonly session: string;
  readonly unanswered = new Set<Promise<unknown>>();
  readonly #link: Link;
  /** Presence by document: what the engine says, and what the test says on top. */
  readonly #said = new Map<string, readonly WirePresence[]>();
  readonly #shown = new Map<string, readonly WirePresence[]>();
  #handler: (event: EngineEvent) => void = () => {};

  constructor(link: Link) {
    this.#link = link;
    this.session = link.session;
    link.onEvent((event) => this.#handler(event.e === "presence" ? { ...event, values: this.#all(event.doc, event.values) } : event));
  }

  request(method: string, args: unknown[], bytes?: Uint8Array): { id: number; result: Promise<unknown> } {
    const { id, result } = bytes ? this.#link.request(method, args, bytes) : this.#link.request(method, args);
    if (!WAITING.has(method)) {
      const ended: Promise<unknown> = result.catch(() => {}).finally(() => this.unanswered.delete(ended));
      this.unanswered.add(ended);
    }
    if (method !== "presenceWatch") return { id, result };
    const doc = args[0] as string;
    const last = this.#said.get(doc);
    // An event that came in before this answer is newer.
    const said = (values: unknown) => (this.#said.get(doc) === last ? (values as WirePresence[] | null) : undefined) ?? this.#said.get(doc) ?? [];
    return { id, result: result.then((values) => this.#all(doc, said(values))) };
  }

  onEvent(handler: (event: EngineEvent) => void): void {
    this.#handler = handler;
  }

  close(): Promise<void> {
    return this.#link.close();
  }

  tell(event: EngineEvent): void {
    this.#handler(event);
  }

  show(doc: string, values: readonly WirePresence[]): void {
    this.#shown.set(doc, values);
    this.#handler({ e: "presence", doc, values: this.#all(doc, this.#said.get(doc) ?? []) });
  }

  #all(doc: string, said: readonly WirePresence[]): WirePresence[] {
    this.#said.set(doc, said);
    return [...said, ...(this.#shown.get(doc) ?? [])];
  }
}

const links = new WeakMap<Repo, TestLink>();

function linkOf(repo: Repo): TestLink {
  const link = links.get(repo);
  if (!link) throw new Error("this repo was not made by createTestRepo");
  return link;
}

/** Asks the engine for what the page has no function for. */
function ask<Answer>(repo: Repo, method: string, args: unknown[], bytes?: Uint8Array): Promise<Answer> {
  return linkOf(repo).request(method, args, bytes).result as Promise<Answer>;
}

let names = 0;

/**
 * Opens a repo of its own, in memory. Every option of `Repo.open` may be given. Close it at the end of the test.
 *
 * @example
 * ```ts
 * const repo = await createTestRepo();
 * const todo = await repo.create({ title: "Tea" });
 * console.assert(todo.value.title === "Tea");
 * await repo.close();
 * ```
 */
export async function createTestRepo(options: Partial<RepoOptions> = {}): Promise<Repo> {
  const { link: given, ...rest } = options;
  const all: RepoOptions = { name: `test-${++names}-${newId()}`, storage: "memory", worker: null, persist: false, ...rest };
  const connect = given ?? connectLink;
  // Under jsdom and the like this is Node that looks like a browser, and cannot fetch a file.
  const wasm = all.wasm ?? bytesOfWasm();
  const link = new TestLink(typeof connect === "function" ? await connect({ ...all, ...(wasm && { wasm }) }) : connect);
  const repo = await Repo.open({ ...all, link });
  links.set(repo, link);
  return repo;
}

let bytes: Uint8Array | undefined;

/** In Node: the WASM that lies beside this file. */
function bytesOfWasm(): Uint8Array | undefined {
  const builtin = (globalThis as { process?: NodeJS.Process }).process?.getBuiltinModule;
  const at = new URL("./rejoin.wasm", import.meta.url);
  if (!builtin || at.protocol !== "file:") return undefined;
  const fs = builtin("node:fs");
  const { fileURLToPath } = builtin("node:url");
  // Not there: this is the source, and the host knows better.
  if (!bytes && fs.existsSync(fileURLToPath(at.href))) bytes = fs.readFileSync(fileURLToPath(at.href));
  return bytes;
}

/**
 * Waits until every edit so far is safe, everything that was asked is answered, and subscribers were told.
 *
 * @example
 * ```ts
 * const repo = await createTestRepo();
 * const todo = await repo.create({ title: "Tea" });
 * void todo.set("title", "Coffee");
 * await settle(repo);
 * await repo.close();
 * ```
 */
export async function settle(...repos: Repo[]): Promise<void> {
  do {
    await Promise.all(repos.flatMap((repo) => [...linkOf(repo).unanswered]));
    await turn();
  } while (repos.some((repo) => linkOf(repo).unanswered.size));
}

/**
 * Gives each of two repos what the other has: all documents, or those that are named. Both then show the same; what was edited on both sides is
 * merged as a relay's clients would merge it. Offline is simply not to call it.
 *
 * @example
 * ```ts
 * const [ada, bob] = [await createTestRepo(), await createTestRepo()];
 * const hers = await ada.create({ title: "Tea" });
 * await exchange(ada, bob);
 * const his = await bob.find<{ title: string }>(hers.id);
 * await hers.set("title", "Coffee");
 * console.assert(his.value.title === "Tea");
 * await exchange(ada, bob);
 * console.assert(his.value.title === "Coffee");
 * await Promise.all([ada.close(), bob.close()]);
 * ```
 */
export async function exchange(a: Repo, b: Repo, ids?: readonly string[]): Promise<void> {
  await settle(a, b);
  const wanted = ids?.map(parseDocumentId);
  await give(a, b, wanted);
  await give(b, a, wanted);
  await settle(a, b);
}

async function give(from: Repo, to: Repo, wanted: readonly string[] | undefined): Promise<void> {
  const theirs = new Set(await to.list());
  for (const id of await from.list()) {
    if (wanted && !wanted.includes(id)) continue;
    const bytes = await ask<Uint8Array>(from, "export", [id]);
    if (!theirs.has(id)) {
      await ask(to, "import", [id], bytes);
      continue;
    }
    const other = newId();
    await ask(to, "import", [other], bytes);
    await ask(to, "merge", [id, other]);
    await ask(to, "delete", [other]);
  }
}

/** What somebody else shows, as a test makes it up. */
export interface ShownPresence {
  readonly author: string;
  readonly key: string;
  readonly value: unknown;
  /** Default: now. */
  readonly since?: Date;
}

/**
 * Lets others be present at a document, until they are told to show something else. An empty list: they have gone.
 *
 * @example
 * ```ts
 * const repo = await createTestRepo();
 * const todo = await repo.create({ title: "Tea" });
 * showPresence(repo, todo, [{ author: "bob", key: "cursor", value: 3 }]);
 * console.assert(repo.presence(todo).values[0]?.value === 3);
 * await repo.close();
 * ```
 */
export function showPresence(repo: Repo, doc: { readonly id: string } | string, values: readonly ShownPresence[]): void {
  const id = typeof doc === "string" ? parseDocumentId(doc) : doc.id;
  const told = values.map(({ author, key, value, since }) => ({ author, key, value: encode(value), own: false, since: (since ?? new Date()).getTime() }));
  // A presence that nobody has asked for yet would not hear of it.
  repo.presence(id);
  linkOf(repo).show(id, told);
}

/**
 * Lets the repo say that it is in some state, as if there were a relay. It says so until the engine has something to tell.
 *
 * @example
 * ```ts
 * const repo = await createTestRepo();
 * showStatus(repo, { state: "syncing", progress: { done: 3, total: 10, bytesDone: 300, bytesTotal: 1000 } });
 * console.assert(repo.status.state === "syncing");
 * await repo.close();
 * ```
 */
export function showStatus(repo: Repo, status: Partial<Omit<Status, "error">>): void {
  const { error: _, ...now } = repo.status;
  linkOf(repo).tell({ e: "status", ...now, ...status });
}
