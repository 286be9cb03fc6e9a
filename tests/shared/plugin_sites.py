"""Folders on the path in which distributions with plugins are installed, or what looks like one."""

import warnings

from fastattn.plugin import manager, providers
from fastattn.plugin.manager import Manager

CODE = """
def fastattn_scores():
    from fastattn.plugin import ScoreRecord
    return [ScoreRecord({name!r}, 'fastattn.scores:Dot')]
"""
POINTS = "[fastattn.plugins]\n{name} = discovered_{name}\n"
METADATA = "Metadata-Version: 2.1\nName: fastattn-{name}\nVersion: 1.2\n"


class Site:
    """A folder on the path in which distributions are installed."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.added = folder, []
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delenv("FASTATTN_PLUGINS", raising=False)
        monkeypatch.setattr(manager, "_manager", Manager())

    def add(self, name, *, code=CODE, metadata=METADATA, points=POINTS, folder="fastattn_{name}-1.2.dist-info"):
        """Install one; a file may be text, bytes, a folder ("/") or missing (None)."""
        info = self.folder / folder.format(name=name)
        info.mkdir(parents=True)
        (self.folder / f"discovered_{name}.py").write_text(code.format(name=name))
        self.added.append(f"discovered_{name}")
        for file, text in (("METADATA", metadata), ("PKG-INFO", metadata), ("entry_points.txt", points)):
            if text == "/":
                (info / file).mkdir()
            elif text is not None:
                data = text if isinstance(text, bytes) else text.format(name=name).encode()
                (info / file).write_bytes(data)

    def rows(self):
        """Return the rows of the folder's distributions, and the warnings."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = providers()
        return [row for row in found if row.status != "built in"], [str(one.message) for one in caught]
