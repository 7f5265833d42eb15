/** What is around documents: spaces, presence, the state of the connection. */
import { useCallback, useEffect, useMemo, useRef } from "react";
import type { PresenceValue, Space, SpaceRights, Status } from "../index.js";
import { useGiven } from "./provider.js";
import { type Equal, type Source, useSource } from "./source.js";

const same = <Seen>(seen: Seen): Seen => seen;
const nothing = (): (() => void) => () => {};

/** What {@link useSpace} returns. */
export interface SpaceResult {
  /** The space, to create documents in it, or to follow it. Undefined until the repo is open. */
  readonly space: Space | undefined;
  /** The ids of its documents; undefined until they were read. */
  readonly ids: readonly string[] | undefined;
}

/**
 * Lists the documents of a space, and again whenever one comes or goes.
 *
 * @example
 * ```tsx
 * function Todos({ team }: { team: string }) {
 *   const { space, ids } = useSpace(team);
 *   if (!ids) return <i>loading</i>;
 *   return <ul onDoubleClick={() => space?.create({ title: "" })}>{ids.map((id) => <Title key={id} id={id} />)}</ul>;
 * }
 * ```
 */
export function useSpace(id: string): SpaceResult {
  const { repo } = useGiven();
  const space = repo?.space(id);
  const source = useMemo<Source<readonly string[] | undefined>>(
    () => ({
      get: () => space?.value,
      subscribe: space ? (listener) => space.subscribe(listener) : nothing,
    }),
    [space],
  );
  const ids = useSource(source, undefined, same);
  return { space, ids };
}

/**
 * Reads what this device may do in a space, as far as the relay has said: see {@link SpaceRights}.
 *
 * @example
 * ```tsx
 * function Title({ team }: { team: string }) {
 *   return <input readOnly={useSpaceRights(team) === "read"} />;
 * }
 * ```
 */
export function useSpaceRights(id: string): SpaceRights {
  const { repo } = useGiven();
  const rights = repo?.space(id).rights;
  const source = useMemo<Source<SpaceRights>>(
    () => ({
      get: () => rights?.value ?? "unknown",
      subscribe: rights ? (listener) => rights.subscribe(listener) : nothing,
    }),
    [rights],
  );
  return useSource(source, "unknown", same);
}

/** What {@link usePresence} returns. */
export interface PresenceResult {
  /** What everybody shows, this device included. */
  readonly values: readonly PresenceValue[];
  /** What everybody else shows. */
  readonly others: readonly PresenceValue[];
  /** Shows a value to everybody, until it is cleared, the component has gone, or `ttl` milliseconds have passed. */
  readonly set: (key: string, value: unknown, options?: { ttl?: number }) => Promise<void>;
  /** Shows a value no longer. */
  readonly clear: (key: string) => Promise<void>;
}

const NOBODY: readonly PresenceValue[] = [];

/**
 * Reads and shows who is at a document and what they do there. What the component has shown is cleared when it goes.
 *
 * @example
 * ```tsx
 * function Faces({ id, me }: { id: string; me: string }) {
 *   const { others, set } = usePresence(id);
 *   useEffect(() => void set("name", me), [set, me]);
 *   return <>{others.filter(({ key }) => key === "name").map(({ author, value }) => <b key={author}>{String(value)}</b>)}</>;
 * }
 * ```
 */
export function usePresence(id: string): PresenceResult {
  const { repo } = useGiven();
  const presence = repo?.presence(id);
  const source = useMemo<Source<readonly PresenceValue[]>>(
    () => ({
      get: () => presence?.values ?? NOBODY,
      subscribe: presence ? (listener) => presence.subscribe(listener) : nothing,
    }),
    [presence],
  );
  const values = useSource(source, NOBODY, same);
  const others = useMemo(() => values.filter(({ own }) => !own), [values]);
  const shown = useRef(new Set<string>());
  const set = useCallback<PresenceResult["set"]>(
    async (key, value, options) => {
      // Without a repo nobody is there to be shown anything.
      if (!presence) return;
      shown.current.add(key);
      await presence.set(key, value, options);
    },
    [presence],
  );
  const clear = useCallback<PresenceResult["clear"]>(
    async (key) => {
      shown.current.delete(key);
      await presence?.clear(key);
    },
    [presence],
  );
  useEffect(() => {
    const keys = shown.current;
    return () => {
      // A repo that is closed has nothing to clear.
      for (const key of keys) presence?.clear(key).catch(() => {});
      keys.clear();
    };
  }, [presence]);
  return { values, others, set, clear };
}

/** What there is to say before the repo is open, and on the server. */
const NONE: Status = { state: "none", pending: 0, storage: "memory" };

/**
 * Reads how the connection and the store stand, or what a selector picks from that.
 *
 * @example
 * ```tsx
 * function Badge() {
 *   const state = useSyncStatus(({ state, pending }) => (pending ? `${pending} to send` : state));
 *   return <span>{state}</span>;
 * }
 * ```
 */
export function useSyncStatus(): Status;
export function useSyncStatus<V>(select: (status: Status) => V, options?: { readonly equal?: Equal }): V;
export function useSyncStatus(select: (status: Status) => unknown = same, { equal = Object.is }: { readonly equal?: Equal } = {}): unknown {
  const { repo } = useGiven();
  const source = useMemo<Source<Status>>(
    () => ({
      get: () => repo?.status ?? NONE,
      subscribe: repo ? (listener) => repo.subscribe(listener) : nothing,
    }),
    [repo],
  );
  const project = useCallback(
    (status: Status, last: unknown) => {
      const next = select(status);
      return last !== undefined && equal(last, next) ? last : next;
    },
    [select, equal],
  );
  return useSource(source, NONE, project);
}
