"""Sizes: ``B`` samples, ``H`` heads, ``Tq`` queries, ``Tk`` keys, ``D`` of a head. Options: ``causal``,
``Tq == Tk``; ``prepared``, with key and value in a memory that is kept for many steps.
"""

from ...case import BOTH, FORWARD, maker

_case = maker("dot", "B H Tq Tk D", (2, 2, 13, 13, 16), "context query key value", "context query key value")
_STEP = (2, 2, 1, 19, 16)
_LONG = (1, 8, 2048, 2048, 64)
_CAUSAL = (4, 8, 512, 512, 64)
_SENTENCE = (64, 4, 30, 30, 64)
_DECODE = (32, 8, 1, 512, 64)

CASES = (
    _case("dot_long_fwd", "dot, B1 H8 T2048 D64", FORWARD, _LONG, 1.12),
    _case("dot_causal_fwd", "dot causal, B4 H8 T512 D64", FORWARD, _CAUSAL, 1.9, causal=True),
    _case("dot_sentence_fwd", "dot, B64 H4 T30 D64", FORWARD, _SENTENCE, 2.0),
    _case("dot_short_fwd", "dot, B32 H8 T32 D64", FORWARD, (32, 8, 32, 32, 64), 1.6),
    _case("dot_long_grad", "dot, B1 H8 T2048 D64", BOTH, _LONG, 1.12),
    _case("dot_causal_grad", "dot causal, B4 H8 T512 D64", BOTH, _CAUSAL, 1.8, causal=True),
    _case("dot_sentence_grad", "dot, B64 H4 T30 D64", BOTH, _SENTENCE, 2.0),
    _case("decode_fwd", "dot decoder step, B32 H8 Tk512 D64", FORWARD, _DECODE, {1: 1.3, 2: 1.0}, smoke=_STEP),
    _case("decode_grad", "dot decoder step, B32 H8 Tk512 D64", BOTH, _DECODE, {1: 6.0, 2: 4.0}, smoke=_STEP),
    _case("memory_fwd", "dot step of a prepared memory, B32 H8 Tk512 D64", FORWARD, _DECODE, 1.0, smoke=_STEP,
          prepared=True),
    _case("smallest", "smallest call, Tk8 D16", FORWARD, (1, 1, 1, 8, 16), 1.0, smoke=_STEP),
)  # fmt: skip
