"""Configurations with faults of every sort: each is refused in one line, or trains for two steps.

python tests/fuzz/configurations.py --cases 3000
"""

import copy
import gzip
import math
import sys
import typing
from pathlib import Path

import answers

VALUES = [
    -1, 0, 1, 2, 3, 7, 63, 1000, 10**6, 10**9, 2**31, 2**63 - 1, 2**63, 10**30, -(2**63), 0.0, -0.0, 0.5, 1.0, 1.5,
    -1.5, 1e-320, 1e-30, 1e30, 1e308, math.nan, math.inf, -math.inf, True, False, "", "x", "word", "char", "bpe", "-",
    "a\x1b[31mb", "\u202e", "\0", "auto", "none", "no such file", ".", "/", "train.tsv", "x" * 500, [], [1], [1, 2],
    [2, 1], [0.9, 0.9], [[1]], ["a", 1], {}, {"a": 1}, {"name": "coverage"}, {"name": 3},
    {"name": "multihead", "heads": 5}, {"name": "additive", "normalizer": "entmax"},
    {"name": "additive", "normalizer": {"name": "entmax", "alpha": 9}}, {"name": "location_sensitive", "filters": -1},
    {"name": "local_p", "window": 10**9}, {"name": "none"}, "1979-05-27", "bahdanau", "luong", "transformer", "wu",
    "cho", "sutskever", "plateau", "inverse_sqrt", "linear", "before", "after", "learned", "rotary", "alibi", "t5",
    "cosine", "one_cycle", "pre", "all", "location", "dot", "concat", "wer", "accuracy", "per",
]  # fmt: skip

KEYS = [
    "learning_rate", "batch_size", "hidden_size", "num_layers", "d_model", "n_heads", "lr", "", "a b", "\x1b[2J",
    "\u202e", "x" * 300, "kind", "__class__", "0", "data", "model", "tuple", "\u540d", "a.b",
]  # fmt: skip


# Values of the types that settings have, by type; choices are among those of all.
TYPED = {kind: [value for value in VALUES if type(value) is kind] for kind in (int, float, bool, str, list, dict)}


def literal(value):
    """A value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value if value[:4] == "1979" else quoted(value)
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{quoted(key)} = {literal(item)}' for key, item in value.items())}}}"
    return repr(value)


def quoted(text):
    """A text as a string of TOML."""
    special = {'"': '\\"', "\\": "\\\\"}
    plain = "".join(special.get(c, c if c.isprintable() else f"\\u{ord(c):04x}") for c in text)
    return f'"{plain}"'


def written(tables):
    """Tables as TOML, with every key quoted."""
    lines = []
    for name, table in tables.items():
        if not isinstance(table, dict):
            lines.insert(0, f"{quoted(name)} = {literal(table)}")
            continue
        lines.append(f"[{quoted(name)}]")
        lines += [f"{quoted(key)} = {literal(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def settings():
    """All settings and their defaults by section, and by kind of model."""
    import dataclasses

    from fastattn import seq2seq
    from fastattn.seq2seq.models.registry import records

    sections = {"data": seq2seq.DataConfig, "vocabulary": seq2seq.VocabularyConfig, "training": seq2seq.TrainingConfig,
                "inference": seq2seq.InferenceConfig}  # fmt: skip
    kinds = {kind: record.section() for kind, record in records().items()}
    found = {name: {field.name: field for field in dataclasses.fields(cls)} for name, cls in (sections | kinds).items()}
    return {name: found[name] for name in sections}, {kind: found[kind] for kind in kinds}


def value_for(field, random):
    """A value for a setting: mostly of its type, often in its range."""
    limits, pool = field.metadata.get("setting", {}), list(VALUES)
    if random.random() < 0.8:
        pool = TYPED.get(type(field.default), VALUES)
        pool = {"mechanism": TYPED[dict], "columns": TYPED[list], "betas": TYPED[list]}.get(field.name, pool)
        choices = typing.get_args(field.type) if typing.get_origin(field.type) is typing.Literal else ()
        near = [limits.get(key) for key in ("least", "most", "above", "below") if limits.get(key) is not None]
        pool = [*pool, *near, *(type(x)(x + 1) for x in near), *choices, *choices]
    return random.choice(pool)


def mechanism(random):
    """A table of any variant and some of its options, which may be wrong."""
    from fastattn import variants

    name = random.choice(variants.names())
    table = {"name": name}
    for _ in range(random.choice([0, 0, 1, 2])):
        table[random.choice([*variants.options(name), "width", "heads"])] = random.choice(VALUES)
    if random.random() < 0.2:
        alpha = random.choice([1.0, 1.3, 2.0, *VALUES])
        table["normalizer"] = random.choice(["sparsemax", "entmax15", {"name": "entmax", "alpha": alpha}])
    return table


def changed(tables, kind, random):
    """Change something in the tables."""
    known, models = settings()
    known["model"] = models[kind]
    name = random.choice([*known, "model"])
    table = tables.setdefault(name, {})
    if not isinstance(table, dict):
        return
    what = random.randrange(12)
    if name == "model" and random.random() < 0.4:
        table["mechanism"] = mechanism(random)
    elif what < 7:
        key = random.choice(list(known[name]))
        table[key] = value_for(known[name][key], random)
    elif what == 7 and table:
        del table[random.choice(list(table))]
    elif what == 8 and table:
        key = random.choice(list(table))
        place = random.randrange(len(key) + 1)
        table[key[:place] + random.choice("xs_-") + key[place + random.randrange(2) :]] = table.pop(key)
    elif what == 9:
        table[random.choice(KEYS)] = random.choice(VALUES)
    elif what == 10:
        other = random.choice(list(known))
        table[random.choice(list(known[other]))] = random.choice(VALUES)
    elif random.randrange(2):
        tables[random.choice(KEYS)] = random.choice([random.choice(VALUES), {}, {"a": 1}])
    else:
        tables[name] = random.choice([random.choice(VALUES), [table], {}])


def spoilt(text, random):
    """Change bytes of a file."""
    data = text.encode("utf-8", "surrogatepass")
    place = random.randrange(len(data) + 1)
    what = random.randrange(12)
    if what == 0:
        return data[:place]
    if what == 1:
        return data[:place] + data[place + 1 :]
    if what < 5:
        return (
            data[:place]
            + random.choice([b"\0", b"\xff", b"\x1b", b"[", b"]", b'"', b"'''", b"=", b"\r", b"#"])
            + data[place:]
        )
    if what == 5:
        return data + data
    if what == 6:
        return text.encode(random.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7"]), "replace")
    if what == 7:
        return gzip.compress(data)
    if what == 8:
        return data.replace(b"\n", random.choice([b"\r\n", b"\r"]))
    if what == 9:
        return b"[" * random.choice([10, 100_000]) + data
    if what == 10:
        return b"a = " + random.choice(
            [b"[" * 5000, b"{a=" * 3000, b"9" * 6000, b"1" * 400, b"1e999", b"0x" + b"f" * 99]
        )
    return bytes(random.randrange(256) for _ in range(random.randrange(400)))


def case(random):
    """Train by one configuration."""
    import tomllib

    kind = random.choice(list(answers.SIZES))
    tables = copy.deepcopy(tomllib.loads(answers.config(kind)))
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        changed(tables, kind, random)
    text = written(tables)
    data = spoilt(text, random) if random.random() < 0.15 else text.encode("utf-8", "surrogatepass")
    answers.write_data(Path())
    Path("c.toml").write_bytes(data)
    yield data[:3000], answers.run(["train", "c.toml", "--folder", "run", "--quiet"])


if __name__ == "__main__":
    sys.exit(answers.main(__doc__, case))
