// A peer's server in a process of its own, for those whose server is JavaScript. Ends with the process that started it.

const { peer, dir, port } = JSON.parse(process.env.BENCH_SERVE)
process.on("disconnect", () => process.exit(0))
for (const name of ["log", "info", "debug", "warn"]) console[name] = () => {}

const { server } = await import(`../peers/${peer}.mjs`)
process.send({ url: await server.serve(dir, port) })
