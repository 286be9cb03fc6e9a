"""Hints about configurations."""

from dataclasses import dataclass

from fastattn.seq2seq import BahdanauConfig, Config, DataConfig, TrainingConfig, read_config, train
from fastattn.seq2seq.schema import from_table
from fastattn.seq2seq.text.corpus import prepare_corpus
from hints import advice, write

VALID = """
[data]
train = "pairs.tsv"
validation = "others.tsv"
[model]
hidden = 8
[training]
rate = 0.01
"""


def toml(text=VALID, old="", new="", path="a.toml"):
    return read_config(write(path, text.replace(old, new) if old else text + new))


def replaced(old, wrong, right, hint, **more):
    """A case in which a text of the file is wrong."""
    advice(lambda new=wrong: toml(old=old, new=new), hint.replace("{", "{{").replace("}", "}}"), new=right, **more)


advice(lambda path=3: read_config(path), "pass the path of a TOML file, or a Config", lambda: toml())
advice(lambda: read_config("a.toml"), "name a configuration file that can be read", lambda: toml())
replaced("", "x = [", "", "correct the TOML there")
replaced('"pairs.tsv"', "pairs.tsv", '"pairs.tsv"', "text goes in quotes")
replaced("hidden", "hiden", "hidden", "did you mean 'hidden'?")
replaced("[model]", "[modell]", "[model]", "did you mean 'model'?")
replaced("[data]", "[zzz]\n[data]", "[data]", "known are data, vocabulary, training, inference, model")
replaced("hidden = 8", 'kind = "transfomer"', 'kind = "transformer"', "did you mean 'transformer'?")
replaced(
    "hidden = 8",
    "[model.mechanism]",
    '[model.mechanism]\nname = "location_sensitive"',
    'write name = "location_sensitive"',
)
replaced(
    "hidden = 8", "mechanism = 3", 'mechanism = { name = "additive" }', 'write a table, mechanism = { key = "value" }'
)
advice(lambda new="epochs = 3\n" + VALID: toml(new), "it belongs to [training]", new=VALID + "epochs = 3\n")
replaced("rate", "beam", "rate", "it belongs to [inference]")
replaced("rate = 0.01", 'rate = "fast"', "rate = 0.001", "the default is 0.001")
replaced("rate = 0.01", "betas = [0.9]", "betas = [0.9, 0.999]", "the default is [0.9, 0.999]")
replaced("rate = 0.01", "rate = inf", "rate = 0.001", "the default is 0.001")
replaced("rate = 0.01", "rate = 0", "rate = 0.001", "the default is 0.001")
replaced("rate = 0.01", f"epochs = {2**63}", "epochs = 10", "the default is 10")
replaced("rate = 0.01", 'metric = "los"', 'metric = "loss"', "did you mean 'loss'?")
replaced("rate = 0.01", 'metric = "xxx"', 'metric = "bleu"', "known are loss, bleu, chrf, wer, per, accuracy")
replaced('train = "pairs.tsv"', "train = 3", 'train = "3"', "correct it")
replaced("[data]", "[data]\ncolumns = 3", "[data]", "or leave it out")
replaced(
    'train = "pairs.tsv"', 'train_target = "a"', 'train = "b"\ntrain_target = "a"', "name the sources of train_target"
)
advice(
    lambda train="-", validation="-": DataConfig(train=train, validation=validation),
    "use files",
    validation="others.tsv",
)
replaced(
    "[model]",
    "[vocabulary]\nsource_size = 4\n[model]",
    "[vocabulary]\nsource_size = 5\n[model]",
    "4 tokens are special",
)
replaced(
    "[model]",
    '[vocabulary]\nshared = true\nsource = "char"\n[model]',
    '[vocabulary]\nshared = true\nsource = "char"\ntarget = "char"\n[model]',
    "give source and target the same kind and size",
)
replaced(
    "[model]",
    '[vocabulary]\nsource = "char"\ntarget = "char"\npunctuation = true\n[model]',
    '[vocabulary]\nsource = "char"\ntarget = "bpe"\npunctuation = true\n[model]',
    'leave it out, or use "word" or "bpe"',
)
FILE = 'source_vocabulary = "a"\n'
SHARED = "[vocabulary]\nshared = true\n[model]"
replaced("[model]", f"{FILE}[vocabulary]\nsource_size = 9\n[model]", f"{FILE}[model]", "leave it out")
replaced(
    "[model]",
    FILE + SHARED,
    FILE + 'target_vocabulary = "a"\n' + SHARED,
    "name one file as both data.source_vocabulary and data.target_vocabulary",
)
replaced("rate = 0.01", "epochs = 0", "epochs = 0\nmax_steps = 9", "give max_steps as well")
replaced("rate = 0.01", "tokens_per_batch = 100", "tokens_per_batch = 101", "give at least 101, with the end token")
replaced("rate = 0.01", 'schedule = "inverse_sqrt"', 'schedule = "inverse_sqrt"\nwarmup = 4000', "4000 steps are usual")
replaced("rate = 0.01", "warmup = 9", "rate = 0.01", "leave it out")
replaced("rate = 0.01", "warmup = 9", 'warmup = 9\nschedule = "inverse_sqrt"', 'or use "inverse_sqrt"')
replaced(
    "rate = 0.01", 'schedule = "cosine"', 'schedule = "cosine"\nschedule_steps = 9', "give the steps of the whole run"
)
replaced(
    "rate = 0.01", 'schedule = "plateau"\nlowest = 1', 'schedule = "plateau"', "it is the rate at the end; 0 is usual"
)
for right in ({"validation": "others.tsv"}, {"patience": 0}):
    data = {"train": "pairs.tsv", **{key: value for key, value in right.items() if key == "validation"}}
    settings = {"patience": right.get("patience", 3)}
    advice(
        lambda data={"train": "pairs.tsv"}, settings={"patience": 3}: Config(
            DataConfig(**data), BahdanauConfig(), training=TrainingConfig(**settings)
        ),
        "give data.validation, or leave this out",
        data=data,
        settings=settings,
    )
advice(lambda model=3: Config(model=model), "pass {model}, say", model="BahdanauConfig()")

CONFIG = Config(model=BahdanauConfig())
PAIRS = [("a", "b")]
advice(
    lambda validation=PAIRS, pairs=None, config=CONFIG: prepare_corpus(config, pairs, validation),
    "or give pairs, too",
    pairs=PAIRS,
)
advice(
    lambda: prepare_corpus(CONFIG, validation=PAIRS),
    "name a file in data.validation",
    lambda: prepare_corpus(
        Config(DataConfig(train=write("a.tsv", "a\tb\n"), validation=write("b.tsv", "a\tb\n")), BahdanauConfig())
    ),
)
advice(
    lambda pairs=[]: prepare_corpus(CONFIG, pairs),
    "pass a list: an iterator that was read before has nothing left",
    pairs=PAIRS,
)
advice(
    lambda data=3: Config(data, BahdanauConfig()),
    "pass {data}.",
    lambda: Config(DataConfig(), BahdanauConfig()),
    data="DataConfig(...)",
)
advice(
    lambda new="learning_rate = 3\n" + VALID: toml(new),
    "did you mean 'rate', which belongs to [training]?",
    new=VALID.replace("0.01", "3"),
)
advice(lambda rate=2**64: TrainingConfig(rate=rate), "the default is {rate}.", rate="0.001")
advice(
    lambda table={3: 4}: BahdanauConfig(mechanism={"name": "additive", **table}),
    "write a number, a string, true or false",
    table={"width": 4},
)
advice(
    lambda width=BahdanauConfig: BahdanauConfig(mechanism={"name": "additive", "width": width}),
    "write a number",
    width=4,
)


@dataclass(frozen=True)
class Settings:
    width: int


advice(lambda table={}: from_table(Settings, table, "model"), "add it to the section [model]", table={"width": 4})
advice(
    lambda mechanism=3: BahdanauConfig(mechanism=mechanism), "or in Python pass a dict", mechanism={"name": "additive"}
)
advice(
    lambda table=3: Config.from_dict({"training": table}),
    "write a section [training], or in Python pass a dict",
    lambda: toml("[training]\n"),
)
advice(lambda table=3: from_table(TrainingConfig, table, "training"), "or in Python pass a dict", table={})


def beside(folder="run"):
    """Train on a file that has the name of one of a run's."""
    write("run/best", "a b\tb a\n" * 4)
    sizes = {"embedding": 4, "hidden": 4, "attention": 4, "readout_width": 2}
    config = Config(DataConfig(train="run/best"), BahdanauConfig(**sizes), training=TrainingConfig(max_steps=1))
    return train(config, folder, quiet=True)


advice(beside, "train in another folder", folder="other")
