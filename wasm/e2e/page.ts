/** What the pages of the end-to-end tests work with. */
export { connectLink } from "../ts/host/link.js";
export { inline } from "../ts/inline.js";
