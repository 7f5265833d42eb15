// Charts as SVG, with no library: bars for a workload, and one table of colours for all ratios.

const FONT = "font-family=\"system-ui, 'Segoe UI', Helvetica, Arial, sans-serif\""
const INK = "#1f2933"
const FAINT = "#5f6c7b"
const OURS = "#2f6f4f"
const THEIRS = "#9aa9b8"

/** Bars to the right, one for each `{ name, value, text, isOurs }`; those without a value show their text only. */
export function bars(title, subtitle, rows) {
  const values = rows.map(({ value }) => value).filter(value => value > 0)
  const [low, high] = [Math.min(...values), Math.max(...values)]
  // Where one is more than 30 times another, a bar of the same scale could not be seen.
  const isLog = high / low > 30
  const floor = 10 ** Math.floor(Math.log10(low * 0.7))
  const length = value => (isLog ? Math.log10(value / floor) / Math.log10(high / floor) : value / high)
  const [left, width, step, top] = [225, 400, 26, 62]
  const height = top + rows.length * step + 16
  const lines = rows.map(({ name, value, text, isOurs }, at) => {
    const y = top + at * step
    const bar = value > 0 ? Math.max(2, Math.round(length(value) * width)) : 0
    return [
      label(left - 10, y + 15, name, { anchor: "end", weight: isOurs ? 600 : 400 }),
      bar ? `<rect x="${left}" y="${y + 3}" width="${bar}" height="17" rx="2" fill="${isOurs ? OURS : THEIRS}"/>` : "",
      label(left + bar + 8, y + 15, text, { fill: bar ? INK : FAINT, weight: isOurs ? 600 : 400 }),
    ].join("")
  })
  const scale = isLog ? `${subtitle}, logarithmic` : subtitle
  return page(780, height, [label(16, 26, title, { size: 15, weight: 600 }), label(16, 45, scale, { size: 12, fill: FAINT }), ...lines])
}

/** A table of ratios: rows of `{ name, cells: [ratio or text] }`. Green where ours is better, red where it is not. */
export function grid(title, subtitle, columns, rows) {
  const [left, cell, step, top] = [190, 84, 30, 96]
  const heads = columns.map((name, at) => label(left + at * cell + cell / 2, top - 10, name, { anchor: "middle", size: 11, fill: FAINT }))
  const lines = rows.flatMap(({ name, cells }, row) => {
    const y = top + row * step
    return [
      label(left - 10, y + 19, name, { anchor: "end" }),
      ...cells.map((ratio, at) => {
        const x = left + at * cell
        const isNumber = typeof ratio === "number"
        const box = `<rect x="${x + 2}" y="${y + 2}" width="${cell - 4}" height="${step - 4}" rx="3" fill="${isNumber ? colour(ratio) : "#f1f3f5"}"/>`
        const text = isNumber ? (ratio < 0.001 ? "< 0.001 x" : `${figure(ratio)} x`) : ratio
        return box + label(x + cell / 2, y + 19, text, { anchor: "middle", size: 12, fill: isNumber ? INK : FAINT })
      }),
    ]
  })
  const height = top + rows.length * step + 16
  return page(left + columns.length * cell + 16, height, [
    label(16, 26, title, { size: 15, weight: 600 }),
    label(16, 46, subtitle, { size: 12, fill: FAINT }),
    ...heads,
    ...lines,
  ])
}

/** A number in three digits, as people read it. */
export function figure(value) {
  if (value === 0) return "0"
  if (value >= 1000) return Math.round(value).toLocaleString("en-US")
  if (value >= 100) return value.toFixed(0)
  if (value >= 10) return value.toFixed(1)
  return value >= 0.1 ? value.toFixed(2) : value.toPrecision(2)
}

/** From red over white to green; ten times is as green, or as red, as it gets. */
function colour(ratio) {
  const strength = Math.min(1, Math.abs(Math.log10(ratio)))
  const [r, g, b] = ratio >= 1 ? [126, 192, 150] : [233, 140, 128]
  const mix = part => Math.round(250 + (part - 250) * (0.15 + 0.85 * strength))
  return `rgb(${mix(r)},${mix(g)},${mix(b)})`
}

function label(x, y, text, { anchor = "start", size = 13, weight = 400, fill = INK } = {}) {
  return `<text x="${x}" y="${y}" text-anchor="${anchor}" font-size="${size}" font-weight="${weight}" fill="${fill}">${escaped(text)}</text>`
}

function page(width, height, parts) {
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" ${FONT}>
<rect width="${width}" height="${height}" rx="6" fill="#ffffff"/>
${parts.filter(Boolean).join("\n")}
</svg>
`
}

function escaped(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
}
