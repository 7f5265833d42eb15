/** Repos on the real engine, for its tests. */
import type { Repo, RepoOptions } from "../../ts/index.js";
import { createTestRepo } from "../../ts/testing.js";
import { wasm } from "./wasm.js";

/** Opens a repo in memory. */
export const open = (options: Partial<RepoOptions> = {}): Promise<Repo> => createTestRepo({ wasm, ...options });
