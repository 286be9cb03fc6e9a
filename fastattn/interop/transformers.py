"""Models of Transformers with attention of fastattn: ``register()``, then ``attn_implementation="fastattn"``.

Works with Transformers 4.57 and newer, in eager mode and in training, with static and dynamic caches.
"""

from typing import Any

from fastattn._optional import need
from fastattn.errors import ArgumentError, UnsupportedError, describe

need("transformers", "transformers", "fastattn.interop.transformers")

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from transformers import AttentionInterface, AttentionMaskInterface  # noqa: E402
from transformers.masking_utils import sdpa_mask  # noqa: E402

from fastattn._strings import string  # noqa: E402
from fastattn.interop.torch import attention  # noqa: E402

__all__ = ["register"]

# What some models hand to their attention and ours has no form of: sinks, a cap of scores, pages of a cache.
_UNKNOWN = ("softcap", "s_aux", "block_table", "cu_seq_lens_q", "cu_seq_lens_k")


def register(name: str = "fastattn") -> None:
    """Make attention of fastattn known to Transformers, with the function that makes its masks.

    Parameters
    ----------
    name : str
        Under which models find it: ``from_pretrained(..., attn_implementation=name)``, or
        ``model.set_attn_implementation(name)``.

    Raises
    ------
    ArgumentError
        If Transformers has not taken both: without the mask, a decoder would read what comes after.

    Notes
    -----
    Masks are those that PyTorch's attention is given, True = may attend, read by the kernel as they are. A row that may
    attend to nothing, of padding, is 0, where eager attention has the mean of all values. T5's position bias is added
    to the scores within the kernel and trained; its gradient has its own shape, which is that of one sample. Weights
    are computed where ``output_attentions=True`` asks for them, of GPT-2, which does not hand that on, where its
    configuration does.

    A model whose attention has a cap of scores or sinks is refused when it is called. In 4.57 T5 and BERT do not ask
    for attention by name, and say so.

    References
    ----------
    Wolf et al., "Transformers: State-of-the-Art Natural Language Processing", EMNLP 2020, arXiv:1910.03771.

    Examples
    --------
    >>> from transformers import AutoModelForSeq2SeqLM  # doctest: +SKIP
    >>> from fastattn.interop.transformers import register  # doctest: +SKIP
    >>> register()  # doctest: +SKIP
    >>> model = AutoModelForSeq2SeqLM.from_pretrained(folder, attn_implementation="fastattn")  # doctest: +SKIP
    """
    name = string("name", name)
    AttentionInterface.register(name, _attend)
    AttentionMaskInterface.register(name, _mask)
    if AttentionInterface().get(name) is not _attend or AttentionMaskInterface().get(name) is not _mask:
        hint = "install Transformers 4.57 or newer."
        raise ArgumentError(describe("name", "a name that Transformers takes for attention and mask", name, hint))


def _mask(*args: Any, **options: Any) -> Any:
    """Return the mask (B, 1, Tq, Tk) of a model, or None where causal attention or none is meant."""
    return sdpa_mask(*args, **options)


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attend as a model of Transformers asks for; return contexts (B, Tq, H, D), and weights or None."""
    for unknown in _UNKNOWN:
        if options.get(unknown) is not None:
            hint = 'use attn_implementation="eager" for this model.'
            raise UnsupportedError(describe(unknown, "none", type(options[unknown]).__name__, hint))
    queries, keys = query.shape[2], key.shape[2]
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    causal = bool(causal) and attention_mask is None and queries > 1
    if causal and keys > queries:  # a static cache that has room for what is to come
        key, value = key[:, :, :queries], value[:, :, :queries]
        position_bias = None if position_bias is None else position_bias[..., :queries]
    mask, bias = attention_mask, position_bias
    if mask is not None and mask.dtype != torch.bool:
        bias = mask if bias is None else mask + bias
        mask = None
    weights = options.get("output_attentions")
    if weights is None:
        weights = getattr(getattr(module, "config", None), "output_attentions", False)
    weights = bool(weights)
    found = attention(
        query, key, value, mask=mask, bias=bias, scale=scaling, causal="top_left" if causal else None,
        dropout=dropout if module.training else 0.0, return_weights=weights,
    )  # fmt: skip
    context = found.context if weights else found
    return context.transpose(1, 2).contiguous(), found.weights if weights else None
