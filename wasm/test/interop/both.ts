/** What the tests of interoperation share: values of Automerge's own library as ours, and edits in the words of either. */
import * as A from "@automerge/automerge";
import type { Doc, Repo } from "../../ts/index.js";
import { Counter } from "../../ts/index.js";

export type Any = Record<string, unknown>;

/** Makes what Automerge's library reads what ours reads: there, a string is an object of its own and a text is a string; here, both are strings. */
export function ours(value: unknown): unknown {
  if (A.isImmutableString(value)) return String(value);
  // The largest of the safe integers are large ones to that library.
  if (typeof value === "bigint" && Number.isSafeInteger(Number(value))) return Number(value);
  if (A.isCounter(value)) return new Counter(value.value);
  if (value === null || typeof value !== "object" || value instanceof Date || value instanceof Uint8Array) return value;
  if (Array.isArray(value)) return value.map(ours);
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, ours(item)]));
}

/** Opens a document of ours there. */
export const there = async (doc: Doc<Any>): Promise<A.Doc<Any>> => A.load<Any>(await doc.export());

/** Opens a document of theirs here. */
export const here = (repo: Repo, doc: A.Doc<Any>): Promise<Doc<Any>> => repo.import<Any>(A.save(doc));

/** Merges both ways: ours takes in all of theirs, and what is returned is theirs with all of ours. */
export async function meet(repo: Repo, doc: Doc<Any>, other: A.Doc<Any>): Promise<A.Doc<Any>> {
  const copy = await here(repo, other);
  await doc.merge(copy);
  await repo.delete(copy.id);
  return A.merge(other, await there(doc));
}
