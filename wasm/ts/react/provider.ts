/** How components come to the repo. */
import { createContext, createElement, type ReactElement, type ReactNode, useContext, useEffect, useMemo, useState } from "react";
import type { Repo } from "../index.js";

interface Given {
  readonly repo: Repo | undefined;
  /** What to wait for while there is none. */
  readonly coming: Promise<unknown>;
}

const Context = createContext<Given | undefined>(undefined);

/** Never resolves: a repo that nobody has promised comes, if it comes, by another render of the provider. */
const NOBODY_KNOWS = new Promise<never>(() => {});

/** What {@link RepoProvider} takes. */
export interface RepoProviderProps {
  /** The repo, the promise of one, or nothing as long as there is none: on the server, or before somebody has signed in. */
  readonly repo: Repo | Promise<Repo> | null | undefined;
  readonly children?: ReactNode;
}

/**
 * Gives a repo to the components below. They render at once: until the repo is open, as on the server, every document is loading. If the
 * promise rejects, the provider throws what it rejected with, for an error boundary. Who opened the repo closes it.
 *
 * @example
 * ```tsx
 * // Outside of any component, so that it is opened once.
 * const repo = typeof window === "undefined" ? null : Repo.open({ name: "todos", relay: "wss://relay.example" });
 *
 * function App() {
 *   return <RepoProvider repo={repo}><Todos /></RepoProvider>;
 * }
 * ```
 */
export function RepoProvider({ repo, children }: RepoProviderProps): ReactElement {
  const [, setCame] = useState<Outcome>();
  const promise = repo && "then" in repo ? repo : undefined;
  const awaited = promise && watch(promise);
  useEffect(() => {
    if (!awaited) return;
    let wanted = true;
    void awaited.coming.then((came) => wanted && setCame(came));
    return () => {
      wanted = false;
    };
  }, [awaited]);
  const settled = awaited?.came;
  const open = promise ? settled?.repo : ((repo as Repo | null | undefined) ?? undefined);
  const given = useMemo(() => ({ repo: open, coming: promise ?? NOBODY_KNOWS }), [open, promise]);
  if (settled && "error" in settled) throw settled.error;
  return createElement(Context.Provider, { value: given }, children);
}

interface Outcome {
  readonly repo?: Repo;
  readonly error?: unknown;
}

/**
 * What came of the promises of repos. Not in the provider's state alone: React forgets the state of what suspends before it is mounted, and a provider
 * inside of a `Suspense` does when what is below it waits for the repo.
 */
const watched = new WeakMap<Promise<Repo>, Watched>();

interface Watched {
  readonly coming: Promise<Outcome>;
  came?: Outcome;
}

function watch(promise: Promise<Repo>): Watched {
  const known = watched.get(promise);
  if (known) return known;
  const coming = promise.then(
    (repo): Outcome => ({ repo }),
    (error: unknown): Outcome => ({ error }),
  );
  const awaited: Watched = { coming };
  void coming.then((came) => (awaited.came = came));
  watched.set(promise, awaited);
  return awaited;
}

/** What the provider has, for the hooks. */
export function useGiven(): Given {
  const given = useContext(Context);
  if (!given) throw new Error("a component that uses rejoin/react is not inside of a RepoProvider");
  return given;
}

/**
 * Returns the repo of the {@link RepoProvider} above; undefined until it is open, and on the server.
 *
 * @example
 * ```tsx
 * function Add() {
 *   const repo = useRepo();
 *   return <button disabled={!repo} onClick={() => repo?.create({ title: "" })}>Add</button>;
 * }
 * ```
 */
export function useRepo(): Repo | undefined {
  return useGiven().repo;
}
