/** Texts: characters, marks, blocks and cursors. Indices count UTF-16 code units, as strings in JavaScript do. */
import { applied, type Core, type EditOptions } from "./core.js";
import { unwrap } from "./draft.js";
import { RejoinError } from "./errors.js";
import type { Tagged, WireOp, WirePath } from "./link.js";
import type { Receipt } from "./receipt.js";
import { at, BLOCK, spliceBetween, type Step } from "./snapshot.js";
import type { Unsubscribe } from "./types.js";
import { decode, encode, isWhole } from "./values.js";

/** Refuses what ends or begins with half a character: the engine holds whole ones. */
function wellFormed(insert: string): string {
  if (!isWhole(insert)) throw new RejoinError("bad_argument", "half a character, a lone surrogate, is no text: cut strings between characters");
  return insert;
}

/** Whether an index is between the halves of a character. */
const cuts = (value: string, at: number): boolean => /^[\uD800-\uDBFF][\uDC00-\uDFFF]$/.test(value.slice(at - 1, at + 1));

/** Makes a splice one of whole characters that leads to the same text: naive comparisons cut between the halves of an emoji. */
function ofCharacters(value: string, index: number, deleteCount: number, insert: string): [index: number, deleteCount: number, insert: string] {
  const end = index + deleteCount;
  const [before, after] = [cuts(value, index) ? 1 : 0, cuts(value, end) ? 1 : 0];
  return [index - before, before + deleteCount + after, wellFormed(value.slice(index - before, index) + insert + value.slice(end, end + after))];
}

/** What a mark may hold. */
export type MarkValue = null | boolean | number | string;

/** What an attribute of a block may hold. */
export type Plain = MarkValue | readonly Plain[] | { readonly [key: string]: Plain };

/** A mark on a range of a text: bold, a link, a comment. */
export interface Mark {
  readonly start: number;
  readonly end: number;
  readonly name: string;
  readonly value: unknown;
}

/** A piece of a rich text: characters with the same marks, or the beginning of a block. */
export type Span =
  | { readonly text: string; readonly marks: { readonly [name: string]: unknown }; readonly block?: undefined }
  | { readonly block: { readonly [key: string]: unknown }; readonly text?: undefined };

/** Whether what is typed at the edges of a mark is marked too. */
export type Expand = "none" | "before" | "after" | "both";

/** One replacement in a text. */
export interface Splice {
  readonly index: number;
  readonly deleteCount: number;
  readonly insert: string;
}

/** What the subscribers of a text are told. */
export interface TextChange {
  /** What was replaced, one after the other: an editor that applies these shows `value`. */
  readonly splices: readonly Splice[];
  /** Whether marks changed. */
  readonly marked: boolean;
  readonly origin: "local" | "remote";
  readonly value: string;
}

/**
 * A text of a document.
 *
 * @example
 * ```ts
 * const note = await repo.create({ body: text("Hello") });
 * const body = note.text("body");
 * await body.splice(5, 0, " world");
 * console.assert(body.value === "Hello world");
 * ```
 */
export class TextHandle {
  readonly #core: Core;
  /** Where it is in the document. */
  readonly path: WirePath;

  /** @internal */
  constructor(core: Core, path: WirePath) {
    this.#core = core;
    this.path = path;
  }

  /** Its characters; a block stands in them as one U+FFFC. Empty where there is no text. */
  get value(): string {
    const found = this.#core.read(this.path);
    return typeof found === "string" ? found : "";
  }

  /**
   * Deletes characters at an index and inserts others there.
   *
   * @example
   * ```ts
   * const note = await repo.create({ body: text("Hello world") });
   * await note.text("body").splice(0, 5, "Goodbye");
   * console.assert(note.value.body === "Goodbye world");
   * ```
   */
  async splice(index: number, deleteCount: number, insert = "", options?: EditOptions): Promise<Receipt> {
    return this.apply([{ index, deleteCount, insert }], options);
  }

  /**
   * Does several splices, one after the other, as one change: what an editor with several cursors needs.
   *
   * @example
   * ```ts
   * const note = await repo.create({ body: text("Hello world") });
   * await note.text("body").apply([
   *   { index: 0, deleteCount: 5, insert: "Goodbye" },
   *   { index: 13, deleteCount: 0, insert: "!" },
   * ]);
   * console.assert(note.value.body === "Goodbye world!");
   * ```
   */
  async apply(splices: readonly Splice[], options?: EditOptions): Promise<Receipt> {
    let { value } = this;
    const steps: Extract<WireOp & Step, ["splice", ...unknown[]]>[] = [];
    for (const { index, deleteCount, insert } of splices) {
      this.#range(index, index + deleteCount, value.length);
      if (!deleteCount && !insert) continue;
      const splice = ofCharacters(value, index, deleteCount, insert);
      steps.push(["splice", this.path, ...splice]);
      value = value.slice(0, index) + insert + value.slice(index + deleteCount);
    }
    return this.#core.edit(applied({ ops: steps, steps }), options);
  }

  /**
   * Makes it another text, writing only what differs: for inputs that tell no more than their content.
   *
   * @example
   * ```ts
   * const note = await repo.create({ body: text("Hello world") });
   * await note.text("body").update("Hello, world");
   * ```
   */
  async update(value: string, options?: EditOptions): Promise<Receipt> {
    const splice = spliceBetween(this.value, wellFormed(value));
    if (!splice) return this.#core.edit(applied({ ops: [], steps: [] }));
    return this.#edit(["update", this.path, value], ["splice", this.path, ...splice], options);
  }

  /**
   * Marks a range. By default the mark grows with what is typed at its end. A range that cuts an emoji in half takes in the whole of it.
   *
   * @example
   * ```ts
   * const note = await repo.create({ body: text("Hello world") });
   * await note.text("body").mark(0, 5, "bold", true);
   * ```
   */
  async mark(start: number, end: number, name: string, value: MarkValue, options: EditOptions & { expand?: Expand } = {}): Promise<Receipt> {
    [start, end] = this.#whole(start, end);
    const tagged = encode(value, `the mark ${name}`, unwrap);
    return this.#edit(["mark", this.path, start, end, name, tagged, options.expand ?? "after"], ["mark", this.path], options);
  }

  /**
   * Takes a mark from a range.
   *
   * @example
   * ```ts
   * const note = await repo.create({ body: text("Hello world") });
   * await note.text("body").mark(0, 11, "bold", true);
   * await note.text("body").unmark(5, 11, "bold");
   * ```
   */
  async unmark(start: number, end: number, name: string, options: EditOptions & { expand?: Expand } = {}): Promise<Receipt> {
    [start, end] = this.#whole(start, end);
    return this.#edit(["unmark", this.path, start, end, name, options.expand ?? "after"], ["mark", this.path], options);
  }

  /**
   * Reads its marks.
   *
   * @example
   * ```ts
   * const note = await repo.create({ body: text("Hello world") });
   * await note.text("body").mark(0, 5, "bold", true);
   * for (const { name, start, end } of await note.text("body").marks()) console.log(name, start, end);
   * ```
   */
  async marks(): Promise<Mark[]> {
    return ((await this.#call<Tagged[] | null>("marks")) ?? []).map((mark) => decode(mark) as unknown as Mark);
  }

  /**
   * Reads it as pieces with the same marks, and blocks.
   *
   * @example
   * ```ts
   * const note = await repo.create({ body: text("Hello world") });
   * for (const span of await note.text("body").spans()) {
   *   if (span.block) console.log(span.block["type"]);
   *   else console.log(span.text, span.marks);
   * }
   * ```
   */
  async spans(): Promise<Span[]> {
    return ((await this.#call<Tagged[] | null>("spans")) ?? []).map((span) => decode(span) as unknown as Span);
  }

  /**
   * Begins a block at an index: a paragraph, a heading, an item. It takes one index of the text.
   *
   * @example
   * ```ts
   * const note = await repo.create({ body: text("Title and text") });
   * await note.text("body").split(0, { type: "heading", parents: [], attrs: { level: 1 } });
   * ```
   */
  async split(index: number, block: { [key: string]: Plain }, options?: EditOptions): Promise<Receipt> {
    [index] = this.#whole(index, index);
    return this.#edit(["split", this.path, index, encode(block, "the block", unwrap)], ["splice", this.path, index, 0, BLOCK], options);
  }

  /**
   * Takes away the block that begins at an index; its text joins the block before.
   *
   * @example
   * ```ts
   * const note = await repo.create({ body: text("Title and text") });
   * await note.text("body").split(0, { type: "heading" });
   * await note.text("body").join(0);
   * ```
   */
  async join(index: number, options?: EditOptions): Promise<Receipt> {
    this.#block(index);
    return this.#edit(["join", this.path, index], ["splice", this.path, index, 1, ""], options);
  }

  /**
   * Makes the block that begins at an index another one.
   *
   * @example
   * ```ts
   * const note = await repo.create({ body: text("Title and text") });
   * await note.text("body").split(0, { type: "heading" });
   * await note.text("body").setBlock(0, { type: "paragraph" });
   * ```
   */
  async setBlock(index: number, block: { [key: string]: Plain }, options?: EditOptions): Promise<Receipt> {
    this.#block(index);
    return this.#edit(["block", this.path, index, encode(block, "the block", unwrap)], ["mark", this.path], options);
  }

  /**
   * Returns a name for the character at an index, which stays with it while others edit. `side` says where it goes when the character is
   * deleted.
   *
   * @example
   * ```ts
   * const note = await repo.create({ body: text("Hello world") });
   * const cursor = await note.text("body").cursor(6);
   * await note.text("body").splice(0, 0, "Oh! ");
   * console.assert((await note.text("body").position(cursor)) === 10);
   * ```
   */
  async cursor(index: number, side: "before" | "after" = "after"): Promise<string> {
    [index] = this.#whole(index, index);
    return this.#call<string>("cursor", index, this.#core.base([this.path]), side);
  }

  /**
   * Returns where a cursor stands now.
   *
   * @example
   * ```ts
   * const note = await repo.create({ body: text("Hello") });
   * const end = await note.text("body").cursor(5);
   * console.assert((await note.text("body").position(end)) === 5);
   * ```
   */
  position(cursor: string): Promise<number> {
    return this.#call<number>("position", cursor);
  }

  /**
   * Calls a function after each change of the text, with what an editor needs to follow.
   *
   * @example
   * ```ts
   * const note = await repo.create({ body: text("Hello") });
   * const stop = note.text("body").subscribe(({ splices, origin }) => {
   *   if (origin === "remote") for (const { index, deleteCount, insert } of splices) console.log(index, deleteCount, insert);
   * });
   * stop();
   * ```
   */
  subscribe(handler: (change: TextChange) => void): Unsubscribe {
    let last = this.value;
    return this.#core.told.on(({ patches, origin, value: root }) => {
      const found = at(root as never, this.path);
      const value = typeof found === "string" ? found : "";
      let splices: Splice[] = [];
      let marked = false;
      let followed = last;
      for (const patch of patches) {
        if (patch.path.length !== this.path.length || !patch.path.every((key, index) => key === this.path[index])) continue;
        if (patch.op === "mark") marked = true;
        if (patch.op !== "splice" && patch.op !== "remove") continue;
        const splice = patch.op === "splice" ? { index: patch.index, deleteCount: patch.deleteCount, insert: patch.text } : { index: patch.index, deleteCount: patch.count, insert: "" };
        splices.push(splice);
        followed = followed.slice(0, splice.index) + splice.insert + followed.slice(splice.index + splice.deleteCount);
      }
      // The text was replaced, moved, or came with something larger: one splice from what was to what is.
      if (followed !== value) {
        const [index, deleteCount, insert] = spliceBetween(last, value) ?? [0, 0, ""];
        splices = last === value ? [] : [{ index, deleteCount, insert }];
      }
      last = value;
      if (splices.length || marked) handler({ splices, marked, origin, value });
    });
  }

  #edit(op: WireOp, step: Step, options?: EditOptions): Promise<Receipt> {
    return this.#core.edit(applied({ ops: [op], steps: [step] }), options);
  }

  #range(start: number, end: number, length = this.value.length): void {
    const whole = Number.isSafeInteger(start) && Number.isSafeInteger(end);
    if (!whole || start < 0 || end < start || end > length) {
      throw new RejoinError("bad_argument", `no such range in a text of ${length}: ${start} to ${end}`);
    }
  }

  /** Takes in the whole of the characters that a range cuts; an index inside one is where it begins. */
  #whole(start: number, end: number): [start: number, end: number] {
    this.#range(start, end);
    const { value } = this;
    const [before, after] = [cuts(value, start) ? 1 : 0, cuts(value, end) ? 1 : 0];
    return [start - before, start === end ? end - before : end + after];
  }

  #block(index: number): void {
    if (this.value[index] !== BLOCK) throw new RejoinError("bad_argument", `no block begins at ${index}`);
  }

  #call<Answer>(method: string, ...args: unknown[]): Promise<Answer> {
    return this.#core.session.call<Answer>(method, this.#core.id, this.path, ...args);
  }
}
