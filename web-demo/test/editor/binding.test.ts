import { redo, undo } from "@codemirror/commands";
import fc from "fast-check";
import { afterEach, describe, expect, it, vi } from "vitest";
import { difference } from "../../src/editor/diff.js";
import { Net, PATH } from "./merging.js";
import { open, type Page, rest, type } from "./page.js";

/** Each run plays up to sixty steps. */
const RUNS = Number(process.env["RUNS"] ?? 200);

afterEach(() => void document.body.replaceChildren());

describe("the difference of two texts", () => {
  const word = fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 30 });

  it("leads from one to the other", () => {
    fc.assert(
      fc.property(word, word, (old, now) => {
        let text = old;
        for (const { from, to, insert } of difference(old, now).reverse()) text = text.slice(0, from) + insert + text.slice(to);
        expect(text).toBe(now);
      }),
      { numRuns: 1000 },
    );
  });

  it("keeps what stands between two distant edits", () => {
    expect(difference("one two three", "One two three!")).toEqual([
      { from: 0, to: 1, insert: "O" },
      { from: 13, to: 13, insert: "!" },
    ]);
  });

  it("is one replacement where the texts have little in common", () => {
    expect(difference("a".repeat(1000), "b".repeat(1000))).toHaveLength(1);
  });
});

describe("a bound editor", () => {
  it("sends what is typed and shows what others type, with the selection where it was", async () => {
    const net = new Net();
    const [ada, bob] = [await open(net, "hello world"), await open(net)];
    ada.view.dispatch({ selection: { anchor: 6, head: 11 } });
    type(bob.view, 0, 5, "goodbye, dear");
    await net.settle();
    expect(ada.view.state.doc.toString()).toBe("goodbye, dear world");
    const { from, to } = ada.view.state.selection.main;
    expect(ada.view.state.sliceDoc(from, to)).toBe("world");
    expect(ada.doc.text(PATH).value).toBe("goodbye, dear world");
  });

  it("keeps a selection between two distant edits that arrive while an edit of its own is on its way", async () => {
    const net = new Net();
    const [ada, bob] = [await open(net, "one two three"), await open(net)];
    type(bob.view, 0, 0, ">> ");
    type(bob.view, 16, 16, " <<");
    await net.settle();
    ada.view.dispatch({ selection: { anchor: 7, head: 10 } });
    type(bob.view, 0, 0, "(");
    type(bob.view, bob.view.state.doc.length, bob.view.state.doc.length, ")");
    ada.view.dispatch({ changes: { from: 10, insert: "!" } });
    await net.settle();
    const { from, to } = ada.view.state.selection.main;
    expect(ada.view.state.sliceDoc(from, to)).toBe("two");
    expect(ada.view.state.doc.toString()).toBe("(>> one two! three <<)");
  });

  it("sends several cursors' typing as one change", async () => {
    const net = new Net();
    const ada = await open(net, "a b c");
    const before = ada.engine.changes.size;
    ada.view.dispatch({ changes: [{ from: 0, insert: "(" }, { from: 3, to: 5, insert: "!" }, { from: 5, insert: ")" }] });
    await net.settle();
    expect(ada.engine.text).toBe("(a b!)");
    expect(ada.view.state.doc.toString()).toBe("(a b!)");
    expect(ada.engine.changes.size).toBe(before + 1);
  });

  it("counts line breaks of every kind as the document does", async () => {
    const net = new Net();
    const ada = await open(net, "one\r\ntwo\rthree\n");
    expect(ada.view.state.doc.toString()).toBe("one\r\ntwo\rthree\n");
    type(ada.view, 5, 8, "2\n");
    await net.settle();
    expect(ada.engine.text).toBe("one\r\n2\n\rthree\n");
    expect(ada.view.state.doc.toString()).toBe(ada.engine.text);
  });

  it("never parts a surrogate pair", async () => {
    const net = new Net();
    const ada = await open(net, "x😀y");
    // What a browser's difference of two emojis comes to: their second halves.
    ada.view.dispatch({ changes: { from: 2, to: 3, insert: "😁"[1] as string } });
    const sent = vi.spyOn(ada.engine, "answer");
    await net.settle();
    expect(ada.engine.text).toBe("x😁y");
    expect(sent.mock.calls.find(([, method]) => method === "edit")?.[2][2]).toEqual([["splice", PATH, 1, 2, "😁"]]);
  });

  it("goes back and says so when an edit is refused", async () => {
    const net = new Net();
    const errors: unknown[] = [];
    const ada = await open(net, "hello", { onError: (error) => errors.push(error) });
    ada.engine.link.failures.push("store_full");
    type(ada.view, 5, 5, " world");
    expect(ada.view.state.doc.toString()).toBe("hello world");
    await net.settle();
    expect(ada.view.state.doc.toString()).toBe("hello");
    expect(errors).toMatchObject([{ code: "store_full" }]);
    ada.doc.close();
    type(ada.view, 5, 5, "!");
    await rest();
    expect(ada.view.state.doc.toString()).toBe("hello");
    expect(errors).toHaveLength(2);
  });

  it("sends nothing of what it is told", async () => {
    const net = new Net();
    const [ada, bob] = [await open(net, "hello"), await open(net)];
    const answered = vi.spyOn(bob.engine, "answer");
    type(ada.view, 5, 5, " world");
    await net.settle();
    bob.engine.rewrite();
    await net.settle();
    expect(bob.view.state.doc.toString()).toBe("hello world");
    expect(answered.mock.calls.filter(([, method]) => method === "edit")).toEqual([]);
  });

  it("sends an edit to where it belongs when it overtakes what has come in", async () => {
    const net = new Net();
    const [ada, bob] = [await open(net, "hello"), await open(net)];
    type(bob.view, 0, 0, ">>> ");
    bob.engine.link.up();
    net.sync();
    // The patch reaches the page, and before its subscribers are told, a key is pressed.
    while (ada.engine.link.down());
    type(ada.view, 5, 5, "!");
    await net.settle();
    expect(ada.engine.text).toBe(">>> hello!");
    expect(ada.view.state.doc.toString()).toBe(">>> hello!");
  });
});

describe("an edit on its way", () => {
  it("stays where it was made while what others wrote comes in", async () => {
    const net = new Net();
    const [ada, bob] = [await open(net, "....."), await open(net)];
    type(ada.view, 0, 0, "a");
    type(ada.view, 6, 6, "b");
    await net.settle();
    type(bob.view, 1, 1, "XXXX");
    bob.engine.link.up();
    type(ada.view, 6, 7, "");
    net.sync();
    while (ada.engine.link.down());
    await rest();
    // Only now is Ada's edit on its way to the engine; what she does next is meant in what she sees.
    expect(ada.view.state.doc.toString()).toMatch(/^a(XXXX)?\.\.\.\.\.$/);
    const last = ada.view.state.doc.length;
    type(ada.view, last, last, "c");
    await net.settle();
    expect(ada.engine.text).toBe("aXXXX.....c");
  });
});

describe("an edit made while the document is opened again", () => {
  it("stays where it was made", async () => {
    const net = new Net();
    const [ada, bob] = [await open(net, "....."), await open(net)];
    type(ada.view, 5, 5, "b");
    await net.settle();
    ada.engine.link.tell({ e: "engine" });
    while (ada.engine.link.down());
    type(bob.view, 0, 0, "XXXX");
    bob.engine.link.up();
    net.sync();
    while (ada.engine.link.up());
    type(ada.view, 5, 6, "");
    while (ada.engine.link.down());
    await rest();
    expect(ada.view.state.doc.toString()).toBe(".....");
    type(ada.view, 5, 5, "c");
    await net.settle();
    expect(ada.engine.text).toBe("XXXX.....c");
    expect(ada.view.state.doc.toString()).toBe("XXXX.....c");
  });
});

describe("undo", () => {
  it("works offline, and stays one's own after the value was loaded again", async () => {
    const net = new Net();
    const [ada, bob] = [await open(net, "one\ntwo\n"), await open(net)];
    type(ada.view, 3, 3, " a1 a2");
    // Bob writes in the middle of what Ada wrote, before her, and deletes some of it.
    await net.settle();
    type(bob.view, 6, 6, "BBB");
    type(bob.view, 0, 0, "BB ");
    type(bob.view, 13, 15, "");
    await net.settle();
    expect(ada.view.state.doc.toString()).toBe("BB one a1BBB \ntwo\n");
    ada.engine.rewrite();
    ada.engine.link.tell({ e: "engine" });
    await net.settle();
    // The undo itself is made while no message moves.
    expect(undo(ada.view)).toBe(true);
    expect(ada.view.state.doc.toString()).toBe("BB oneBBB\ntwo\n");
    type(bob.view, bob.view.state.doc.length, bob.view.state.doc.length, "B");
    await net.settle();
    expect(ada.engine.text).toBe("BB oneBBB\ntwo\nB");
    redo(ada.view);
    await net.settle();
    expect(ada.engine.text).toBe("BB one a1BBB \ntwo\nB");
    expect(bob.view.state.doc.toString()).toBe(ada.engine.text);
  });
});

interface Step {
  who: 0 | 1;
  what: "type" | "delete" | "undo" | "redo" | "up" | "down" | "sync" | "rewrite" | "restart";
  at: number;
  count: number;
}

/** Writing and moving messages weigh as much as each other, so that edits meet in every state. */
const story = fc.array(
  fc.record({
    who: fc.constantFrom<0 | 1>(0, 1),
    what: fc.constantFrom<Step["what"]>("type", "type", "type", "delete", "undo", "redo", "up", "up", "down", "down", "down", "sync", "sync", "rewrite", "restart"),
    at: fc.nat(1000),
    count: fc.integer({ min: 1, max: 4 }),
  }),
  { maxLength: 60, size: "max" },
);

const LETTERS = ["abcdefghij", "ABCDEFGHIJ"] as const;

/** Where a user may delete. */
type Range = (text: string, from: number, count: number) => [from: number, to: number];

const anywhere: Range = (text, from, count) => [from, Math.min(text.length, from + count)];

/** The first of the user's own letters from there on: they are small. */
const own: Range = (text, from) => {
  const found = text.slice(from).search(/[a-z]/);
  return found < 0 ? [from, from] : [from + found, from + found + 1];
};

/** Plays a story of two people: the first writes small letters, the second capitals. */
async function play(script: readonly Step[], may: (who: 0 | 1, what: Step["what"]) => boolean, range: Range, isComposing?: (step: number) => boolean): Promise<{ net: Net; pages: [Page, Page] }> {
  const net = new Net();
  const pages: [Page, Page] = [await open(net, "....."), await open(net)];
  let step = -1;
  if (isComposing) vi.spyOn(pages[0].view, "compositionStarted", "get").mockImplementation(() => isComposing(step));
  for (const { who, what, at, count } of script) {
    step++;
    const { view, engine, doc } = pages[who];
    if (!may(who, what)) continue;
    const from = at % (view.state.doc.length + 1);
    if (what === "type") type(view, from, from, LETTERS[who].slice(0, count));
    else if (what === "delete") type(view, ...range(view.state.doc.toString(), from, count), "");
    else if (what === "undo") undo(view);
    else if (what === "redo") redo(view);
    else if (what === "up") engine.link.up();
    else if (what === "down") engine.link.down();
    else if (what === "sync") net.sync();
    else if (what === "rewrite") engine.rewrite();
    else engine.link.tell({ e: "engine" });
    await rest();
    if (who === 1 || !isComposing) expect(view.state.doc.toString()).toBe(doc.text(PATH).value);
  }
  step++;
  return { net, pages };
}

const count = (text: string, letters: RegExp): string => [...text.replace(letters, "")].sort().join("");

describe("whatever the order in which edits and messages come", () => {
  it("the editor shows the document, and both the same in the end", async () => {
    await fc.assert(
      fc.asyncProperty(story, async (script) => {
        const { net, pages } = await play(script, () => true, anywhere);
        await net.settle();
        for (const { view } of pages) expect(view.state.doc.toString()).toBe(pages[0].engine.text);
        for (const { view } of pages) view.destroy();
      }),
      { numRuns: RUNS },
    );
  });

  it("what is composed while others write lands where it belongs, and the editor shows the document when it is done", async () => {
    const steps = fc.tuple(story, fc.array(fc.boolean(), { minLength: 60, maxLength: 60 }));
    await fc.assert(
      fc.asyncProperty(steps, async ([script, composing]) => {
        const isComposing = (step: number): boolean => step < script.length && (composing[step] as boolean);
        const bobTypes = (who: 0 | 1, what: Step["what"]): boolean => who === 0 || !["delete", "undo", "redo"].includes(what);
        const { net, pages } = await play(script, bobTypes, own, isComposing);
        await net.settle();
        const [{ view, engine }, bob] = pages;
        type(bob.view, 0, 0, "!");
        await net.settle();
        const typed = script.filter(({ who, what }) => who === 1 && what === "type").map(({ count }) => LETTERS[1].slice(0, count));
        expect(view.state.doc.toString()).toBe(engine.text);
        expect(count(engine.text, /[^A-Z]/g)).toBe([...typed.join("")].sort().join(""));
        expect(count(engine.text, /[^.]/g)).toBe(".....");
        for (const page of pages) page.view.destroy();
      }),
      { numRuns: RUNS },
    );
  });

  it("undo and redo take nothing that somebody else wrote, and undo takes all that one wrote oneself", async () => {
    await fc.assert(
      fc.asyncProperty(story, async (script) => {
        const bobTypes = (who: 0 | 1, what: Step["what"]): boolean => who === 0 || !["delete", "undo", "redo"].includes(what);
        const { net, pages } = await play(script, bobTypes, own);
        const [{ view, engine }] = pages;
        while (undo(view));
        await net.settle();
        const typed = script.filter(({ who, what }) => who === 1 && what === "type").map(({ count }) => LETTERS[1].slice(0, count));
        expect(count(engine.text, /[^A-Z]/g)).toBe([...typed.join("")].sort().join(""));
        expect(count(engine.text, /[^.]/g)).toBe(".....");
        expect(count(engine.text, /[^a-z]/g)).toBe("");
        expect(view.state.doc.toString()).toBe(engine.text);
        for (const page of pages) page.view.destroy();
      }),
      { numRuns: RUNS },
    );
  });
});
