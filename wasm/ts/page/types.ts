/** The types of documents as they are read, written and drafted, and of what is told about them. */
import type { Counter, Text, Unknown } from "./values.js";

/** Keys and indices that lead from the root of a document to a value. */
export type Path = readonly (string | number)[];

type Leaf = null | undefined | boolean | number | Date | Uint8Array | Unknown;

/**
 * A value as it is read: deeply readonly, a {@link Text} as a string, an integer as a number where one holds it exactly.
 *
 * @example
 * ```ts
 * type Todo = { title: string; tags: string[] };
 * const todo = await repo.create<Todo>({ title: "Tea", tags: [] });
 * const seen: Snapshot<Todo> = todo.value;
 * console.assert(seen.tags.length === 0);
 * ```
 */
export type Snapshot<T> = 0 extends 1 & T
  ? T
  : T extends Text
    ? string
    : T extends bigint
      ? bigint | number
      : T extends string | Leaf | Counter
        ? T
        : T extends readonly (infer Item)[]
          ? readonly Snapshot<Item>[]
          : T extends object
            ? { readonly [K in keyof T]: Snapshot<T[K]> }
            : T;

/**
 * A value as `doc.change` hands it out: to be read and written like any object.
 *
 * @example
 * ```ts
 * type Todo = { title: string; votes: Counter };
 * const todo = await repo.create<Todo>({ title: "Tea", votes: new Counter() });
 * const vote = (draft: Draft<Todo>) => draft.votes.increment();
 * await todo.change(vote);
 * console.assert(todo.value.votes.value === 1);
 * ```
 */
export type Draft<T> = 0 extends 1 & T
  ? T
  : T extends Text
    ? string
    : T extends bigint
      ? bigint | number
      : T extends string | Leaf | Counter
        ? T
        : T extends readonly (infer Item)[]
          ? Draft<Item>[]
          : T extends object
            ? { -readonly [K in keyof T]: Draft<T[K]> }
            : T;

/** A value as it is written over one that is there: a {@link Text} may be given as the string it shall become. */
export type Input<T> = Snapshot<T>;

/** The keys that may be deleted: the optional ones. */
export type OptionalKey<T> = { [K in keyof T]-?: undefined extends T[K] ? K : string extends K ? K : never }[keyof T];

/**
 * One step from one snapshot to the next. Steps are applied in order: indices count what came before them. Indices of a text count UTF-16 code
 * units, as strings in JavaScript do.
 */
export type Patch =
  | { op: "set"; path: Path; value: unknown }
  | { op: "delete"; path: Path }
  | { op: "insert"; path: Path; index: number; values: readonly unknown[] }
  | { op: "remove"; path: Path; index: number; count: number }
  | { op: "splice"; path: Path; index: number; deleteCount: number; text: string }
  | { op: "increment"; path: Path; by: number }
  /** The marks of the text at the path changed. */
  | { op: "mark"; path: Path }
  /** Another value has come in beside the one that is shown: see `doc.conflicts`. */
  | { op: "conflict"; path: Path };

/** What the subscribers of a document are told. */
export interface DocumentChange<T> {
  /** How the last snapshot became this one. */
  readonly patches: readonly Patch[];
  /** Whether it was written through this very page, or came from elsewhere. */
  readonly origin: "local" | "remote";
  /** The snapshot now. */
  readonly value: Snapshot<T>;
}

/** Ends a subscription. It may be called again, to no effect. */
export type Unsubscribe = () => void;

/** What is known of a write: it survives power loss here, is durable on the relay, has been received by another device. */
export type Stage = "local" | "relayed" | "seen";

/** What a schema found wrong. */
export interface Issue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/**
 * A validator of any library that speaks Standard Schema (zod, valibot, arktype, ...).
 *
 * @example
 * ```ts
 * const schema: Schema<{ title: string }> = {
 *   "~standard": {
 *     version: 1,
 *     vendor: "example",
 *     validate: (value) =>
 *       typeof (value as { title?: unknown }).title === "string"
 *         ? { value: value as { title: string } }
 *         : { issues: [{ message: "a title is needed", path: ["title"] }] },
 *   },
 * };
 * const doc = await repo.create({ title: "Tea" }, { schema });
 * console.assert(doc.valid);
 * ```
 */
export interface Schema<T> {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown, options?: never) => SchemaResult<T> | Promise<SchemaResult<T>>;
    readonly types?: { readonly input: unknown; readonly output: T } | undefined;
  };
}

type SchemaResult<T> = { readonly value: T; readonly issues?: undefined } | { readonly issues: readonly Issue[] };
