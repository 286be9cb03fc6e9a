"""A trained model with its vocabularies: from texts to texts, scores and alignments."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastattn import _cards, _reprs
from fastattn._arrays import Array
from fastattn._numbers import check_flag
from fastattn._strings import string, strings
from fastattn.errors import ArgumentError, ConfigError, UnsupportedError, describe, did_you_mean
from fastattn.seq2seq.config import Config, InferenceConfig
from fastattn.seq2seq.models.model import Model
from fastattn.seq2seq.schema import argument
from fastattn.seq2seq.search.alignment import links, word_numbers
from fastattn.seq2seq.search.beam import Beams, beam_search, beam_steps
from fastattn.seq2seq.search.decoding import Hypothesis, attended, greedy, replace_unknown, sample, score_pairs
from fastattn.seq2seq.sections import Cache
from fastattn.seq2seq.text.batches import Batch, group, pad, sample_seeds
from fastattn.seq2seq.text.encoding import encode
from fastattn.seq2seq.text.vocabulary import EOS, SPECIAL, UNK, Vocabulary
from fastattn.variants.protocol.checks import check_kind, check_size
from fastattn.viz.table import table

__all__ = ["Translation", "TranslationStep", "Translator"]

_END = SPECIAL[EOS]


@dataclass(frozen=True)
class Translation:
    """A target text for a source text.

    Attributes
    ----------
    text : str
    tokens, source_tokens : list of str
        With ``"</s>"`` at their ends, the target's only if the model came to one.
    log_probability : float
        Of the tokens, the end included.
    score : float
        What the search ranked by.
    finished : bool
        Whether the model came to an end before the limit of length.
    weights : array, shape (len(tokens), len(source_tokens)) or (len(tokens), H, len(source_tokens)), or None
        What was attended to for each target token; (len(tokens), L, H, len(source_tokens)) with all layers.
    """

    text: str
    tokens: list[str]
    source_tokens: list[str]
    log_probability: float
    score: float
    finished: bool
    weights: Array | None = None

    def _repr_html_(self) -> str:
        """A card with what was attended to: of several layers in the last one, of heads their mean."""
        facts = {"log-probability": f"{self.log_probability:.4f}", "score": f"{self.score:.4f}"}
        if not self.finished:
            facts["finished"] = "no: the limit of length was reached"
        parts = [_cards.rows(facts)]
        if self.weights is not None:
            shown = self.map()
            shown = shown[-1] if shown.ndim > 3 else shown
            if shown.ndim > 2:
                parts.append(_cards.note(f"what was attended to, the mean of {len(shown)} heads:"))
                shown = shown.mean(axis=0)
            parts.append(table(shown, self.source_tokens, self.tokens))
        return _cards.card(self.text or "(empty)", *parts)

    def map(self) -> Array:
        """Return the weights as `fastattn.viz` draws them: (len(tokens), S), with heads (H, len(tokens), S), with
        layers (L, H, len(tokens), S)."""
        if self.weights is None:
            raise UnsupportedError(describe("map", "a translation with weights", "none", "ask for weights=True."))
        return np.ascontiguousarray(np.moveaxis(self.weights, 0, -2))

    __repr__ = _reprs.fields


def _nothing() -> Translation:
    """The translation of an empty text."""
    return Translation("", [_END], [_END], 0.0, 0.0, True)


class TranslationStep:
    """What a search has after one more token: unfinished sentences, and the texts whose search has ended.

    R sentences are unfinished, as many for each text that is still searched.

    Attributes
    ----------
    number : int
        Tokens of each unfinished sentence; 0 where all texts of the step are empty.
    finished : dict of int to list of Translation
        For each text whose search ended with this step, by its number, what `search` returns.
    """

    def __init__(
        self, translator: "Translator", beams: Beams | None, number: int, sources: Array, totals: Array,
        split: list[list[str]], rows: Array, finished: dict[int, list[Translation]],
    ) -> None:  # fmt: skip
        self.number, self.finished = number, finished
        self._of, self._beams, self._split, self._rows = translator, beams, split, rows
        self._sources, self._totals = sources, totals

    @property
    def texts(self) -> Array:
        """Numbers of the texts that the unfinished sentences translate, int64 (R,)."""
        return np.repeat(self._rows[self._sources], self._totals.shape[1])

    @property
    def log_probabilities(self) -> Array:
        """Of the unfinished sentences, float64 (R,); -inf where there are fewer than the beam holds."""
        return self._totals.reshape(-1).copy()

    @property
    def tokens(self) -> list[str]:
        """The newest token of each unfinished sentence."""
        return [] if self._beams is None else self._of.target_vocabulary.decode(self._beams.tokens[self.number])

    @property
    def weights(self) -> Array:
        """What was attended to for these tokens, (R, S) or (R, H, S): S positions of the batch, 0 beyond a text.

        Raises
        ------
        UnsupportedError
            If the model has no attention.
        """
        if self._beams is None:
            return np.empty((0, 0), np.float32)
        kept = self._beams.weights
        found: Array = attended(kept[self.number - 1] if kept else None)[self._beams.parents[self.number]]
        return found

    def sentences(self) -> list[Translation]:
        """Return the unfinished sentences as they are by now, with all weights; their score is the log-probability."""
        if self._beams is None:
            return []
        found = self._beams.unfinished(self.number - 1, self._sources, self._totals)
        texts = self.texts.tolist()
        return [self._of._translation(one, self._split[i], True, False) for i, one in zip(texts, found)]

    def __repr__(self) -> str:
        texts = len(self._sources)
        return _reprs.words(self, number=self.number, unfinished=self._totals.size, texts=texts, finished=self.finished)


class Translator:
    """A model and its vocabularies; `fastattn.seq2seq.load` makes one from a checkpoint.

    Parameters
    ----------
    model : Model
    source_vocabulary, target_vocabulary : Vocabulary
    config : Config
        Its section ``inference`` has the defaults of `translate`.
    tokens_per_batch : int
        Bound of rows x longest source of a batch.

    Raises
    ------
    ConfigError
        If ``inference.forbid`` or ``inference.allow`` names a token that is not of the target vocabulary.

    Notes
    -----
    A text gets the same bits whatever other texts it is given with. An empty text has an empty translation. Where the
    model has positions for so many tokens only (`most_tokens`), the beginning of a longer text is translated, and
    translations are no longer than that.

    Examples
    --------
    >>> from fastattn.seq2seq import BahdanauConfig, Config, Translator, Vocabulary, build
    >>> model_config = BahdanauConfig(embedding=8, hidden=8, attention=8, readout_width=8)
    >>> words = Vocabulary(["a", "b"])
    >>> config = Config(model=model_config)
    >>> translator = Translator(build(model_config, len(words), len(words), seed=0), words, words, config)
    >>> len(translator.translate(["a b", "b"]))
    2
    """

    def __init__(
        self,
        model: Model,
        source_vocabulary: Vocabulary,
        target_vocabulary: Vocabulary,
        config: Config,
        *,
        tokens_per_batch: int = 2048,
    ) -> None:
        hint = "load() makes a whole Translator from a folder."
        check_kind("model", model, Model, hint)
        check_kind("source_vocabulary", source_vocabulary, Vocabulary, hint)
        check_kind("target_vocabulary", target_vocabulary, Vocabulary, hint)
        check_kind("config", config, Config, hint)
        self.model, self.config = model, config
        self.tokens_per_batch = check_size("tokens_per_batch", tokens_per_batch)
        self.source_vocabulary, self.target_vocabulary = source_vocabulary, target_vocabulary
        try:
            self._limits(None, None, None, None)  # what the configuration says of tokens is of these vocabularies
        except ArgumentError as error:
            raise ConfigError(" ".join(f"inference.{error}".splitlines())) from None

    @property
    def most_tokens(self) -> int | None:
        """Tokens of a source that the model has positions for; None: any number."""
        most = self.model.longest().source
        return None if most is None else most - 1  # and the end

    def translate(
        self,
        texts: Iterable[str],
        *,
        beam: int | None = None,
        length_penalty: float | None = None,
        coverage_penalty: float | None = None,
        max_length: int | None = None,
        prefix: str | Iterable[str] = "",
        forbid: Sequence[str] | None = None,
        allow: Sequence[str] | None = None,
        cache: Cache | None = None,
        replace: bool = False,
    ) -> list[str]:
        """Return the best translation of each text; parameters are those of `search`."""
        found = self.search(texts, beam=beam, length_penalty=length_penalty, coverage_penalty=coverage_penalty,
                            max_length=max_length, prefix=prefix, forbid=forbid, allow=allow,
                            cache=cache, replace=replace)  # fmt: skip
        return [several[0].text for several in found]

    def search(
        self,
        texts: Iterable[str],
        *,
        beam: int | None = None,
        best: int = 1,
        length_penalty: float | None = None,
        coverage_penalty: float | None = None,
        max_length: int | None = None,
        prefix: str | Iterable[str] = "",
        forbid: Sequence[str] | None = None,
        allow: Sequence[str] | None = None,
        cache: Cache | None = None,
        weights: bool = False,
        replace: bool = False,
        layers: bool = False,
    ) -> list[list[Translation]]:
        """Return the best translations of each text, the best one first.

        Parameters
        ----------
        texts : iterable of str
            Read once: a list, an array, a generator, an open file of lines.
        beam : int, optional
            Sentences kept at every step; 1 is greedy. What is not given is taken from the configuration.
        best : int
            Translations of each text.
        length_penalty, coverage_penalty : float, optional
            See `beam_search`.
        max_length : int, optional
            Most tokens of a translation, its prefix included.
        prefix : str or iterable of str
            What translations begin with: one text for all, or one for each. They end it with a whole token, and all
            its tokens must be of the target vocabulary. An empty text has an empty translation all the same.
        forbid, allow : sequence of str, optional
            Tokens of the target vocabulary that are not chosen, ``"<unk>"`` for one; and the only ones that are, if
            there are some. A prefix may have others.
        cache : {"float32", "bfloat16", "int8"}, optional
            Element type in which a Transformer keeps keys and values: see `InferenceConfig`.
        weights : bool
            Whether to return the attention weights.
        replace : bool
            Whether unknown target words become the source word that was attended to most (`replace_unknown`).
        layers : bool
            With `weights`: those of all layers, not of the last one alone. They are computed afterwards, in one pass
            over each translation, so that the search is not slower.

        Returns
        -------
        list of lists of Translation
        """
        weights, replace = check_flag("weights", weights), check_flag("replace", replace)
        layers, keep = check_flag("layers", layers), weights or replace
        size, more = self._settings(beam, best, length_penalty, coverage_penalty)
        every = self._limits(max_length, forbid, allow, cache)
        texts = list(strings("texts", texts))
        beginnings = self._beginnings(prefix, len(texts))

        def find(ids: Array, lengths: Array, rows: Array) -> list[list[Hypothesis]]:
            common: Any = {**every, "prefix": [beginnings[row] for row in rows], "weights": keep}
            if size == 1:
                found = [[one] for one in greedy(self.model, ids, lengths, **common)]
            else:
                found = beam_search(self.model, ids, lengths, size=size, best=best, **common, **more)
            if not (weights and layers):
                return found
            pairs = zip(ids, lengths.tolist(), found)
            return [[self._with_layers(source[:length], one) for one in several] for source, length, several in pairs]

        return self._find(texts, find, weights, replace)

    def sample(
        self,
        texts: Iterable[str],
        *,
        seed: int,
        first: int = 0,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        max_length: int | None = None,
        prefix: str | Iterable[str] = "",
        forbid: Sequence[str] | None = None,
        allow: Sequence[str] | None = None,
        cache: Cache | None = None,
        weights: bool = False,
    ) -> list[Translation]:
        """Return a translation of each text, drawn at random.

        Parameters
        ----------
        texts : iterable of str
        seed, first : int
            What is drawn for a text is a function of the text, the seed, and its place: `first` for the first one.
        temperature, top_k, top_p
            See `fastattn.seq2seq.sample`.
        max_length, prefix, forbid, allow, cache
            As for `search`.
        weights : bool
            Whether to return the attention weights.
        """
        every, first = self._limits(max_length, forbid, allow, cache), check_size("first", first, least=0)
        texts = list(strings("texts", texts))
        beginnings = self._beginnings(prefix, len(texts))
        check_size("seed", seed, least=0)
        weights = check_flag("weights", weights)

        def find(ids: Array, lengths: Array, rows: Array) -> list[list[Hypothesis]]:
            found = sample(
                self.model, ids, lengths, seeds=sample_seeds(seed, 0, rows + first), temperature=temperature,
                top_k=top_k, top_p=top_p, weights=weights, prefix=[beginnings[row] for row in rows], **every,
            )  # fmt: skip
            return [[one] for one in found]

        return [found[0] for found in self._find(texts, find, weights, False)]

    def alternatives(
        self,
        text: str,
        *,
        prefix: str = "",
        best: int = 5,
        beam: int | None = None,
        length_penalty: float | None = None,
        coverage_penalty: float | None = None,
        max_length: int | None = None,
        forbid: Sequence[str] | None = None,
        allow: Sequence[str] | None = None,
        cache: Cache | None = None,
    ) -> list[Translation]:
        """Return translations of a text that go different ways at one place: after a prefix.

        Parameters
        ----------
        text : str
        prefix : str
            What all of them begin with.
        best : int
            How many: each continues with another of the most probable next tokens, or with the end.
        beam, length_penalty, coverage_penalty, max_length, forbid, allow, cache
            Of the search that completes each of them; as for `search`.

        Returns
        -------
        list of Translation
            The one with the most probable next token first.
        """
        [start] = self._beginnings(string("prefix", prefix), 1)
        size, more = self._settings(beam, 1, length_penalty, coverage_penalty)
        best, every = check_size("best", best), self._limits(max_length, forbid, allow, cache)

        def find(ids: Array, lengths: Array, rows: Array) -> list[list[Hypothesis]]:
            one_more = {**every, "limit": len(start) + 1}
            [found] = beam_search(self.model, ids, lengths, size=best, best=best, prefix=[start], **one_more)
            found.sort(key=lambda one: -one.log_probability)
            going = [i for i, one in enumerate(found) if not one.finished and len(one.tokens) < every["limit"]]
            more["prefix"] = [found[i].tokens for i in going]
            sources, of_each = ids.repeat(len(going), axis=0), lengths.repeat(len(going))
            for i, [one] in zip(going, beam_search(self.model, sources, of_each, size=size, **every, **more)):
                found[i] = one
            return [found]

        return self._find([string("text", text)], find, False, False)[0]

    def score(
        self, sources: Iterable[str], targets: Iterable[str], *, weights: bool = False, layers: bool = False
    ) -> list[Translation]:
        """Return the given targets with their log-probabilities, the end included.

        Parameters
        ----------
        sources, targets : iterables of str
            As many of one as of the other.
        weights : bool
            Whether to return the attention weights.
        layers : bool
            With `weights`: those of all layers, not of the last one alone.
        """
        sources, targets = list(strings("sources", sources)), list(strings("targets", targets))
        if len(sources) != len(targets):
            hint = "give one target for every source."
            raise ArgumentError(describe("targets", f"{len(sources)} texts, as many as sources", len(targets), hint))
        weights, layers = check_flag("weights", weights), check_flag("layers", layers)
        source = [encode(self.source_vocabulary, text) for text in sources]
        target = [encode(self.target_vocabulary, text) for text in targets]
        lengths = np.array([[len(s), len(t)] for s, t in zip(source, target)], np.int64).reshape(-1, 2)
        longest = self.model.longest()
        for name, side, most in (("sources", source, longest.source), ("targets", target, longest.target)):
            for number, ids in enumerate(side):
                if most is not None and len(ids) > most:
                    expected = f"at most {most - 1} tokens, for which the model has positions (model.{longest.key})"
                    hint = "leave the pair out, or train with more positions."
                    raise ArgumentError(describe(f"{name}[{number}]", expected, len(ids) - 1, hint))
        found: list[Translation | None] = [None] * len(sources)
        for rows in group(lengths, max(self.tokens_per_batch, int(lengths.max(initial=1)))):
            batch = Batch(*pad([source[i] for i in rows]), *pad([target[i] for i in rows]), rows)
            wanted = "layers" if weights and layers else weights
            for i, one in zip(rows.tolist(), score_pairs(self.model, batch, weights=wanted)):
                tokens = [*self.target_vocabulary.split(targets[i]), _END]
                shown = [*self.source_vocabulary.split(sources[i]), _END]
                found[i] = Translation(targets[i], tokens, shown, one.log_probability, one.score, True, one.weights)
        return [one for one in found if one is not None]

    def align(self, source: str, target: str | None = None, *, layers: bool = False) -> Translation:
        """Return the attention weights of a pair, or of a source and its best translation; with `layers` of all layers.

        Raises
        ------
        UnsupportedError
            If the model has no attention.
        """
        source = string("source", source)
        target = None if target is None else string("target", target)
        if not self.source_vocabulary.split(source):
            raise ArgumentError(describe("source", "a text", repr(source), "give a text with a token to attend to."))
        if target is None:
            [[found]] = self.search([source], weights=True, layers=layers)
        else:
            [found] = self.score([source], [target], weights=True, layers=layers)
        return found

    def stream(
        self,
        texts: Iterable[str],
        *,
        beam: int | None = None,
        best: int = 1,
        length_penalty: float | None = None,
        coverage_penalty: float | None = None,
        max_length: int | None = None,
        cache: Cache | None = None,
    ) -> "Iterator[TranslationStep]":
        """Translate as `search` does, and show every step: for each token the attention weights it was found with.

        Parameters
        ----------
        texts : iterable of str
        beam, best, length_penalty, coverage_penalty, max_length, cache
            As for `search`.

        Returns
        -------
        iterator of TranslationStep
            One for each token of a batch. Texts of about one length are a batch, and batches follow each other; all
            that is found is found with the bits of `search`.

        Notes
        -----
        What a step holds is read off the search when it is asked for, so that a step that nobody looks at costs a
        few microseconds. The weights of a batch are kept until its steps are let go.

        Examples
        --------
        >>> from fastattn.seq2seq import BahdanauConfig, Config, Translator, Vocabulary, build
        >>> model_config = BahdanauConfig(embedding=8, hidden=8, attention=8, readout_width=8)
        >>> words = Vocabulary(["a", "b"])
        >>> model = build(model_config, len(words), len(words), seed=0)
        >>> translator = Translator(model, words, words, Config(model=model_config))
        >>> for step in translator.stream(["a b", "b"], beam=2, max_length=3):
        ...     print(step.number, step.texts, step.weights.shape, sorted(step.finished))
        1 [1 1 0 0] (4, 3) []
        2 [] (0, 3) [0, 1]
        """
        size, more = self._settings(beam, best, length_penalty, coverage_penalty)
        if size == 1:  # the most probable token each time
            more = {"length_penalty": 0.0, "coverage_penalty": 0.0}
        more |= self._limits(max_length, None, None, cache)
        return self._stream(list(strings("texts", texts)), size, best, more)

    def _stream(self, texts: list[str], size: int, best: int, more: dict[str, Any]) -> "Iterator[TranslationStep]":
        split = self._split(texts)
        empty = {i: [_nothing()] for i, tokens in enumerate(split) if not tokens}
        if empty:
            yield TranslationStep(self, None, 0, np.empty(0, np.int64), np.empty((0, 1)), split, np.arange(0), empty)
        for rows, ids, lengths in self._batches(split):
            before = np.arange(len(rows))
            steps = beam_steps(self.model, ids, lengths, size=size, best=best, weights=self.model.attends, **more)
            for number, beams in enumerate(steps, 1):
                ended: dict[int, list[Translation]] = {}
                if len(beams.sources) < len(before):
                    for b in np.setdiff1d(before, beams.sources).tolist():
                        i = int(rows[b])
                        ended[i] = [self._translation(one, split[i], True, False) for one in beams.results(b)]
                    before = beams.sources
                yield TranslationStep(self, beams, number, beams.sources, beams.totals, split, rows, ended)

    def _settings(
        self,
        beam: int | None,
        best: int,
        length_penalty: float | None,
        coverage_penalty: float | None,
    ) -> tuple[int, dict[str, Any]]:
        """Return the beam's size and the penalties of a search, from what is given or is set."""
        size = self._setting("beam", beam)
        if check_size("best", best) > size:
            if beam is not None:
                got = f"{best} with a beam of {beam}"
                raise ArgumentError(describe("best", "at most the beam's size", got, "widen the beam."))
            size = argument(InferenceConfig, "beam", best, "best")
        given = {"length_penalty": length_penalty, "coverage_penalty": coverage_penalty}
        more = {name: self._setting(name, value) for name, value in given.items()}
        return size, {**more, "length_norm": self.config.inference.length_norm}

    def _split(self, texts: list[str]) -> list[list[str]]:
        return [self.source_vocabulary.split(text)[: self.most_tokens] for text in texts]

    def _batches(self, split: list[list[str]]) -> Iterator[tuple[Array, Array, Array]]:
        """Yield the numbers of the texts of a batch, their padded ids and their lengths; empty texts are in none."""
        encoded = [np.append(self.source_vocabulary.encode(tokens), np.int32(EOS)) for tokens in split]
        lengths = np.array([len(ids) for ids in encoded], np.int64)
        wanted = np.array([i for i, tokens in enumerate(split) if tokens], np.int64)
        for rows in group(lengths, max(self.tokens_per_batch, int(lengths.max(initial=1))), wanted):
            yield rows, *pad([encoded[i] for i in rows])

    def alignments(
        self, sources: Iterable[str], targets: Iterable[str] | None = None, *, words: bool = True
    ) -> list[list[tuple[int, int]]]:
        """Return the pairs (source word, target word) that attention links, for each pair of texts.

        Each target token is linked with the source token that it attends to most; words, which white space parts, are
        linked if some of their tokens are. Of a Transformer it is the mean of the last layer's heads.
        `fastattn.seq2seq.pharaoh` makes a line of the Pharaoh format of them.

        Parameters
        ----------
        sources : iterable of str
        targets : iterable of str, optional
            By default the best translations.
        words : bool
            Whether words are numbered, or tokens.

        Raises
        ------
        UnsupportedError
            If the model has no attention.
        """
        sources, words = list(strings("sources", sources)), check_flag("words", words)
        found = []
        for one in self.score(sources, self.translate(sources) if targets is None else targets, weights=True):
            sides = zip((self.source_vocabulary, self.target_vocabulary), (one.source_tokens[:-1], one.tokens[:-1]))
            numbers = [word_numbers(side, tokens) if words else range(len(tokens)) for side, tokens in sides]
            found.append(links(attended(one.weights), *numbers))
        return found

    def _setting(self, name: str, given: object) -> Any:
        """Return what is given in place of a setting of the configuration, or that setting."""
        return getattr(self.config.inference, name) if given is None else argument(InferenceConfig, name, given)

    def _limits(self, max_length: object, forbid: object, allow: object, cache: object) -> dict[str, Any]:
        """Return what all searches are told: the limit, which ids they may choose, and what they keep caches in."""
        allowed = self._tokens("allow", self._setting("allow", allow))
        return {
            "limit": self._setting("max_length", max_length),
            "forbid": self._tokens("forbid", self._setting("forbid", forbid)),
            "allow": allowed or None,
            "cache": self._setting("cache", cache),
        }

    def _beginnings(self, prefix: str | Iterable[str], count: int) -> list[list[int]]:
        """Return the ids that each of so many translations begins with."""
        given = [prefix] * count if isinstance(prefix, str) else list(strings("prefix", prefix))
        if len(given) != count:
            hint = "give one text for all, or one for each."
            raise ArgumentError(describe("prefix", f"{count} texts", len(given), hint))
        vocabulary = self.target_vocabulary
        return [self._tokens("prefix", vocabulary.split(each) or vocabulary.begin) for each in given]

    def _tokens(self, name: str, tokens: Sequence[str]) -> list[int]:
        """Return the ids of tokens of the target vocabulary, or raise."""
        vocabulary = self.target_vocabulary
        for token in tokens:
            if token not in vocabulary and (token != SPECIAL[UNK] or name == "prefix"):
                hint = did_you_mean(token, vocabulary.tokens, "target_vocabulary.tokens has them.")
                raise ArgumentError(describe(name, "tokens of the target vocabulary", repr(token), hint))
        return [int(number) for number in vocabulary.encode(tokens)]

    def _with_layers(self, source: Array, found: Hypothesis) -> Hypothesis:
        """Return a hypothesis for source ids with the weights of all layers."""
        target = np.append(found.tokens, EOS) if found.finished else found.tokens
        batch = Batch(*pad([source]), *pad([target]), np.zeros(1, np.int64))
        [one] = score_pairs(self.model, batch, weights="layers")
        return dataclasses.replace(found, weights=one.weights)

    def _find(
        self,
        texts: Iterable[str],
        find: Callable[[Array, Array, Array], list[list[Hypothesis]]],
        weights: bool,
        replace: bool,
    ) -> list[list[Translation]]:
        texts = list(strings("texts", texts))
        split = self._split(texts)
        found = [[_nothing()] for _ in texts]
        for rows, ids, of_rows in self._batches(split):
            for i, hypotheses in zip(rows.tolist(), find(ids, of_rows, rows)):
                found[i] = [self._translation(one, split[i], weights, replace) for one in hypotheses]
        return found

    def _translation(self, found: Hypothesis, source: list[str], weights: bool, replace: bool) -> Translation:
        vocabulary = self.target_vocabulary
        tokens = vocabulary.decode(found.tokens)
        if replace and found.weights is not None and UNK in found.tokens:
            last = found.weights if found.weights.ndim < 4 else found.weights[:, -1]
            tokens = replace_unknown(tokens, found.tokens, last, source)
        shown = [*tokens, _END] if found.finished else tokens
        return Translation(
            vocabulary.join(tokens), shown, [*source, _END], found.log_probability, found.score, found.finished,
            found.weights if weights else None,
        )  # fmt: skip

    def __repr__(self) -> str:
        sides = {"source_vocabulary": self.source_vocabulary, "target_vocabulary": self.target_vocabulary}
        return _reprs.words(self, model=self.model, **sides)

    def _repr_html_(self) -> str:
        """A card that says what the model is, and what it is used with."""
        facts = {"model": self.model, "source": self.source_vocabulary, "target": self.target_vocabulary}
        most = {} if self.most_tokens is None else {"most tokens of a source": self.most_tokens}
        return _cards.card("Translator", _cards.rows({**facts, **vars(self.config.inference), **most}))
