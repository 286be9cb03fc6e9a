"""Sizes: ``B`` samples, ``T`` positions, ``D`` inputs, ``H`` hidden. Option: ``layer``, "gru" or "lstm"."""

from ...case import BOTH, FORWARD, Case, maker

_KEYS, _BIASES = "B T D H", {"gru": "b_input b_hidden", "lstm": "b"}


def _case(name: str, direction: str, batch: int, target: float) -> Case:
    layer = name.partition("_")[0]
    case = maker("recurrent", _KEYS, (min(batch, 3), 5, 12, 24), f"y x w_input w_hidden {_BIASES[layer]}", "x y")
    title = f"{layer.upper()} layer, B{batch} T30 256 to 512"
    return case(name, title, direction, (batch, 30, 256, 512), target, layer=layer)


CASES = (
    _case("gru_fwd", FORWARD, 64, 1.15),
    _case("gru_grad", BOTH, 64, 1.15),
    _case("gru_single", FORWARD, 1, 2.0),
    _case("lstm_fwd", FORWARD, 64, 0.95),
    _case("lstm_grad", BOTH, 64, 0.95),
)
