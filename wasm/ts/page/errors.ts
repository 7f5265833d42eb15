/** The errors of the package: one class, told apart by a stable code. */

const CODES = [
  "not_found",
  "deleted",
  "wrong_path",
  "bad_value",
  "bad_argument",
  "signing_out",
  "timeout",
  "closed",
  "rejected",
  "gone",
  "store_failed",
  "store_full",
  "store_in_use",
  "store_newer",
  "store_damaged",
  "refused",
  "unauthorized",
  "unknown_heads",
  "offline_needed",
  "too_large",
  "trapped",
  "unsupported",
  "internal",
] as const;

/** What went wrong, for programs. Codes are never renamed. */
export type ErrorCode = (typeof CODES)[number];

/** Makes a code of ours of what the engine, Node or a browser calls an error. @internal */
export function toCode(code: unknown, other: ErrorCode = "internal"): ErrorCode {
  if (CODES.includes(code as ErrorCode)) return code as ErrorCode;
  if (code === "quota") return "store_full";
  // Node's names of what files cannot do.
  return typeof code === "string" && /^E[A-Z]+$/.test(code) ? "store_failed" : other;
}

/**
 * What every operation of this package throws or rejects with.
 *
 * @example
 * ```ts
 * try {
 *   await repo.find("automerge:4NMNnkMhL8jXrdJ9jamS58PAVdXu", { wait: 10 });
 * } catch (error) {
 *   if (error instanceof RejoinError && error.code === "timeout") console.log("still on its way");
 * }
 * ```
 */
export class RejoinError extends Error {
  /** What went wrong, for programs. */
  readonly code: ErrorCode;
  /** More about it, where there is more: the schema's issues, the limit that was passed. */
  readonly details?: unknown;

  constructor(code: ErrorCode, message: string, details?: unknown) {
    super(message);
    this.name = "RejoinError";
    this.code = code;
    if (details !== undefined) this.details = details;
  }

  /** Makes a RejoinError of whatever a link rejected with: `{ code, message, details? }`, or anything else. @internal */
  static from(error: unknown): RejoinError {
    if (error instanceof RejoinError) return error;
    if (typeof error === "object" && error !== null) {
      const { code, message, details } = error as { code?: unknown; message?: unknown; details?: unknown };
      if (typeof code === "string") return new RejoinError(toCode(code), String(message ?? code), details);
      if (typeof message === "string") return new RejoinError("internal", message, error);
    }
    return new RejoinError("internal", String(error));
  }
}
