/** What the pages of the end-to-end tests work with. */
export * from "../ts/index.js";
export { inline } from "../ts/host/inline.js";
export { connectLink } from "../ts/host/link.js";
