/**
 * Power is cut at each I/O operation of a page's store, on the real engine, and what the page was told is safe must be there: for each cut the
 * images that a disk may show then (unsynced writes lost, torn, reordered), and the page that lives on while its engine was killed.
 */
import { afterEach, expect, test, vi } from "vitest";
import { Counter, type Doc, Repo, text } from "../../ts/index.js";
import { Chance, CutPlace, KEPT, NOTHING, Power } from "./disk.js";
import { HeldPage, SharedEngine, turn } from "./shared.js";

interface Shape {
  fields: Record<string, number>;
  votes: Counter;
  list: number[];
  body: string;
}

const ACTS = 28;

/** How often the random images of a cut are thrown. */
const ROLLS = 6;

/** How long an engine has to answer before it is taken for one that never will. */
const PATIENCE_MS = 30_000;

/** The acts of the script: by the register path and by the document's, and what each of them leaves. */
const acts: ((doc: Doc<Shape>, number: number) => Promise<unknown>)[] = [
  (doc, number) => doc.set(["fields", `f${number}`], number),
  (doc) => doc.increment("votes", 1),
  (doc, number) => doc.change((d) => void d.list.push(number)),
  (doc, number) => doc.text("body").splice(0, 0, `${number} `),
];

/** What a document shows after so many acts. */
function after(count: number): unknown {
  const shows = { fields: {} as Record<string, number>, votes: 0, list: [] as number[], body: "" };
  for (let number = 0; number < count; number++) {
    if (number % 4 === 0) shows.fields[`f${number}`] = number;
    if (number % 4 === 1) shows.votes++;
    if (number % 4 === 2) shows.list.push(number);
    if (number % 4 === 3) shows.body = `${number} ${shows.body}`;
  }
  return shows;
}

const shown = ({ value }: Doc<Shape>): unknown => ({ ...structuredClone({ ...value, votes: 0 }), votes: Number(value.votes), body: String(value.body) });

/** Which acts a document shows: the first so many of them, whole. */
function actsOf(doc: Doc<Shape>): number {
  const found = JSON.stringify(sorted(shown(doc)));
  for (let count = 0; count <= ACTS; count++) if (JSON.stringify(sorted(after(count))) === found) return count;
  throw new Error(`no beginning of the script leaves ${found}`);
}

const sorted = (value: unknown): unknown =>
  value && typeof value === "object" && !Array.isArray(value) ? Object.fromEntries(Object.entries(value).sort().map(([key, inner]) => [key, sorted(inner)])) : value;

/** What the page knows when the power is gone. */
interface Known {
  page: HeldPage;
  doc: Doc<Shape> | undefined;
  /** The document, when it comes to be. */
  created: Promise<Doc<Shape>> | undefined;
  /** How many acts it was told are safe, and how many it did. */
  acked: number;
  issued: number;
  /** Settled when the engine that comes after has answered all. */
  done: Promise<unknown>[];
}

/** Plays the script until it ends or the power is cut. With `killed` the page hears nothing any more then, as when its worker is gone. */
async function live(run: SharedEngine, cut: Promise<void>, killed: () => boolean): Promise<Known> {
  const page = new HeldPage(run);
  const known: Known = { page, doc: undefined, created: undefined, acked: 0, issued: 0, done: [] };
  let isCut = false;
  const until = cut.then(() => {
    isCut = true;
    if (killed()) page.isHeld = true;
  });
  const unlessCut = <T>(work: Promise<T>): Promise<T | void> => Promise.race([work, until]);
  await unlessCut(run.server.start().catch(() => {}));
  if (isCut) return known;
  const repo = await unlessCut(Repo.open({ name: "test", link: page.link }));
  if (!repo) return known;
  const created = repo.create<Shape>({ fields: {}, votes: new Counter(), list: [], body: text("") });
  created.catch(() => {});
  known.created = created;
  known.doc = (await unlessCut(created)) as Doc<Shape> | undefined;
  if (!known.doc) return known;
  const doc = known.doc;
  for (let number = 0; number < ACTS && !isCut; ) {
    // Now and then several in one turn.
    const together = number % 5 === 3 ? 3 : 1;
    const works: Promise<unknown>[] = [];
    for (let some = 0; some < together && number < ACTS; some++, number++) {
      const act = acts[number % 4] as (typeof acts)[number];
      const work = act(doc, number).then(() => void known.acked++);
      work.catch(() => {});
      works.push(work);
      known.issued++;
    }
    known.done.push(...works);
    await unlessCut(Promise.all(works).catch(() => {}));
  }
  // What is acknowledged after the cut was on its way, or it is a lie.
  if (isCut) for (let turns = 0; turns < 4; turns++) await turn();
  return known;
}

/** Opens what is left, looks, and writes on. */
async function check(place: CutPlace, { doc: known, acked, issued }: Known): Promise<void> {
  const run = new SharedEngine(place);
  await run.server.start();
  expect(run.failures).toEqual([]);
  const repo = await Repo.open({ name: "test", link: new HeldPage(run).link });
  const listed = await repo.list();
  if (known) expect(listed).toContain(known.id);
  for (const id of listed) {
    const doc = await repo.find<Shape>(id);
    const found = actsOf(doc);
    expect(found).toBeGreaterThanOrEqual(acked);
    expect(found).toBeLessThanOrEqual(issued);
    await doc.set(["fields", "again"], 1);
    expect(doc.value.fields["again"]).toBe(1);
  }
  const other = await repo.create<{ n: number }>({ n: 1 });
  expect(await repo.list()).toContain(other.id);
  expect(run.failures).toEqual([]);
  await run.server.close();
}

/** The worker is killed, and the page lives on with another one: everything it did is done, and once. */
async function goOn(place: CutPlace, known: Known): Promise<void> {
  const run = new SharedEngine(place);
  known.page.moveTo(run);
  await run.server.start();
  await Promise.all(known.done);
  const doc = await (known.created as Promise<Doc<Shape>>);
  known.doc = doc;
  expect(known.acked).toBe(known.issued);
  expect(shown(doc)).toEqual(after(known.issued));
  await run.server.close();
  await check(place, known);
}

afterEach(() => void vi.restoreAllMocks());

test("what a page was told is safe survives a power cut at any operation", async () => {
  const power = new Power();
  const whole = new CutPlace(NOTHING, false, power);
  const run = new SharedEngine(whole);
  const told = await live(run, new Promise(() => {}), () => false);
  expect([told.acked, told.issued]).toEqual([ACTS, ACTS]);
  const { operations } = power;
  await run.server.close();
  await check(whole, told);
  let [tried, kills] = [0, 0];
  // Each engine says that its power is cut.
  for (const level of ["error", "warn"] as const) vi.spyOn(console, level).mockImplementation(() => {});
  for (let at = 0; at < operations; at++) {
    for (const killed of [false, true]) {
      let cut = (): void => {};
      const happened = new Promise<void>((resolve) => void (cut = resolve));
      const place = new CutPlace(NOTHING, false, new Power(at, () => cut()));
      const left = new SharedEngine(place);
      const known = await live(left, happened, () => killed);
      const chance = new Chance(at);
      // A document that never opens is no answer either.
      const patient = async (how: string, work: Promise<void>): Promise<void> => {
        let timer: unknown;
        const late = new Promise<never>((_, reject) => void (timer = setTimeout(() => reject(new Error("no answer")), PATIENCE_MS)));
        try {
          await Promise.race([work, late]);
        } catch (error) {
          throw new Error(`cut at ${at}, ${how}: ${error}`, { cause: error });
        } finally {
          clearTimeout(timer as number);
        }
      };
      if (killed) {
        if (known.created) {
          await patient("killed", goOn(new CutPlace(place.images("all", chance), true), known));
          kills++;
        }
      } else {
        const seen = new Set<string>();
        for (const kept of Array.from({ length: ROLLS }, () => KEPT).flat()) {
          const images = place.images(kept, chance);
          const digest = Buffer.from(await crypto.subtle.digest("SHA-256", Buffer.concat(images))).toString("hex");
          if (seen.has(digest)) continue;
          seen.add(digest);
          // The mark that an engine has opened the file may be lost with the rest.
          await patient(kept, check(new CutPlace(images, place.isComplete && chance.coin()), known));
          tried++;
        }
      }
      void left.server.close().catch(() => {});
    }
  }
  process.stdout.write(`crash images, page: ${operations} cuts, ${tried} images, ${kills} kills\n`);
  expect(tried).toBeGreaterThan(operations);
  expect(kills).toBeGreaterThan(operations / 2);
}, 600_000);
