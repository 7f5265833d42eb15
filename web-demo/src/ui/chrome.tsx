/** What stands at the top of every page: the connection, the offline switch, the theme, and who sits here. */
import type { Status } from "rejoin";
import { useRepo, useSyncStatus } from "rejoin/react";
import { type ReactNode, useEffect, useId, useState, useSyncExternalStore } from "react";
import { COLOURS, me, offline, theme, useRemembered } from "../me.ts";
import { say } from "../news.ts";
import { Icon } from "./icons.tsx";
import { Avatar, Dialog, tint } from "./parts.tsx";
import { RejectedDialog, useRejected } from "./rejected.tsx";

const count = (number: number, one: string, many = `${one}s`): string => `${number} ${number === 1 ? one : many}`;

/** In one or two words: short enough that the button need not grow with them. */
function lampWords(status: Status, isOff: boolean, opened: boolean): [state: string, words: string] {
  if (!opened) return ["connecting", "Opening"];
  if (status.error) return ["bad", status.error.code === "unauthorized" ? "No access" : "Trouble"];
  if (isOff) return ["off", "Offline"];
  if (status.state === "synced") return status.pending ? ["busy", "Sending"] : ["good", "In sync"];
  if (status.state === "syncing") return ["busy", "Syncing"];
  if (status.state === "connecting") return ["busy", "Connecting"];
  return ["off", status.state === "none" ? "No relay" : "No network"];
}

/** The lamp with what it means behind it, and the switch. */
export function Connection(): ReactNode {
  const repo = useRepo();
  const status = useSyncStatus();
  const isOff = useRemembered(offline);
  const rejected = useRejected(repo);
  const [reviewing, setReviewing] = useState(false);
  const id = useId();
  const [lamp, words] = lampWords(status, isOff, repo !== undefined);
  useAnnounced(words, status.pending);
  const { progress } = status;
  return (
    <>
      {rejected.length > 0 && (
        <button type="button" className="refused" onClick={() => setReviewing(true)}>
          <Icon name="warn" /> {rejected.length} refused
        </button>
      )}
      <button type="button" className="lamp" data-lamp={lamp} popoverTarget={id} aria-label={`Connection: ${words}. ${count(status.pending, "change")} not sent`}>
        <span className="dot" aria-hidden="true" />
        <span className="words">{words}</span>
        <span className="pending" data-none={status.pending === 0 || undefined} title="Changes that no relay has yet" data-testid="pending">
          {status.pending}
        </span>
      </button>
      <button type="button" role="switch" aria-checked={isOff} aria-label="Work offline" title="Work offline" className="switch" onClick={() => (offline.value = !isOff)}>
        <span className="track" aria-hidden="true">
          <span className="thumb" />
        </span>
        <span className="words">Offline</span>
      </button>
      <div id={id} popover="auto" className="popover" role="dialog" aria-label="Connection">
        <h2>{words}</h2>
        <p>{explain(status, isOff)}</p>
        {progress && progress.total > 0 && (
          <>
            <progress aria-label="Fetched" value={progress.done} max={progress.total} />
            <p className="fine">
              {progress.done} of {progress.total} fetched
            </p>
          </>
        )}
        <dl>
          <dt>Not sent yet</dt>
          <dd>{count(status.pending, "change")}</dd>
          <dt>Kept in</dt>
          <dd>{status.storage === "memory" ? "memory only: gone with the last tab" : status.persisted ? "this browser, for good" : "this browser"}</dd>
          {status.quota && (
            <>
              <dt>Space used</dt>
              <dd>{megabytes(status.quota.usage)}</dd>
            </>
          )}
          {status.protocol && (
            <>
              <dt>Speaks</dt>
              <dd>{status.protocol}</dd>
            </>
          )}
          <dt>Engine</dt>
          <dd>{status.leader ? "runs in this tab, for all tabs" : "runs in another tab"}</dd>
        </dl>
        <button type="button" onClick={() => setReviewing(true)}>
          Refused changes ({rejected.length})
        </button>
      </div>
      {reviewing && <RejectedDialog rejected={rejected} onClose={() => setReviewing(false)} />}
      <div className="thread" data-on={(status.state === "syncing" && !isOff) || undefined} aria-hidden="true">
        <i style={{ width: progress && progress.total > 0 ? `${(100 * progress.done) / progress.total}%` : "30%" }} />
      </div>
    </>
  );
}

function explain({ state, pending, reason, retryIn, error }: Status, isOff: boolean): string {
  if (error) return error.code === "unauthorized" ? `The relay does not let this page in: ${error.message}.` : error.message;
  if (isOff) return pending ? `You switched the network off. ${count(pending, "change")} will be sent when you come back.` : "You switched the network off. Everything works; changes will wait.";
  if (state === "synced") return pending ? "The relay is being told." : "The relay has everything you wrote, and you have everything it has.";
  if (state === "syncing") return "Catching up with what happened meanwhile.";
  if (state === "connecting") return "Looking for the relay.";
  if (state === "none") return "No relay was given: documents stay on this device.";
  const again = retryIn === undefined ? "" : ` Next attempt in ${Math.max(1, Math.round(retryIn / 1000))} s.`;
  return `The relay cannot be reached${reason ? `: ${reason}` : ""}. Everything works; changes will wait.${again}`;
}

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

/** Tells a screen reader when the connection has settled in another state; not each of the states on the way. */
function useAnnounced(words: string, pending: number): void {
  const [told, setTold] = useState<string | null>(null);
  useEffect(() => {
    if (words === told || !["Offline", "In sync", "No network", "No access", "Trouble"].includes(words)) return;
    const timer = setTimeout(() => {
      setTold(words);
      if (told === null) return;
      if (words === "In sync") say("In sync: the relay has everything", "weak");
      else if (words === "Offline") say("Offline. Everything works; changes will wait");
      else if (words === "No network") say(`The relay cannot be reached. ${pending ? `${count(pending, "change")} wait` : "Changes will wait"}`);
    }, 300);
    return () => clearTimeout(timer);
  }, [words, told, pending]);
}

function useDark(): boolean {
  const chosen = useRemembered(theme);
  const system = useSyncExternalStore(
    (listener) => {
      const query = matchMedia("(prefers-color-scheme: dark)");
      query.addEventListener("change", listener);
      return () => query.removeEventListener("change", listener);
    },
    () => matchMedia("(prefers-color-scheme: dark)").matches,
  );
  return chosen ? chosen === "dark" : system;
}

export function ThemeButton(): ReactNode {
  const dark = useDark();
  const words = dark ? "Light theme" : "Dark theme";
  return (
    <button type="button" className="quiet square theme" aria-label={words} title={words} onClick={() => (theme.value = dark ? "light" : "dark")}>
      <Icon name={dark ? "sun" : "moon"} />
    </button>
  );
}

/** Who sits here, to be changed. */
export function Profile(): ReactNode {
  const self = useRemembered(me);
  const [open, setOpen] = useState(false);
  return (
    <>
      <button type="button" className="quiet square profile" aria-label={`You are ${self.name}. Change name and colour`} title={`You are ${self.name}`} onClick={() => setOpen(true)}>
        <Avatar name={self.name} colour={self.colour} />
      </button>
      {open && (
        <Dialog title="You" onClose={() => setOpen(false)}>
          <form
            method="dialog"
            onSubmit={(event) => {
              const name = String(new FormData(event.currentTarget).get("name")).trim().replaceAll(":", "");
              if (name) me.value = { ...me.value, name };
            }}
          >
            <label className="row">
              <span>Name</span>
              <input name="name" defaultValue={self.name} maxLength={40} required autoComplete="nickname" />
            </label>
            <fieldset className="swatches">
              <legend>Colour</legend>
              {COLOURS.map((colour) => (
                <label key={colour} style={tint(colour)} title={colour}>
                  <input type="radio" name="colour" aria-label={colour} checked={self.colour === colour} onChange={() => (me.value = { ...me.value, colour })} />
                </label>
              ))}
            </fieldset>
            <p className="fine">Others see both, beside what you write. They are kept in this browser.</p>
            <button type="submit" className="primary">
              Done
            </button>
          </form>
        </Dialog>
      )}
    </>
  );
}
