"""Write fastattn/variants/creation.pyi: an overload of `create` for each variant of ours, with its options.

python tests/tools/creation_stub.py
"""

import inspect
import types
import typing
from pathlib import Path

import numpy as np

from fastattn.variants.registry import REGISTRY
from fastattn.variants.soft import Soft

PAGE = Path(__file__).resolve().parents[2] / "fastattn" / "variants" / "creation.pyi"
WIDTH = 116  # of a line of options


class Names:
    """The text of annotations, and what has to be imported for it."""

    def __init__(self) -> None:
        self.used: dict[str, set[str]] = {}

    def of(self, annotation: object) -> str:
        """Return an annotation as it is written."""
        origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
        if origin in (typing.Union, types.UnionType):
            return " | ".join(map(self.of, inner))
        if origin is typing.Literal:
            self.used.setdefault("typing", set()).add("Literal")
            return f"Literal[{', '.join(map(quoted, inner))}]"
        if origin is not None:
            return f"{self.of(origin)}[{', '.join('...' if each is ... else self.of(each) for each in inner)}]"
        if annotation in (None, type(None)):
            return "None"
        if annotation is np.random.Generator:
            return "np.random.Generator"
        module, name = getattr(annotation, "__module__", "typing"), getattr(annotation, "__name__", str(annotation))
        if module != "builtins":
            self.used.setdefault(module, set()).add(name)
        return name


def quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def option(found: inspect.Parameter, names: Names) -> str:
    default = "" if found.default is found.empty else " = ..."
    return f"{found.name}: {names.of(found.annotation)}{default}"


def overload(name: str, factory: object, names: Names) -> list[str]:
    """Return the lines of one overload."""
    signature = inspect.signature(factory)  # type: ignore[arg-type]
    kind = factory if isinstance(factory, type) else signature.return_annotation
    kind = Soft if kind is signature.empty else kind
    parts = [f'name: Literal["{name}"]', "*", *(option(one, names) for one in signature.parameters.values())]
    lines = ["@overload", "def create("]
    for part in parts:
        if lines[-1] == "def create(" or len(lines[-1]) + len(part) + 2 > WIDTH:
            lines.append(f"    {part},")
        else:
            lines[-1] += f" {part},"
    return [*lines, f") -> {names.of(kind)}: ..."]


def stub() -> str:
    """Return the text of the file."""
    names = Names()
    names.used = {"typing": {"Any", "Literal", "overload"}, "fastattn.variants.protocol.variant": {"Variant"}}
    found = [line for r in REGISTRY.built_in.values() for line in overload(r.name, r.load(), names)]
    imports = [f"from {module} import {', '.join(sorted(given))}" for module, given in sorted(names.used.items())]
    ours = [line for line in imports if line.startswith("from fastattn")]
    return "\n".join(
        [
            "# Written by tests/tools/creation_stub.py.",
            "# fmt: off",
            *(line for line in imports if line not in ours),
            "",
            "import numpy as np",
            "",
            *ours,
            "",
            '__all__ = ["create"]',
            "",
            *found,
            "@overload",
            "def create(name: str, **given: Any) -> Variant[Any]: ...",
            "",
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(stub())
