/** The example's cards: an experiment to be made with them. */
import type { Doc, Repo } from "rejoin";
import { addCard, type Board, setField } from "./doc.ts";

const CARDS: readonly [title: string, colour: string][] = [
  ["Open a second device: Share, then “Open as a second device”", "blue"],
  ["Switch both of them offline", "amber"],
  ["Change this card in both: rename it, tick it, vote for it", "violet"],
  ["Drag a card in one, edit it in the other", "teal"],
  ["Come back online, and look at what lights up", "green"],
];

export async function addExample(repo: Repo, board: Doc<Board>): Promise<void> {
  for (const [title, colour] of CARDS) {
    const { id } = await addCard(repo, board, title);
    await setField(board, id, "colour", colour, `coloured “${title}”`);
  }
}
