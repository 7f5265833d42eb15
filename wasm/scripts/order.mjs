/**
 * Puts functions that look alike next to each other. Generic code is compiled once for every type it is used with, and the copies differ in a
 * few bytes: brotli makes less of a module whose copies follow each other than of one in the compiler's order.
 */

/** How many bytes of code are compared as one piece. */
const PIECE = 6;
/** How many of a function's pieces stand for it: the more, the better two functions are compared, and the longer it takes. */
const SKETCH = 128;
/** How many functions that share a piece are looked at for the next one. */
const CANDIDATES_MAX = 200;

const CUSTOM = 0;
const IMPORT = 2;
const CODE = 10;

/** Reads a module from front to back. */
class Reader {
  constructor(bytes, at = 0) {
    this.bytes = bytes;
    this.at = at;
  }

  byte() {
    return this.bytes[this.at++];
  }

  number() {
    let result = 0;
    for (let shift = 1; ; shift *= 128) {
      const byte = this.byte();
      result += (byte & 127) * shift;
      if (byte < 128) return result;
    }
  }

  take(length) {
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }
}

function number(value) {
  const bytes = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return [...bytes, value];
}

/** The sections of a module, each with what it begins with. */
function sections(module) {
  const reader = new Reader(module, 8);
  const found = [];
  while (reader.at < module.length) {
    const start = reader.at;
    const id = reader.byte();
    const content = reader.take(reader.number());
    found.push({ id, content, whole: module.subarray(start, reader.at) });
  }
  return found;
}

/** How many functions a module imports: they come before its own. */
function importedFunctions(content) {
  const reader = new Reader(content);
  let functions = 0;
  const limits = () => {
    const flags = reader.byte();
    reader.number();
    if (flags & 1) reader.number();
  };
  for (let left = reader.number(); left > 0; left--) {
    reader.take(reader.number());
    reader.take(reader.number());
    const kind = reader.byte();
    if (kind === 0) reader.number(), functions++;
    else if (kind === 1) reader.byte(), limits();
    else if (kind === 2) limits();
    else if (kind === 3) reader.take(2);
    else throw new Error(`an import of kind ${kind} is not known`);
  }
  return functions;
}

function bodies(content) {
  const reader = new Reader(content);
  return Array.from({ length: reader.number() }, () => reader.take(reader.number()));
}

/** For each of many hash functions, the least hash of all pieces: as many of these are equal in two functions as their pieces are. */
function sketches(functions) {
  let state = 1;
  const random = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
  const factors = Uint32Array.from({ length: SKETCH }, () => random() | 1);
  const summands = Uint32Array.from({ length: SKETCH }, random);
  return functions.map((code) => {
    const sketch = new Uint32Array(SKETCH).fill(0xffffffff);
    for (let start = 0; start === 0 || start + PIECE <= code.length; start++) {
      let hash = 2166136261;
      for (let place = start; place < start + PIECE; place++) hash = Math.imul(hash ^ (code[place] ?? 0), 16777619);
      hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b);
      hash ^= hash >>> 13;
      for (let k = 0; k < SKETCH; k++) {
        const value = (Math.imul(hash, factors[k]) + summands[k]) >>> 0;
        if (value < sketch[k]) sketch[k] = value;
      }
    }
    return sketch;
  });
}

/** The order in which each function is followed by the most similar one that is left, or the next by its bytes where none is. */
export function bySimilarity(functions) {
  const all = functions.map((_, index) => index);
  const rest = [...all].sort((one, other) => Buffer.compare(functions[one], functions[other]) || one - other);
  const sketch = sketches(functions);
  const sharing = Array.from({ length: SKETCH }, () => new Map());
  for (const index of all) {
    sharing.forEach((map, k) => {
      const value = sketch[index][k];
      if (map.has(value)) map.get(value).push(index);
      else map.set(value, [index]);
    });
  }
  const taken = new Uint8Array(functions.length);
  const likest = (current) => {
    const shared = new Map();
    sharing.forEach((map, k) => {
      const left = map.get(sketch[current][k]).filter((index) => !taken[index]);
      map.set(sketch[current][k], left);
      for (const index of left.slice(0, CANDIDATES_MAX)) shared.set(index, (shared.get(index) ?? 0) + 1);
    });
    const apart = (index) => Math.abs(functions[index].length - functions[current].length);
    let best;
    for (const [index, count] of shared) {
      const more = count - (shared.get(best) ?? 0);
      if (more > 0 || (more === 0 && apart(index) < apart(best))) best = index;
    }
    return best;
  };
  const order = [];
  let current;
  for (let next = 0; order.length < functions.length; ) {
    current = current === undefined ? undefined : likest(current);
    while (current === undefined) {
      if (!taken[rest[next]]) current = rest[next];
      next++;
    }
    taken[current] = 1;
    order.push(current);
  }
  return order;
}

/** Returns the module with names for its functions, such that their order by name is the one of `bySimilarity`: wasm-opt moves them. */
export function namedBySimilarity(module) {
  const parts = sections(module);
  const content = (id) => parts.find((part) => part.id === id)?.content ?? Uint8Array.of(0);
  const imported = importedFunctions(content(IMPORT));
  const functions = bodies(content(CODE));
  const digits = String(functions.length).length;
  const names = new Array(functions.length);
  bySimilarity(functions).forEach((index, place) => (names[index] = `f${String(place).padStart(digits, "0")}`));
  const entries = names.flatMap((name, index) => [...number(imported + index), ...number(name.length), ...Buffer.from(name)]);
  const map = [...number(names.length), ...entries];
  const section = [...number(4), ...Buffer.from("name"), 1, ...number(map.length), ...map];
  const kept = parts.filter((part) => part.id !== CUSTOM).map((part) => part.whole);
  return Buffer.concat([module.subarray(0, 8), ...kept, Uint8Array.of(CUSTOM, ...number(section.length)), Buffer.from(section)]);
}
