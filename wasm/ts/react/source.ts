/**
 * What hooks read from: a snapshot that keeps its identity until something changes, and a way to be told when it does.
 */
import { useEffect, useMemo, useRef, useSyncExternalStore } from "react";

/** A store as `useSyncExternalStore` wants it. `get` answers the same object until something changes. */
export interface Source<Snapshot> {
  readonly get: () => Snapshot;
  readonly subscribe: (listener: () => void) => () => void;
}

/** Whether two selected values are one to a component, so that it need not render again. */
export type Equal = (a: unknown, b: unknown) => boolean;

/**
 * Reads a source through a projection, and renders again only when the projection answers another object. The projection is given its last
 * answer, to answer it again where nothing that matters has changed; so a selector written inline, another function in each render, costs no render.
 */
export function useSource<Snapshot, Seen>(source: Source<Snapshot>, server: Snapshot, project: (snapshot: Snapshot, last: Seen | undefined) => Seen): Seen {
  const committed = useRef<Seen | undefined>(undefined);
  const [client, rendered] = useMemo(() => {
    const remember = (get: () => Snapshot): (() => Seen) => {
      let memo: { readonly snapshot: Snapshot; readonly seen: Seen } | undefined;
      return () => {
        const snapshot = get();
        if (!memo || memo.snapshot !== snapshot) memo = { snapshot, seen: project(snapshot, memo ? memo.seen : committed.current) };
        return memo.seen;
      };
    };
    return [remember(source.get), remember(() => server)] as const;
  }, [source, server, project]);
  const seen = useSyncExternalStore(source.subscribe, client, rendered);
  useEffect(() => {
    committed.current = seen;
  }, [seen]);
  return seen;
}

/**
 * Compares two objects or lists by what is directly in them: for selectors that make a new one each time.
 *
 * @example
 * ```tsx
 * const { value } = useDocument<Todo, unknown>(id, ({ title, done }) => ({ title, done }), { equal: shallow });
 * ```
 */
export function shallow(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || !a || !b) return false;
  if (Array.isArray(a) !== Array.isArray(b) || Object.getPrototypeOf(a) !== Object.getPrototypeOf(b)) return false;
  const keys = Object.keys(a);
  return (
    keys.length > 0 &&
    keys.length === Object.keys(b).length &&
    keys.every((key) => Object.hasOwn(b, key) && Object.is(a[key as never], b[key as never]))
  );
}
