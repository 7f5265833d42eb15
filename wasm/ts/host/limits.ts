/** Every bound of the host, by name and with its unit. The engine has its own. */

/** Bytes of one request, its arguments and its attachment together: 64 MiB. A larger one is refused with `too_large`. */
export const REQUEST_BYTES_MAX = 64 << 20;

/** Bytes of all requests of a page that were not answered: 128 MiB, twice the largest. Beyond it a request is refused with `too_large`. */
export const PENDING_BYTES_MAX = 128 << 20;

/** Requests of a page that were not answered. Beyond it a request is refused with `too_large`. */
export const PENDING_REQUESTS_MAX = 100_000;

/** Restarts of the engine within {@link RESTART_WINDOW_MS} after which the engine is left alone and requests are refused with `trapped`. */
export const RESTARTS_MAX = 8;

/** Times a page starts its worker again within {@link RESTART_WINDOW_MS}. */
export const WORKER_RESTARTS_MAX = 5;

/** One minute: the window of {@link RESTARTS_MAX} and {@link WORKER_RESTARTS_MAX}. */
export const RESTART_WINDOW_MS = 60_000;

/** How often the same request may be under way when the engine traps and nothing else is to blame, before it is refused with `trapped`. */
export const REQUEST_TRAPS_MAX = 2;

/** Changes in the quarantine file; the oldest give way. 1,024 x about 100 bytes = 100 kB. */
export const QUARANTINE_ENTRIES_MAX = 1024;

/** How long to wait for another tab (or a crashed one) to let go of the store's file, in milliseconds. */
export const FILE_WAIT_MS = 5_000;

/** How long to wait between two attempts on a file that is in use, in milliseconds. */
export const FILE_RETRY_MS = 15;

/** How often the browser is asked for its files before it counts as broken, and how long to wait in between, in milliseconds. */
export const OPFS_TRIES = 4;
export const OPFS_RETRY_MS = 100;

/** How long a page waits for its worker to close the store before it ends it, in milliseconds. */
export const CLOSE_WAIT_MS = 3_000;

/** How long the store is kept from others after signing out, until all tabs have heard of it, in milliseconds. */
export const SIGN_OUT_WAIT_MS = 1_000;

/** The least time between two estimates of the quota that nobody asked for, in milliseconds. */
export const ESTIMATE_EVERY_MS = 30_000;

/** The smallest growth of a store in memory: 1 MiB. Above it, memory doubles up to 64 MiB at a time. */
export const MEMORY_STEP_MIN_BYTES = 1 << 20;

/** The largest growth of a store in memory at a time: 64 MiB. */
export const MEMORY_STEP_MAX_BYTES = 64 << 20;

/** How long a tab that cannot load the WASM leaves the lead to others before it queues again, in milliseconds. */
export const LOAD_RETRY_MS = 1_000;
