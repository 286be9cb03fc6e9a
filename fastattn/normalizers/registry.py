"""The normalizers by name, those of plugins too."""

from types import FunctionType

from fastattn.normalizers.base import Normalizer
from fastattn.plugin.records import NormalizerRecord
from fastattn.plugin.registry import Registry

__all__ = ["REGISTRY", "create", "names", "read", "record", "records", "register", "resolve"]

_HERE, _TWIN = "fastattn.normalizers", "fastattn._reference"

_OWN = (
    NormalizerRecord(
        "softmax", f"{_HERE}.softmax:Softmax", "exp(z_j) / sum_k exp(z_k)", reference=f"{_TWIN}.softmax:softmax"
    ),
    NormalizerRecord(
        "sparsemax", f"{_HERE}.sparsemax:Sparsemax", "[z_j - t]+", "Martins, Astudillo 2016 (arXiv:1602.02068), eq. 2",
        reference=f"{_TWIN}.entmax:sparsemax",
    ),
    NormalizerRecord(
        "entmax15", f"{_HERE}.entmax15:Entmax15", "[z_j / 2 - t]+ ^2",
        "Peters, Niculae, Martins 2019 (arXiv:1905.05702), eq. 3", reference=f"{_TWIN}.entmax:entmax15",
    ),
    NormalizerRecord(
        "entmax", f"{_HERE}.entmax:Entmax", "[(alpha - 1) z_j - t]+ ^(1 / (alpha - 1))",
        "Peters, Niculae, Martins 2019 (arXiv:1905.05702), eq. 3", ({"alpha": 1.3}, {"alpha": 1.5}),
        f"{_TWIN}.entmax:entmax",
    ),
)  # fmt: skip


def of_function(given: object) -> Normalizer | None:
    """Return the normalizer that is a function of a user's, or None for what is no function."""
    if not isinstance(given, FunctionType) and not hasattr(given, "source"):
        return None
    from fastattn.jit import as_row_function  # loaded at first use
    from fastattn.normalizers.rowwise import Rowwise

    return Rowwise(as_row_function(given))


REGISTRY = Registry(NormalizerRecord, Normalizer, _OWN, of_function)  # type: ignore[type-abstract]
create = REGISTRY.create
names = REGISTRY.names
read = REGISTRY.read
record = REGISTRY.record
records = REGISTRY.records
register = REGISTRY.register
resolve = REGISTRY.resolve
