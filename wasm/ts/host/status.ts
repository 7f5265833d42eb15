/** The status as the page sees it: what the engine says of the connection, and what the host knows of the store. */
import type { RejoinError } from "../page/errors.js";
import type { LinkOptions, WireStatus } from "../page/link.js";
import type { Info } from "./messages.js";

/** The host's part, as it is added to what the engine says. */
type HostStatus = Pick<WireStatus, "storage" | "persisted" | "quota" | "leader" | "evicted">;

/** Puts the status together, and tells whenever any part of it changes. */
export class PageStatus {
  #options: LinkOptions;
  #tell: (status: WireStatus) => void;
  #evicted: () => void;
  #engine: WireStatus | undefined;
  #host: HostStatus = { storage: "memory" };
  #isFirst = true;

  /** `evicted` is called when there was a store once and there is none now. */
  constructor(options: LinkOptions, tell: (status: WireStatus) => void, evicted: () => void) {
    this.#options = options;
    this.#tell = tell;
    this.#evicted = evicted;
  }

  /** Takes what the engine says. */
  engine(status: WireStatus): void {
    this.#engine = status;
    this.#tell(this.merged(status));
  }

  /** Takes what the leader knows. */
  learn(info: Info): void {
    const isFirst = this.#isFirst;
    this.#isFirst = false;
    this.#set({ storage: info.storage, ...(info.quota && { quota: info.quota }), ...(info.evicted && { evicted: true }) });
    if (!isFirst || info.storage !== "opfs") return;
    if (this.#host.leader) this.#remember(info.fresh === true);
    if (this.#options.persist === false) void this.#ask("persisted");
    else void this.#ask("persist");
  }

  /** Notes that the store that this page had is no more, and another was made. */
  lost(): void {
    this.#set({ evicted: true });
  }

  /** Takes whether this page's worker runs the engine. */
  leads(is: boolean): void {
    this.#set({ leader: is });
  }

  /** Asks the browser not to evict the store, and says whether it promised that. */
  async persist(): Promise<boolean> {
    return this.#ask("persist");
  }

  /** Says that there is no engine any more. */
  failed({ code, message }: RejoinError): void {
    this.engine({ ...this.#host, state: "closed", reason: code, pending: this.#engine?.pending ?? 0, error: { code, message } });
  }

  /** Adds the host's part to a status of the engine. */
  merged(status: WireStatus): WireStatus {
    return { ...status, ...this.#host };
  }

  #set(part: Partial<HostStatus>): void {
    const before = JSON.stringify(this.#host);
    this.#host = { ...this.#host, ...part };
    if (this.#engine && JSON.stringify(this.#host) !== before) this.#tell(this.merged(this.#engine));
  }

  /** Only pages can ask: a worker has nobody to show a prompt to. */
  async #ask(how: "persist" | "persisted"): Promise<boolean> {
    const persisted = await (globalThis.navigator?.storage?.[how]?.() ?? Promise.resolve(false)).catch(() => false);
    this.#set({ persisted });
    return persisted;
  }

  /** Notes that the store was removed on purpose. */
  forget(): void {
    this.#mark((mark) => localStorage.removeItem(mark));
  }

  /** Browsers evict OPFS before (or without) local storage, so a mark there remembers that there was a store. */
  #remember(isFresh: boolean): void {
    this.#mark((mark) => {
      if (isFresh && localStorage.getItem(mark)) this.#evicted();
      localStorage.setItem(mark, "1");
    });
  }

  #mark(use: (mark: string) => void): void {
    try {
      use(`rejoin:${this.#options.name}`);
    } catch {
      // Without local storage nothing can be remembered.
    }
  }
}
