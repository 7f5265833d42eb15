/** Edited on both sides at once, at random, and merged: here and in Automerge's own library the document is the same. */
import * as A from "@automerge/automerge";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Counter, type Doc, type Repo, text } from "../../ts/index.js";
import { open } from "../real/open.js";
import { type Any, meet, ours, there } from "./both.js";

interface Act {
  side: "here" | "there" | "meet";
  what: "set" | "deep" | "delete" | "count" | "push" | "insert" | "remove" | "element" | "type" | "erase" | "mark" | "split";
  at: number;
  value: number;
}

const act: fc.Arbitrary<Act> = fc.record({
  side: fc.constantFrom("here", "there", "here", "there", "here", "there", "meet"),
  what: fc.constantFrom("set", "deep", "delete", "count", "push", "insert", "remove", "element", "type", "erase", "mark", "split"),
  at: fc.nat(20),
  value: fc.nat(99),
});

let repo: Repo;
beforeAll(async () => void (repo = await open()));
afterAll(() => repo.close());

const WORDS = ["a", "👍", "é", "👨‍👩‍👧", "xyz"];
const word = (value: number): string => WORDS[value % WORDS.length] as string;
/** An index that parts no surrogate pair. */
const place = (body: string, at: number): number => {
  const index = at % (body.length + 1);
  const unit = body.charCodeAt(index);
  return unit >= 0xdc00 && unit < 0xe000 ? index - 1 : index;
};
/** The end of the character at an index. */
const after = (body: string, index: number): number => index + (String.fromCodePoint(body.codePointAt(index) ?? 0).length);

async function edit(doc: Doc<Any>, { what, at, value }: Act): Promise<unknown> {
  const { list, body } = doc.value as { list: unknown[]; body: string };
  const index = place(body, at);
  switch (what) {
    case "set":
      return doc.set([`k${at % 3}`], value);
    case "deep":
      return doc.set(["map", `k${at % 3}`], { from: "here", all: [value, { value }] });
    case "delete":
      return doc.delete(["map", `k${at % 3}`]);
    case "count":
      return doc.increment(["votes"], value);
    case "push":
      return doc.change((d) => void (d["list"] as unknown[]).push({ n: value }));
    case "insert":
      return doc.change((d) => void (d["list"] as unknown[]).splice(at % (list.length + 1), 0, value, "s"));
    case "remove":
      return list.length && doc.change((d) => void (d["list"] as unknown[]).splice(at % list.length, 1));
    case "element":
      return list.length && doc.set(["list", at % list.length], value);
    case "type":
      return doc.text(["body"]).splice(index, 0, word(value));
    case "erase":
      return index < body.length && body[index] !== "\uFFFC" && doc.text(["body"]).splice(index, after(body, index) - index);
    case "mark":
      return index < body.length && doc.text(["body"]).mark(index, after(body, index), word(value), value % 4 ? value : true);
    case "split":
      return doc.text(["body"]).split(index, { type: word(value) });
  }
}

function editThere(doc: A.Doc<Any>, { what, at, value }: Act): A.Doc<Any> {
  return A.change(doc, (d: any) => {
    const body = d.body as string;
    const index = place(body, at);
    if (what === "set") d[`k${at % 3}`] = value;
    else if (what === "deep") d.map[`k${at % 3}`] = { from: new A.ImmutableString("there"), all: [value, { value }] };
    else if (what === "delete") delete d.map[`k${at % 3}`];
    else if (what === "count") d.votes.increment(value);
    else if (what === "push") d.list.push({ n: value });
    else if (what === "insert") d.list.splice(at % (d.list.length + 1), 0, value, new A.ImmutableString("s"));
    else if (what === "remove") d.list.length && d.list.splice(at % d.list.length, 1);
    else if (what === "element") d.list.length && (d.list[at % d.list.length] = value);
    else if (what === "type") A.splice(d, ["body"], index, 0, word(value));
    else if (what === "erase") index < body.length && body[index] !== "\uFFFC" && A.splice(d, ["body"], index, after(body, index) - index);
    else if (what === "mark") index < body.length && A.mark(d, ["body"], { start: index, end: after(body, index), expand: "after" }, word(value), value % 4 ? value : true);
    else A.splitBlock(d, ["body"], index, { type: new A.ImmutableString(word(value)), parents: [], attrs: {} });
  });
}

test("both show the same", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(act, { maxLength: 30 }), async (acts) => {
      const doc = await repo.create<Any>({ map: {}, votes: new Counter(), list: [1, { n: 2 }, "three"], body: text("hello 👍") });
      let other = await there(doc);
      for (const one of [...acts, { side: "meet" } as Act]) {
        if (one.side === "here") await edit(doc, one);
        else if (one.side === "there") other = editThere(other, one);
        else {
          other = await meet(repo, doc, other);
          expect(A.getHeads(other).sort()).toEqual([...doc.heads].sort());
          expect(ours(other)).toEqual(doc.value);
          expect(A.spans(other, ["body"]).map((span) => (span.type === "text" ? span.value : ours(span.value)))).toEqual(
            (await doc.text(["body"]).spans()).map((span) => span.text ?? span.block),
          );
          expect(A.marks(other, ["body"]).map(({ name, start, end, value }) => `${start} ${end} ${name} ${String(value)}`).sort()).toEqual(
            (await doc.text(["body"]).marks()).map(({ name, start, end, value }) => `${start} ${end} ${name} ${String(value)}`).sort(),
          );
        }
      }
      await repo.delete(doc.id);
    }),
    { numRuns: Number(process.env["REJOIN_RUNS"] ?? 40) },
  );
});
