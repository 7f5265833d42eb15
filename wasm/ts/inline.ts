/**
 * The entry `rejoin/inline`: the WASM and the worker as text inside the JavaScript, for where nothing can be fetched (a single-file page, an extension,
 * a bundler that copies no assets). It costs a third more bytes than the files.
 */
import { inline } from "./host/inline.js";
import { Repo as Base } from "./index.js";

export { inline } from "./host/inline.js";
export * from "./index.js";

/** As `Repo` of `rejoin`, but what it opens is in this very module. */
export type Repo = Base;

/**
 * As `Repo` of `rejoin`, but what it opens is in this very module.
 *
 * @example
 * ```ts
 * import { Repo } from "rejoin/inline";
 *
 * const repo = await Repo.open({ name: "my-app" });
 * ```
 */
export const Repo: typeof Base = new Proxy(Base, {
  get: (target, key, receiver): unknown => (key === "open" ? open : Reflect.get(target, key, receiver)),
});

const open: typeof Base.open = (options: Parameters<typeof Base.open>[0]) => Base.open({ ...inline(), ...options });
