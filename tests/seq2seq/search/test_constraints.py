"""Given beginnings, forbidden and allowed tokens, and alternatives: as if the rest were impossible, in any batch."""

import numpy as np
import pytest
from checks import same_bits
from seq2seq_cases import CASES, SEARCHES, TARGET_SIZE, as_arrays, make, random_pairs, targets

from fastattn import seq2seq
from fastattn.cli import main
from fastattn.errors import ArgumentError, ConfigError
from fastattn.seq2seq import EOS, UNK, Config, InferenceConfig, Translator, Vocabulary, build, greedy, score_pairs

WORDS = Vocabulary(["a", "b", "c", "d", "e"])


def beginnings(count, longest=4):
    rng = np.random.default_rng(4)
    return [rng.integers(3, TARGET_SIZE, rng.integers(0, longest)).tolist() for _ in range(count)]


@pytest.mark.parametrize("name", ["bahdanau", "luong-dot", "transformer-pre", "wu"])
@pytest.mark.parametrize("search", SEARCHES)
def test_constraints_hold_with_the_same_bits_alone_and_in_a_batch(name, search):
    model, batch, rows = make(name), random_pairs(9, 7, padding=1000), np.arange(9)
    prefix, options = beginnings(9), {"weights": True, "limit": 9, "forbid": [UNK, 5], "allow": [3, 4, 5, 6, 7]}
    assert len({len(start) for start in prefix}) == 4
    found = SEARCHES[search](model, batch, rows, prefix=prefix, **options)
    for b in rows:
        alone = SEARCHES[search](model, batch.row(b), rows[b : b + 1], prefix=prefix[b : b + 1], **options)[0]
        assert len(alone) == len(found[b])
        for one, other in zip(alone, found[b]):
            assert same_bits(as_arrays(one), as_arrays(other))
            n = len(prefix[b])
            assert one.tokens[:n].tolist() == prefix[b] and set(one.tokens[n:].tolist()) <= {4, 6, 7}
    chosen = [hs[0] for hs in found]
    for one, other in zip(chosen, score_pairs(model, targets(batch, chosen), weights=True)):
        assert one.log_probability == other.log_probability and same_bits(one.weights, other.weights)


@pytest.mark.parametrize("search", ["greedy", "sample"])
def test_the_beginning_of_what_a_search_finds_does_not_change_it(search):
    model, batch = make("bahdanau"), random_pairs(9, 7)
    plain = SEARCHES[search](model, batch, np.arange(9), limit=9)
    prefix = [hs[0].tokens[:2] for hs in plain]
    for one, other in zip(plain, SEARCHES[search](model, batch, np.arange(9), limit=9, prefix=prefix)):
        assert same_bits(as_arrays(one[0]), as_arrays(other[0]))


def test_what_is_allowed_is_what_is_not_forbidden():
    model, batch = make("luong-dot"), random_pairs(9, 7)
    few = [one.tokens.tolist() for one in greedy(model, batch.source, batch.source_lengths, allow=[4, 6])]
    rest = [one.tokens.tolist() for one in greedy(model, batch.source, batch.source_lengths, forbid=[3, 5, 7, 8])]
    assert few == rest and any(few)
    assert not any(len(one.tokens) for one in greedy(model, batch.source, batch.source_lengths, allow=[]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefix": [[4], [4]]}, "prefix: expected 4 lists of ids, as many as sources, got 2"),
        ({"prefix": [[4], [4], [2], [4]]}, r"prefix\[2\]: expected ids but 0, 1 and 2"),
        ({"prefix": [[4] * 3] * 4, "limit": 3}, r"prefix\[0\]: expected fewer tokens than the limit .*, got 3 of 3"),
        ({"prefix": [[99]] * 4}, r"prefix\[0\]"),
        ({"allow": [99]}, "allow"),
        ({"forbid": [EOS]}, "forbid: expected ids other than 2"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    batch = random_pairs()
    with pytest.raises(ArgumentError, match=f"^{message}"):
        greedy(make("bahdanau"), batch.source, batch.source_lengths, **options)


def translator(**inference):
    model = CASES["bahdanau"]
    config = Config(model=model, inference=InferenceConfig(max_length=7, **inference))
    made = Translator(build(model, len(WORDS), len(WORDS), 0), WORDS, WORDS, config)
    for parameter in made.model.parameters().values():
        with parameter.edit() as value:
            value += np.random.default_rng(1).normal(size=value.shape).astype(np.float32)
    return made


def test_texts_and_tokens_from_python_and_from_the_configuration():
    texts, plain = ["a b", "c", "d e a"], translator()
    found = plain.translate(texts, prefix=["b b", "", "e"], forbid=["a", "<unk>"])
    assert [text.split()[:n] for text, n in zip(found, (2, 0, 1))] == [["b", "b"], [], ["e"]]
    assert not {"a", "<unk>"} & {word for text in found for word in text.split()}
    assert translator(forbid=["a", "<unk>"]).translate(texts, prefix=["b b", "", "e"]) == found
    assert plain.translate(["c"], prefix="e e e") == plain.translate(["c"], prefix=["e e e"])
    drawn = plain.sample(texts, seed=3, prefix="e", allow=["b", "c"])
    assert all(one.tokens[0] == "e" and set(one.tokens[1:]) <= {"b", "c", "</s>"} for one in drawn)
    assert plain.translate(["", "a"], prefix="b")[0] == ""
    for call in (lambda: plain.translate(texts, prefix="z"), lambda: plain.translate(texts, allow=["z"])):
        with pytest.raises(ArgumentError, match="expected tokens of the target vocabulary, got 'z'"):
            call()
    with pytest.raises(ArgumentError, match="prefix: expected 3 texts, got 1"):
        plain.translate(texts, prefix=["a"])
    with pytest.raises(ConfigError, match=r"^inference\.forbid: expected tokens of the target vocabulary, got 'z'"):
        translator(forbid=["z"])
    with pytest.raises(ConfigError, match=r"inference\.forbid: expected a list"):
        InferenceConfig(forbid="a")


@pytest.mark.parametrize("prefix", ["", "b a"])
def test_alternatives_go_different_ways_at_one_place_the_most_probable_first(prefix):
    made, n = translator(), len(prefix.split())
    found = made.alternatives("a b", prefix=prefix, best=4)
    nexts = [one.tokens[n] for one in found]
    assert len(set(nexts)) == 4 and all(one.tokens[:n] == prefix.split() for one in found)
    firsts = []
    for token in ("a", "b", "c", "d", "e", "<unk>"):
        if token != "<unk>":
            [one] = made.search(["a b"], prefix=f"{prefix} {token}")[0]
            assert token not in nexts or found[nexts.index(token)] == one
        ids = np.array([[*WORDS.encode([*prefix.split(), token])]])
        source = seq2seq.encode(WORDS, "a b")[None]
        batch = seq2seq.Batch(source, np.array([3]), ids, np.array([n + 1]), np.arange(1))
        firsts.append((-score_pairs(made.model, batch)[0].log_probability, token))
    nexts = [token for token in nexts if token != "</s>"]
    assert nexts == [token for _, token in sorted(firsts)][: len(nexts)]


def test_the_command_has_the_same_options(tmp_path, capsys):
    made = translator()
    values = {key: parameter.value for key, parameter in made.model.parameters().items()}
    seq2seq.checkpoint.save(tmp_path / "run", 1, model=values, state={}, config=made.config.to_dict(), progress={},
                            vocabularies={"source": WORDS, "target": WORDS}, best=True)  # fmt: skip
    (tmp_path / "texts").write_text("a b\nc\n")
    (tmp_path / "starts").write_text("b b\n\n")

    def lines(*options):
        assert main(["translate", str(tmp_path / "run"), str(tmp_path / "texts"), *options]) == 0
        return capsys.readouterr().out.splitlines()

    starts = ("--prefixes", str(tmp_path / "starts"))
    assert lines(*starts, "--forbid", "a", "--forbid", "e") == made.translate(
        ["a b", "c"], prefix=["b b", ""], forbid=["a", "e"]
    )
    assert lines("--prefix", "c", "--allow", "d") == made.translate(["a b", "c"], prefix="c", allow=["d"])
    found = [made.alternatives(text, prefix="c", best=2) for text in ("a b", "c")]
    wanted = [f"{n}\t{one.score:.6f}\t{one.text}" for n, several in enumerate(found, 1) for one in several]
    assert lines("--prefix", "c", "--alternatives", "2") == wanted
    (tmp_path / "starts").write_text("b b\n")
    assert main(["translate", str(tmp_path / "run"), str(tmp_path / "texts"), *starts]) == 1
    assert "starts: has no line 2, and" in capsys.readouterr().err
    assert main(["translate", str(tmp_path / "run"), "--prefix", "a", *starts]) == 2
    assert "--prefixes: means nothing with --prefix" in capsys.readouterr().err
