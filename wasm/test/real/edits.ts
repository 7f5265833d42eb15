/** Edits of every kind, as applications make them. */
import fc from "fast-check";
import type { Counter, Doc } from "../../ts/index.js";

export interface Shape {
  title: string;
  list: (number | string | { n: number; tags?: string[] })[];
  body: string;
  votes: Counter;
  counts: Counter[];
  map: Record<string, unknown>;
  also: { title: string; votes: Counter };
}

export const KINDS = ["set", "field", "deep", "delete", "count", "counts", "push", "insert", "remove", "element", "inside", "whole", "type", "erase", "update", "mark", "unmark", "split", "join", "several"] as const;

/** Not among the random ones: see the test of it. */
export type Kind = (typeof KINDS)[number] | "both";

export interface Edit {
  what: Kind;
  at: number;
  value: number;
}

export const edits: fc.Arbitrary<Edit> = fc.record({ what: fc.constantFrom(...KINDS), at: fc.nat(20), value: fc.nat(99) });

const WORDS = ["a", "👍", "é", "xyz", "👨‍👩‍👧"];
const BLOCK = "\uFFFC";

/** An index that parts no surrogate pair. */
export function place(body: string, at: number): number {
  const index = at % (body.length + 1);
  const unit = body.charCodeAt(index);
  return unit >= 0xdc00 && unit < 0xe000 ? index - 1 : index;
}

/** Edits a document as its page shows it; what does not fit there is left out. */
export async function make(doc: Doc<Shape>, { what, at, value }: Edit): Promise<unknown> {
  const { list, body } = doc.value;
  const index = place(body, at);
  const end = index + String.fromCodePoint(body.codePointAt(index) ?? 0).length;
  const key = `k${at % 3}`;
  const first = list.findIndex((item) => typeof item === "object");
  const handle = doc.text("body");
  switch (what) {
    case "set":
      return doc.set("title", `title ${value}`);
    case "field":
      return doc.set(["map", key], value);
    case "deep":
      return doc.set(["map", key], { a: { b: [value, { c: value }] }, when: new Date(value) });
    case "delete":
      return doc.delete(["map", key]);
    case "count":
      return doc.increment("votes", value);
    case "counts":
      return doc.increment(["counts", at % 2], value);
    case "push":
      return doc.change((d) => void d.list.push({ n: value }));
    case "insert":
      return doc.change((d) => void d.list.splice(at % (list.length + 1), at % 2, value, `s${value}`));
    case "remove":
      return list.length && doc.change((d) => void d.list.splice(at % list.length, 1 + (value % 2)));
    case "element":
      return list.length && doc.set(["list", at % list.length], value);
    case "inside":
      return first >= 0 && doc.set(["list", first, "n"], value);
    case "whole":
      return value < 10 && doc.set("list", [value, { n: value }]);
    case "type":
      return handle.splice(index, 0, WORDS[value % WORDS.length]);
    case "erase":
      return index < body.length && body[index] !== BLOCK && handle.splice(index, end - index);
    case "update":
      return handle.update(`${body.slice(0, index)}${value}${body.slice(index)}`);
    case "mark":
      return index < body.length && handle.mark(index, end, WORDS[at % 2] as string, value, { expand: at % 2 ? "after" : "none" });
    case "unmark":
      return index < body.length && handle.unmark(index, end, WORDS[at % 2] as string);
    case "split":
      return handle.split(index, { type: `t${value}` });
    case "join":
      return body.includes(BLOCK) && handle.join(body.indexOf(BLOCK));
    case "several":
      return doc.change((d) => {
        d.also.title = `several ${value}`;
        d.list.unshift(value);
        const item = d.list.find((one): one is { n: number; tags?: string[] } => typeof one === "object");
        if (item) (item.tags ??= []).push(`t${value}`);
        d.also.votes.increment(1);
      });
    case "both":
      return doc.change((d) => {
        d.title = `both ${value}`;
        (d.list[first] as { n: number }).n = value;
      });
  }
}
