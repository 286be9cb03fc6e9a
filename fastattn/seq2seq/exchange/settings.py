"""Settings of Marian and BART in ``config.json`` and ``generation_config.json``, and ours."""

from collections.abc import Mapping
from typing import Any

from fastattn.errors import UnsupportedError, describe_file, did_you_mean
from fastattn.seq2seq.models.transformer import TransformerConfig
from fastattn.seq2seq.sections import MOST_TOKENS, InferenceConfig
from fastattn.seq2seq.text.vocabulary import BOS, EOS, PAD

__all__ = ["IDS", "SEARCH", "Table", "decoding", "differences", "generation", "model", "outline", "refusal"]

Table = Mapping[str, Any]

# Their names of our special ids; the token that decoding starts with is our beginning.
IDS = {"pad_token_id": PAD, "decoder_start_token_id": BOS, "eos_token_id": EOS}

# Their names of what ours calls otherwise, or the same.
_ACTIVATIONS = {"gelu": "gelu", "relu": "relu", "swish": "swish", "silu": "swish"}

# What must be so where a file says it at all.
_FIXED: dict[str, dict[str, Any]] = {
    "marian": {
        "normalize_before": False, "add_final_layer_norm": False, "normalize_embedding": False,
        "static_position_embeddings": True, "add_bias_logits": False, "is_encoder_decoder": True,
    },
    "bart": {
        "normalize_before": False, "add_final_layer_norm": False, "normalize_embedding": True,
        "static_position_embeddings": False, "add_bias_logits": False, "is_encoder_decoder": True,
        "extra_pos_embeddings": 2, "share_encoder_decoder_embeddings": True,
    },
}  # fmt: skip

# What both stacks of ours have in common.
_BOTH = {"heads": "attention_heads", "inner": "ffn_dim"}

# Settings of a search that mean nothing for one without sampling, or say how results are returned.
_IDLE = {
    "bos_token_id", "decoder_start_token_id", "eos_token_id", "pad_token_id", "transformers_version", "use_cache",
    "_from_model_config", "_commit_hash", "early_stopping", "renormalize_logits", "temperature", "top_k", "top_p",
    "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "num_return_sequences", "output_attentions",
    "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate", "cache_implementation",
    "is_assistant", "trust_remote_code",
}  # fmt: skip

# Settings that ours does not have, and their values where they change nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "do_sample": (False,), "num_beam_groups": (1,), "diversity_penalty": (0,), "repetition_penalty": (1,),
    "encoder_repetition_penalty": (1,), "no_repeat_ngram_size": (0,), "encoder_no_repeat_ngram_size": (0,),
    "min_length": (0, 1), "min_new_tokens": (0, 1), "suppress_tokens": ([],), "begin_suppress_tokens": ([],),
    "remove_invalid_values": (False,), "low_memory": (False,),
}  # fmt: skip

_READ = {"bad_words_ids", "forced_bos_token_id", "forced_eos_token_id", "length_penalty", "max_length",
         "max_new_tokens", "num_beams"}  # fmt: skip

SEARCH = _READ | _NEUTRAL.keys() | {"renormalize_logits"}


def refusal(place: object, key: str, got: object, expected: str) -> UnsupportedError:
    """Return the error of a setting that ours cannot have."""
    hint = "there is no counterpart: change the model, or take the setting away if other results will do."
    return UnsupportedError(describe_file(place, f"{key}: expected {expected}, got {got!r}", hint))


def model(place: object, table: Table) -> TransformerConfig:
    """Return the settings of our model from a ``config.json``."""
    kind = table.get("model_type")
    if kind not in _FIXED:
        raise refusal(place, "model_type", kind, "marian or bart")
    for key, value in _FIXED[kind].items():
        if table.get(key, value) != value:
            raise refusal(place, key, table[key], f"{value!r}")
    if table.get("quantization_config") is not None:
        raise refusal(place, "quantization_config", "one", "none")
    settings: dict[str, Any] = {"activation": _ACTIVATIONS.get(table.get("activation_function", "gelu"))}
    for ours, name in _BOTH.items():
        one, other = (_size(place, table, f"{side}_{name}") for side in ("encoder", "decoder"))
        if one != other:
            raise refusal(place, f"decoder_{name}", other, f"{one}, as of the encoder")
        settings[ours] = one
    if settings["activation"] is None:
        got = table.get("activation_function", "gelu, their default")
        raise refusal(place, "activation_function", got, "one of " + ", ".join(_ACTIVATIONS))
    shared, tied = table.get("share_encoder_decoder_embeddings", True), table.get("tie_word_embeddings", True)
    if shared and not tied:
        raise refusal(place, "tie_word_embeddings", tied, "True for shared embeddings")
    learned = kind == "bart"
    return TransformerConfig(
        width=_size(place, table, "d_model"),
        encoder_layers=_size(place, table, "encoder_layers"),
        decoder_layers=_size(place, table, "decoder_layers"),
        bias=True,
        positions="learned" if learned else "sinusoidal",
        longest=_size(place, table, "max_position_embeddings") if learned else 1024,
        scaled=bool(table.get("scale_embedding", False)),
        norm_embedding=learned,
        tied="all" if shared else "target" if tied else "none",
        dropout=float(table.get("dropout", 0.1)),
        attention_dropout=float(table.get("attention_dropout", 0.0)),
        label_smoothing=0.0,
        **settings,
    )


def _size(place: object, table: Table, key: str) -> int:
    value = table.get(key)
    if type(value) is not int or value < 1:
        raise refusal(place, key, value, "a size")
    return value


def decoding(place: object, table: Table, eos: int) -> tuple[dict[str, Any], list[int]]:
    """Return the settings of our search from those of theirs, and the ids that it never chooses."""
    for key, value in table.items():
        if key in _NEUTRAL and value is not None and value not in _NEUTRAL[key]:
            raise refusal(place, key, value, " or ".join(map(repr, _NEUTRAL[key])))
        if key not in _NEUTRAL and key not in _IDLE | _READ and value is not None and value is not False:
            raise refusal(place, key, value, f"no such setting ({did_you_mean(key, _READ)})")
    if table.get("forced_eos_token_id") not in (None, eos):
        raise refusal(place, "forced_eos_token_id", table["forced_eos_token_id"], f"{eos}, the end")
    never = []
    for words in table.get("bad_words_ids") or []:
        if len(words) != 1:
            raise refusal(place, "bad_words_ids", words, "single tokens")
        never += words
    # Their lengths count the token that decoding starts with, and the end; ours the tokens between.
    most = table.get("max_new_tokens")
    longest = (most if most is not None else (table.get("max_length") or 20) - 1) - 1
    settings = {
        "beam": table.get("num_beams") or 1,
        "length_penalty": float(table["length_penalty"] if table.get("length_penalty") is not None else 1.0),
        "length_norm": "length",
        "max_length": min(max(int(longest), 1), MOST_TOKENS),
    }
    return settings, never


def outline(place: object, config: TransformerConfig, sizes: tuple[int, int], ids: Mapping[str, int]) -> dict[str, Any]:
    """Return the ``config.json`` of our model, or raise by the name of the setting that theirs cannot have."""
    learned = config.positions == "learned"
    needed = {"norm": "post", "norm_embedding": learned, "positions": config.positions if learned else "sinusoidal"}
    if config.positions not in ("learned", "sinusoidal") or any(getattr(config, k) != v for k, v in needed.items()):
        wrong = next((k for k, v in needed.items() if getattr(config, k) != v), "positions")
        expected = f"{needed[wrong]!r}, as Marian has with sinusoidal positions and BART with learned ones"
        raise refusal(place, f"model.{wrong}", getattr(config, wrong), expected)
    if learned and config.tied != "all":
        raise refusal(place, "model.tied", config.tied, "'all', as BART has")
    kind = "Bart" if learned else "Marian"
    both = {f"{side}_{name}": getattr(config, ours) for ours, name in _BOTH.items() for side in ("encoder", "decoder")}
    own: dict[str, Any] = (
        {"max_position_embeddings": config.longest}
        if learned
        else {
            "max_position_embeddings": 512,
            "decoder_vocab_size": sizes[1],
            "share_encoder_decoder_embeddings": config.tied == "all",
            "static_position_embeddings": True,
        }
    )
    return {
        "architectures": [f"{kind}ForConditionalGeneration" if learned else "MarianMTModel"],
        "model_type": kind.lower(),
        "d_model": config.width,
        "encoder_layers": config.encoder_layers,
        "decoder_layers": config.decoder_layers,
        "num_hidden_layers": config.encoder_layers,
        **both,
        **own,
        "activation_function": config.activation,
        "scale_embedding": config.scaled,
        "tie_word_embeddings": config.tied != "none",
        "vocab_size": sizes[0],
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "activation_dropout": 0.0,
        "is_encoder_decoder": True,
        **ids,
        "forced_bos_token_id": None,
    }


def generation(config: InferenceConfig, ids: Mapping[str, int], never: list[int]) -> dict[str, Any]:
    """Return the ``generation_config.json`` of our settings."""
    beam = {"num_beams": config.beam, "length_penalty": config.length_penalty, "early_stopping": "never"}
    return {
        **ids,
        **(beam if config.beam > 1 else {}),  # which they refuse beside a greedy search
        "max_length": config.max_length + 2,
        "forced_eos_token_id": ids["eos_token_id"],
        "bad_words_ids": [[number] for number in never],
    }


def differences(config: InferenceConfig) -> list[str]:
    """Return what a search of theirs does otherwise than ours with these settings, one line each."""
    found = []
    if config.length_norm != "length" and config.length_penalty and config.beam > 1:
        found.append("length_norm: theirs is the length itself, so that other translations may be the best")
    if config.coverage_penalty:
        found.append("coverage_penalty: theirs has none")
    if config.cache != "float32":
        found.append(f"cache: theirs are of the type that they compute in, not of {config.cache}")
    return found
