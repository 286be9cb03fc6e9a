"""The sections of a configuration but for the model's, which is described beside each model."""

from dataclasses import dataclass
from typing import Literal

from fastattn.errors import ConfigError, describe_file
from fastattn.seq2seq.schema import Section, setting
from fastattn.seq2seq.text.vocabulary import PUNCTUATED, Kind
from fastattn.seq2seq.text.words import Form

__all__ = ["MOST_TOKENS", "PATHS", "Cache", "DataConfig", "InferenceConfig", "TrainingConfig", "VocabularyConfig"]

# Of a translation: a search that keeps a beam of 5 for so many steps is done, in minutes and in some tens of megabytes.
MOST_TOKENS = 100_000

# Settings of the learning rate's schedule, and the schedules that have them.
_USED_BY = {
    "warmup": ("inverse_sqrt", "cosine", "one_cycle"),
    "schedule_steps": ("cosine", "one_cycle"),
    "lowest": ("cosine", "one_cycle", "plateau"),
}

# The keys of `DataConfig` that name files.
PATHS = (
    "train",
    "train_target",
    "validation",
    "validation_target",
    "source_vocabulary",
    "target_vocabulary",
    "source_embeddings",
    "target_embeddings",
)


@dataclass(frozen=True)
class DataConfig(Section, section="data"):
    """What is read. A path may be "-", the standard input.

    Attributes
    ----------
    train, validation : str
        Pairs, source and target separated by a tab; or the sources. `train` is needed unless the pairs themselves are
        given to `fastattn.seq2seq.train`. Without validation data there is no best checkpoint and no early stop.
    train_target, validation_target : str
        The targets, where they have a file of their own.
    columns : (int or str, int or str)
        Which columns of a file are source and target: numbers from 1 on, or names in its first line; without it there
        must be exactly two. Columns are parted by tabs, and by commas in a file whose name ends in ``.csv``.
    strict : bool
        Whether a line that cannot be used is an error; otherwise it is reported and left out.
    source_vocabulary, target_vocabulary : str
        Vocabularies to use in place of learnt ones; see `read_vocabulary`. Their kinds are those of ``[vocabulary]``.
    source_embeddings, target_embeddings : str
        Vectors that a new model's embeddings begin with, in the text format of word2vec and fastText.
    """

    train: str = setting("")
    train_target: str = setting("")
    validation: str = setting("")
    validation_target: str = setting("")
    columns: tuple[int | str, int | str] | None = setting(None, least=1)
    strict: bool = setting(False)
    source_vocabulary: str = setting("")
    target_vocabulary: str = setting("")
    source_embeddings: str = setting("")
    target_embeddings: str = setting("")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("train", "validation"):
            if getattr(self, f"{name}_target") and not getattr(self, name):
                raise ConfigError(describe_file(f"data.{name}", "missing", f"name the sources of {name}_target."))
        if [*map(self.__getattribute__, PATHS)].count("-") > 1:
            raise ConfigError(describe_file("data", "the standard input is named twice", "use files."))


@dataclass(frozen=True)
class VocabularyConfig(Section, section="vocabulary"):
    """How texts become tokens; see `Vocabulary.build`.

    Attributes
    ----------
    source, target : str
        "word", "char", "bpe", "sentencepiece" or "tokenizer".
    source_size, target_size : int
        Largest numbers of tokens, the four special ones included; 0: no limit, for pieces of words 8000.
    min_count : int
        Rarer tokens are unknown.
    shared : bool
        One vocabulary, built from both sides, for source and target.
    punctuation : bool
        Whether punctuation marks are tokens apart from words, where these are of kind "word" or "bpe".
    lowercase : bool
        Whether texts are put in lower case, and so translations are.
    normalization : str
        "NFC" or "NFKC": the Unicode normal form that texts are put in; "none": as they are.
    """

    source: Kind = "word"
    target: Kind = "word"
    source_size: int = setting(0, least=0, most=10_000_000)
    target_size: int = setting(0, least=0, most=10_000_000)
    min_count: int = setting(1, least=1)
    shared: bool = setting(False)
    punctuation: bool = setting(False)
    lowercase: bool = setting(False)
    normalization: Form = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.punctuation and not {self.source, self.target} & set(PUNCTUATED):
            problem = f"not used by kinds {self.source!r} and {self.target!r}"
            raise ConfigError(describe_file("vocabulary.punctuation", problem, 'leave it out, or use "word" or "bpe".'))
        for name in ("source_size", "target_size"):
            if 0 < getattr(self, name) < 5:
                place, got = f"vocabulary.{name}", getattr(self, name)
                raise ConfigError(describe_file(place, f"expected at least 5, got {got}", "4 tokens are special."))
        if self.shared and (self.source, self.source_size) != (self.target, self.target_size):
            hint = "give source and target the same kind and size."
            raise ConfigError(describe_file("vocabulary.shared", "one vocabulary cannot be of two sorts", hint))


@dataclass(frozen=True)
class TrainingConfig(Section, section="training"):
    """How a model is trained. A step is one update of the parameters.

    Attributes
    ----------
    seed : int
        Of the parameters' start, of the order of samples, and of dropout; from 0 up.
    epochs, max_steps : int
        Training ends after either; 0: no limit by it, but one must be given.
    tokens_per_batch : int
        Bound of rows x longest row, source or target, padding included.
    max_length : int
        Longer sentences are reported and left out; tokens, without the end token.
    rate : float
        The learning rate, or its largest value.
    schedule : str
        "constant"; "inverse_sqrt": rising for `warmup` steps, then falling with the square root of the step (Vaswani
        et al. 2017, section 5.3); "plateau": times `factor` after `plateau_patience` validations without a gain;
        "cosine" and "one_cycle": rising for `warmup` steps, then falling until step `schedule_steps`, see
        `fastattn.optim.Cosine` and `OneCycle`.
    warmup : int
        Steps; 0 with "one_cycle": 0.3 of `schedule_steps`.
    schedule_steps : int
        For "cosine" and "one_cycle": the step that has the lowest rate, the last one of the run as a rule.
    lowest : float
        For "plateau", "cosine" and "one_cycle": the lowest rate.
    factor : float
        For "plateau".
    plateau_patience : int
        For "plateau".
    betas : (float, float)
    epsilon : float
    decay : float
        Decoupled weight decay (Loshchilov and Hutter 2019).
    clip : float
        Largest norm of the gradient; 0: none.
    precision : str
        "float32", or "bfloat16": the products of a step, forward and backward, are those of
        `fastattn.float32_precision` "batched" or "medium". Parameters, moments, losses and normalization are float32
        in either.
    average : float
        Decay of exponential averages of the parameters (Polyak and Juditsky 1992), which are what is validated, saved
        and used; 0: none, the parameters themselves.
    sampling : float
        Probability of feeding the decoder its own token (Bengio et al. 2015).
    sampling_warmup : int
        Steps over which that probability rises from 0.
    accumulate : int
        Batches per step.
    shards : int
        Parts into which the batches of a step are cut. Gradients are summed part by part, in one order, so that as many
        processes as there are parts, or fewer, train the model with the same bits.
    validate_every, checkpoint_every : int
        Steps; 0: at the end of every epoch.
    log_every : int
        Steps.
    patience : int
        Validations without a gain after which training stops; 0: it does not.
    metric : str
        By which the best checkpoint is chosen.
    keep : int
        Checkpoints kept, besides the best.
    tensorboard : bool
        Whether the figures of the log are written for TensorBoard too, see `fastattn.seq2seq.TensorBoard`.
    init_from : str
        A trained model, the folder of its run or of a checkpoint, to begin with; "": parameters are drawn.
    """

    seed: int = setting(1, least=0)
    epochs: int = setting(10, least=0)
    max_steps: int = setting(0, least=0)
    tokens_per_batch: int = setting(4096, least=2)
    max_length: int = setting(100, least=1)
    rate: float = setting(0.001, above=0)
    schedule: Literal["constant", "inverse_sqrt", "plateau", "cosine", "one_cycle"] = "constant"
    warmup: int = setting(0, least=0)
    schedule_steps: int = setting(0, least=0)
    lowest: float = setting(0.0, least=0)
    factor: float = setting(0.5, above=0, below=1)
    plateau_patience: int = setting(1, least=1)
    betas: tuple[float, float] = setting((0.9, 0.999), least=0, below=1)
    epsilon: float = setting(1e-8, above=0)
    decay: float = setting(0.0, least=0)
    clip: float = setting(1.0, least=0)
    precision: Literal["float32", "bfloat16"] = "float32"
    average: float = setting(0.0, least=0, below=1)
    sampling: float = setting(0.0, least=0, most=1)
    sampling_warmup: int = setting(0, least=0)
    accumulate: int = setting(1, least=1)
    shards: int = setting(1, least=1, most=4096)
    validate_every: int = setting(0, least=0)
    checkpoint_every: int = setting(0, least=0)
    log_every: int = setting(50, least=1)
    patience: int = setting(0, least=0)
    metric: Literal["loss", "bleu", "chrf", "wer", "per", "accuracy"] = "loss"
    keep: int = setting(3, least=1)
    tensorboard: bool = setting(False)
    init_from: str = setting("")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.epochs and not self.max_steps:
            raise ConfigError(describe_file("training.epochs", "training would never end", "give max_steps as well."))
        if self.max_length >= self.tokens_per_batch:
            got = f"tokens_per_batch {self.tokens_per_batch} holds no sentence of max_length {self.max_length}"
            hint = f"give at least {self.max_length + 1}, with the end token."
            raise ConfigError(describe_file("training.tokens_per_batch", got, hint))
        if self.schedule == "inverse_sqrt" and not self.warmup:
            raise ConfigError(describe_file("training.warmup", "inverse_sqrt needs one", "4000 steps are usual."))
        for key, schedules in _USED_BY.items():
            if getattr(self, key) and self.schedule not in schedules:
                hint = f'leave it out, or use "{schedules[0]}".'
                raise ConfigError(describe_file(f"training.{key}", f"not used by schedule {self.schedule!r}", hint))
        if self.schedule in _USED_BY["schedule_steps"] and self.schedule_steps <= self.warmup:
            got = f"{self.schedule} needs more than the {self.warmup} of warmup, got {self.schedule_steps}"
            raise ConfigError(describe_file("training.schedule_steps", got, "give the steps of the whole run."))
        if self.lowest > self.rate:
            got = f"{self.lowest} is more than rate {self.rate}"
            raise ConfigError(describe_file("training.lowest", got, "it is the rate at the end; 0 is usual."))


Cache = Literal["float32", "bfloat16", "int8"]


@dataclass(frozen=True)
class InferenceConfig(Section, section="inference"):
    """How a trained model is used, unless the command says otherwise.

    Attributes
    ----------
    beam : int
        Hypotheses kept; 1 is greedy.
    length_penalty, coverage_penalty : float
        alpha and beta of Wu et al. 2016, equation 14; 0: none.
    length_norm : str
        What alpha is the exponent of: "wu", (5 + length) / 6, as in that equation; "length", the length itself.
    max_length : int
        Tokens after which a translation is cut, at most 100 000. With a length penalty a search may have to go on until
        then, as only then no longer sentence can be better.
    forbid, allow : tuple of str
        Tokens of the target vocabulary that are not chosen, and the only ones that are, if there are some.
    cache : str
        Element type in which a Transformer keeps keys and values while it searches: "float32", in which it computes;
        "bfloat16", half the bytes; "int8", with a scale for each position and head, little more than a quarter
        (`fastattn.prepare`, storage).
    """

    beam: int = setting(5, least=1, most=1000)
    length_penalty: float = setting(0.6, least=0, most=100)
    coverage_penalty: float = setting(0.0, least=0, most=1e6)
    length_norm: Literal["wu", "length"] = "wu"
    max_length: int = setting(200, least=1, most=MOST_TOKENS)
    forbid: tuple[str, ...] = setting(())
    allow: tuple[str, ...] = setting(())
    cache: Cache = "float32"
