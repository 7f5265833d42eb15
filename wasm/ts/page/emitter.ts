/** Subscribers: whom to tell, in the order in which they came. */
import type { Unsubscribe } from "./types.js";

/** A set of subscribers. One that throws does not keep the others from being told. */
export class Emitter<Event> {
  readonly #handlers = new Set<(event: Event) => void>();
  readonly #queue: Event[] = [];
  readonly #first: (() => void) | undefined;
  readonly #last: (() => void) | undefined;

  /** `first` is called when the first subscriber comes, `last` when the last one went. */
  constructor(first?: () => void, last?: () => void) {
    this.#first = first;
    this.#last = last;
  }

  get size(): number {
    return this.#handlers.size;
  }

  on(handler: (event: Event) => void): Unsubscribe {
    // A function of its own for each subscription: the same handler may be given twice.
    const own = (event: Event): void => handler(event);
    this.#handlers.add(own);
    if (this.#handlers.size === 1) this.#first?.();
    return () => {
      if (this.#handlers.delete(own) && this.#handlers.size === 0) this.#last?.();
    };
  }

  /** Tells everybody. What a subscriber causes is told after, so that all hear of everything in the same order. */
  emit(event: Event): void {
    if (this.#queue.push(event) > 1) return;
    for (; this.#queue.length; this.#queue.shift()) {
      for (const handler of [...this.#handlers]) {
        // One told before may have taken this one away.
        if (!this.#handlers.has(handler)) continue;
        try {
          handler(this.#queue[0] as Event);
        } catch (error) {
          report(error);
        }
      }
    }
  }
}

/** Lets an error of a subscriber reach whoever watches for uncaught ones, without stopping the work at hand. */
export function report(error: unknown): void {
  if (typeof reportError === "function") reportError(error);
  else
    queueMicrotask(() => {
      throw error;
    });
}
