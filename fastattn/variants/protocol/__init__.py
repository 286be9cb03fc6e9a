"""The protocol of attention mechanisms: what a variant is, and what it owes to those that use it.

A variant is a `Layer`: its parameters have names, values and gradients. It attends with queries (B, Tq, Dq) to a
memory (B, S, Dm), whose rows are summed into contexts (B, Tq, Dv); Dv is Dm unless other values were given::

    prepared = variant.prepare(memory, lengths, mask)             once a sequence: projections, packed keys
    state = variant.start(prepared)                               what one step leaves for the next; often nothing
    context, weights, state = variant.step(query, prepared, state)            one position, (B, Dq) -> (B, Dv)
    context = variant.forward(queries, prepared)                              all positions, the same bits

and backward, where `backward` functions add to the gradients of the parameters::

    context, backward = variant.vjp(queries, prepared)
    d_queries, d_memory = backward(d_context)

A decoder whose next query depends on a context goes step by step, and back in reverse::

    for each step:            context, weights, state, backward = variant.step_vjp(query, prepared, state)
    in reverse:               d_query, d_state = backward(d_context, d_weights, d_state)
    once, after the loop:     d_memory = variant.finish(prepared)

The backward pass of a step gives at once only what the step before needs. What the steps leave for the memory and for
the parameters is kept on `prepared.tape`, a record a step whose arrays it copies, and becomes gradients in `finish`, by
products over all steps.

What holds for every variant:

- Lengths (B,) and mask (B, S), True = may attend, say what is read; the rest is never read and may be NaN. Weights are
  0 there. A query without any key has a context of zeros, weights of zeros, and no gradient.
- Rows have the same bits in any batch, at any padding, with any number of threads, and by steps or at once.
- A state is a frozen record of arrays, batch first. `Prepared.select` and `AttentionState.select` pick rows, as of the
  hypotheses of a beam; the memory is not copied.
- With ``values`` (B, S, Dv) a context is a sum of these in place of the memory's rows, for decoders that multiply their
  memory by the context's matrices once; d_memory is then a pair, of the memory and of the values.

Who writes a variant implements `prepare` (or `extend`), `step`, `step_vjp` and `finish`; `forward` and `vjp` follow
by a loop over steps. One that can take all queries at once does better to implement `attend` and `attend_vjp` too,
which these two call with what they have checked. What is called from outside is checked by the base class and its
helpers, so that a kernel never meets another memory's state or a gradient of another shape: `check_query` and
`check_queries` at the beginning of a step or of all, `StepBackward` as the last line of `step_vjp`, `take` in
`finish`, `states` and `per_sample` for what is carried.
"""
