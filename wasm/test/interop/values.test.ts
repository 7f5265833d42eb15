/** A document made here opens in Automerge's own library, and one made there opens here: every type of value, both ways. */
import * as A from "@automerge/automerge";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Counter, type Repo, text, Unknown } from "../../ts/index.js";
import { open } from "../real/open.js";
import { type Any, here, meet, ours, there } from "./both.js";

let repo: Repo;
beforeAll(async () => void (repo = await open()));
afterAll(() => repo.close());

const DATE = new Date("2026-11-21T12:34:56.789Z");
const BYTES = new Uint8Array([0, 1, 127, 128, 255]);
const EMOJI = "a👍🏽b👨‍👩‍👧c é\u0301 \u{10FFFF} \0 \u2028";

const made = (): Any => ({
  null: null,
  yes: true,
  no: false,
  zero: 0,
  int: -42,
  big: Number.MAX_SAFE_INTEGER,
  small: Number.MIN_SAFE_INTEGER,
  float: 1.5,
  tiny: 5e-324,
  huge: 1.7976931348623157e308,
  string: EMOJI,
  empty: "",
  text: text(EMOJI),
  none: text(""),
  date: DATE,
  before: new Date(-1),
  bytes: BYTES,
  nothing: new Uint8Array(),
  counter: new Counter(-3),
  map: { deep: { deeper: { list: [{ a: [[], {}] }] } }, "": "the empty key", "🔑": 1, $date: 5, $$text: { $bytes: "x" }, "a.b": 2 },
  list: [null, true, 1, 2.5, "s", DATE, BYTES, [1, [2, [3]]], { x: 1 }],
  counters: [new Counter(1), new Counter(2)],
});

/** What is read of it. */
const read = (): Any => ({ ...made(), text: EMOJI, none: "" });

describe("made here", () => {
  test("every type of value is the same there", async () => {
    const doc = await repo.create(made());
    expect(doc.value).toEqual(read());
    const other = await there(doc);
    expect(ours(other)).toEqual(read());
    expect(A.getHeads(other)).toEqual(doc.heads);
    // A text is a text, a string a string.
    expect(typeof other["text"]).toBe("string");
    expect(A.isImmutableString(other["string"])).toBe(true);
    expect(A.isCounter((other["counters"] as unknown[])[1])).toBe(true);
  });

  test("written field by field it is the same there", async () => {
    const doc = await repo.create<Any>({});
    for (const [key, value] of Object.entries(made())) await doc.set([key], value);
    expect(doc.value).toEqual(read());
    expect(ours(await there(doc))).toEqual(read());
  });

  test("floats that are no numbers are the same there", async () => {
    const doc = await repo.create<Any>({ nan: NaN, infinity: Infinity, minus: -Infinity, list: [NaN, -Infinity] });
    expect(doc.value).toEqual({ nan: NaN, infinity: Infinity, minus: -Infinity, list: [NaN, -Infinity] });
    expect(ours(await there(doc))).toEqual(doc.value);
  });

  test("integers beyond those of JavaScript are kept", async () => {
    const all = { int: 2n ** 62n + 1n, least: -(2n ** 63n), uint: 2n ** 64n - 1n, list: [2n ** 53n + 1n] };
    const doc = await repo.create<Any>(all);
    expect(doc.value).toEqual(all);
    const other = await there(doc);
    // Whatever that library shows of them: through its hands and back they are what they were.
    const again = await here(repo, A.change(other, (d) => void (d["touched"] = 1)));
    expect(again.value).toEqual({ ...all, touched: 1 });
  });

  test("values of unknown types go through its hands unharmed", async () => {
    const doc = await repo.create<Any>({ from: new Unknown(12, BYTES), list: [new Unknown(10, new Uint8Array())], beside: 1 });
    const other = A.change(await there(doc), (d) => void (d["beside"] = 2));
    const again = await here(repo, other);
    expect(again.value).toEqual({ from: new Unknown(12, BYTES), list: [new Unknown(10, new Uint8Array())], beside: 2 });
  });

  test("deleted fields and elements are gone there", async () => {
    const doc = await repo.create<Any>({ a: 1, b: { c: 2, d: 3 }, list: [1, 2, 3], text: text("abc") });
    await doc.delete(["a"]);
    await doc.delete(["b", "c"]);
    await doc.change((d) => void (d["list"] as number[]).splice(1, 1));
    await doc.text("text").splice(1, 1);
    expect(ours(await there(doc))).toEqual({ b: { d: 3 }, list: [1, 3], text: "ac" });
    await doc.set(["a"], "again");
    expect(ours(await there(doc))).toEqual({ a: "again", b: { d: 3 }, list: [1, 3], text: "ac" });
  });

  test("marks and blocks are the same there", async () => {
    const doc = await repo.create<Any>({ body: text("👍 bold, linked, plain") });
    const body = doc.text(["body"]);
    await body.mark(3, 7, "bold", true);
    await body.mark(9, 15, "link", "https://example.org", { expand: "none" });
    await body.mark(5, 12, "size", 12.5);
    await body.unmark(5, 6, "bold");
    await body.split(0, { type: "heading", attrs: { level: 1 } });
    const other = await there(doc);
    expect(A.marks(other, ["body"]).sort(byPlace)).toEqual([...(await body.marks())].sort(byPlace));
    expect(pieces(A.spans(other, ["body"]))).toEqual(await body.spans());
    expect(other["body"]).toBe(body.value);
  });

  test("who made it, when and why is the same there", async () => {
    const doc = await repo.create<Any>({ a: 1 });
    await doc.set(["a"], 2, { message: "why 👍", time: new Date(1_700_000_000_000) });
    const [first, second] = A.getHistory(await there(doc)).map(({ change }) => change);
    const [one, two] = await doc.history();
    expect([one?.hash, two?.hash]).toEqual([first?.hash, second?.hash]);
    expect(second).toMatchObject({ message: two?.message, actor: two?.actor, seq: two?.seq, deps: two?.deps });
    expect(two?.message).toBe("why 👍");
    expect(two?.time?.getTime()).toBe((second?.time ?? 0) * 1000);
  });
});

describe("made there", () => {
  const theirs = (): Any => ({
    ...read(),
    string: new A.ImmutableString(EMOJI),
    empty: new A.ImmutableString(""),
    counter: new A.Counter(-3),
    counters: [new A.Counter(1), new A.Counter(2)],
    nan: NaN,
    infinity: -Infinity,
  });

  test("every type of value is the same here", async () => {
    const other = A.change(A.from(theirs()), (d) => {
      // These are taken for what they are only where they are assigned directly.
      d["uint"] = new A.Uint(7);
      d["whole"] = new A.Float64(3);
      d["huge"] = new A.Float64(Number.MAX_VALUE);
      d["big uint"] = 2n ** 64n - 1n;
      d["big int"] = -(2n ** 63n);
    });
    const doc = await here(repo, other);
    expect(doc.value).toEqual({ ...read(), nan: NaN, infinity: -Infinity, uint: 7, whole: 3, "big uint": 2n ** 64n - 1n, "big int": -(2n ** 63n) });
    expect(doc.heads).toEqual(A.getHeads(other));
    // And back again, byte for byte the same changes.
    expect(A.getHeads(await there(doc))).toEqual(A.getHeads(other));
  });

  test("a text typed in UTF-16 units can be typed on here", async () => {
    let other = A.from<Any>({ body: EMOJI });
    other = A.change(other, (d) => A.splice(d, ["body"], EMOJI.indexOf("b👨"), 1, "B👍"));
    const doc = await here(repo, other);
    const expected = EMOJI.replace("b👨", "B👍👨");
    expect(doc.value["body"]).toBe(expected);
    await doc.text(["body"]).splice(expected.indexOf("c"), 1, "C");
    await doc.text(["body"]).update(`${doc.text(["body"]).value}!`);
    expect((await there(doc))["body"]).toBe(`${expected.replace("c", "C")}!`);
    expect(doc.value["body"]).toBe(`${expected.replace("c", "C")}!`);
  });

  test("marks and blocks are the same here", async () => {
    let other = A.from<Any>({ body: "👍 bold and more" });
    other = A.change(other, (d) => {
      A.mark(d, ["body"], { start: 3, end: 7, expand: "both" }, "bold", true);
      A.mark(d, ["body"], { start: 0, end: 2, expand: "none" }, "when", DATE as never);
      A.splitBlock(d, ["body"], 0, { type: new A.ImmutableString("heading"), parents: [new A.ImmutableString("div")], attrs: { level: 2 } });
      A.splitBlock(d, ["body"], 9, { type: new A.ImmutableString("paragraph"), parents: [], attrs: {} });
    });
    const doc = await here(repo, other);
    const body = doc.text(["body"]);
    expect(body.value).toBe(other["body"]);
    expect([...(await body.marks())].sort(byPlace)).toEqual(A.marks(other, ["body"]).sort(byPlace));
    expect(await body.spans()).toEqual(pieces(A.spans(other, ["body"])));
    // Typed here, at the end of what expands: marked there, too.
    await body.splice(8, 0, "er");
    expect(pieces(A.spans(await there(doc), ["body"]))).toEqual(await body.spans());
  });

  test("cursors of either name the same place", async () => {
    const other = A.from<Any>({ body: "one 👍 two" });
    const doc = await here(repo, other);
    const theirCursor = A.getCursor(other, ["body"], 7);
    const ourCursor = await doc.text(["body"]).cursor(7);
    expect(ourCursor).toBe(theirCursor);
    await doc.text(["body"]).splice(0, 0, "👍👍");
    expect(await doc.text(["body"]).position(theirCursor)).toBe(11);
    expect(A.getCursorPosition(await there(doc), ["body"], ourCursor)).toBe(11);
  });
});

describe("edited on both sides", () => {
  test("counters of either side all count, in lists too", async () => {
    const doc = await repo.create<Any>({ n: new Counter(1), list: [new Counter(10), { n: new Counter(100) }] });
    let other = await there(doc);
    await doc.increment(["n"], 2);
    await doc.increment(["list", 0], 5);
    await doc.change((d) => (d["list"] as any)[1].n.increment(7));
    other = A.change(other, (d) => {
      (d["n"] as A.Counter).increment(3);
      (d["list"] as any)[0].decrement(1);
      (d["list"] as any)[1].n.increment(1);
    });
    other = await meet(repo, doc, other);
    expect(doc.value).toEqual({ n: new Counter(6), list: [new Counter(14), { n: new Counter(108) }] });
    expect(ours(other)).toEqual(doc.value);
  });

  test("conflicts are the same there, several deep", async () => {
    const doc = await repo.create<Any>({ a: { x: 0 }, list: [0] });
    let [one, two] = [await there(doc), await there(doc)];
    await doc.set(["a"], { x: { from: "here", y: { z: 1 } } });
    await doc.change((d) => ((d["list"] as unknown[])[0] = "here"));
    one = A.change(one, (d) => ((d["a"] = { x: "one" }), ((d["list"] as unknown[])[0] = { of: "one" })));
    two = A.change(two, (d) => ((d["a"] = new A.Counter(2)), ((d["list"] as unknown[])[0] = [1, [2]])));
    // Deeper: the loser's own map has a conflict inside.
    let [left, right] = [A.clone(one), A.clone(one)];
    left = A.change(left, (d) => ((d["a"] as Any)["x"] = "left"));
    right = A.change(right, (d) => ((d["a"] as Any)["x"] = { is: "right" }));
    one = A.merge(left, right);
    let other = await meet(repo, doc, A.merge(one, two));
    for (const [path, found] of [[["a"], A.getConflicts(other, "a")], [["list", 0], A.getConflicts(other["list"] as never, 0 as never)]] as const) {
      const conflicts = await doc.conflicts(path);
      expect(conflicts).toHaveLength(3);
      expect(Object.fromEntries(conflicts.map(({ id, value }) => [id, value]))).toEqual(ours(found));
      expect(conflicts[0]?.value).toEqual(doc.get(path));
    }
    expect(ours(other)).toEqual(doc.value);
    // Whoever writes next ends them on both sides.
    await doc.set(["a"], "settled");
    other = await meet(repo, doc, other);
    expect(await doc.conflicts(["a"])).toHaveLength(1);
    expect(A.getConflicts(other, "a")).toBeUndefined();
  });

  test("a field deleted on one side and written on the other stays", async () => {
    const doc = await repo.create<Any>({ a: 1, b: 2, m: { x: 1 } });
    let other = await there(doc);
    await doc.delete(["a"]);
    await doc.set(["m", "x"], 2);
    other = A.change(other, (d) => {
      d["a"] = 5;
      delete d["b"];
      delete (d["m"] as Any)["x"];
    });
    other = await meet(repo, doc, other);
    expect(doc.value).toEqual({ a: 5, m: { x: 2 } });
    expect(ours(other)).toEqual(doc.value);
  });
});

const byPlace = (a: { start: number; end: number; name: string }, b: { start: number; end: number; name: string }): number =>
  a.start - b.start || a.end - b.end || a.name.localeCompare(b.name);

/** Spans of theirs in our words. */
function pieces(spans: readonly A.Span[]): unknown[] {
  return spans.map((span) => (span.type === "text" ? { text: span.value, marks: ours(span.marks ?? {}) } : { block: ours(span.value) }));
}
