// Variables and patterns of sessions.

/** Puts variables in the place of `${name}` in every text of a value. A text that is nothing but one variable becomes its value. */
export function fill(value, variables) {
  if (typeof value === "string") {
    const whole = /^\$\{([^}]+)\}$/.exec(value)
    if (whole) return look(variables, whole[1])
    return value.replace(/\$\{([^}]+)\}/g, (_, name) => String(look(variables, name)))
  }
  if (Array.isArray(value)) return value.map(item => fill(item, variables))
  if (value === null || typeof value !== "object") return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [fill(key, variables), fill(item, variables)]))
}

function look(variables, name) {
  if (!variables.has(name)) throw new Error(`the session names ${name}, which is nothing yet`)
  return variables.get(name)
}

/**
 * Why a value does not match a pattern, or null if it does. An object matches one that has its keys and maybe others; `$any`,
 * `$one_of`, `$text`, `$begins`, `$at_least`, `$at_most`, `$not`, `$set` and `$absent` are told in README.md; all else has to be equal.
 */
export function mismatch(pattern, value, path = "") {
  const differs = () => `${path || "it"} is ${show(value)} and not ${show(pattern)}`
  if (pattern === null || typeof pattern !== "object") return Object.is(pattern, value) ? null : differs()
  if (Array.isArray(pattern)) {
    if (!Array.isArray(value) || value.length !== pattern.length) return differs()
    return first(pattern.map((item, index) => mismatch(item, value[index], `${path}[${index}]`)))
  }
  if ("$any" in pattern) return value === undefined ? `${path} is missing` : null
  if ("$absent" in pattern) return value === undefined ? null : `${path} is there: ${show(value)}`
  if ("$text" in pattern) return typeof value === "string" && value.length > 0 ? null : differs()
  if ("$begins" in pattern) return typeof value === "string" && value.startsWith(pattern.$begins) ? null : differs()
  if ("$at_least" in pattern) return typeof value === "number" && value >= pattern.$at_least ? null : differs()
  if ("$one_of" in pattern) return pattern.$one_of.some(one => mismatch(one, value, path) === null) ? null : differs()
  if ("$at_most" in pattern) return typeof value === "number" && value <= pattern.$at_most ? null : differs()
  if ("$not" in pattern) return mismatch(pattern.$not, value, path) === null ? differs() : null
  if ("$set" in pattern) return sameSet(pattern.$set, value) ? null : differs()
  if (value === null || typeof value !== "object" || Array.isArray(value)) return differs()
  return first(Object.entries(pattern).map(([key, item]) => mismatch(item, value[key], path ? `${path}.${key}` : key)))
}

const first = results => results.find(result => result !== null) ?? null

/** Whether each of the patterns matches another one of the items, and none is left. */
function sameSet(patterns, items) {
  if (!Array.isArray(items) || items.length !== patterns.length) return false
  const left = [...items]
  return patterns.every(pattern => {
    const at = left.findIndex(item => mismatch(pattern, item) === null)
    if (at >= 0) left.splice(at, 1)
    return at >= 0
  })
}

/** A value as JSON, cut to a line. */
export function show(value) {
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 300 ? text.slice(0, 300) + "…" : text
}
