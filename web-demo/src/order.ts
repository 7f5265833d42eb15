/**
 * Fractional keys: strings that sort where they are meant to, with room for another one between any two.
 *
 * To move a card is then to write one field of it. A list of cards that is reordered would have to delete and insert elements, and two people
 * who move the same card at once would have it twice.
 */
const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BASE = DIGITS.length;

/** Random digits at the end, so that two people who insert at the same place seldom make the same key. Never a zero: a key must not end in one. */
const jitter = (): string => Array.from({ length: 3 }, () => DIGITS[1 + Math.floor(Math.random() * (BASE - 1))]).join("");

/**
 * Makes a key that sorts after `low` and before `high`; an empty string stands for the beginning and the end. Where others have made equal
 * keys there is nothing between: then it sorts after `low`.
 */
export function keyBetween(low = "", high = ""): string {
  const bounded = high !== "" && low < high;
  if (!low && !bounded) return `V${jitter()}`;
  let key = "";
  let below = !bounded;
  for (let at = 0; ; at++) {
    const least = at < low.length ? DIGITS.indexOf(low.charAt(at)) : 0;
    const most = below ? BASE : at < high.length ? DIGITS.indexOf(high.charAt(at)) : 0;
    // At the end, small steps: keys grow by a digit only after many cards. Between two cards, the middle.
    if (most - least > 1) return key + DIGITS.charAt(below ? least + 1 : (least + most) >> 1) + jitter();
    key += DIGITS.charAt(least);
    below ||= most > least;
  }
}

/** Sorts by key, and by id where keys are equal, so that everybody sees the same order. */
export function inOrder<Item extends { readonly order: string }>(items: Readonly<Record<string, Item>>): [id: string, item: Item][] {
  return Object.entries(items).sort(([idA, a], [idB, b]) => (a.order < b.order ? -1 : a.order > b.order ? 1 : idA < idB ? -1 : 1));
}
