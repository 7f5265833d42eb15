/** Patches, as subscribers are told them, as steps that can be applied. */
import type { Patch } from "../../ts/index.js";
import type { Step } from "../../ts/page/snapshot.js";
import type { Value } from "../../ts/page/values.js";

export function toStep(patch: Patch): Step {
  switch (patch.op) {
    case "set":
      return patch.path.length ? ["set", [...patch.path], patch.value as Value] : ["all", patch.value as Value];
    case "insert":
      return ["insert", [...patch.path], patch.index, patch.values as Value[]];
    case "remove":
      return ["remove", [...patch.path], patch.index, patch.count];
    case "splice":
      return ["splice", [...patch.path], patch.index, patch.deleteCount, patch.text];
    case "increment":
      return ["increment", [...patch.path], patch.by];
    default:
      return [patch.op, [...patch.path]];
  }
}
