"""An attention call of fastattn."""

from typing import Any

from ...case import Arrays, Case, Run, named


def run(case: Case, data: Arrays, **options: Any) -> dict[str, Run]:
    """A call, forward or with all gradients."""
    import fastattn

    query, key, value = data["query"], data["key"], data["value"]
    if not case.backward:
        return {"": lambda: fastattn.attention(query, key, value, **options)}
    d_context = data["d_context"]

    def both() -> Any:
        context, backward = fastattn.attention_vjp(query, key, value, **options)
        return context, backward(d_context)

    return {"": both}


def collect(case: Case, result: Any) -> Arrays:
    if not case.backward:
        return named(case, result)
    context, gradients = result
    return named(case, [context, gradients.query, gradients.key, gradients.value, *gradients.score.values()])
