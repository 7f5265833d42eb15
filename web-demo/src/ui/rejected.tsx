/** Changes that the relay refused for good: sent again, taken out, or saved. */
import type { Branch, RejectedWrite, Repo } from "rejoin";
import { useRepo } from "rejoin/react";
import { type ReactNode, useEffect, useState } from "react";
import type { Board, Workspace } from "../doc.ts";
import { makersOf, readEntry } from "../makers.ts";
import { say } from "../news.ts";
import { tellFailure } from "../receipts.ts";
import { ago, Dialog } from "./parts.tsx";

const NONE: readonly RejectedWrite[] = [];

export function useRejected(repo: Repo | undefined): readonly RejectedWrite[] {
  const [list, setList] = useState(NONE);
  useEffect(() => repo?.rejected.subscribe(setList), [repo]);
  return list;
}

/** What the relay means, for whoever does not know its words. */
const WHY: Readonly<Record<string, string>> = {
  "read-only": "You may read here, not write.",
  "document-deleted": "It was deleted for everybody.",
  "document-elsewhere": "It belongs to another workspace.",
  "document-full": "There is too much side by side in it to take more.",
  "change-limit": "It is larger than the relay takes.",
  quota: "The workspace has used up its space on the relay.",
};

export function RejectedDialog({ rejected, onClose }: { rejected: readonly RejectedWrite[]; onClose: () => void }): ReactNode {
  const [dropped, setDropped] = useState<readonly Branch[]>([]);
  const told = useTold(rejected);
  const repo = useRepo();
  // How much has come to stand behind them since is told by no event.
  useEffect(() => void repo?.rejected.load().catch(() => {}), [repo]);
  const act = (work: () => Promise<void>): void => void work().catch(tellFailure);
  return (
    <Dialog title="Refused changes" onClose={onClose}>
      {rejected.length > 0 && (
        <p className="fine">The relay will not take these. They are on this device and nowhere else, and what was written on top of them waits.</p>
      )}
      {rejected.length === 0 && dropped.length === 0 && <p className="empty">There are none.</p>}
      <ul className="rejected">
        {rejected.map((write) => (
          <Refused
            key={`${write.doc}/${write.change}`}
            write={write}
            told={told.get(write.change)}
            onRetry={() => act(async () => write.retry().then(() => say("Sent again")))}
            onDrop={() =>
              act(async () => {
                const branch = await write.drop();
                setDropped((last) => [...last, branch]);
                say("Taken out of the board. It can still be saved.");
              })
            }
          />
        ))}
        {dropped.map((branch) => (
          <li key={`${branch.doc}/${branch.number}`} aria-label="Taken out">
            <p>
              <strong>
                Taken out: {branch.changes} {branch.changes === 1 ? "change" : "changes"}
              </strong>
            </p>
            <p className="fine">{WHY[branch.code] ?? branch.text}</p>
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

interface RefusedProps {
  write: RejectedWrite;
  told: Told | undefined;
  onRetry: () => void;
  onDrop: () => void;
}

function Refused({ write, told, onRetry, onDrop }: RefusedProps): ReactNode {
  const what = told?.what || "changed something";
  return (
    <li aria-label={what}>
      <p>
        <strong>
          {told?.who ?? "Somebody"} {what}
        </strong>
      </p>
      {told?.where && <p className="fine">In “{told.where}”</p>}
      <p>{WHY[write.code] ?? (write.text || "The relay gave no reason.")}</p>
      <p className="fine">
        <code>{write.code}</code>
        {write.blocked > 0 && ` · and ${write.blocked} more behind it`} · {ago(write.time)}
      </p>
      <div className="actions">
        <button type="button" onClick={onRetry}>
          Try again
        </button>
        <button type="button" className="danger" onClick={onDrop}>
          Take out
        </button>
      </div>
    </li>
  );
}

/** What a refused change was about. */
interface Told {
  readonly who: string;
  readonly what: string;
  /** The title of its board, or the name of its workspace; a note has none. */
  readonly where: string;
}

/** Finds what refused changes were about, in the words that they were signed with. */
function useTold(rejected: readonly RejectedWrite[]): ReadonlyMap<string, Told> {
  const repo = useRepo();
  const [told, setTold] = useState<ReadonlyMap<string, Told>>(new Map());
  useEffect(() => {
    if (!repo || rejected.length === 0) return;
    let wanted = true;
    const docs = [...new Set(rejected.map(({ doc }) => doc))];
    Promise.all(docs.map((id) => readAll(repo, id).catch(() => []))).then(
      (found) => wanted && setTold(new Map(found.flat())),
      () => {},
    );
    return () => {
      wanted = false;
    };
  }, [repo, rejected]);
  return told;
}

async function readAll(repo: Repo, id: string): Promise<[change: string, Told][]> {
  const doc = await repo.open<Partial<Board & Workspace>>(id);
  if (!doc) return [];
  try {
    const entries = await doc.history();
    const makers = makersOf(entries);
    const where = doc.value.title ?? doc.value.name ?? "";
    return entries.map((entry) => [entry.hash, { ...readEntry(entry, makers), where }]);
  } finally {
    doc.close();
  }
}

function save(bytes: Uint8Array, name: string): void {
  const url = URL.createObjectURL(new Blob([bytes as Uint8Array<ArrayBuffer>]));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
