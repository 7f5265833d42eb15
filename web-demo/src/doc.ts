/**
 * The whole use of the library by this application: what its documents look like, how they come to be, and every way they change.
 *
 * Three decisions are worth copying. What two people may change at the same time without meaning the same thing is a field of its own, and
 * fields merge by themselves: so cards are a map by id, and order is a field (see order.ts). What is counted is a Counter. A card's note is a
 * document of its own: a board opens without loading any text, and its history shows decisions, not keystrokes.
 */
import { Counter, type Doc, type Receipt, Repo, text, type Text } from "rejoin";
import { signed } from "./me.ts";
import { inOrder, keyBetween } from "./order.ts";

/** A workspace is a space. This document in it says which others are boards, and who was here. */
export type Workspace = { name: string; boards: Record<string, { order: string }>; people: Record<string, Person> };
export type Person = { name: string; colour: string };
export type Board = { title: string; cards: Record<string, Card> };
export type Card = { title: string; done: boolean; assignee: string; due: string; colour: string; votes: Counter; order: string; note: string };
export type Note = { text: Text };
/** The fields of a card that hold what somebody has chosen: two may choose differently at once, which the page shows as a conflict. */
export type Choice = "title" | "done" | "assignee" | "due" | "colour";

/** Opens a store of this browser, which all tabs share. It is there at once; the relay, which may want a token, comes later, or never. */
export const openRepo = (name: string, relay: string, offline: boolean, token: string | null): Promise<Repo> =>
  Repo.open({ name, relay, offline, ...(token !== null && { token }) });

/** Makes a workspace. Its two ids, of the space and of the index document, are all that a link has to carry. */
export async function createWorkspace(repo: Repo, name: string): Promise<Doc<Workspace>> {
  const space = repo.space();
  await space.follow("everything");
  return space.create<Workspace>({ name, boards: {}, people: {} });
}

/** Joins by the ids of a link: this device then keeps all of the space, also what nobody has looked at here. */
export const joinWorkspace = async (repo: Repo, space: string): Promise<void> => repo.space(space).follow("everything");

/** Makes a board in the workspace's space, then lists it. */
export async function addBoard(repo: Repo, workspace: Doc<Workspace>, title: string): Promise<Doc<Board>> {
  const last = inOrder(workspace.value.boards).at(-1)?.[1].order;
  const board = await repo.create<Board>({ title, cards: {} }, { space: workspace.space! });
  await workspace.set(["boards", board.id], { order: keyBetween(last) }, signed(`added the board “${title}”`));
  return board;
}

/** Introduces somebody to the others. */
export const introduce = (workspace: Doc<Workspace>, id: string, person: Person): Promise<Receipt> =>
  workspace.set(["people", id], person, signed("came in"));

export const renameBoard = (board: Doc<Board>, title: string): Promise<Receipt> => board.set("title", title, signed(`named the board “${title}”`));

/** Adds a card at the end: first its note, so that there is no card without one, then the card, in one change. */
export async function addCard(repo: Repo, board: Doc<Board>, title: string): Promise<{ id: string; receipt: Receipt }> {
  const note = await repo.create<Note>({ text: text() }, { space: board.space! });
  note.close();
  const id = crypto.randomUUID();
  const order = keyBetween(inOrder(board.value.cards).at(-1)?.[1].order);
  const card: Card = { title, done: false, assignee: "", due: "", colour: "", votes: new Counter(), order, note: note.id };
  return { id, receipt: await board.set(["cards", id], card, signed(`added “${title}”`)) };
}

/** Writes one field of a card. It shows at once; the receipt comes when it is safe here, and can be asked how far it has got since. */
export const setField = <F extends Choice>(board: Doc<Board>, id: string, field: F, value: Card[F], what: string): Promise<Receipt> =>
  board.set(["cards", id, field], value, signed(what));

export const vote = (board: Doc<Board>, id: string, title: string): Promise<Receipt> =>
  board.increment(["cards", id, "votes"], 1, signed(`voted for “${title}”`));

/** Moves a card to a place among the others: one field, whatever the list's length. */
export function moveCard(board: Doc<Board>, id: string, to: number, title: string): Promise<Receipt> {
  const others = inOrder(board.value.cards).filter(([other]) => other !== id);
  return board.set(["cards", id, "order"], keyBetween(others[to - 1]?.[1].order, others[to]?.[1].order), signed(`moved “${title}”`));
}

export const removeCard = (board: Doc<Board>, id: string, title: string): Promise<Receipt> =>
  board.delete(["cards", id], signed(`removed “${title}”`));

/** Makes a board what it was: a new change on top of all others, so that nothing is lost by it. */
export const restoreBoard = (board: Doc<Board>, heads: readonly string[]): Promise<Receipt> => board.restore(heads, signed("went back to an earlier version"));
