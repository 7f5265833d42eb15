export type { Tagged } from "../../ts/page/link.js";
export { Counter, decode, type Value } from "../../ts/page/values.js";
