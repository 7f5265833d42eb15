/** Who is here, and what they look at. */
import { usePresence } from "rejoin/react";
import { useEffect, useMemo } from "react";
import type { Person } from "./doc.ts";
import { me, useRemembered } from "./me.ts";

/** What everybody shows on the workspace's index document. */
export interface Here extends Person {
  readonly id: string;
  readonly board: string | null;
  readonly card: string | null;
}

/**
 * Shows where this person is, and returns the others: each once, however many tabs they have open. Whose tab is closed, or whose connection ends, is
 * taken back by the engine or the relay; nothing has to be told again from here.
 */
export function usePeopleHere(index: string, board: string | null, card: string | null): readonly Here[] {
  const self = useRemembered(me);
  const { others, set } = usePresence(index);
  useEffect(() => {
    set("here", { id: self.id, name: self.name, colour: self.colour, board, card } satisfies Here).catch(() => {});
  }, [set, self, board, card]);
  return useMemo(() => {
    const people = new Map<string, Here>();
    for (const { key, value } of others) if (key === "here" && isHere(value) && value.id !== self.id) people.set(value.id, value);
    return [...people.values()].sort((a, b) => a.name.localeCompare(b.name));
  }, [others, self.id]);
}

/** What others show is theirs: it may be anything. */
function isHere(value: unknown): value is Here {
  const { id, name, colour } = (value ?? {}) as Partial<Here>;
  return typeof id === "string" && typeof name === "string" && typeof colour === "string";
}

/** Finds the colour of somebody who is known by name only, as in a history. */
export function colourOf(name: string, people: Readonly<Record<string, Person>>): string {
  if (name === me.value.name) return me.value.colour;
  return Object.values(people).find((person) => person.name === name)?.colour ?? "grey";
}
