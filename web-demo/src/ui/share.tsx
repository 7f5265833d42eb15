/** The ways to give a workspace to others: a link to write by, and one to read by. */
import { type ReactNode, useState } from "react";
import { useMayWrite } from "../access.ts";
import { device, madeLinks, useRemembered } from "../me.ts";
import { say } from "../news.ts";
import { makeReadLink, revokeLink } from "../relay.ts";
import { type Route, toHash } from "../route.ts";
import { Icon } from "./icons.tsx";
import { Dialog } from "./parts.tsx";

const addressOf = (route: Route): string => `${location.origin}${location.pathname}${toHash({ ...route, board: null })}`;

export function Share({ route }: { route: Route }): ReactNode {
  const [open, setOpen] = useState(false);
  const mayWrite = useMayWrite();
  const second = `${location.origin}${location.pathname}?device=${device === "b" ? "c" : "b"}${toHash(route)}`;
  return (
    <>
      <button type="button" className="share" onClick={() => setOpen(true)}>
        <Icon name="link" /> <span>Share</span>
      </button>
      {open && (
        <Dialog title="Share this workspace" onClose={() => setOpen(false)}>
          <section className="way" aria-labelledby="way-given">
            <h3 id="way-given">{mayWrite ? "To read and write" : "To read"}</h3>
            <p>{mayWrite ? "Whoever has this link can read and write here." : "Whoever has this link can read here, as you do."}</p>
            <Copy label="Link" value={addressOf(route)} />
          </section>
          {mayWrite && route.token === null && <ReadOnly route={route} />}
          <section className="way" aria-labelledby="way-second">
            <h3 id="way-second">Alone here?</h3>
            <p>The same browser can play another device, with a store, a person and a connection of its own.</p>
            <a className="button" href={second} target="_blank" rel="noreferrer">
              <Icon name="device" /> Open as a second device
            </a>
          </section>
        </Dialog>
      )}
    </>
  );
}

const UNTIL = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" });

/** The read-only link: made by the relay when it is asked for, shown again until it ends, and taken back. */
function ReadOnly({ route }: { route: Route }): ReactNode {
  const links = useRemembered(madeLinks);
  const [busy, setBusy] = useState(false);
  const [fault, setFault] = useState("");
  const link = links.find(({ space, expires }) => space === route.space && expires * 1000 > Date.now());
  const act = async (work: () => Promise<void>): Promise<void> => {
    setBusy(true);
    setFault("");
    try {
      await work();
    } catch (error) {
      setFault(error instanceof Error ? error.message : String(error));
    }
    setBusy(false);
  };
  const make = async (): Promise<void> => {
    const made = await makeReadLink(route.space);
    madeLinks.value = [{ ...made, space: route.space }, ...madeLinks.value.filter(({ space, expires }) => space !== route.space && expires * 1000 > Date.now())];
    say("The read-only link is made", "good");
  };
  const takeBack = async (id: string): Promise<void> => {
    await revokeLink(id);
    madeLinks.value = madeLinks.value.filter((other) => other.id !== id);
    say("The read-only link was taken back");
  };
  return (
    <section className="way" aria-labelledby="way-read">
      <h3 id="way-read">Only to read</h3>
      {link ? (
        <>
          <p>Whoever has this link can read here until {UNTIL.format(link.expires * 1000)}. What they write is refused.</p>
          <Copy label="Read-only link" value={addressOf({ ...route, token: link.token })} />
          <button type="button" className="danger" disabled={busy} onClick={() => void act(() => takeBack(link.id))}>
            Take the link back
          </button>
        </>
      ) : (
        <>
          <p>A link that works for a week. Whoever has it can read here; what they write is refused.</p>
          <button type="button" disabled={busy} onClick={() => void act(make)}>
            <Icon name="eye" /> {busy ? "Asking the relay" : "Make a read-only link"}
          </button>
        </>
      )}
      {fault && (
        <p className="bad" role="alert">
          {fault}
        </p>
      )}
    </section>
  );
}

/** A text to be taken elsewhere. */
function Copy({ label, value }: { label: string; value: string }): ReactNode {
  const copy = (): Promise<void> =>
    navigator.clipboard.writeText(value).then(
      () => say("Link copied"),
      () => say("The browser does not let this page copy. Take it from the field."),
    );
  return (
    <div className="copy">
      <input readOnly aria-label={label} value={value} onFocus={(event) => event.target.select()} />
      <button type="button" className="primary" aria-label={`Copy the ${label.toLowerCase()}`} onClick={() => void copy()}>
        Copy
      </button>
    </div>
  );
}
