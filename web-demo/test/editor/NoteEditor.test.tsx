import { undo } from "@codemirror/commands";
import { EditorView } from "@codemirror/view";
import { act, type ReactElement, StrictMode } from "react";
import { createRoot, type Root } from "react-dom/client";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { NoteEditor } from "../../src/editor/NoteEditor.js";
import { Net, PATH } from "./merging.js";
import { open, type Page, type } from "./page.js";

let root: Root;
let host: HTMLElement;

beforeEach(() => {
  vi.stubGlobal("IS_REACT_ACT_ENVIRONMENT", true);
  host = document.body.appendChild(document.createElement("div"));
  root = createRoot(host);
});

afterEach(async () => {
  await act(async () => root.unmount());
  document.body.replaceChildren();
  vi.unstubAllGlobals();
});

const render = (element: ReactElement): Promise<void> => act(async () => root.render(<StrictMode>{element}</StrictMode>));

const content = (): HTMLElement => host.querySelector(".cm-content") as HTMLElement;

const view = (): EditorView => EditorView.findFromDOM(content()) as EditorView;

async function page(net: Net, text = ""): Promise<Page> {
  const made = await open(net, text);
  made.view.destroy();
  return made;
}

describe("a note editor", () => {
  it("mounts one editor, also in strict mode, and keeps it and its history when its props change", async () => {
    const net = new Net();
    const { doc, engine } = await page(net, "hello");
    await render(<NoteEditor doc={doc} path={[...PATH]} placeholder="Write here" />);
    expect(host.querySelectorAll(".cm-editor")).toHaveLength(1);
    const first = view();
    await act(async () => type(first, 5, 5, " world"));
    await render(<NoteEditor doc={doc} path={[...PATH]} placeholder="Write on" user={{ name: "Ada", colour: "red" }} />);
    expect(view()).toBe(first);
    await act(() => net.settle());
    expect(engine.text).toBe("hello world");
    await act(async () => void undo(first));
    await act(() => net.settle());
    expect(engine.text).toBe("hello");
  });

  it("has a name, a placeholder, and can be read without being written", async () => {
    const net = new Net();
    const { doc } = await page(net);
    await render(<NoteEditor doc={doc} path={PATH} placeholder="Write here" label="Note of a card" />);
    expect(content().getAttribute("aria-label")).toBe("Note of a card");
    expect(content().getAttribute("role")).toBe("textbox");
    expect(host.querySelector(".cm-placeholder")?.textContent).toBe("Write here");
    await render(<NoteEditor doc={doc} path={PATH} label="Note of a card" readOnly />);
    expect(content().getAttribute("contenteditable")).toBe("false");
    expect(content().getAttribute("aria-readonly")).toBe("true");
    expect(content().tabIndex).toBe(0);
  });

  it("shows another text when its path changes, and nothing of the first one's history", async () => {
    const net = new Net();
    const { doc } = await page(net, "hello");
    await render(<NoteEditor doc={doc} path={PATH} />);
    await act(async () => type(view(), 0, 0, "oh, "));
    await render(<NoteEditor doc={doc} path={["cards", "b", "note"]} />);
    expect(view().state.doc.toString()).toBe("");
    expect(undo(view())).toBe(false);
    expect(doc.text(PATH).value).toBe("oh, hello");
  });

  it("says who is here too, once, and not what they type", async () => {
    const net = new Net();
    const [ada, bob] = [await page(net, "hello"), await page(net)];
    await render(<NoteEditor doc={ada.doc} path={PATH} presence={ada.repo.presence(ada.doc)} user={{ name: "Ada", colour: "red" }} />);
    await act(() => net.settle());
    const status = host.querySelector("[role=status]") as HTMLElement;
    expect(status.textContent).toBe("");
    const cursor = bob.engine.changes.values().next().value?.inserted[1]?.id as string;
    const presence = bob.repo.presence(bob.doc);
    void presence.set(`caret:${PATH.join("/")}`, { anchor: cursor, head: cursor, name: "Bob", colour: "green" });
    await act(() => net.settle());
    expect(status.textContent).toBe("Bob is here too");
    void presence.clear(`caret:${PATH.join("/")}`);
    await act(() => net.settle());
    expect(status.textContent).toBe("");
  });

  it("lets go of everything when it is unmounted", async () => {
    const net = new Net();
    const { doc, repo, engine } = await page(net, "hello");
    const errors = vi.spyOn(console, "error");
    await render(<NoteEditor doc={doc} path={PATH} presence={repo.presence(doc)} user={{ name: "Ada", colour: "red" }} />);
    await act(async () => root.render(null));
    engine.rewrite();
    await act(() => net.settle());
    expect(host.querySelector(".cm-editor")).toBeNull();
    expect(errors).not.toHaveBeenCalled();
  });
});
