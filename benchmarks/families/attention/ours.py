"""An attention call of fastattn."""

from typing import Any

from ...case import Arrays, Case, Run, named


def run(case: Case, data: Arrays, **options: Any) -> dict[str, Run]:
    """A call, forward or with all gradients."""
    import fastattn

    data = typed(case, data)
    query, key, value = data["query"], data["key"], data["value"]
    if case.options.get("prepared"):
        memory = fastattn.prepare(key, value)
        return {"": lambda: memory.attend(query)}
    if not case.backward:
        return {"": lambda: fastattn.attention(query, key, value, **options)}
    d_context = data["d_context"]

    def both() -> Any:
        context, backward = fastattn.attention_vjp(query, key, value, **options)
        return context, backward(d_context)

    return {"": both}


def typed(case: Case, data: Arrays) -> Arrays:
    """Arrays of features in the precision of the case; a score's parameters are float32 in any."""
    if case.precision != "bfloat16":
        return data
    import ml_dtypes

    names = ("query", "key", "value", "d_context")
    return {name: array.astype(ml_dtypes.bfloat16) if name in names else array for name, array in data.items()}


def collect(case: Case, result: Any) -> Arrays:
    if not case.backward:
        return named(case, result)
    context, gradients = result
    return named(case, [context, gradients.query, gradients.key, gradients.value, *gradients.score.values()])
