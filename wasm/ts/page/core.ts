/**
 * The page's copy of an open document: what the engine has confirmed, and this page's own edits on top until they are confirmed too.
 *
 * An edit shows at once. It is dropped when a state that contains it arrives, or when the engine refuses it; then the value goes back.
 */
import type { Edit } from "./draft.js";
import { Emitter } from "./emitter.js";
import { RejoinError } from "./errors.js";
import type { EngineEvent, WireBase, WireIds, WireOp, WireOpened } from "./link.js";
import { Receipt } from "./receipt.js";
import { type Checked, check } from "./schema.js";
import type { Session } from "./session.js";
import { at, between, Editor, replay, share, type Step, toPatch, toStep } from "./snapshot.js";
import type { DocumentChange, Path, Schema } from "./types.js";
import { decode, freeze, isNode, type Value } from "./values.js";

/** What may be said of an edit. */
export interface EditOptions {
  /** Why, for people who read the history. */
  message?: string;
  /** When. Default: now. */
  time?: Date;
}

/** Makes what may be said of an edit travel. */
export function toSaid({ message, time }: EditOptions): { message?: string; time?: number } {
  return { ...(message !== undefined && { message }), ...(time && { time: time.getTime() }) };
}

/**
 * How a document is: `waiting` until its content has come, `open`, `deleted`, or `closed` by this page.
 */
export type DocumentState = "waiting" | "open" | "deleted" | "closed";

type PatchEvent = Extract<EngineEvent, { e: "patch" }>;

interface Pending {
  readonly id: number;
  readonly steps: readonly Step[];
  /** The fields that it writes, if it writes nothing else: the engine makes such an edit on top of what it has then. */
  readonly fields: readonly Path[] | undefined;
}

const EMPTY: Value = freeze({});

/** So many events may wait for own edits to be done: a page that never stops writing must still see others. */
const HELD_MOST = 256;

/** So often a document is opened again because the user wrote while it was being opened. */
const OPEN_AGAIN_MOST = 5;

/** Confirmed steps that may wait to be applied, until somebody needs the state they lead to. */
const LOG_MOST = 1000;

/** Makes an edit: applies its steps to the editor, and returns them. Throws if they do not fit. */
export type MakeEdit = (editor: Editor) => Edit;

/** Makes an edit of steps that are known. */
export function applied(edit: Edit): MakeEdit {
  return (editor) => {
    for (const step of edit.steps) if (!editor.apply(step)) throw misfit(step);
    return edit;
  };
}

export class Core {
  readonly id: string;
  readonly session: Session;
  readonly told = new Emitter<DocumentChange<unknown>>(() => {
    this.#last = this.value;
    this.#lastState = this.state;
    this.#steps = [];
  });
  schema: Schema<unknown> | undefined;
  space: string | null = null;
  heads: readonly string[] = [];
  /** Changes that no relay has acknowledged, as the engine counts them. */
  unacknowledged = 0;
  state: DocumentState = "waiting";
  /** How many hold this document open. */
  holders = 0;

  /** What the engine has confirmed: a state, and steps from there that are not applied yet. */
  #confirmed: Value = EMPTY;
  #log: Step[] = [];
  /** What shows: a state, and the editor in which edits are being made since, until somebody looks. Copying a large map is what costs. */
  #shown: Value = EMPTY;
  #editor: Editor | undefined;
  /** What shows must be made anew of what is confirmed and what is pending. */
  #stale = false;
  /** Whether that may be of parts that equal those which show, and are not the same. */
  #apart = false;
  #making = false;
  #pending: Pending[] = [];
  /** The number of the last patch event. */
  #n = 0;
  /** Events that wait until the engine has done the edits whose places they could move. */
  #held: PatchEvent[] = [];
  #opening: { id: number; early: PatchEvent[] } | undefined;
  /** Whether it is to come from elsewhere if it is not here. */
  #fetch = false;
  #opened: Promise<boolean> | undefined;

  /** What subscribers were told last, and the engine's steps since then; undefined if those do not lead from there to here. */
  #last: Value = EMPTY;
  #steps: Step[] | undefined = [];
  #lastState: DocumentState = "waiting";
  #scheduled = false;
  #checked: Checked | undefined;

  constructor(session: Session, id: string) {
    this.session = session;
    this.id = id;
  }

  get value(): Value {
    this.#refresh();
    if (this.#editor) this.#shown = this.#editor.finish();
    this.#editor = undefined;
    return this.#shown;
  }

  /** Reads what is at a path, without making a snapshot where that is not needed. */
  read(path: Path): Value | undefined {
    this.#refresh();
    const found = at(this.#editor ? this.#editor.root : this.#shown, path);
    return isNode(found) ? at(this.value, path) : found;
  }

  /** Changes that no relay has acknowledged, and edits that are still on their way to the store. */
  get pending(): number {
    return this.unacknowledged + this.#pending.length;
  }

  get checked(): Checked {
    const { value } = this;
    if (this.#checked?.value !== value) this.#checked = check(this.schema, value);
    return this.#checked;
  }

  /** Opens the document at the engine, which tells its patches from then on. False if it is not here and was not to be fetched. */
  open(fetch: boolean, again = 0): Promise<boolean> {
    this.#fetch ||= fetch;
    const opening = this.session.request("open", [this.id, fetch]);
    this.#opening = { id: opening.id, early: [] };
    this.#held = [];
    const done = opening.result.then(
      (opened) => {
        // Another engine has taken over meanwhile, and the document was opened again.
        if (this.#opening?.id !== opening.id) return this.#opened ?? false;
        const { early } = this.#opening;
        this.#opening = undefined;
        // What was written meanwhile has no place in this value yet: it has one in the next.
        if (again < OPEN_AGAIN_MOST && this.#awaits((opened as WireOpened | null)?.upTo ?? opening.id - 1)) return this.open(fetch, again + 1);
        return this.#begin(opened as WireOpened | null, opening.id, early);
      },
      (error: unknown) => {
        if (this.#opening?.id === opening.id) this.#opening = undefined;
        throw error;
      },
    );
    this.#opened = done;
    return done;
  }

  /**
   * Opens the document again: another engine serves this page, or something was missed. What was here and is no longer was deleted meanwhile,
   * unless the store was `lost`: then it may come from elsewhere.
   */
  reopen(lost = false): void {
    if (this.state === "closed" || this.state === "deleted" || this.session.closed) return;
    this.open(this.state === "waiting" ? this.#fetch : lost).then(
      (found) => {
        if (!found && this.state === "open") this.become("deleted");
      },
      (error: RejoinError) => {
        // The link sends the request again when there is an engine; where there will be none, the repo's status says so.
        if (error.code === "deleted") this.become("deleted");
      },
    );
  }

  handle(event: PatchEvent): void {
    if (this.state === "closed") return;
    if (this.#opening) this.#opening.early.push(event);
    else {
      this.#held.push(event);
      this.#letIn();
    }
  }

  /** Whether an edit after this one is on its way whose indices another's edit could move. */
  #awaits(upTo: number): boolean {
    return this.#pending.some(({ id, fields }) => !fields && id > upTo);
  }

  /**
   * Takes in what the engine told, unless it does not contain an own edit yet whose indices it could move. Shown on top of it, that edit could hit
   * what somebody else wrote, and so would the user's next one: until the engine has placed it, the page shows the state in which it was made.
   */
  #letIn(): void {
    if (this.#held.length <= HELD_MOST && this.#awaits(this.#held.at(-1)?.upTo ?? 0)) return;
    for (const event of this.#held.splice(0)) {
      if (this.#opening) this.#opening.early.push(event);
      else this.#patch(event);
    }
  }

  /** The engine says what became of the document. */
  become(kind: "deleted"): void {
    this.#flush();
    this.state = this.#lastState = kind;
    if (this.told.size) this.told.emit(freeze({ patches: [], origin: "remote", value: this.value }));
  }

  /** Writes. The edit shows when this returns; the promise resolves when it is safe. */
  async edit(make: MakeEdit, options: EditOptions = {}): Promise<Receipt> {
    if (this.state === "closed" || this.session.closed) throw new RejoinError("closed", "the document is closed");
    if (this.state === "deleted") throw new RejoinError("deleted", "the document was deleted");
    if (!this.#making) this.#flush();
    this.#refresh();
    const { ops, steps } = this.#make(make);
    if (!ops.length) return new Receipt(this.session, this.id, null);
    const paths = ops.map(([, path]) => path);
    const fields = ops.every(isField) ? paths : undefined;
    const request = this.session.request("edit", [this.id, fields ? null : this.base(paths), ops, toSaid(options)]);
    this.#pending.push({ id: request.id, steps, fields });
    if (this.told.size) {
      const value = (this.#last = this.value);
      this.told.emit(freeze({ patches: freeze(steps.map(toPatch)), origin: "local", value }));
    }
    return this.session.track(this.#settle(request.id, request.result));
  }

  #make(make: MakeEdit): Edit {
    if (this.#making) throw new RejoinError("bad_argument", "a document cannot be edited while a change of it is being made: write to the draft");
    const seen = this.#shown;
    const editor = (this.#editor ??= new Editor(seen));
    this.#making = true;
    try {
      const edit = make(editor);
      // Who reads the value meanwhile takes the editor away.
      this.#editor = editor;
      const issues = this.schema && edit.ops.length ? this.checked.issues : undefined;
      if (issues) throw new RejoinError("bad_value", `the schema refuses this: ${issues[0]?.message}`, issues);
      return edit;
    } catch (error) {
      // Some of it may have been applied.
      this.#stale = this.#apart = true;
      this.#shown = seen;
      throw error;
    } finally {
      this.#making = false;
    }
  }

  /**
   * The state in which indices at these paths are meant. Edits of fields elsewhere are left out of it: the engine makes them on top of all that it
   * has, so a state with them has others' edits in it that this page has not seen, and indices would be off by those.
   */
  base(paths: readonly Path[]): WireBase {
    const counted = this.#pending.filter(({ fields }) => !fields || fields.some((field) => paths.some((path) => meet(field, path))));
    return { heads: [...this.heads], own: rows(counted.map(({ id }) => id)) };
  }

  /** Lets go: nothing is told any more. */
  close(): void {
    this.state = "closed";
  }

  async #settle(id: number, result: Promise<unknown>): Promise<Receipt> {
    try {
      const { change } = (await result) as { change: string | null };
      // Nothing was to be written: no patch will tell of it.
      if (change === null) this.#drop(id);
      return new Receipt(this.session, this.id, change);
    } catch (error) {
      this.#drop(id);
      throw error;
    }
  }

  #drop(id: number): void {
    const left = this.#pending.filter((edit) => edit.id !== id);
    if (left.length === this.#pending.length) return;
    this.#pending = left;
    this.#changed(undefined);
    this.#letIn();
  }

  #begin(opened: WireOpened | null, id: number, early: PatchEvent[]): boolean {
    if (!opened || this.state === "closed") return false;
    this.#confirmed = share(this.#shown, decode(opened.value));
    this.#log = [];
    this.#n = opened.n;
    this.heads = opened.heads;
    this.space = opened.space;
    this.unacknowledged = opened.pending;
    if (this.state === "waiting" || this.state === "open") this.#enter(opened.heads.length ? "open" : "waiting");
    const upTo = opened.upTo ?? id - 1;
    this.#pending = this.#pending.filter((edit) => edit.id > upTo);
    this.#changed(undefined);
    for (const event of early) this.handle(event);
    return true;
  }

  #patch(event: PatchEvent): void {
    if (event.n <= this.#n) return;
    if (event.n !== this.#n + 1) return this.reopen();
    const steps = event.patches.map(toStep);
    // Where one is made of the other, what is equal is the same already.
    const one = this.#stale ? !this.#apart : !this.#editor && !this.#log.length && this.#confirmed === this.#shown;
    for (const step of steps) this.#log.push(step);
    this.#n = event.n;
    this.heads = event.heads;
    if (this.state === "waiting" && event.heads.length) this.#enter("open");
    if (this.#expects(event, steps)) {
      this.#pending.shift();
      if (!this.#pending.length && !this.#editor) {
        // Both are one, and what stays equal keeps its identity.
        this.#confirmed = this.#shown;
        this.#log = [];
      }
      if (this.#log.length > LOG_MOST) this.#fold();
      return;
    }
    const exact = !this.#pending.length;
    this.#pending = this.#pending.filter((edit) => edit.id > event.upTo);
    this.#changed(exact ? steps : undefined, steps, !(one && exact));
  }

  /** Whether an event says no more than that the oldest pending edit was done as it shows: then there is nothing to do. */
  #expects(event: PatchEvent, steps: readonly Step[]): boolean {
    const [first, second] = this.#pending;
    if (!first || this.#stale || event.upTo < first.id || (second && event.upTo >= second.id)) return false;
    return share<unknown>(first.steps, steps) === first.steps;
  }

  /** Applies the confirmed steps that wait. */
  #fold(): void {
    if (!this.#log.length) return;
    const editor = new Editor(this.#confirmed);
    const fits = this.#log.every((step) => editor.apply(step));
    this.#confirmed = editor.finish();
    this.#log = [];
    // A step that does not fit means that this copy is not what the engine takes it for.
    if (!fits) this.reopen();
  }

  /** Notes that the value may be another, and tells the subscribers when this turn's events are all in. */
  #changed(exact: Step[] | undefined, steps: Step[] = [], apart = true): void {
    this.#stale = true;
    this.#apart = apart;
    if (!this.told.size) return;
    if (exact && this.#steps) this.#steps.push(...exact);
    else {
      this.#silent.push(...(this.#steps ?? []).filter(isSilent), ...steps.filter(isSilent));
      this.#steps = undefined;
    }
    this.#schedule();
  }

  /** Enters a state of which subscribers hear, even if the value stays as it is: the first content may be empty. */
  #enter(state: DocumentState): void {
    if (this.state === state) return;
    this.state = state;
    if (this.told.size) this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => this.#flush());
  }

  /** Steps that change no value: of marks and conflicts. */
  #silent: Step[] = [];

  #refresh(): void {
    if (this.#log.length > LOG_MOST) this.#fold();
    if (!this.#stale) return;
    this.#stale = false;
    this.#editor = undefined;
    this.#fold();
    const next = replay(this.#confirmed, this.#pending);
    this.#shown = this.#apart ? share(this.#shown, next) : next;
    if (!this.#pending.length) this.#confirmed = this.#shown;
  }

  /** Tells the subscribers what the engine's events have changed since they were told last. */
  #flush(): void {
    this.#scheduled = false;
    // Without subscribers, the value is made when somebody asks for it.
    if (!this.told.size) return;
    const [last, value] = [this.#last, this.value];
    const steps = this.#steps ?? [...between(last, value), ...this.#silent];
    this.#last = value;
    this.#steps = [];
    this.#silent = [];
    const isSame = last === value && this.#lastState === this.state;
    this.#lastState = this.state;
    if (isSame && !steps.some(isSilent)) return;
    this.told.emit(freeze({ patches: freeze(steps.map(toPatch)), origin: "remote", value }));
  }
}

const FIELD_OPS = new Set(["set", "delete", "increment"]);

/** Whether an op writes a field by its keys alone. */
const isField = ([kind, path]: WireOp): boolean => FIELD_OPS.has(kind) && path.every((key) => typeof key === "string");

/** Whether one path leads to or through what the other leads to. */
function meet(a: Path, b: Path): boolean {
  const [short, long] = a.length < b.length ? [a, b] : [b, a];
  return short.every((key, index) => key === long[index]);
}

const isSilent = (step: Step): boolean => step[0] === "mark" || step[0] === "conflict";

/** Writes rising ids as rows: of a thousand edits that nobody waited for, each names all before it. */
export function rows(ids: readonly number[]): WireIds {
  const found: [first: number, last: number][] = [];
  for (const id of ids) {
    const row = found[found.length - 1];
    if (row && row[1] + 1 === id) row[1] = id;
    else found.push([id, id]);
  }
  return found.map((row) => (row[0] === row[1] ? row[0] : row));
}

function misfit(step: Step): RejoinError {
  const path = step[0] === "all" ? "" : step[1].join(".");
  return new RejoinError("wrong_path", `cannot ${step[0]} at "${path}": it leads nowhere, to another kind of value, or beyond the end`);
}
