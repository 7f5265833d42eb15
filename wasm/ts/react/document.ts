/** Documents in components. */
import { useCallback, useMemo } from "react";
import type { Doc, Path, Receipt, Repo, Snapshot } from "../index.js";
import { RejoinError } from "../page/errors.js";
import { type DocumentStatus, documentSource, LOADING, open, type View } from "./opened.js";
import { useGiven } from "./provider.js";
import { type Equal, useSource } from "./source.js";

/** How a hook compares what was selected before with what is selected now. */
export interface SelectOptions {
  /** Whether both are one to the component. Default: `Object.is`; `shallow` is for selectors that make a new object each time. */
  readonly equal?: Equal | undefined;
}

/**
 * What {@link useDocument} returns, told apart by `status`:
 * - `loading`: not read yet, or its content has not come from anywhere yet
 * - `ready`: `doc` and `value` are there
 * - `missing`: neither here nor to be had; `deleted`: it was here once
 * - `failed`: something else went wrong, see `error`
 */
export type DocumentResult<T extends object, V> =
  | { readonly status: "ready"; readonly doc: Doc<T>; readonly value: V; readonly error: undefined }
  | {
      readonly status: "loading" | "missing" | "deleted" | "failed";
      readonly doc: Doc<T> | undefined;
      readonly value: undefined;
      readonly error: RejoinError | undefined;
    };

type Select<T extends object, V> = (value: Snapshot<T>) => V;

// biome-ignore lint/suspicious/noExplicitAny: without a type, a document holds anything
type Anything = Record<string, any>;

function useSelected(repo: Repo | undefined, id: string, select?: Select<never, unknown>, equal: Equal = Object.is): View {
  const source = useMemo(() => documentSource(repo, id), [repo, id]);
  const project = useCallback(
    (view: View, last: View | undefined): View => {
      const value = view.status !== "ready" ? undefined : select ? select(view.value as never) : view.value;
      if (last && last.status === view.status && last.doc === view.doc && last.error === view.error && equal(last.value, value)) return last;
      return { ...view, value };
    },
    [select, equal],
  );
  return useSource(source, LOADING, project);
}

/**
 * Reads a document, or what a selector picks from it. The component renders again only when that changed. The document is opened when the
 * component mounts and closed when the last one has been gone for a few seconds.
 *
 * @example
 * ```tsx
 * function Title({ id }: { id: string }) {
 *   const title = useDocument<Todo, string>(id, (todo) => todo.title);
 *   if (title.status !== "ready") return <i>{title.status}</i>;
 *   return <h1 onClick={() => title.doc.set("done", true)}>{title.value}</h1>;
 * }
 * ```
 */
export function useDocument<T extends object = Anything>(id: string): DocumentResult<T, Snapshot<T>>;
export function useDocument<T extends object, V>(id: string, select: Select<T, V>, options?: SelectOptions): DocumentResult<T, V>;
export function useDocument(id: string, select?: Select<never, unknown>, options?: SelectOptions): unknown {
  return useSelected(useGiven().repo, id, select, options?.equal);
}

/**
 * Like {@link useDocument}, but suspends while the document is loading, and throws a RejoinError (`not_found`, `timeout`, `deleted`, ...) for an
 * error boundary if it cannot be had. On the server it throws, so that React sends the fallback of the nearest `Suspense` and renders in the
 * browser.
 *
 * @example
 * ```tsx
 * function Title({ id }: { id: string }) {
 *   const { value, doc } = useDocumentSuspense<Todo, string>(id, (todo) => todo.title);
 *   return <input value={value} onChange={(event) => void doc.set("title", event.target.value)} />;
 * }
 * const page = <Suspense fallback="..."><Title id={id} /></Suspense>;
 * ```
 */
export function useDocumentSuspense<T extends object = Anything>(id: string): { readonly doc: Doc<T>; readonly value: Snapshot<T> };
export function useDocumentSuspense<T extends object, V>(
  id: string,
  select: Select<T, V>,
  options?: SelectOptions,
): { readonly doc: Doc<T>; readonly value: V };
export function useDocumentSuspense(id: string, select?: Select<never, unknown>, options?: SelectOptions): unknown {
  const { repo, coming } = useGiven();
  const seen = useSelected(repo, id, select, options?.equal);
  if (seen.status === "ready") return seen;
  if (seen.status !== "loading") throw seen.error ?? failure(seen.status, id);
  if (typeof window === "undefined") throw new Error(`the document ${id} is read in the browser only`);
  throw repo ? open(repo, id).settled : coming;
}

/** The errors of documents that opened without one. */
function failure(status: DocumentStatus, id: string): RejoinError {
  if (status === "missing") return new RejoinError("not_found", `the document ${id} is neither here nor to be had`);
  const code = status === "deleted" ? status : "closed";
  return new RejoinError(code, `the document ${id} is ${code}`);
}

/** What {@link useField} gives to write with: a value, or a function of the one that is there. `undefined` deletes the field. */
export type SetField<V> = (next: V | undefined | ((last: V | undefined) => V | undefined)) => Promise<Receipt>;

/**
 * Reads and writes one field of a document, like `useState`. The value is undefined while the document is loading and where there is none.
 * What is written shows in the same event, so it may drive an input; the promise resolves when it is safe on this device, and rejects if
 * it cannot be written.
 *
 * @example
 * ```tsx
 * function Title({ id }: { id: string }) {
 *   const [title = "", setTitle] = useField<string>(id, "title");
 *   const [done, setDone] = useField<boolean>(id, ["state", "done"]);
 *   return (
 *     <label>
 *       <input type="checkbox" checked={done ?? false} onChange={() => void setDone((last) => !last)} />
 *       <input value={title} onChange={(event) => void setTitle(event.target.value)} />
 *     </label>
 *   );
 * }
 * ```
 */
export function useField<V = unknown>(id: string, path: string | Path): readonly [value: V | undefined, set: SetField<V>] {
  const { repo } = useGiven();
  const key = JSON.stringify(path);
  const steps = useMemo(() => [path].flat() as Path, [key]);
  const seen = useSelected(
    repo,
    id,
    useCallback((value: unknown) => at(value, steps), [steps]),
  );
  const set = useCallback<SetField<V>>(
    async (next) => {
      if (!repo) throw failure("failed", id);
      const opened = open(repo, id);
      // Without a detour when the document is there: what drives an input must show before the event is over.
      if (opened.view.status === "loading") await opened.settled;
      const { doc, error, status } = opened.view;
      if (!doc) throw error ?? failure(status, id);
      const value = typeof next === "function" ? (next as (last: V | undefined) => V | undefined)(at(doc.value, steps) as V | undefined) : next;
      return value === undefined ? doc.delete(steps) : doc.set(steps, value);
    },
    [repo, id, steps],
  );
  return [seen.value as V | undefined, set];
}

function at(value: unknown, path: Path): unknown {
  for (const step of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, step)) return undefined;
    value = (value as Record<string | number, unknown>)[step];
  }
  return value;
}
