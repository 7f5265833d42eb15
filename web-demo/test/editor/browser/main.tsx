/** Two people's notes on one page, each behind an engine of its own. */
import { EditorView } from "@codemirror/view";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { type Doc, Repo, text } from "rejoin";
import { NoteEditor } from "../../../src/editor/NoteEditor.js";
import { MergingEngine, Net, PATH } from "../merging.js";

const lines = Number(new URLSearchParams(location.search).get("lines") ?? 2);
const body = Array.from({ length: lines }, (_, n) => `Line ${n} of a note`).join("\n");

const net = new Net();
let isOffline = false;
setInterval(() => {
  if (!isOffline) net.sync();
  for (const { link } of net.engines) while (link.up() || link.down());
}, 5);

async function show(id: string, name: string, colour: string): Promise<Doc> {
  const engine = new MergingEngine(net);
  const repo = await Repo.open({ name, link: engine.link });
  const doc: Doc = net.id ? await repo.find(net.id) : await repo.create<Record<string, any>>({ cards: { a: { note: text(body) } } });
  createRoot(document.getElementById(id) as HTMLElement).render(
    <StrictMode>
      <NoteEditor doc={doc} path={PATH} presence={repo.presence(doc)} user={{ name, colour }} label={`Note of ${name}`} />
    </StrictMode>,
  );
  return doc;
}

const ada = await show("a", "Ada Lovelace", "var(--violet)");
await show("b", "Bob", "#ea580c");

/** How far things have moved by themselves. */
let shift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries() as unknown as { value: number; hadRecentInput: boolean }[]) if (!entry.hadRecentInput) shift += entry.value;
}).observe({ type: "layout-shift", buffered: false });

const driver = {
  view: (id: string): EditorView => EditorView.findFromDOM(document.querySelector(`#${id} .cm-editor`) as HTMLElement) as EditorView,
  /** Somebody elsewhere writes. */
  splice: (index: number, count: number, insert: string): void => void ada.text(PATH).splice(index, count, insert),
  offline: (offline: boolean): void => void (isOffline = offline),
  shift: (): number => shift,
};

export type Driver = typeof driver;

Object.assign(window, { driver });
