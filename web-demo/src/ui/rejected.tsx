/** Changes that the relay refused for good: sent again, taken out, or saved. */
import type { Branch, RejectedWrite, Repo } from "rejoin";
import { type ReactNode, useEffect, useState } from "react";
import { say } from "../news.ts";
import { tellFailure } from "../receipts.ts";
import { ago, Dialog } from "./parts.tsx";

const NONE: readonly RejectedWrite[] = [];

export function useRejected(repo: Repo | undefined): readonly RejectedWrite[] {
  const [list, setList] = useState(NONE);
  useEffect(() => repo?.rejected.subscribe(setList), [repo]);
  return list;
}

export function RejectedDialog({ rejected, onClose }: { rejected: readonly RejectedWrite[]; onClose: () => void }): ReactNode {
  const [dropped, setDropped] = useState<readonly Branch[]>([]);
  const act = (work: () => Promise<void>): void => void work().catch(tellFailure);
  return (
    <Dialog title="Refused changes" onClose={onClose}>
      <p className="fine">The relay will not take these. They are on this device and nowhere else, and what was written on top of them waits.</p>
      {rejected.length === 0 && dropped.length === 0 && <p className="empty">There are none.</p>}
      <ul className="rejected">
        {rejected.map((write) => (
          <li key={`${write.doc}/${write.change}`}>
            <p>
              <strong>{write.text || write.code}</strong>
            </p>
            <p className="fine">
              {write.code}
              {write.blocked > 0 && `, and ${write.blocked} more behind it`} {ago(write.time)}
            </p>
            <div className="actions">
              <button type="button" onClick={() => act(async () => write.retry().then(() => say("Sent again")))}>
                Try again
              </button>
              <button
                type="button"
                className="danger"
                onClick={() =>
                  act(async () => {
                    const branch = await write.drop();
                    setDropped((last) => [...last, branch]);
                    say("Taken out of the board. It can still be saved.");
                  })
                }
              >
                Take out
              </button>
            </div>
          </li>
        ))}
        {dropped.map((branch) => (
          <li key={`${branch.doc}/${branch.number}`}>
            <p>
              Taken out: {branch.changes} {branch.changes === 1 ? "change" : "changes"}
            </p>
            <p className="fine">{branch.text}</p>
            <div className="actions">
              <button type="button" onClick={() => act(async () => save(await branch.export(), `refused-${branch.number}.automerge`))}>
                Save as a file
              </button>
              <button type="button" className="danger" onClick={() => act(async () => branch.forget().then(() => setDropped((last) => last.filter((one) => one !== branch))))}>
                Delete for good
              </button>
            </div>
          </li>
        ))}
      </ul>
    </Dialog>
  );
}

function save(bytes: Uint8Array, name: string): void {
  const url = URL.createObjectURL(new Blob([bytes as Uint8Array<ArrayBuffer>]));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
