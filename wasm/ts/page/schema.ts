/** Schemas: values checked by any validator that speaks Standard Schema. */
import { RejoinError } from "./errors.js";
import type { Issue, Schema } from "./types.js";
import type { Value } from "./values.js";

/** What a schema says of a value. */
export interface Checked {
  readonly value: Value;
  readonly issues: readonly Issue[] | undefined;
}

/** Checks a value. No schema finds nothing wrong. Throws `unsupported` for a validator that answers later: an edit shows at once. */
export function check(schema: Schema<unknown> | undefined, value: Value): Checked {
  const result = schema?.["~standard"].validate(value);
  if (result && "then" in result) throw new RejoinError("unsupported", "the schema must not be async: an edit is checked before it shows");
  return { value, issues: result?.issues };
}
