/**
 * Durable, offline, mergeable data for web applications.
 *
 * Importing this module does nothing: `Repo.open` loads the engine.
 */
export type { DocumentState, EditOptions } from "./page/core.js";
export { type Conflict, Doc, type HistoryEntry } from "./page/doc.js";
export { type ErrorCode, RejoinError } from "./page/errors.js";
export type { ConnectLink, EngineEvent, Link, LinkOptions, Tagged, WireStatus } from "./page/link.js";
export { Live } from "./page/live.js";
export type { CreateOptions, FindOptions, RepoOptions } from "./page/options.js";
export { Presence, type PresenceValue } from "./page/presence.js";
export { Receipt } from "./page/receipt.js";
export { Branch, Rejected, RejectedWrite } from "./page/rejected.js";
export { Repo } from "./page/repo.js";
export type { Token } from "./page/relay.js";
export { type Follow, Space, type SpaceRights } from "./page/space.js";
export type { Status } from "./page/status.js";
export { type Expand, type Mark, type MarkValue, type Plain, type Span, type Splice, type TextChange, TextHandle } from "./page/text.js";
export type { DocumentChange, Draft, Input, Issue, OptionalKey, Patch, Path, Schema, Snapshot, Stage, Unsubscribe } from "./page/types.js";
export { Counter, text, type Text, Unknown } from "./page/values.js";
