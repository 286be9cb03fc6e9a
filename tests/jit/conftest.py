"""Compiled functions of these tests are kept in a folder of the run, not in the user's."""

import os

import pytest


@pytest.fixture(autouse=True, scope="session")
def folder(tmp_path_factory):
    before = os.environ.get("FASTATTN_CACHE_DIR")
    if before is None:
        os.environ["FASTATTN_CACHE_DIR"] = str(tmp_path_factory.mktemp("compiled"))
    yield
    if before is None:
        os.environ.pop("FASTATTN_CACHE_DIR", None)
