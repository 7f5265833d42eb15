/** Patches, as subscribers are told them, as steps that can be applied. */
import { expect } from "vitest";
import type { Doc, Patch } from "../../ts/index.js";
import { Editor, type Step } from "../../ts/page/snapshot.js";
import type { Value } from "../../ts/page/values.js";

function toStep(patch: Patch): Step {
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

/** Follows what the subscribers of a document are told, and checks that it leads from value to value. */
export function follow<T extends object>(doc: Doc<T>): () => void {
  let followed = doc.value as unknown as Value;
  doc.subscribe(({ patches, value }) => {
    const editor = new Editor(followed);
    for (const patch of patches) expect(editor.apply(toStep(patch)), JSON.stringify(patch)).toBe(true);
    followed = editor.finish();
    expect(followed).toEqual(value);
  });
  return () => expect(followed).toEqual(doc.value);
}
