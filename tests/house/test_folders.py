"""A folder is seen at a glance: it has at most 20 source files."""

from collections import Counter
from pathlib import Path

import sources

LIMIT = 20


def crowded(paths):
    """Folders with more source files than the limit, with their number."""
    counts = Counter(path.parent for path in paths if path.suffix != ".md")
    return {str(folder): count for folder, count in counts.items() if count > LIMIT}


def test_no_folder_is_crowded():
    assert not crowded(sources.texts())


def test_one_file_too_many_is_seen():
    room = [Path("room", f"{number}.py") for number in range(LIMIT)]
    assert not crowded([*room, Path("room/page.md"), Path("room/inner/x.py")])
    assert crowded([*room, Path("room/more.h")]) == {"room": LIMIT + 1}
