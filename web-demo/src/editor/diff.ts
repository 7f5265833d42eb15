/** The smallest change from one text to another, for when it is known what a text has become but not how. */
import { ChangeSet } from "@codemirror/state";
import type { Splice } from "rejoin";

/** One replacement; positions count in the text before any of them. */
export interface Replacement {
  readonly from: number;
  readonly to: number;
  readonly insert: string;
}

/** Beyond so many inserted and deleted characters one replacement has to do: the search costs their square. */
const DISTANCE_MAX = 256;

/**
 * Finds replacements that lead from one text to another and keep as many characters as can be kept, so that positions between two distant
 * edits stay. Cost: the length, and the square of what differs up to a bound.
 */
export function difference(old: string, now: string): Replacement[] {
  let start = 0;
  let [oldEnd, nowEnd] = [old.length, now.length];
  while (start < oldEnd && start < nowEnd && old[start] === now[start]) start++;
  while (oldEnd > start && nowEnd > start && old[oldEnd - 1] === now[nowEnd - 1]) oldEnd--, nowEnd--;
  if (start === oldEnd && start === nowEnd) return [];
  const found = start < oldEnd && start < nowEnd ? shortest(old.slice(start, oldEnd), now.slice(start, nowEnd)) : undefined;
  if (!found) return [{ from: start, to: oldEnd, insert: now.slice(start, nowEnd) }];
  return found.map(({ from, to, insert }) => ({ from: from + start, to: to + start, insert }));
}

/** Myers' greedy search for the shortest edit script; undefined where it is longer than the bound. */
function shortest(a: string, b: string): Replacement[] | undefined {
  const most = Math.min(a.length + b.length, DISTANCE_MAX);
  // How far each diagonal was followed; diagonal k is at k + most + 1.
  const reach = new Int32Array(2 * most + 3);
  const trace: Int32Array[] = [];
  const comesDown = (row: Int32Array, k: number, d: number): boolean => k === -d || (k !== d && at(row, k - 1) < at(row, k + 1));
  const at = (row: Int32Array, k: number): number => row[k + most + 1] as number;
  for (let d = 0; d <= most; d++) {
    trace.push(reach.slice());
    for (let k = -d; k <= d; k += 2) {
      let x = comesDown(reach, k, d) ? at(reach, k + 1) : at(reach, k - 1) + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x++;
      reach[k + most + 1] = x;
      if (x >= a.length && x - k >= b.length) return walk();
    }
  }
  return undefined;

  /** Walks the trace back from the end and gathers the steps into replacements. */
  function walk(): Replacement[] {
    const found: Replacement[] = [];
    let [x, y] = [a.length, b.length];
    for (let d = trace.length - 1; d > 0; d--) {
      const row = trace[d] as Int32Array;
      const down = comesDown(row, x - y, d);
      const k = x - y + (down ? 1 : -1);
      const [beforeX, beforeY] = [at(row, k), at(row, k) - k];
      const [from, to] = down ? [beforeX, beforeX] : [beforeX, beforeX + 1];
      const insert = down ? (b[beforeY] as string) : "";
      const next = found[0];
      if (next?.from === to) found[0] = { from, to: next.to, insert: insert + next.insert };
      else found.unshift({ from, to, insert });
      [x, y] = [beforeX, beforeY];
    }
    return found;
  }
}

/** Makes a change of CodeMirror that leads from one text to another. */
export function changeBetween(old: string, now: string): ChangeSet {
  return ChangeSet.of(difference(old, now), old.length, "\n");
}

/** Above so many splices the whole difference is cheaper than following them. */
const SPLICES_MAX = 64;

/** Makes a change of CodeMirror of splices that were done one after the other; where they do not lead to `now`, of the difference. */
export function changeOf(old: string, splices: readonly Splice[], now: string): ChangeSet {
  if (!splices.length || splices.length > SPLICES_MAX) return changeBetween(old, now);
  let text = old;
  let change = ChangeSet.empty(old.length);
  for (const { index, deleteCount, insert } of splices) {
    if (index + deleteCount > text.length) return changeBetween(old, now);
    // A splice may span two distant edits: what is the same in both texts is kept.
    const parts = difference(text.slice(index, index + deleteCount), insert);
    const moved = parts.map((part) => ({ from: part.from + index, to: part.to + index, insert: part.insert }));
    change = change.compose(ChangeSet.of(moved, text.length, "\n"));
    text = text.slice(0, index) + insert + text.slice(index + deleteCount);
  }
  return text === now ? change : changeBetween(old, now);
}
