/** A card's note: a document of its own, opened when the card is. */
import { useDocument, useRepo } from "rejoin/react";
import { lazy, type ReactNode, Suspense, useMemo } from "react";
import { useMayWrite } from "../access.ts";
import type { Note as NoteValue } from "../doc.ts";
import { CARETS, me, useRemembered } from "../me.ts";
import { tellFailure } from "../receipts.ts";

/** The editor is half of the page's code, and nobody types before a card is open. */
const load = (): Promise<{ default: typeof import("../editor/NoteEditor.js").NoteEditor }> =>
  import("../editor/NoteEditor.js").then(({ NoteEditor }) => ({ default: NoteEditor }));
const NoteEditor = lazy(load);

/** Fetches the editor when there is nothing else to do, so that the first card opens as fast as the others. */
export const preload = (): void => void load().catch(() => {});

export function Note({ id }: { id: string }): ReactNode {
  const repo = useRepo();
  const mayWrite = useMayWrite();
  const note = useDocument<NoteValue>(id);
  const { name, colour } = useRemembered(me);
  const presence = useMemo(() => repo?.presence(id), [repo, id]);
  const user = useMemo(() => ({ name, colour: CARETS[colour] }), [name, colour]);
  const waiting = <div className="note-blank">{note.status === "loading" ? "The note is on its way." : note.status === "ready" ? "" : "The note is gone."}</div>;
  if (note.status !== "ready") return waiting;
  return (
    <Suspense fallback={waiting}>
      <NoteEditor
        className="note-editor"
        doc={note.doc}
        path={PATH}
        presence={presence}
        user={user}
        readOnly={!mayWrite}
        placeholder={mayWrite ? "Write together" : "Nothing is written here"}
        label="Note"
        onError={tellFailure}
      />
    </Suspense>
  );
}

const PATH = ["text"] as const;
