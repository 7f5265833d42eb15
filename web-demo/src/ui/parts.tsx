/** Small parts that several views use. */
import { type ChangeEvent, type CSSProperties, type KeyboardEvent, type ReactNode, useEffect, useRef, useState } from "react";
import { useMayWrite } from "../access.ts";
import { Icon } from "./icons.tsx";

/** The colour of a person or card, by its name, as a custom property. */
export const tint = (colour: string): CSSProperties => ({ "--tint": colour ? `var(--${colour})` : "transparent" }) as CSSProperties;

/** A person as a disc with their initial. */
export function Avatar({ name, colour, note, small = false }: { name: string; colour: string; note?: string; small?: boolean }): ReactNode {
  const label = note ? `${name}, ${note}` : name;
  return (
    <span className="avatar" data-small={small || undefined} style={tint(colour)} role="img" aria-label={label} title={label}>
      {[...name.trim()][0]?.toUpperCase() ?? "?"}
    </span>
  );
}

/** Says that something can be read and not written. */
export function ReadChip(): ReactNode {
  return (
    <span className="chip">
      <Icon name="eye" /> Read only
    </span>
  );
}

/**
 * An input that writes when the person is done with it, by Enter or by leaving: each keystroke would be a change of its own, and what others
 * write meanwhile would fight with the cursor. Escape takes it back. Where nothing may be written it is plain text.
 */
export function Field({ value, label, onWrite, max = 200, long = false }: { value: string; label: string; onWrite: (value: string) => void; max?: number; long?: boolean }): ReactNode {
  const mayWrite = useMayWrite();
  const [typed, setTyped] = useState<string | null>(null);
  const given = useRef(value);
  const done = (): void => {
    const next = typed?.trim();
    if (next && next !== given.current) onWrite(next);
    setTyped(null);
  };
  const props = {
    className: "ghost",
    "aria-label": label,
    maxLength: max,
    value: typed ?? value,
    onFocus: () => {
      given.current = value;
    },
    onChange: (event: ChangeEvent<HTMLInputElement | HTMLTextAreaElement>) => setTyped(event.target.value.replaceAll("\n", " ")),
    onBlur: done,
    onKeyDown: (event: KeyboardEvent<HTMLElement>) => {
      if (event.key === "Enter") {
        event.preventDefault();
        event.currentTarget.blur();
      }
      if (event.key === "Escape" && typed !== null) {
        event.preventDefault();
        setTyped(null);
      }
    },
  };
  if (!mayWrite) return value;
  return long ? <textarea rows={1} {...props} /> : <input {...props} />;
}

/** A modal dialog. The browser keeps the focus in it, gives it back, and closes it on Escape. */
export function Dialog({ title, onClose, children }: { title: string; onClose: () => void; children: ReactNode }): ReactNode {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (!dialog.current?.open) dialog.current?.showModal();
  }, []);
  return (
    <dialog
      ref={dialog}
      className="dialog"
      aria-label={title}
      onClose={onClose}
      onClick={(event) => {
        if (event.target === dialog.current) dialog.current?.close();
      }}
      onKeyDown={(event) => event.stopPropagation()}
    >
      <div className="dialog-body">
        <header>
          <h2>{title}</h2>
          <button type="button" className="quiet square" aria-label="Close" onClick={() => dialog.current?.close()}>
            <Icon name="close" />
          </button>
        </header>
        {children}
      </div>
    </dialog>
  );
}

const AGO: readonly [Intl.RelativeTimeFormatUnit, number][] = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
];
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "narrow" });

/** Says how long ago something was. */
export function ago(time: Date | null): string {
  if (!time) return "";
  const seconds = (time.getTime() - Date.now()) / 1000;
  for (const [unit, length] of AGO) if (Math.abs(seconds) >= length) return relative.format(Math.round(seconds / length), unit);
  return "just now";
}

const DAY = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", timeZone: "UTC" });

/** Shows a day, written as 2026-11-21, in few letters. */
export function day(due: string): string {
  const time = Date.parse(`${due}T00:00:00Z`);
  return Number.isNaN(time) ? due : DAY.format(time);
}
