// Why we lose, where we do: by workload and figure. RESULTS.md lists every lost figure by itself; what is not explained here is called so there.

export const reasons = {}
