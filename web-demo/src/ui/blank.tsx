/** What stands in a workspace's place while it is on its way, and when it is not to be had. */
import { useRepo, useSyncStatus } from "rejoin/react";
import { type ReactNode, useContext, useEffect, useState } from "react";
import { AccessContext } from "../access.ts";
import { opened } from "../me.ts";
import { Connection, Profile, ThemeButton } from "./chrome.tsx";
import { Icon, Logo } from "./icons.tsx";

const BLANK: Record<string, [title: string, text: string]> = {
  expired: ["This link does not work", "Its time is over, it was taken back, or it was cut off. Ask whoever sent it for another one."],
  denied: ["Not for you", "The relay does not give this workspace to this page, or has none such."],
  missing: ["Nothing here", "Neither this device nor the relay has this workspace. The link may be cut off, or the relay has never seen it."],
  deleted: ["Deleted", "This workspace was deleted."],
  quarantined: ["Set aside", "This document could not be read without harm, and was set aside. Its data is kept."],
  failed: ["Not to be opened", "This is not the address of a workspace. The link may be cut off: copy it as a whole."],
};

export function Blank({ status: found }: { status: string }): ReactNode {
  // What the relay does not give is not on its way, and whether there is such a thing it does not say.
  const status = useContext(AccessContext) === "gone" && found !== "failed" ? (opened === null ? "denied" : "expired") : found;
  const sync = useSyncStatus();
  const repo = useRepo();
  const [title, text] = BLANK[status] ?? ["", ""];
  const { progress } = sync;
  // What is on this device is there in no time: nothing need flash up for it.
  const [patient, setPatient] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setPatient(true), 400);
    return () => clearTimeout(timer);
  }, []);
  const away = repo !== undefined && (sync.state === "offline" || sync.state === "none");
  // The relay has told all it knows, and this was not in it: whoever made the link has not been online since.
  const unheard = sync.state === "synced" && (progress?.done ?? 0) >= (progress?.total ?? 0);
  const waits = away
    ? "It will come when the relay can be reached."
    : unheard
      ? "The relay has not heard of it yet. It appears here as soon as whoever shared it is online."
      : progress?.total
        ? `${progress.done} of ${progress.total} fetched`
        : "Looking for it.";
  return (
    <div className="workspace">
      <header className="bar">
        <a className="quiet square button" href="#/" aria-label="All workspaces">
          <Logo />
        </a>
        <span className="spring" />
        <Connection />
        <ThemeButton />
        <Profile />
      </header>
      {status === "loading" ? (
        <main className="blank" aria-busy="true" data-patient={patient || undefined}>
          <h1>{unheard ? "Not here yet" : "Fetching the workspace"}</h1>
          {!unheard && <progress aria-label="Fetched" {...(progress?.total ? { value: progress.done, max: progress.total } : {})} />}
          <p>{waits}</p>
        </main>
      ) : (
        <main className="blank" role="alert">
          <h1>{title}</h1>
          <p>{text}</p>
          <a className="button" href="#/">
            <Icon name="back" /> All workspaces
          </a>
        </main>
      )}
    </div>
  );
}
