import { describe, expect, test } from "vitest";
import { type Edit, record } from "../../ts/page/draft.js";
import { Editor } from "../../ts/page/snapshot.js";
import { Counter, decode, encode, type Value } from "../../ts/page/values.js";

/** Records a change of any value. */
// biome-ignore lint: the tests write anything
function change(value: unknown, edit: (draft: any) => unknown): Edit & { after: Value } {
  const root = decode(encode(value));
  const drafted = new Editor(root);
  const edits = record(drafted, edit as (draft: never) => unknown);
  const editor = new Editor(root);
  for (const step of edits.steps) expect(editor.apply(step)).toBe(true);
  expect(drafted.finish()).toEqual(editor.root);
  return { ...edits, after: editor.finish() };
}

describe("a draft records", () => {
  test("only the fields that are written", () => {
    const { ops, after } = change({ a: 1, b: { c: 2, d: 3 } }, (d) => {
      d.b.c = 4;
      d.a = 1;
      d.e = "new";
      delete d.b.d;
      delete d.nothing;
    });
    expect(ops).toEqual([
      ["set", ["b", "c"], 4],
      ["set", ["e"], "new"],
      ["delete", ["b", "d"]],
    ]);
    expect(after).toEqual({ a: 1, b: { c: 4 }, e: "new" });
  });

  test("what is taken out of a list, to be changed and put in elsewhere", () => {
    const { ops, after } = change({ todo: [{ done: false, due: new Date(1), tags: ["a"] }, { done: false }, { done: false }], done: [] }, (d) => {
      for (const taken of [d.todo.shift(), d.todo.pop(), ...d.todo.splice(0, 1)]) {
        taken.done = true;
        taken.due?.setTime(2);
        taken.tags?.push("b");
        d.done.push(taken);
      }
    });
    expect(after).toEqual({ todo: [], done: [{ done: true, due: new Date(2), tags: ["a", "b"] }, { done: true }, { done: true }] });
    expect(ops.map(([what]) => what)).toEqual(["remove", "remove", "remove", "insert", "insert", "insert"]);
  });

  test("a counter that is put in another place, however much it counted", () => {
    const editor = new Editor(decode({ votes: { $counter: "9007199254740993" } }));
    const { ops } = record(editor, ((d: { votes: Counter; old: Counter }) => {
      d.old = d.votes;
      d.votes = new Counter(1);
    }) as (draft: never) => unknown);
    expect(ops).toEqual([
      ["set", ["old"], { $counter: 2 ** 53 }],
      ["set", ["votes"], { $counter: 1 }],
    ]);
  });

  test("dates and bytes that were changed and assigned, and not those that are the same", () => {
    const value = { due: new Date(1), bytes: new Uint8Array([1, 2]) };
    const { ops, after } = change(value, (d) => {
      const { due, bytes } = d;
      due.setTime(5);
      d.due = due;
      bytes[0] = 7;
      d.bytes = bytes;
    });
    expect(ops.length).toBe(2);
    expect(after).toEqual({ due: new Date(5), bytes: new Uint8Array([7, 2]) });
    const same = change(value, (d) => {
      d.due = new Date(1);
      d.bytes = d.bytes;
      d.due.setTime(9);
    });
    expect([same.ops, same.after]).toEqual([[], value]);
  });

  test("array methods as what they do", () => {
    const { ops, after } = change({ items: [1, 2, 3, 4] }, (d) => {
      expect(d.items.push(5, 6)).toBe(6);
      expect(d.items.pop()).toBe(6);
      expect(d.items.shift()).toBe(1);
      expect(d.items.unshift(0)).toBe(5);
      expect(d.items.splice(1, 2, "x")).toEqual([2, 3]);
      d.items[0] = 9;
      d.items.length = 3;
      d.items[3] = "end";
    });
    expect(ops).toEqual([
      ["insert", ["items"], 4, [5, 6]],
      ["remove", ["items"], 5, 1],
      ["remove", ["items"], 0, 1],
      ["insert", ["items"], 0, [0]],
      ["remove", ["items"], 1, 2],
      ["insert", ["items"], 1, ["x"]],
      ["set", ["items", 0], 9],
      ["remove", ["items"], 3, 1],
      ["insert", ["items"], 3, ["end"]],
    ]);
    expect(after).toEqual({ items: [9, "x", 4, "end"] });
  });

  test("splice as JavaScript has it", () => {
    const cases: unknown[][] = [[], [1], [-1], [1, 1], [-2, 1, "a", "b"], [99, 5, "c"], [0, -1, "d"], [undefined, 2], [1, undefined]];
    for (const args of cases) {
      const plain = [1, 2, 3];
      const removed = (plain.splice as (...args: unknown[]) => unknown)(...args);
      const { after } = change({ items: [1, 2, 3] }, (d) => expect(d.items.splice(...args)).toEqual(removed));
      expect(after).toEqual({ items: plain });
    }
  });

  test("increments, and shows them", () => {
    const { ops, after } = change({ votes: new Counter(1), list: [new Counter(5)] }, (d) => {
      d.votes.increment();
      d.votes.decrement(3);
      expect(d.votes.value).toBe(-1);
      d.list[0].increment(2);
      d.list.unshift("first");
      d.list[1].increment(1);
    });
    expect(ops).toEqual([
      ["increment", ["votes"], 1],
      ["increment", ["votes"], -3],
      ["increment", ["list", 0], 2],
      ["insert", ["list"], 0, ["first"]],
      ["increment", ["list", 1], 1],
    ]);
    expect(after).toEqual({ votes: new Counter(-1), list: ["first", new Counter(8)] });
  });

  test("an element by where it stands after its list has moved", () => {
    const { ops } = change({ items: [{ n: 1 }, { n: 2 }, { n: 3 }] }, (d) => {
      const second = d.items[1];
      const third = d.items[2];
      d.items.shift();
      second.n = 20;
      d.items.splice(0, 0, "a", "b");
      third.n = 30;
    });
    expect(ops.filter(([kind]) => kind === "set")).toEqual([
      ["set", ["items", 0, "n"], 20],
      ["set", ["items", 3, "n"], 30],
    ]);
  });

  test("a copy of what is already in the document", () => {
    const { ops, after } = change({ a: { x: 1 }, items: [{ n: 1 }], votes: new Counter(3) }, (d) => {
      d.b = d.a;
      d.b.x = 2;
      d.items.push(d.items[0]);
      d.copy = d.votes;
      d.a = d.a;
    });
    expect(ops.slice(0, 2)).toEqual([
      ["set", ["b"], { x: 1 }],
      ["set", ["b", "x"], 2],
    ]);
    expect(ops).toHaveLength(4);
    expect(after).toEqual({ a: { x: 1 }, b: { x: 2 }, items: [{ n: 1 }, { n: 1 }], votes: new Counter(3), copy: new Counter(3) });
  });

  test("what native methods write", () => {
    const { after } = change({ items: [1, 2, 3], map: {} }, (d) => {
      d.items.fill(0, 1);
      Object.assign(d.map, { a: 1, b: 2 });
    });
    expect(after).toEqual({ items: [1, 0, 0], map: { a: 1, b: 2 } });
  });
});

describe("a draft reads", () => {
  test("like the object it stands for, its own edits included", () => {
    change({ title: "tea", tags: ["hot", "green"], owner: { name: "Ada" } }, (d) => {
      d.tags.push("new");
      d.owner.age = 36;
      expect(Array.isArray(d.tags)).toBe(true);
      expect(d.tags.length).toBe(3);
      expect([...d.tags]).toEqual(["hot", "green", "new"]);
      expect(d.tags.map((tag: string) => tag.length)).toEqual([3, 5, 3]);
      expect(d.tags.includes("green")).toBe(true);
      expect(d.tags.indexOf("new")).toBe(2);
      expect(d.tags.at(-1)).toBe("new");
      expect(Object.keys(d)).toEqual(["title", "tags", "owner"]);
      expect(Object.keys(d.tags)).toEqual(["0", "1", "2"]);
      expect("title" in d && !("nothing" in d) && 2 in d.tags).toBe(true);
      expect(JSON.stringify(d)).toBe('{"title":"tea","tags":["hot","green","new"],"owner":{"name":"Ada","age":36}}');
      expect({ ...d.owner }).toEqual({ name: "Ada", age: 36 });
      expect(d.hasOwnProperty("title")).toBe(true);
      expect(d.nothing).toBeUndefined();
    });
  });

  test("one part as one proxy", () => {
    change({ items: [{ n: 1 }, { n: 2 }] }, (d) => {
      expect(d.items[1]).toBe(d.items[1]);
      expect(d.items.indexOf(d.items[1])).toBe(1);
      expect(d.items.find(({ n }: { n: number }) => n === 2)).toBe(d.items[1]);
    });
  });
});

describe("a draft refuses", () => {
  const refuses = (code: string, edit: (d: any) => unknown): void =>
    expect(() => change({ items: [{ n: 2 }, { n: 1 }], a: 1, o: { x: 1 } }, edit)).toThrow(expect.objectContaining({ code }));

  test("what would rewrite a whole list", () => {
    refuses("unsupported", (d) => d.items.sort());
    refuses("unsupported", (d) => d.items.reverse());
    refuses("unsupported", (d) => d.items.copyWithin(0, 1));
    refuses("unsupported", (d) => delete d.items[0]);
  });

  test("holes and keys in lists", () => {
    refuses("bad_argument", (d) => (d.items[5] = 1));
    refuses("bad_argument", (d) => (d.items.length = 9));
    refuses("bad_argument", (d) => (d.items.name = "x"));
  });

  test("undefined, with advice", () => {
    expect(() => change({}, (d) => (d.a = undefined))).toThrow(expect.objectContaining({ code: "bad_value" }));
    expect(() => change({ l: [] }, (d) => d.l.push(undefined))).toThrow(/leave the key out, delete it, or use null/);
  });

  test("async functions, fractions in counters, symbols, and functions as values", () => {
    refuses("bad_argument", async () => {});
    expect(() => change({ c: new Counter() }, (d) => d.c.increment(0.5))).toThrow(expect.objectContaining({ code: "bad_argument" }));
    refuses("bad_argument", (d) => (d[Symbol("x")] = 1));
    refuses("bad_value", (d) => (d.a = () => 1));
    refuses("bad_argument", (d) => Object.defineProperty(d, "a", { value: 2 }));
  });

  test("writes to a part that is gone, and any after the end", () => {
    refuses("gone", (d) => {
      const { o } = d;
      d.o = { y: 1 };
      o.x = 2;
    });
    refuses("gone", (d) => {
      const item = d.items[0];
      d.items.shift();
      item.n = 9;
    });
    let kept: { a: number } | undefined;
    change({ a: 1 }, (d) => void (kept = d));
    expect(() => ((kept as { a: number }).a = 2)).toThrow(expect.objectContaining({ code: "closed" }));
  });
});
