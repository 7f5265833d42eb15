/** Moving a card with the pointer. The list is not touched until it is let go: rows only look as if they made room. */
import { type PointerEvent, type RefObject, useCallback, useRef, useState } from "react";

interface Dragging {
  readonly id: string;
  readonly from: number;
  readonly to: number;
  readonly by: number;
  readonly height: number;
}

export interface Drag {
  readonly id: string | null;
  readonly grab: (event: PointerEvent<HTMLElement>, id: string, index: number) => void;
  /** How far a row is to be shown from where it is, in pixels. */
  readonly shift: (id: string, index: number) => number;
}

/** Lets rows of a list be dragged by a grip; `drop` is told where to. */
export function useDrag(list: RefObject<HTMLElement | null>, drop: (id: string, to: number) => void): Drag {
  const [dragging, setDragging] = useState<Dragging | null>(null);
  const latest = useRef<Dragging | null>(null);
  const show = (next: Dragging | null): void => {
    latest.current = next;
    setDragging(next);
  };
  const grab = useCallback(
    (event: PointerEvent<HTMLElement>, id: string, from: number): void => {
      if (event.button !== 0 || !list.current) return;
      const grip = event.currentTarget;
      grip.setPointerCapture(event.pointerId);
      const rows = [...list.current.children].map((row) => row.getBoundingClientRect());
      const own = rows[from];
      if (!own) return;
      const start = event.clientY;
      const height = own.height + 8;
      show({ id, from, to: from, by: 0, height });
      const move = (moved: globalThis.PointerEvent): void => {
        const by = moved.clientY - start;
        const middle = own.top + own.height / 2 + by;
        // The place is counted among the other rows: one for each that it has passed with its middle.
        const to = rows.filter((row, index) => index !== from && row.top + row.height / 2 < middle).length;
        show({ id, from, to, by, height });
      };
      const end = (): void => {
        const last = latest.current;
        abort.abort();
        show(null);
        if (last && last.to !== last.from) drop(id, last.to);
      };
      const abort = new AbortController();
      const { signal } = abort;
      grip.addEventListener("pointermove", move, { signal });
      grip.addEventListener("pointerup", end, { signal });
      grip.addEventListener(
        "pointercancel",
        () => {
          abort.abort();
          show(null);
        },
        { signal },
      );
    },
    [list, drop],
  );
  const shift = (id: string, index: number): number => {
    if (!dragging) return 0;
    if (id === dragging.id) return dragging.by;
    if (index > dragging.from && index <= dragging.to) return -dragging.height;
    if (index < dragging.from && index >= dragging.to) return dragging.height;
    return 0;
  };
  return { id: dragging?.id ?? null, grab, shift };
}
