/** A card's note. */
import type { Doc } from "rejoin";
import { useDocument } from "rejoin/react";
import type { ReactNode } from "react";
import type { Note as NoteValue } from "../doc.ts";
import { tellFailure } from "../receipts.ts";

export function Note({ id }: { id: string }): ReactNode {
  const note = useDocument<NoteValue>(id);
  if (note.status === "ready") return <Editor doc={note.doc} value={note.value.text} />;
  return (
    <div className="note-blank" aria-busy={note.status === "loading"}>
      {note.status === "loading" ? "The note is on its way." : "The note is gone."}
    </div>
  );
}

function Editor({ doc, value }: { doc: Doc<NoteValue>; value: string }): ReactNode {
  return (
    <textarea aria-label="Note" placeholder="Write together" value={value} onChange={(event) => void doc.text("text").update(event.target.value).catch(tellFailure)} />
  );
}
