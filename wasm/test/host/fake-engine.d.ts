import type { Glue, Timers } from "../../ts/host/engine.js";
/** The glue of one instance, as the build makes it of the real one's. */
export declare function makeGlue(timers: Timers): Glue;
