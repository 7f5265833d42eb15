/** A note as a React component: a text of a document, edited by several people at once. */
import { defaultKeymap } from "@codemirror/commands";
import { Compartment, EditorState, type Extension } from "@codemirror/state";
import { EditorView, keymap, placeholder as placeholderOf } from "@codemirror/view";
import { type CSSProperties, type ReactElement, useEffect, useRef, useState } from "react";
import { type BoundText, bindText } from "./binding.js";
import { type CursorPresence, type CursorText, type CursorUser, remoteCursors } from "./cursors.js";
import { ownHistory } from "./undo.js";

/** What the editor needs of a document; every `Doc` of `rejoin` is one. */
export interface NoteDocument {
  readonly id: string;
  text(path: readonly (string | number)[]): BoundText & CursorText;
}

/** What a {@link NoteEditor} is given. */
export interface NoteEditorProps {
  /** The document. It must stay open while the editor shows it. */
  doc: NoteDocument;
  /** Where the text is in it. */
  path: readonly (string | number)[];
  /** Shows who else is in the text, and them where this user is: `repo.presence(doc)`. */
  presence?: CursorPresence | undefined;
  /** As whom. */
  user?: CursorUser | undefined;
  readOnly?: boolean | undefined;
  /** What an empty note says. */
  placeholder?: string | undefined;
  /** What a screen reader calls the editor. Default: "Note". */
  label?: string | undefined;
  /** Is told when an edit was refused; the editor has gone back by then. */
  onError?: ((error: unknown) => void) | undefined;
  /** More extensions of CodeMirror. Those of the first render are used. */
  extensions?: Extension | undefined;
  className?: string | undefined;
}

/**
 * Shows a note that several people edit.
 *
 * @example
 * ```tsx
 * <NoteEditor doc={board} path={["cards", id, "note"]} presence={repo.presence(board)} user={{ name: "Ada", colour: "#7c3aed" }} />
 * ```
 */
export function NoteEditor(props: NoteEditorProps): ReactElement {
  const { doc, path, presence, user, readOnly = false, placeholder = "", label = "Note", extensions, className } = props;
  const host = useRef<HTMLDivElement>(null);
  const editor = useRef<{ view: EditorView; set: Record<"cursors" | "looks", (extension: Extension) => void> } | null>(null);
  const onError = useRef(props.onError);
  onError.current = props.onError;
  const [people, setPeople] = useState<readonly string[]>([]);
  const where = JSON.stringify(path);

  useEffect(() => {
    const text = doc.text(JSON.parse(where) as (string | number)[]);
    const [cursors, looks] = [new Compartment(), new Compartment()];
    const bound = bindText(text, { onError: (error) => onError.current?.(error) });
    const view = new EditorView({
      doc: text.value,
      extensions: [bound, ownHistory(), keymap.of(defaultKeymap), EditorView.lineWrapping, theme, cursors.of([]), looks.of([]), extensions ?? []],
      parent: host.current as HTMLElement,
    });
    const setter = (of: Compartment) => (extension: Extension) => view.dispatch({ effects: of.reconfigure(extension) });
    editor.current = { view, set: { cursors: setter(cursors), looks: setter(looks) } };
    return () => {
      editor.current = null;
      view.destroy();
    };
    // The extensions are those of the first render: an array that is made anew in each one must not cost the history.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [doc, where]);

  useEffect(() => {
    editor.current?.set.looks([
      EditorState.readOnly.of(readOnly),
      EditorView.editable.of(!readOnly),
      placeholder ? placeholderOf(placeholder) : [],
      // A text that cannot be edited is still reached by the keyboard.
      EditorView.contentAttributes.of({ "aria-label": label, ...(readOnly && { "aria-readonly": "true", tabindex: "0" }) }),
    ]);
  }, [doc, where, readOnly, placeholder, label]);

  const { name, colour } = user ?? {};
  useEffect(() => {
    if (!presence) return;
    const shown = name !== undefined && colour !== undefined && !readOnly ? { name, colour } : undefined;
    const text = doc.text(JSON.parse(where) as (string | number)[]);
    const key = `caret:${(JSON.parse(where) as (string | number)[]).join("/")}`;
    editor.current?.set.cursors(remoteCursors(text, presence, { key, user: shown, onPeople: setPeople }));
    return () => {
      editor.current?.set.cursors([]);
      setPeople([]);
    };
  }, [doc, where, presence, name, colour, readOnly]);

  return (
    <div className={className} style={box}>
      <div ref={host} />
      {/* Who comes and goes is said when the user pauses; what they type is not. */}
      <div role="status" aria-live="polite" style={unseen}>
        {people.length > 0 ? `${people.join(", ")} ${people.length > 1 ? "are" : "is"} here too` : ""}
      </div>
    </div>
  );
}

const box: CSSProperties = { position: "relative" };

const unseen: CSSProperties = { position: "absolute", width: 1, height: 1, overflow: "hidden", clipPath: "inset(50%)", whiteSpace: "nowrap" };

/** The page's own custom properties, so that the editor follows light and dark without being told. */
const theme = EditorView.theme({
  "&": { color: "var(--text, inherit)", background: "var(--surface, transparent)", fontSize: "inherit", borderRadius: "var(--radius, 6px)" },
  "&.cm-focused": { outline: "2px solid var(--accent, Highlight)", outlineOffset: "1px" },
  ".cm-scroller": { fontFamily: "inherit", lineHeight: "1.5", overflowX: "hidden" },
  ".cm-content": { caretColor: "var(--accent, currentColor)", minHeight: "4.5em", padding: "8px 0" },
  ".cm-line": { padding: "0 10px" },
  ".cm-placeholder": { color: "var(--muted, GrayText)" },
});
