"""The map of the house is that of the sources, and so is what else is drawn from them."""

import pytest

from tools import creation_stub, house, scores


def test_the_map_is_drawn_from_the_sources():
    assert house.PAGE.read_text() == house.page(), "run python tests/tools/house.py"


def test_the_table_of_scores_is_drawn_from_their_records():
    assert scores.PAGE.read_text() == scores.page(), "run python tests/tools/scores.py"
    assert scores.table().count("\n") > 10


def test_type_checkers_know_the_options_of_every_variant():
    assert creation_stub.PAGE.read_text() == creation_stub.stub(), "run python tests/tools/creation_stub.py"


def test_the_drawing_sees_a_circle_and_leaves_out_what_follows():
    below = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert house.floors(below) == {"a": 2, "b": 1, "c": 0} and house.direct("a", below) == ["b"]
    with pytest.raises(AssertionError, match="a circle among"):
        house.floors({**below, "c": {"a"}})
