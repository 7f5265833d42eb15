"use client";

/**
 * `rejoin/react`: documents in React components, for React 18 and 19.
 *
 * Every hook reads through `useSyncExternalStore` and renders again only when what it returns has changed.
 *
 * @packageDocumentation
 */
export { type PresenceResult, type SpaceResult, usePresence, useSpace, useSpaceRights, useSyncStatus } from "./around.js";
export { type DocumentResult, type SelectOptions, type SetField, useDocument, useDocumentSuspense, useField } from "./document.js";
export type { DocumentStatus } from "./opened.js";
export { RepoProvider, type RepoProviderProps, useRepo } from "./provider.js";
export { type Equal, shallow } from "./source.js";
