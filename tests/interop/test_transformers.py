"""Random models of Transformers with our attention: logits, gradients, weights and generated ids of eager attention."""

import functools

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
transformers = pytest.importorskip("transformers", reason="Transformers is not installed")

from fastattn.errors import ArgumentError, UnsupportedError  # noqa: E402
from fastattn.interop.transformers import register  # noqa: E402

register()

pytestmark = [pytest.mark.filterwarnings("ignore")]  # of Transformers, about itself
ENCODER_DECODER = {
    "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "vocab_size": 40, "max_position_embeddings": 64, "init_std": 0.2,
    "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "decoder_start_token_id": 2,
}  # fmt: skip
ONE_STACK = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24, "vocab_size": 40,
    "max_position_embeddings": 64, "initializer_range": 0.2, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
}  # fmt: skip
T5 = {
    "vocab_size": 40, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "pad_token_id": 0,
    "eos_token_id": 1, "decoder_start_token_id": 0,
}  # fmt: skip
GPT2 = {
    "vocab_size": 40, "n_positions": 64, "n_embd": 16, "n_layer": 2, "n_head": 2, "bos_token_id": 2, "eos_token_id": 1,
    "pad_token_id": 0, "initializer_range": 0.2,
}  # fmt: skip
MODELS = {
    "bart": ("BartForConditionalGeneration", "BartConfig", {**ENCODER_DECODER, "forced_eos_token_id": None}),
    "marian": ("MarianMTModel", "MarianConfig", {**ENCODER_DECODER, "forced_eos_token_id": None}),
    "t5": ("T5ForConditionalGeneration", "T5Config", T5),
    "pegasus": ("PegasusForConditionalGeneration", "PegasusConfig", {**ENCODER_DECODER, "forced_eos_token_id": None}),
    "m2m100": ("M2M100ForConditionalGeneration", "M2M100Config", ENCODER_DECODER),
    "whisper": (
        "WhisperForConditionalGeneration", "WhisperConfig",
        {**ENCODER_DECODER, "num_mel_bins": 8, "max_source_positions": 20, "max_target_positions": 64},
    ),
    "bert": ("BertForMaskedLM", "BertConfig", ONE_STACK),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", GPT2),
    "llama": ("LlamaForCausalLM", "LlamaConfig", {**ONE_STACK, "num_key_value_heads": 2}),
    "gemma": ("GemmaForCausalLM", "GemmaConfig", {**ONE_STACK, "num_key_value_heads": 1, "head_dim": 8}),
}  # fmt: skip
SEARCHES = {"greedy": {}, "beam": {"num_beams": 4}, "static": {"cache_implementation": "static"}}
NEWER = int(transformers.__version__.split(".")[0]) >= 5


@functools.cache
def model(name):
    """A random model."""
    torch.manual_seed(0)
    kind, config, settings = MODELS[name]
    return getattr(transformers, kind)(getattr(transformers, config)(**settings)).eval()


def inputs(name, side="right"):
    """Three samples, two of them padded at a side, and what the decoder is fed."""
    generator = torch.Generator().manual_seed(1)
    ids, mask = torch.randint(3, 40, (3, 9), generator=generator), torch.ones(3, 9, dtype=torch.long)
    mask[1, 6:] = mask[2, 4:] = 0
    mask = mask if side == "right" else mask.flip(1)
    fed = {"decoder_input_ids": torch.randint(3, 40, (3, 6), generator=generator)}
    if name == "whisper":
        return {"input_features": torch.randn(3, 8, 40, generator=generator), **fed}, mask
    found = {"input_ids": ids * mask, "attention_mask": mask}
    return found | (fed if model(name).config.is_encoder_decoder else {}), mask


def implemented(name, implementation):
    """A model with an attention; skips where its own code calls none by name."""
    found = model(name)
    if not NEWER and name in ("t5", "bert"):
        pytest.skip("in Transformers 4 its attention is not called by name")
    found.set_attn_implementation(implementation)
    return found


def run(name, implementation, side):
    """Logits of what is no padding, gradients of all parameters, and weights."""
    found = implemented(name, implementation)
    found.zero_grad()
    given, mask = inputs(name, side)
    output = found(**given, output_attentions=True)
    logits = output.logits if found.config.is_encoder_decoder else output.logits[mask.bool()]
    generator = torch.Generator().manual_seed(2)
    (logits * torch.randn(logits.shape, generator=generator)).mean().backward()
    gradients = {key: value.grad.clone() for key, value in found.named_parameters() if value.grad is not None}
    kinds = ("attentions", "encoder_attentions", "decoder_attentions", "cross_attentions")
    weights = {kind: [*getattr(output, kind)] for kind in kinds if getattr(output, kind, None)}
    return logits.detach(), gradients, weights


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", MODELS)
def test_logits_gradients_and_weights_are_those_of_eager_attention(name, side):
    expected, gradients, weights = run(name, "eager", side)
    found, own, seen = run(name, "fastattn", side)
    assert (found - expected).abs().max() < 1e-5
    assert own.keys() == gradients.keys()
    for key, value in gradients.items():
        assert (own[key] - value).abs().max() < 1e-5, key
    if name == "gpt2":
        return  # which does not say that weights are wanted
    assert seen.keys() == weights.keys() and seen
    _, mask = inputs(name, side)
    for kind, layers in weights.items():
        assert len(seen[kind]) == len(layers)
        for one, other in zip(seen[kind], layers):
            if kind == "attentions":  # rows of padding are 0, or the mean
                one, other = (each.transpose(1, 2)[mask.bool()] for each in (one, other))
            assert (one - other).abs().max() < 1e-5


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("name", [name for name in MODELS if name != "bert"])
def test_generated_ids_are_those_of_eager_attention(name, search, side):
    found = []
    for implementation in ("eager", "fastattn"):
        made = implemented(name, implementation)
        given, _ = inputs(name, side)
        given.pop("decoder_input_ids", None)
        found.append(made.generate(**given, max_new_tokens=6, do_sample=False, **SEARCHES[search]).tolist())
    assert found[0] == found[1]


def test_a_position_bias_has_a_gradient_of_its_own_shape():
    if not NEWER:
        pytest.skip("in Transformers 4 its attention is not called by name")
    gradients = run("t5", "fastattn", "right")[1]
    for side in ("encoder", "decoder"):
        table = gradients[f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
        assert table.shape == (32, 2) and table.abs().max() > 0


def test_gpt2_gives_weights_where_its_configuration_asks():
    made = implemented("gpt2", "fastattn")
    assert made.transformer.h[0].attn.config is made.config
    made.config._output_attentions = True
    try:
        weights = made(**inputs("gpt2")[0], output_attentions=True).attentions
    finally:
        made.config._output_attentions = False
    assert weights and weights[0].shape == (3, 2, 9, 9)


def test_what_attention_has_no_form_of_is_refused():
    from transformers import AttentionInterface

    attend = AttentionInterface()["fastattn"]
    x = torch.ones(1, 2, 3, 4)
    with pytest.raises(UnsupportedError, match=r'softcap: expected none, got float.\nHint: use attn_implementation="'):
        attend(torch.nn.Module(), x, x, x, None, softcap=30.0)


def test_a_registry_that_forgets_the_mask_is_noticed(monkeypatch):
    from transformers import AttentionMaskInterface

    register("fastattn_again")
    monkeypatch.setattr(AttentionMaskInterface, "register", classmethod(lambda cls, name, function: None))
    with pytest.raises(ArgumentError, match=r"(?s)takes for attention and mask.*Hint: install Transformers 4.57"):
        register("fastattn_without_mask")
