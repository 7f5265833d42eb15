/**
 * Where others are in a text: their carets, selections and names.
 *
 * Each editor shows its selection as presence, in cursors that stay with their characters while everybody writes. What others show is drawn in
 * layers beside the text, never in it: nothing moves, no composition breaks, and a screen reader does not meet it.
 */
import { EditorSelection, type EditorState, type Extension, StateEffect, StateField } from "@codemirror/state";
import { EditorView, layer, type LayerMarker, RectangleMarker, ViewPlugin, type ViewUpdate } from "@codemirror/view";
import type { PresenceValue } from "rejoin";
import { fromDocument } from "./binding.js";

/** What remote cursors need of a text; `doc.text(path)` of `rejoin` is one. */
export interface CursorText {
  /** Returns a name for the character at an index. */
  cursor(index: number): Promise<string>;
  /** Returns where a cursor stands now. */
  position(cursor: string): Promise<number>;
}

/** What remote cursors need of a presence; `repo.presence(doc)` of `rejoin` is one. */
export interface CursorPresence {
  readonly values: readonly PresenceValue[];
  set(key: string, value: unknown): Promise<void>;
  clear(key: string): Promise<void>;
  subscribe(handler: (values: readonly PresenceValue[]) => void): () => void;
}

/** As whom an editor shows its selection. */
export interface CursorUser {
  readonly name: string;
  /** A CSS colour; `var(--violet)` follows the theme of whoever sees it. */
  readonly colour: string;
}

/** How to show cursors. */
export interface CursorOptions {
  /** The presence key, the same in all editors of a text and no other: `caret:<path>`. */
  key: string;
  /** Shows the own selection as this user's; without one, the editor only looks on. */
  user?: CursorUser | undefined;
  /** Is told the names of those who are in the text when somebody comes or goes: for a list or a polite announcement. */
  onPeople?: (names: readonly string[]) => void;
}

/** Somebody else's caret, with positions in this editor's text. */
export interface RemoteCaret extends CursorUser {
  readonly author: string;
  readonly anchor: number;
  readonly head: number;
  /** How often its owner has moved it: each time, the name shows again. */
  readonly moves: number;
}

/** What an editor shows under its key. */
interface Said extends CursorUser {
  readonly anchor: string;
  readonly head: string;
}

/** Milliseconds between two showings of the own selection, and after an edit before others' carets are asked for again. */
const SHOW_EVERY = 80;
const PLACE_AFTER = 250;

/** So many carets are drawn, and so much of a name. */
const CARETS_MAX = 32;
const NAME_MAX = 40;

/** What is safe to hand to CSS: a colour, or a custom property of the page that holds one. Neither fetches anything. */
const COLOUR = /^(#[\da-f]{3,8}|var\(--[\w-]{1,40}\)|(rgb|hsl|hwb|lab|lch|oklab|oklch)a?\([\d.%\s,/a-z-]*\)|[a-z]{1,30})$/i;

/** Reads what somebody shows; undefined where it is no caret. */
function parse(value: unknown): Said | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const { anchor, head, name, colour } = value as Record<string, unknown>;
  if (typeof anchor !== "string" || typeof head !== "string" || typeof name !== "string") return undefined;
  return { anchor, head, name: name.slice(0, NAME_MAX), colour: typeof colour === "string" && COLOUR.test(colour) ? colour : "gray" };
}

const place = StateEffect.define<readonly RemoteCaret[]>();

const carets = StateField.define<readonly RemoteCaret[]>({
  create: () => [],
  update(value, transaction) {
    for (const effect of transaction.effects) if (effect.is(place)) return effect.value;
    if (!transaction.docChanged || !value.length) return value;
    // What others write comes from their carets, which go with it; what is written here pushes nobody.
    const side = transaction.annotation(fromDocument) ? 1 : -1;
    const map = (position: number): number => transaction.changes.mapPos(position, side);
    return value.map((caret) => ({ ...caret, anchor: map(caret.anchor), head: map(caret.head) }));
  },
});

/** Returns the carets of others that an editor shows. */
export function remoteCarets(state: EditorState): readonly RemoteCaret[] {
  return state.field(carets, false) ?? [];
}

/**
 * Shows others' carets in an editor, and one's own selection to them.
 *
 * @example
 * ```ts
 * const cursors = remoteCursors(text, repo.presence(doc), { key: "caret:body", user: { name: "Ada", colour: "#7c3aed" } });
 * const view = new EditorView({ doc: text.value, extensions: [bindText(text), cursors], parent: document.body });
 * ```
 */
export function remoteCursors(text: CursorText, presence: CursorPresence, options: CursorOptions): Extension {
  const isStale = (update: ViewUpdate): boolean => update.docChanged || remoteCarets(update.state) !== remoteCarets(update.startState);
  const drawn = (above: boolean): Extension =>
    layer({
      above,
      class: above ? "cm-remote-carets" : "cm-remote-selections",
      update: isStale,
      markers: (view) => remoteCarets(view.state).flatMap((caret) => markersOf(view, caret, above)),
    });
  return [carets, ViewPlugin.define((view) => new Cursors(view, text, presence, options)), drawn(false), drawn(true), theme];
}

class Cursors {
  readonly #view: EditorView;
  readonly #text: CursorText;
  readonly #presence: CursorPresence;
  readonly #options: CursorOptions;
  readonly #stop: () => void;
  #others = new Map<string, Said>();
  /** What is drawn for whom. */
  #placed = new Map<string, Said>();
  /** What others were told last. */
  #shown: string | undefined;
  /** Counts edits: positions that were asked for before one are not valid after it. */
  #edits = 0;
  #isGone = false;
  #timers: { show?: ReturnType<typeof setTimeout>; place?: ReturnType<typeof setTimeout> } = {};

  constructor(view: EditorView, text: CursorText, presence: CursorPresence, options: CursorOptions) {
    this.#view = view;
    this.#text = text;
    this.#presence = presence;
    this.#options = options;
    this.#stop = presence.subscribe((values) => this.#read(values));
    this.#read(presence.values);
    if (view.hasFocus) this.#showSoon();
  }

  update(update: ViewUpdate): void {
    if (update.docChanged) {
      this.#edits++;
      this.#placeSoon();
    }
    // A caret stays when its window loses the focus: its owner may be looking at another one. It is shown once there was a focus.
    if (update.view.hasFocus ? update.docChanged || update.selectionSet || update.focusChanged : update.docChanged && this.#shown) this.#showSoon();
  }

  destroy(): void {
    this.#isGone = true;
    clearTimeout(this.#timers.show);
    clearTimeout(this.#timers.place);
    this.#stop();
    if (this.#shown) this.#presence.clear(this.#options.key).catch(ignore);
  }

  #showSoon(): void {
    if (this.#options.user) this.#timers.show ??= setTimeout(() => void this.#show().catch(ignore), SHOW_EVERY);
  }

  async #show(): Promise<void> {
    delete this.#timers.show;
    const { anchor, head } = this.#view.state.selection.main;
    const [from, to] = await Promise.all([this.#text.cursor(anchor), this.#text.cursor(head)]);
    const said = { anchor: from, head: to, ...this.#options.user };
    const shown = JSON.stringify(said);
    if (this.#isGone || shown === this.#shown) return;
    this.#shown = shown;
    await this.#presence.set(this.#options.key, said);
  }

  #read(values: readonly PresenceValue[]): void {
    const others = new Map<string, Said>();
    for (const { author, key, own, value } of values) {
      const said = own || key !== this.#options.key || others.size === CARETS_MAX ? undefined : parse(value);
      if (said) others.set(author, said);
    }
    const names = (of: Map<string, Said>): string[] => [...new Set([...of.values()].map(({ name }) => name))].sort();
    const [before, now] = [names(this.#others), names(others)];
    this.#others = others;
    if (before.join("\n") !== now.join("\n")) this.#options.onPeople?.(now);
    const left = remoteCarets(this.#view.state).filter(({ author }) => others.has(author));
    if (left.length < remoteCarets(this.#view.state).length) this.#draw(left);
    void this.#place();
  }

  #placeSoon(): void {
    if (this.#others.size) this.#timers.place ??= setTimeout(() => void this.#place(), PLACE_AFTER);
  }

  /** Asks where everybody is, and draws that. */
  async #place(): Promise<void> {
    clearTimeout(this.#timers.place);
    delete this.#timers.place;
    const { others: asked, edits } = { others: this.#others, edits: this.#edits };
    const found = await Promise.all([...asked].map(async ([author, said]) => ({ author, said, at: await this.#find(said) })));
    if (this.#isGone || asked !== this.#others) return;
    if (edits !== this.#edits) return this.#placeSoon();
    const old = new Map(remoteCarets(this.#view.state).map((caret) => [caret.author, caret]));
    const { length } = this.#view.state.doc;
    const next = found.flatMap(({ author, said, at }): RemoteCaret[] => {
      const last = old.get(author);
      // The character that it names may be on its way: the caret stays where it was until then.
      if (!at) return last ? [last] : [];
      const moves = (last?.moves ?? 0) + (sameSaid(this.#placed.get(author), said) ? 0 : 1);
      this.#placed.set(author, said);
      return [{ author, name: said.name, colour: said.colour, anchor: Math.min(at[0], length), head: Math.min(at[1], length), moves }];
    });
    for (const author of this.#placed.keys()) if (!asked.has(author)) this.#placed.delete(author);
    if (next.length !== old.size || next.some((caret) => !sameCaret(caret, old.get(caret.author)))) this.#draw(next);
  }

  #find({ anchor, head }: Said): Promise<[anchor: number, head: number] | undefined> {
    return Promise.all([this.#text.position(anchor), this.#text.position(head)]).catch(() => undefined);
  }

  #draw(next: readonly RemoteCaret[]): void {
    this.#view.dispatch({ effects: place.of(next) });
  }
}

/** Presence is no promise: where it fails, because the document is closed or the text gone, there is nobody to tell. */
function ignore(): void {}

const sameSaid = (a: Said | undefined, b: Said): boolean => a?.anchor === b.anchor && a.head === b.head;

const sameCaret = (a: RemoteCaret, b: RemoteCaret | undefined): boolean =>
  a.anchor === b?.anchor && a.head === b.head && a.moves === b.moves && a.name === b.name && a.colour === b.colour;

function markersOf(view: EditorView, caret: RemoteCaret, above: boolean): LayerMarker[] {
  const { anchor, head } = caret;
  if (!above && anchor === head) return [];
  const range = above ? EditorSelection.cursor(head) : EditorSelection.range(anchor, head);
  return RectangleMarker.forRange(view, "", range).map((box) => new Drawn(box, caret, view, above));
}

/** A rectangle of a selection, or a caret with its name. */
class Drawn implements LayerMarker {
  readonly #box: RectangleMarker;
  readonly #caret: RemoteCaret;
  readonly #hasName: boolean;
  /** Where the name has room. */
  readonly #side: string;

  constructor(box: RectangleMarker, caret: RemoteCaret, view: EditorView, hasName: boolean) {
    this.#box = box;
    this.#caret = caret;
    this.#hasName = hasName;
    const isRight = box.left > view.scrollDOM.clientWidth / 2;
    this.#side = `${box.top < box.height ? "below" : "above"} ${isRight ? "left" : "right"}`;
  }

  eq(other: LayerMarker): boolean {
    return other instanceof Drawn && other.#box.eq(this.#box) && other.#side === this.#side && sameCaret(this.#caret, other.#caret);
  }

  draw(): HTMLElement {
    const dom = document.createElement("div");
    dom.className = this.#hasName ? "cm-remote-caret" : "cm-remote-selection";
    if (this.#hasName) dom.appendChild(document.createElement("span")).className = "cm-remote-name";
    this.#dress(dom);
    return dom;
  }

  update(dom: HTMLElement, previous: LayerMarker): boolean {
    if (!(previous instanceof Drawn) || previous.#caret.author !== this.#caret.author || previous.#hasName !== this.#hasName) return false;
    this.#dress(dom);
    return true;
  }

  #dress(dom: HTMLElement): void {
    const { colour, name, moves } = this.#caret;
    const { left, top, width, height } = this.#box;
    // What is moved by a transform shifts no layout.
    Object.assign(dom.style, { transform: `translate(${left}px, ${top}px)`, height: `${height}px`, width: width === null ? "" : `${width}px` });
    dom.style.setProperty("--caret", colour);
    const label = dom.firstElementChild as HTMLElement | null;
    if (!label) return;
    label.textContent = name;
    label.dataset["side"] = this.#side;
    // An animation begins anew only under another name.
    label.dataset["turn"] = String(moves % 2);
  }
}

const fade = { "0%, 70%": { opacity: 1 }, "100%": { opacity: 0 } };

const theme = EditorView.baseTheme({
  ".cm-remote-carets, .cm-remote-selections": { pointerEvents: "none" },
  ".cm-remote-selection, .cm-remote-caret": { position: "absolute", left: 0, top: 0 },
  ".cm-remote-selection": { background: "var(--caret)", opacity: 0.22 },
  ".cm-remote-caret": { width: "2px", marginLeft: "-1px", background: "var(--caret)", borderRadius: "1px" },
  ".cm-remote-name": {
    position: "absolute",
    left: 0,
    bottom: "100%",
    padding: "1px 6px",
    borderRadius: "4px 4px 4px 0",
    font: "600 11px/1.4 system-ui, sans-serif",
    whiteSpace: "nowrap",
    maxWidth: "12em",
    overflow: "hidden",
    textOverflow: "ellipsis",
    // Any colour gets dark enough for white letters.
    background: "color-mix(in oklab, var(--caret) 65%, black)",
    color: "white",
    animation: "cm-remote-name-0 4s ease-out forwards",
  },
  ".cm-remote-name[data-turn='1']": { animationName: "cm-remote-name-1" },
  ".cm-remote-name[data-side~='left']": { left: "auto", right: 0, borderRadius: "4px 4px 0 4px" },
  ".cm-remote-name[data-side~='below']": { bottom: "auto", top: "100%", borderRadius: "4px" },
  "@keyframes cm-remote-name-0": fade,
  "@keyframes cm-remote-name-1": fade,
});
