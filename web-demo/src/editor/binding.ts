/**
 * A CodeMirror editor shows a text of a document, and what is typed becomes edits of it.
 *
 * The document is the truth: whatever happens, the editor ends up showing `text.value`; only what others write in the line of a composition
 * waits until that ends, since it would break it. What the user does is sent with positions in the very state that the page shows; what comes
 * from elsewhere becomes a transaction that touches only what differs, so that selection, scroll and undo history stay.
 */
import { Annotation, ChangeSet, type ChangeSpec, EditorState, type Extension, Transaction, type TransactionSpec } from "@codemirror/state";
import { EditorView, ViewPlugin, type ViewUpdate } from "@codemirror/view";
import type { Splice, TextChange } from "rejoin";
import { changeBetween, changeOf } from "./diff.js";

/** What the binding needs of a text; `doc.text(path)` of `rejoin` is one. */
export interface BoundText {
  /** The characters as the page shows them, own edits included. */
  readonly value: string;
  /** Deletes characters at an index and inserts others there. */
  splice(index: number, deleteCount: number, insert: string): Promise<unknown>;
  /** Does several splices, one after the other, as one change. Without it, each becomes a change of its own. */
  apply?(splices: readonly Splice[]): Promise<unknown>;
  /** Calls a function after each change of the text. */
  subscribe(handler: (change: TextChange) => void): () => void;
}

/** How to bind. */
export interface BindOptions {
  /** Is told when an edit was refused; the editor has gone back to what the document holds by then. */
  onError?: (error: unknown) => void;
}

/** Marks transactions that bring what the document holds: they are neither sent back nor undone. */
export const fromDocument = Annotation.define<boolean>();

/** Milliseconds of quiet after which the editor is compared with the document. */
const CHECK_AFTER = 1_000;

/** Milliseconds after a composition until the browser and CodeMirror are done with it. */
const COMPOSED_AFTER = 60;

/**
 * Binds an editor to a text. Create the state with `doc: text.value`.
 *
 * @example
 * ```ts
 * const text = doc.text(["cards", id, "note"]);
 * const view = new EditorView({ doc: text.value, extensions: [bindText(text), ownHistory()], parent: document.body });
 * ```
 */
export function bindText(text: BoundText, options: BindOptions = {}): Extension {
  return [
    ViewPlugin.define((view) => new Binding(view, text, options), { eventHandlers: { compositionend: Binding.prototype.composed } }),
    // CodeMirror would count "\r\n" as one character; the document counts two. What is pasted needs no "\r".
    EditorState.lineSeparator.of("\n"),
    EditorView.clipboardInputFilter.of((pasted) => pasted.replace(/\r\n?/g, "\n")),
  ];
}

class Binding {
  readonly #view: EditorView;
  readonly #text: BoundText;
  readonly #options: BindOptions;
  readonly #stop: () => void;
  /** The document's text that the editor shows; undefined while they differ. */
  #known: string | undefined;
  #isSending = false;
  #isGone = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(view: EditorView, text: BoundText, options: BindOptions) {
    this.#view = view;
    this.#text = text;
    this.#options = options;
    const shown = view.state.doc.toString();
    if (shown === text.value) this.#known = text.value;
    else this.#followSoon();
    // What this editor sends comes back while it sends.
    this.#stop = text.subscribe(({ splices }) => this.#isSending || this.#follow(splices));
  }

  update(update: ViewUpdate): void {
    if (!update.docChanged) return;
    for (const transaction of update.transactions) {
      if (transaction.docChanged && !transaction.annotation(fromDocument)) this.#send(transaction);
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#check(), CHECK_AFTER);
  }

  /** What others wrote in the line of a composition comes in now. */
  composed(): void {
    setTimeout(() => this.#follow(), COMPOSED_AFTER);
  }

  destroy(): void {
    this.#isGone = true;
    clearTimeout(this.#timer);
    this.#stop();
  }

  /** Sends one transaction as one change. */
  #send(transaction: Transaction): void {
    const shown = this.#text.value;
    let { changes } = transaction;
    // Something has come in that the editor was not told of yet: the edit moves over it, and the editor follows when this update is over.
    const isBehind = shown !== this.#known;
    if (isBehind) changes = changes.map(changeBetween(transaction.startState.doc.toString(), shown));
    this.#isSending = true;
    this.#write(splicesOf(changes, shown)).catch((error: unknown) => {
      this.#follow();
      this.#options.onError?.(error);
    });
    this.#isSending = false;
    const now = this.#text.value;
    if (!isBehind && now.length === transaction.newDoc.length) this.#known = now;
    else {
      this.#known = undefined;
      this.#followSoon();
    }
  }

  async #write(splices: Splice[]): Promise<void> {
    const [first] = splices;
    if (splices.length > 1 && this.#text.apply) await this.#text.apply(splices);
    else if (splices.length > 1) await Promise.all(splices.map((splice) => this.#splice(splice)));
    else if (first) await this.#splice(first);
  }

  #splice({ index, deleteCount, insert }: Splice): Promise<unknown> {
    return this.#text.splice(index, deleteCount, insert);
  }

  /** CodeMirror allows no transaction while it takes in another. */
  #followSoon(): void {
    queueMicrotask(() => this.#follow());
  }

  /** Makes the editor show what the document holds. */
  #follow(splices: readonly Splice[] = []): void {
    if (this.#isGone) return;
    const value = this.#text.value;
    const shown = this.#view.state.doc.toString();
    this.#known = value;
    if (shown === value) return;
    let changes = changeOf(shown, splices, value);
    if (this.#view.compositionStarted) {
      changes = this.#besideComposition(changes);
      // Whether that was all is found out when it ends; until then, what is typed is moved over what has not come in.
      this.#known = undefined;
    }
    if (!changes.empty) this.#view.dispatch(asDocument({ changes }));
  }

  /** Leaves out what would break the composition: changes in its line. What is typed until it ends is sent to where it belongs. */
  #besideComposition(changes: ChangeSet): ChangeSet {
    const { doc, selection } = this.#view.state;
    const line = doc.lineAt(selection.main.head);
    const beside: ChangeSpec[] = [];
    changes.iterChanges((from, to, _fromB, _toB, insert) => {
      if (to < line.from || from > line.to) beside.push({ from, to, insert });
    });
    return ChangeSet.of(beside, doc.length);
  }

  /** There is no known way for the two to differ. Should there be one, the user keeps writing into what others see. */
  #check(): void {
    if (this.#view.compositionStarted) return;
    if (this.#known === this.#text.value && this.#view.state.doc.toString() === this.#known) return;
    console.warn("the editor differed from the document and was mended");
    this.#follow();
  }
}

/** Makes a transaction one that brings what the document holds. No filter may change it. */
function asDocument(spec: TransactionSpec): TransactionSpec {
  const annotations = [fromDocument.of(true), Transaction.remote.of(true), Transaction.addToHistory.of(false)];
  return { ...spec, annotations, filter: false };
}

const isHigh = (unit: number): boolean => unit >= 0xd800 && unit < 0xdc00;
const isLow = (unit: number): boolean => unit >= 0xdc00 && unit < 0xe000;

/** Reads a change as splices, to be done one after the other. None of them parts a surrogate pair, which no document can hold. */
export function splicesOf(changes: Transaction["changes"], old: string): Splice[] {
  const splices: Splice[] = [];
  changes.iterChanges((fromA, toA, fromB, _toB, inserted) => {
    let [index, deleteCount, insert] = [fromB, toA - fromA, inserted.toString()];
    // An emoji replaced by another often differs in its second half only.
    if (fromA > 0 && isHigh(old.charCodeAt(fromA - 1)) && (isLow(old.charCodeAt(fromA)) || isLow(insert.charCodeAt(0)))) {
      index--, deleteCount++;
      insert = old[fromA - 1] + insert;
    }
    if (isLow(old.charCodeAt(toA)) && (isHigh(old.charCodeAt(toA - 1)) || isHigh(insert.charCodeAt(insert.length - 1)))) {
      deleteCount++;
      insert += old[toA];
    }
    splices.push({ index, deleteCount, insert });
  });
  return splices;
}
