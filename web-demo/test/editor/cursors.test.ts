import { EditorView } from "@codemirror/view";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { bindText } from "../../src/editor/binding.js";
import { remoteCarets, remoteCursors } from "../../src/editor/cursors.js";
import { Net, PATH } from "./merging.js";
import { open, type Page, type } from "./page.js";

const KEY = "caret:cards/a/note";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  vi.useRealTimers();
  document.body.replaceChildren();
});

/** Gives a page's editor cursors, and the focus that makes it show its own. */
async function join(net: Net, page: Page, name: string, people: (names: readonly string[]) => void = () => {}): Promise<EditorView> {
  page.view.destroy();
  const text = page.doc.text(PATH);
  const cursors = remoteCursors(text, page.repo.presence(page.doc), { key: KEY, user: { name, colour: "#7c3aed" }, onPeople: people });
  const view = new EditorView({ doc: text.value, extensions: [bindText(text), cursors], parent: document.body });
  vi.spyOn(view, "hasFocus", "get").mockReturnValue(true);
  await quiet(net);
  return view;
}

/** Lets everything arrive, also what waits for a pause. */
async function quiet(net: Net): Promise<void> {
  for (let n = 0; n < 6; n++) {
    vi.advanceTimersByTime(100);
    await net.settle();
  }
}

const select = (view: EditorView, anchor: number, head = anchor): void => view.dispatch({ selection: { anchor, head } });

describe("the carets of others", () => {
  it("stand where their owners are, with their names, and move with the text", async () => {
    const net = new Net();
    const [one, two] = [await open(net, "hello world"), await open(net)];
    const [ada, bob] = [await join(net, one, "Ada"), await join(net, two, "Bob")];
    select(ada, 6, 11);
    await quiet(net);
    expect(remoteCarets(bob.state)).toMatchObject([{ name: "Ada", colour: "#7c3aed", anchor: 6, head: 11 }]);
    expect(remoteCarets(ada.state)).toMatchObject([{ name: "Bob", head: 0 }]);
    type(bob, 0, 0, "oh, ");
    expect(remoteCarets(bob.state)).toMatchObject([{ anchor: 10, head: 15 }]);
    await quiet(net);
    expect(remoteCarets(bob.state)).toMatchObject([{ anchor: 10, head: 15 }]);
    expect(remoteCarets(ada.state)).toMatchObject([{ name: "Bob", head: 4 }]);
  });

  it("are not pushed by what is typed where they stand, and go with what their owners type", async () => {
    const net = new Net();
    const [one, two] = [await open(net, "ab"), await open(net)];
    const [ada, bob] = [await join(net, one, "Ada"), await join(net, two, "Bob")];
    select(ada, 1);
    await quiet(net);
    type(ada, 1, 1, "xyz");
    await quiet(net);
    expect(remoteCarets(bob.state)).toMatchObject([{ head: 4 }]);
    expect(bob.state.doc.toString()).toBe("axyzb");
  });

  it("show the name again only when their owner moves", async () => {
    const net = new Net();
    const [one, two] = [await open(net, "hello world"), await open(net)];
    const [ada, bob] = [await join(net, one, "Ada"), await join(net, two, "Bob")];
    select(ada, 6);
    await quiet(net);
    const before = remoteCarets(bob.state)[0]?.moves as number;
    type(bob, 0, 0, "oh, ");
    await quiet(net);
    expect(remoteCarets(bob.state)[0]?.moves).toBe(before);
    select(ada, 2);
    await quiet(net);
    expect(remoteCarets(bob.state)[0]?.moves).toBe(before + 1);
  });

  it("are told at most every eighty milliseconds, and only when they changed", async () => {
    const net = new Net();
    const [one, two] = [await open(net, "hello world"), await open(net)];
    const [ada] = [await join(net, one, "Ada"), await join(net, two, "Bob")];
    await quiet(net);
    const set = vi.spyOn(one.engine, "answer");
    const told = (): number => set.mock.calls.filter(([, method]) => method === "presenceSet").length;
    for (let at = 0; at < 10; at++) select(ada, at);
    await quiet(net);
    expect(told()).toBe(1);
    select(ada, 3);
    select(ada, 9);
    await quiet(net);
    expect(told()).toBe(1);
  });

  it("end with the presence of their owner, and people are told when somebody comes or goes", async () => {
    const net = new Net();
    const [one, two] = [await open(net, "hello"), await open(net)];
    const people: (readonly string[])[] = [];
    const [ada, bob] = [await join(net, one, "Ada"), await join(net, two, "Bob", (names) => people.push(names))];
    for (let at = 0; at < 5; at++) {
      select(ada, at);
      await quiet(net);
    }
    expect(remoteCarets(bob.state)).toHaveLength(1);
    expect(people).toEqual([["Ada"]]);
    ada.destroy();
    await quiet(net);
    expect(remoteCarets(bob.state)).toEqual([]);
    expect(people).toEqual([["Ada"], []]);
    expect(net.presences.map(({ author }) => author)).not.toContain(one.engine.session);
  });

  it("are drawn beside the text, out of the way of screen readers", async () => {
    const net = new Net();
    const [one, two] = [await open(net, "hello"), await open(net)];
    const [ada, bob] = [await join(net, one, "Ada"), await join(net, two, "Bob")];
    const before = bob.contentDOM.innerHTML;
    select(ada, 1, 3);
    await quiet(net);
    expect(remoteCarets(bob.state)).toHaveLength(1);
    expect(bob.contentDOM.innerHTML).toBe(before);
    expect(bob.dom.querySelector(".cm-remote-carets")?.getAttribute("aria-hidden")).toBe("true");
  });

  it("are ignored where somebody shows anything else under the key", async () => {
    const net = new Net();
    const [one, two] = [await open(net, "hello"), await open(net)];
    const bob = await join(net, two, "Bob");
    const presence = one.repo.presence(one.doc);
    const cursor = one.engine.changes.values().next().value?.inserted[1]?.id as string;
    for (const value of [null, 7, { anchor: 1, head: 2, name: "x", colour: "red" }, { anchor: "?", head: "?", name: "x", colour: "red" }]) {
      void presence.set(KEY, value);
      await quiet(net);
      expect(remoteCarets(bob.state)).toEqual([]);
    }
    void presence.set(KEY, { anchor: cursor, head: cursor, name: "y".repeat(1000), colour: "url(https://example.org/seen)" });
    await quiet(net);
    expect(remoteCarets(bob.state)).toMatchObject([{ name: "y".repeat(40), colour: "gray", head: 1 }]);
    void presence.set(KEY, { anchor: cursor, head: cursor, name: "y", colour: "var(--violet)" });
    await quiet(net);
    expect(remoteCarets(bob.state)).toMatchObject([{ name: "y", colour: "var(--violet)" }]);
  });
});
