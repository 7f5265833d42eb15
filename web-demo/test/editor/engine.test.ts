/** The binding on the real engine. Skipped where that has not been built. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { redo, undo } from "@codemirror/commands";
import { EditorView } from "@codemirror/view";
import fc from "fast-check";
import { type Doc, type Repo, text } from "rejoin";
import { createTestRepo, exchange, settle } from "rejoin/testing";
import { afterEach, describe, expect, it, vi } from "vitest";
import { bindText } from "../../src/editor/binding.js";
import { remoteCarets, remoteCursors } from "../../src/editor/cursors.js";
import { ownHistory } from "../../src/editor/undo.js";
import { type } from "./page.js";

const WASM = join(import.meta.dirname, "../../../wasm/pkg/rejoin_bg.wasm");
const RUNS = Number(process.env["ENGINE_RUNS"] ?? 8);

interface Place {
  repo: Repo;
  doc: Doc;
  view: EditorView;
}

const open: Repo[] = [];

async function pair(body: string): Promise<[Place, Place]> {
  const repos = await Promise.all([0, 1].map(() => createTestRepo({ wasm: new Uint8Array(readFileSync(WASM)) })));
  open.push(...repos);
  const [ada, bob] = repos as [Repo, Repo];
  const hers = await ada.create<Record<string, any>>({ note: text(body) });
  await exchange(ada, bob);
  const his = await bob.find(hers.id);
  return [place(ada, hers), place(bob, his)];
}

function place(repo: Repo, doc: Doc): Place {
  const note = doc.text("note");
  return { repo, doc, view: new EditorView({ doc: note.value, extensions: [bindText(note), ownHistory()] }) };
}

const shown = ({ view }: Place): string => view.state.doc.toString();

afterEach(async () => void (await Promise.all(open.splice(0).map((repo) => repo.close()))));

describe.skipIf(!existsSync(WASM))("on the real engine", () => {
  it("two editors merge what was written apart, and undo takes one's own back", async () => {
    const [ada, bob] = await pair("one 😀 two");
    type(ada.view, 0, 0, "Ada ");
    ada.view.dispatch({ changes: [{ from: 4, to: 7, insert: "ONE" }, { from: 14, insert: "!" }], userEvent: "input" });
    type(bob.view, 10, 10, " Bob");
    await exchange(ada.repo, bob.repo);
    expect(shown(ada)).toMatch(/^Ada ONE 😀 two(! Bob| Bob!)$/);
    expect(shown(bob)).toBe(shown(ada));
    expect((await ada.doc.history()).length).toBe(4);
    while (undo(ada.view));
    await exchange(ada.repo, bob.repo);
    expect([shown(ada), shown(bob)]).toEqual(["one 😀 two Bob", "one 😀 two Bob"]);
  });

  it("whatever they write, both see the same, and nobody's undo takes what the other wrote", async () => {
    const step = fc.record({
      who: fc.constantFrom(0, 1),
      what: fc.constantFrom("type", "type", "type", "undo", "redo", "exchange", "settle"),
      at: fc.nat(1000),
      count: fc.integer({ min: 1, max: 4 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25, size: "max" }), async (script) => {
        const places = await pair(".....");
        for (const { who, what, at, count } of script) {
          const { view, repo, doc } = places[who] as Place;
          // No caret stands in the middle of an emoji.
          const from = [...view.state.doc.toString()].slice(0, at % (view.state.doc.length + 1)).join("").length;
          if (what === "type") type(view, from, from, (who ? "BCD😀" : "bcd😎").slice(-count - 1));
          else if (what === "undo") undo(view);
          else if (what === "redo") redo(view);
          else if (what === "settle") await settle(repo);
          else await exchange(places[0].repo, places[1].repo);
          expect(view.state.doc.toString()).toBe(doc.text("note").value);
        }
        await exchange(places[0].repo, places[1].repo);
        for (const { view, doc } of places) {
          expect(view.state.doc.toString()).toBe(shown(places[0]));
          expect(await doc.at(doc.heads, ["note"])).toBe(shown(places[0]));
        }
        const his = shown(places[1]).replace(/[^BCD😀]/gu, "");
        while (undo(places[0].view));
        await exchange(places[0].repo, places[1].repo);
        expect(shown(places[1]).replace(/[^BCD😀]/gu, "")).toBe(his);
        expect(shown(places[1]).replace(/[^.]/g, "")).toBe(".....");
        expect(shown(places[1])).not.toMatch(/[bcd😎]/u);
        await Promise.all(open.splice(0).map((repo) => repo.close()));
      }),
      { numRuns: RUNS, endOnFailure: true },
    );
  }, 120_000);

  it("a selection is shown in cursors that stay with their characters", async () => {
    const [ada] = await pair("hello world");
    const note = ada.doc.text("note");
    const presence = ada.repo.presence(ada.doc);
    const cursors = remoteCursors(note, presence, { key: "caret:note", user: { name: "Ada", colour: "red" } });
    const view = new EditorView({ doc: note.value, extensions: [bindText(note), cursors] });
    vi.spyOn(view, "hasFocus", "get").mockReturnValue(true);
    view.dispatch({ selection: { anchor: 6, head: 11 } });
    await vi.waitFor(() => expect(presence.values).toMatchObject([{ key: "caret:note", own: true, value: { name: "Ada" } }]), 10_000);
    expect(remoteCarets(view.state)).toEqual([]);
    const { anchor, head } = presence.values[0]?.value as { anchor: string; head: string };
    type(ada.view, 0, 0, "oh, ");
    expect(await Promise.all([note.position(anchor), note.position(head)])).toEqual([10, 15]);
    const stop = presence.subscribe(() => {});
    view.destroy();
    await vi.waitFor(() => expect(presence.values).toEqual([]), 10_000);
    stop();
  });
});
