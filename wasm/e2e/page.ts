/** What the pages of the end-to-end tests work with. */
export { inline } from "../ts/host/inline.js";
export { connectLink } from "../ts/host/link.js";
