/**
 * The documents that components hold open: one for each repo and id, however many components read it.
 *
 * A document is closed a while after the last component has let go of it, so that a component that leaves and comes back (StrictMode does so
 * at once, navigation soon) finds it as it was.
 */
import type { Doc, DocumentState, Repo, RejoinError } from "../index.js";
import type { Source } from "./source.js";

/** How long a document stays open without a component, in milliseconds. A first render that waits for other data has not mounted yet. */
export const LINGER_MS = 5_000;

/** How a document is, to a component. */
export type DocumentStatus = "loading" | "ready" | "missing" | "deleted" | "failed";

/** A document as the hooks see it. Another object each time something changes. */
export interface View {
  readonly status: DocumentStatus;
  readonly doc: Doc | undefined;
  readonly value: unknown;
  readonly error: RejoinError | undefined;
}

export const LOADING: View = { status: "loading", doc: undefined, value: undefined, error: undefined };

const STATUS: Record<DocumentState, DocumentStatus> = {
  waiting: "loading",
  open: "ready",
  deleted: "deleted",
  // Somebody closed more often than they opened. The repo itself may be closed too; there is no more to come either way.
  closed: "failed",
};

class Opened {
  view: View = LOADING;
  readonly listeners = new Set<() => void>();
  /** Resolves when the document is no longer loading. It never rejects: the view says what went wrong. */
  readonly settled: Promise<void>;
  #settle: () => void = () => {};
  #timer: ReturnType<typeof setTimeout> | undefined;
  #stop: (() => void) | undefined;
  #gone = false;
  #finding = true;
  readonly #forget: () => void;

  constructor(repo: Repo, id: string, forget: () => void) {
    this.#forget = forget;
    this.settled = new Promise((resolve) => (this.#settle = resolve));
    repo.find(id).then(
      (doc) => {
        const look = (): void => this.#show({ status: STATUS[doc.state], doc, value: doc.value, error: undefined });
        const unsubscribe = doc.subscribe(look);
        this.#stop = () => {
          unsubscribe();
          doc.close();
        };
        look();
        this.#found();
      },
      (error: RejoinError) => {
        const { code } = error;
        const status = code === "not_found" || code === "timeout" ? "missing" : code === "deleted" ? "deleted" : "failed";
        this.#show({ ...LOADING, status, error });
        this.#found();
      },
    );
    this.linger();
  }

  /** Closes it after a while, if by then nobody holds it. */
  linger(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#close(), LINGER_MS);
    // Node should not wait for this.
    (this.#timer as { unref?: () => void }).unref?.();
  }

  hold(listener: () => void): () => void {
    // A function of its own for each: the same listener may be given twice.
    const own = (): void => listener();
    this.listeners.add(own);
    clearTimeout(this.#timer);
    return () => {
      if (!this.listeners.delete(own) || this.listeners.size) return;
      // What could not be opened is tried again by whoever comes next.
      if (this.view.error) this.#close();
      else this.linger();
    };
  }

  #show(view: View): void {
    const last = this.view;
    if (last.status === view.status && last.value === view.value && last.doc === view.doc && last.error === view.error) return;
    this.view = view;
    if (view.status !== "loading") this.#settle();
    for (const listener of [...this.listeners]) listener();
  }

  /** From now on it may be closed; who suspended because of it has some time to come. */
  #found(): void {
    this.#finding = false;
    if (!this.listeners.size) this.linger();
  }

  #close(): void {
    // Who waits for it is not always a listener: a component that suspends in its first render is not mounted.
    if (this.#gone || this.#finding || this.listeners.size) return;
    clearTimeout(this.#timer);
    this.#gone = true;
    this.#settle();
    this.#forget();
    this.#stop?.();
  }
}

const repos = new WeakMap<Repo, Map<string, Opened>>();

function peek(repo: Repo | undefined, id: string): Opened | undefined {
  return repo && repos.get(repo)?.get(id);
}

/** Opens a document, or finds it open. */
export function open(repo: Repo, id: string): Opened {
  let opened = repos.get(repo);
  if (!opened) repos.set(repo, (opened = new Map()));
  let one = opened.get(id);
  if (!one) {
    const own: Opened = (one = new Opened(repo, id, () => {
      if (opened.get(id) === own) opened.delete(id);
    }));
    opened.set(id, one);
  } else if (!one.listeners.size) one.linger();
  return one;
}

/** A document as a source: open as long as somebody is subscribed. */
export function documentSource(repo: Repo | undefined, id: string): Source<View> {
  return {
    get: () => peek(repo, id)?.view ?? LOADING,
    subscribe: (listener) => (repo ? open(repo, id).hold(listener) : () => {}),
  };
}
