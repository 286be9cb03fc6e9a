"""What tests of attention have in common."""

import pytest

import fastattn


@pytest.fixture(autouse=True)
def restore_threads():
    before = fastattn.get_num_threads()
    yield
    fastattn.set_num_threads(before)
