/**
 * Undo of one's own edits only.
 *
 * CodeMirror's history keeps what the user did and moves it over what came from elsewhere, since the binding marks that with `addToHistory:
 * false`. Undoing is an edit like any other: it works offline, and it takes back no character that somebody else wrote.
 */
import { history, historyKeymap } from "@codemirror/commands";
import { type Extension, Prec } from "@codemirror/state";
import { keymap } from "@codemirror/view";

/**
 * Keeps a history of one's own edits, with its keys.
 *
 * @example
 * ```ts
 * const extensions = [bindText(text), ownHistory()];
 * ```
 */
export function ownHistory(): Extension {
  // The browser's own undo knows nothing of others: its keys must never reach it.
  return [history(), Prec.high(keymap.of(historyKeymap.map((binding) => ({ ...binding, preventDefault: true }))))];
}
