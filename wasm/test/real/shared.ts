/** One real engine that serves several pages, and pages whose messages arrive when the test says so. */
import { makeGlue } from "rejoin:glue";
import type { Place } from "../../ts/host/contract.js";
import { engineLoader } from "../../ts/host/engine.js";
import { PageLink } from "../../ts/host/link.js";
import { MemoryPlace } from "../../ts/host/memory.js";
import type { ToPage, ToSession, ToWorker } from "../../ts/host/messages.js";
import type { Peer } from "../../ts/host/peer.js";
import { Server } from "../../ts/host/server.js";
import { wasm } from "./wasm.js";

export class SharedEngine {
  readonly place: Place;
  server: Server;
  readonly pages: HeldPage[] = [];
  /** What ended engines of it. */
  readonly failures: unknown[] = [];

  constructor(place: Place = new MemoryPlace()) {
    this.place = place;
    this.server = this.#make();
  }

  #make(): Server {
    const webSocket = () => null;
    const failed = (failure: unknown): void => {
      this.failures.push(failure);
      console.error("the engine failed", failure);
    };
    return new Server({ place: this.place, load: engineLoader(makeGlue, wasm), webSocket, failed });
  }

  start(): Promise<void> {
    return this.server.start();
  }

  /** Ends the engine as a leader's end does: another one opens the same store, and all pages are attached to it. */
  async restart(): Promise<void> {
    await this.server.close();
    this.server = this.#make();
    for (const page of this.pages) page.attach();
    await this.server.start();
  }

  page(): HeldPage {
    const page = new HeldPage(this);
    this.pages.push(page);
    return page;
  }
}

/** A page; while it is held, its messages wait in both directions, in order, for `up` and `down`. */
export class HeldPage {
  readonly link: PageLink;
  isHeld = false;
  #engine: SharedEngine;
  #toEngine: ToWorker[] = [];
  #toPage: ToSession[] = [];
  #hear: (message: ToPage) => void = () => {};

  constructor(engine: SharedEngine) {
    this.#engine = engine;
    this.link = new PageLink({ name: "test" }, (_, hear) => {
      this.#hear = hear;
      const post = (message: ToWorker): void => {
        this.#toEngine.push(message);
        if (!this.isHeld) this.up();
      };
      return { post, close: async () => this.#engine.server.detach(this.link.session), end: () => {} } as unknown as Peer;
    });
    this.attach();
  }

  attach(): void {
    const engine = this.#engine;
    engine.server.attach(this.link.session, (message) => {
      if (this.#engine !== engine) return;
      this.#toPage.push(structuredClone(message));
      if (!this.isHeld) queueMicrotask(() => this.down());
    });
  }

  /** Goes on with another engine: what the one before said and did not deliver is lost. */
  moveTo(engine: SharedEngine): void {
    this.#engine = engine;
    [this.#toEngine, this.#toPage] = [[], []];
    this.isHeld = false;
    this.attach();
  }

  /** Delivers one message to the engine. */
  up(): boolean {
    const message = this.#toEngine.shift();
    if (message?.t === "requests") this.#engine.server.requests(this.link.session, message.tag, message.acked, message.list);
    return message !== undefined;
  }

  /** Delivers one message to the page. */
  down(): boolean {
    const message = this.#toPage.shift();
    if (message) this.#hear(message);
    return message !== undefined;
  }

  /** Lets everything through from now on. */
  release(): void {
    this.isHeld = false;
    while (this.up() || this.down());
  }
}

/** A turn of the event loop. */
export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
