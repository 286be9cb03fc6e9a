"""The configuration of a model and its training: one TOML file, read into frozen dataclasses.

Every key has a default but ``data.train``, which only the reading of files needs; unknown keys are refused. Paths are
relative to the folder of the file.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any, Self

from fastattn import _reprs
from fastattn._strings import path_name
from fastattn.errors import (
    ArgumentError,
    ConfigError,
    DTypeError,
    PluginError,
    TextError,
    describe_file,
    hint_of,
    within,
)
from fastattn.seq2seq.models.registry import record
from fastattn.seq2seq.schema import as_table, from_table, home_of, shown, suggest, to_table
from fastattn.seq2seq.sections import PATHS, DataConfig, InferenceConfig, TrainingConfig, VocabularyConfig
from fastattn.seq2seq.text.files import read_whole

__all__ = ["Config", "DataConfig", "InferenceConfig", "TrainingConfig", "VocabularyConfig", "read_config"]

_LONGEST = 1 << 20  # bytes of a configuration file: more is another file

_SECTIONS = {
    "data": DataConfig,
    "vocabulary": VocabularyConfig,
    "training": TrainingConfig,
    "inference": InferenceConfig,
}


@dataclass(frozen=True)
class Config:
    """A whole configuration.

    Attributes
    ----------
    data : DataConfig
        May be left out where the pairs themselves are given to `fastattn.seq2seq.train`.
    model : dataclass
        The settings of the model's class, with its `kind`.
    vocabulary : VocabularyConfig
    training : TrainingConfig
    inference : InferenceConfig

    Examples
    --------
    >>> from fastattn.seq2seq import Config
    >>> config = Config.from_dict({"data": {"train": "pairs.tsv"}, "model": {"kind": "sutskever", "layers": 2}})
    >>> config.model.layers, config.training.rate
    (2, 0.001)
    >>> Config.from_dict(config.to_dict()) == config
    True
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: Any = None
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)

    def __new__(cls, *args: Any, **given: Any) -> Self:
        """Refuse names of no section, before the dataclass would."""
        for name in given:
            if name not in (*_SECTIONS, "model"):
                raise ConfigError(_unknown_section(name))
        return super().__new__(cls)

    def __post_init__(self) -> None:
        if not is_dataclass(self.model) or isinstance(self.model, type):
            hint = "pass BahdanauConfig(), say, or the settings of another kind."
            raise ConfigError(describe_file("model", f"expected settings, got {shown(self.model)}", hint))
        for name, section in _SECTIONS.items():
            if not isinstance(given := getattr(self, name), section):
                hint = f"pass {section.__name__}(...)."
                raise ConfigError(describe_file(name, f"expected settings, got {shown(given)}", hint))
        if self.data.train and not self.data.validation:
            self.check_unvalidated()
        self._check_vocabularies()

    def check_unvalidated(self) -> None:
        """Raise if a setting of the training has no meaning without validation data."""
        for name, used in (
            ("patience", self.training.patience > 0),
            ("schedule", self.training.schedule == "plateau"),
            ("metric", self.training.metric != "loss"),
            ("validate_every", self.training.validate_every > 0),
        ):
            if used:
                got = f"{getattr(self.training, name)!r} needs validation data"
                raise ConfigError(describe_file(f"training.{name}", got, "give data.validation, or leave this out."))

    def _check_vocabularies(self) -> None:
        """Raise if a vocabulary that is read from a file is to be learnt, too."""
        files, wanted = (self.data.source_vocabulary, self.data.target_vocabulary), self.vocabulary
        if wanted.shared and files[0] != files[1]:
            hint = "name one file as both data.source_vocabulary and data.target_vocabulary."
            raise ConfigError(describe_file("vocabulary.shared", "one vocabulary cannot be of two files", hint))
        sizes = {"source_size": files[0] and wanted.source_size, "target_size": files[1] and wanted.target_size}
        for key, used in (*sizes.items(), ("min_count", all(files) and wanted.min_count > 1)):
            if used:
                problem = "not used, as the vocabulary is read from a file"
                raise ConfigError(describe_file(f"vocabulary.{key}", problem, "leave it out."))

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as tables of JSON or TOML, with all defaults written out."""
        return to_table(self)

    @classmethod
    def from_dict(cls, tables: Mapping[str, Any]) -> "Config":
        """Return the configuration that tables describe.

        Parameters
        ----------
        tables : mapping
            Sections by name; the section of the model has the settings of its kind, also of one that a plugin has.

        Raises
        ------
        ConfigError
            In one line that begins with the path of the key.
        """
        for name, table in as_table(tables, "configuration").items():
            if name not in (*_SECTIONS, "model"):
                raise ConfigError(_unknown_section(str(name)))
            if name in _SECTIONS:
                as_table(table, name)
        found: dict[str, Any] = {
            name: from_table(section, tables.get(name, {}), name) for name, section in _SECTIONS.items()
        }
        return cls(model=_model(as_table(tables.get("model", {}), "model")), **found)

    __repr__ = _reprs.settings


def read_config(path: str | os.PathLike[str]) -> Config:
    """Read a configuration file.

    Parameters
    ----------
    path : path
        A TOML file.

    Returns
    -------
    Config
        With the paths of `data` and `training.init_from` joined to the folder of the file.

    Raises
    ------
    ConfigError
        In one line that begins with the path of the file, if it cannot be read or is not as it should be.
    """
    path = Path(path_name("config", path, "pass the path of a TOML file, or a Config."))
    try:
        tables = tomllib.loads(read_whole(path, _LONGEST))
    except TextError as error:
        raise ConfigError(str(error)) from None
    except OSError as error:
        hint = "name a configuration file that can be read."
        raise ConfigError(describe_file(path, (error.strerror or "cannot be read").lower(), hint)) from None
    except (ValueError, RecursionError) as error:  # ValueError: of TOML, or a number of too many digits
        hint = "correct the TOML there; text goes in quotes."
        raise ConfigError(describe_file(path, f"{error}".rstrip("."), hint)) from None
    try:
        config = Config.from_dict(tables)
    except ConfigError as error:
        raise ConfigError(within(path, error)) from None
    places = {name: getattr(config.data, name) for name in PATHS}
    joined: dict[str, Any] = {
        name: os.path.join(path.parent, place) for name, place in places.items() if place not in ("", "-")
    }
    init_from = config.training.init_from and os.path.join(path.parent, config.training.init_from)
    training = replace(config.training, init_from=init_from)
    return replace(config, data=replace(config.data, **joined), training=training)


def _model(table: Mapping[str, Any]) -> Any:
    kind = table.get("kind", "bahdanau")
    try:
        section = record(kind).section()
    except (ArgumentError, DTypeError) as error:
        raise ConfigError(describe_file("model.kind", f"no kind of model is called {kind!r}", hint_of(error))) from None
    except PluginError as error:
        raise ConfigError(within("model.kind", error)) from None
    return from_table(section, {**table, "kind": kind}, "model")


def _unknown_section(name: str) -> str:
    home = home_of(name)
    return describe_file(name if home else f"[{name}]", "unknown section", home or suggest(name, [*_SECTIONS, "model"]))
