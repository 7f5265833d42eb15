/** A page with an editor on the one text that the engines of a test share. */
import { EditorView } from "@codemirror/view";
import type { Doc } from "rejoin";
import { Repo, text as textOf } from "rejoin";
import { type BindOptions, bindText } from "../../src/editor/binding.js";
import { ownHistory } from "../../src/editor/undo.js";
import { MergingEngine, type Net, PATH } from "./merging.js";

export interface Page {
  repo: Repo;
  doc: Doc;
  engine: MergingEngine;
  view: EditorView;
  /** Waits for what can settle without a message moving. */
  rest: () => Promise<void>;
}

async function arrive<T>(net: Net, promise: Promise<T>): Promise<T> {
  let isOver = false;
  const done = promise.finally(() => (isOver = true));
  while (!isOver) await net.settle();
  return done;
}

export const rest = async (): Promise<void> => {
  for (let n = 0; n < 20; n++) await Promise.resolve();
};

/** Opens a page. The first one makes the document with a text. */
export async function open(net: Net, text = "", options: BindOptions = {}): Promise<Page> {
  const engine = new MergingEngine(net);
  const repo = await arrive(net, Repo.open({ name: "test", link: engine.link }));
  const doc = await arrive<Doc>(net, net.id ? repo.find(net.id) : repo.create<Record<string, any>>({ cards: { a: { note: textOf(text) } } }));
  const note = doc.text(PATH);
  const view = new EditorView({ doc: note.value, extensions: [bindText(note, options), ownHistory()], parent: document.body });
  return { repo, doc, engine, view, rest };
}

/** What a user does: replaces a range. */
export function type(view: EditorView, from: number, to: number, insert: string): void {
  view.dispatch({ changes: { from, to, insert }, userEvent: "input.type", selection: { anchor: from + insert.length } });
}
