"""Pictures to files."""

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from fastattn._strings import path_name
from fastattn.errors import ArgumentError, DTypeError, describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["save"]

IMAGES = (".png", ".pdf", ".svg")
PAGES = (".html", ".htm")


def save(picture: "Axes | Figure | str", path: "str | os.PathLike[str]", *, dpi: float = 150) -> Path:
    """Write a heat map or a page to a file, whole or not at all.

    Parameters
    ----------
    picture : matplotlib Axes or Figure, or str
        What `heatmap` or `page` returned; of Axes, the whole figure is saved.
    path : str or path
        Ends in ``.png``, ``.pdf`` or ``.svg`` for a heat map, in ``.html`` for a page. A file that is there is
        replaced.
    dpi : float
        Dots per inch of a PNG.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ArgumentError
        If the ending of the name does not fit the picture.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from fastattn import viz
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = viz.save(viz.page(np.eye(2), ["a", "b"], ["A", "B"]), pathlib.Path(folder, "weights.html"))
    ...     print(file.name, file.read_text()[:15])
    weights.html <!doctype html>
    """
    path = Path(path_name("path", path))
    suffix = path.suffix.lower()
    if isinstance(picture, str):
        _check_suffix(path, suffix, PAGES, "a page")
        content = picture.encode()
    else:
        figure = getattr(picture, "figure", picture)
        if not hasattr(figure, "savefig"):
            hint = "pass what heatmap() or page() returned."
            raise DTypeError(describe("picture", "Axes, a Figure or a str", type(picture).__name__, hint))
        _check_suffix(path, suffix, IMAGES, "a heat map")
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix[1:], dpi=dpi, bbox_inches="tight")
        content = buffer.getvalue()
    # Beside the file, so that the last step is a rename within one file system.
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        error.filename, error.filename2 = str(path), None  # not the name that nobody gave
        raise
    finally:
        partial.unlink(missing_ok=True)
    return path


def _check_suffix(path: Path, suffix: str, accepted: tuple[str, ...], what: str) -> None:
    if suffix not in accepted:
        expected = f"a name that ends in {' or '.join(accepted)} for {what}"
        raise ArgumentError(describe("path", expected, str(path), f"end it in {accepted[0]}."))
