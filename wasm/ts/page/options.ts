/** What a Repo is opened with, and how it makes and finds documents. */
import type { ConnectLink, Link, LinkOptions } from "./link.js";
import type { Token } from "./relay.js";
import type { Space } from "./space.js";
import type { Schema } from "./types.js";

/** How to open a Repo. */
export interface RepoOptions extends LinkOptions {
  /** The relay's address, `wss://…`. Without one, documents stay on this device. */
  relay?: string;
  /** What the relay is shown. */
  token?: Token;
  /** The protocol to speak with the relay. Default: the best that both know. */
  protocol?: string;
  /** Begins offline, until `setOffline(false)`. */
  offline?: boolean;
  /** Takes the engine's end of the talk from elsewhere, for tests. */
  link?: Link | ConnectLink;
}

/** How to make a document. */
export interface CreateOptions<T> {
  /** The space it shall be in: a {@link Space} or its id. */
  space?: Space | string;
  /** What its values are checked by. */
  schema?: Schema<T>;
}

/** How to open a document. */
export interface FindOptions<T> {
  /** Milliseconds to wait for content that is not here yet. Default: no limit. */
  wait?: number;
  /** What its values are checked by. */
  schema?: Schema<T>;
}
