"""Attention over a picture as one HTML page that needs no network, no other file and no other package."""

import base64
import struct
import zlib
from collections.abc import Sequence

import numpy as np

from fastattn._arrays import Array
from fastattn.viz.overlay import check_maps, check_picture
from fastattn.viz.page import fill, read
from fastattn.viz.palette import INFERNO, STEPS, colour
from fastattn.viz.tokens import labels, title_of

__all__ = ["picture_page"]

WHOLE = 1000000  # weights are shown in whole numbers of 1 / WHOLE: those of a picture are small


def picture_page(
    picture: Array, maps: Array, tokens: Sequence[str], *, title: str | None = None, normalized: bool = True
) -> str:
    """Return a page that shows, for the token under the mouse or the keyboard, its map over the picture.

    Parameters
    ----------
    picture : array, shape (H, W) or (H, W, 3)
        Grey or red, green and blue: uint8, or floats from 0 to 1. It is in the page as a PNG of the same size.
    maps : array, shape (T, R, C), float32 or float64
        As for `overlay`; shown with six digits. Colours are on one scale for all tokens.
    tokens : sequence of str, length T
        A str counts as its characters.
    title : str, optional
    normalized : bool
        Whether no map may sum to more than 1, within 1e-3; to less it may, as of local and monotonic attention.

    Returns
    -------
    str
        HTML; `save` writes it to a file. Its policy allows it nothing but its own style, script and picture.

    Raises
    ------
    ShapeError, ArgumentError, DTypeError
        As `overlay`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn import viz
    >>> maps = np.array([[[0.9, 0.1]], [[0.5, 0.5]]])
    >>> viz.picture_page(np.zeros((8, 16)), maps, ["a", "bird"])[:15]
    '<!doctype html>'
    """
    shown, names = check_picture(picture), labels("tokens", tokens)
    array = check_maps(maps, len(names), normalized)
    whole = np.rint(np.clip(array, 0, 1) * WHOLE).astype(int)
    data = {
        "picture": "data:image/png;base64," + base64.b64encode(png(np.rint(shown * 255).astype(np.uint8))).decode(),
        "tokens": names,
        "rows": array.shape[1],
        "columns": array.shape[2],
        "whole": WHOLE,
        "maps": whole.reshape(len(names), -1).tolist(),
        "colours": [colour(step, INFERNO) for step in range(STEPS + 1)],
    }
    return fill("picture", title_of(title) or "Attention", read("picture.css"), data)


def png(pixels: Array) -> bytes:
    """Return the PNG file (ISO/IEC 15948) of uint8 pixels (H, W) or (H, W, 3)."""
    height, width = pixels.shape[:2]
    rows = np.zeros((height, pixels[0].size + 1), np.uint8)  # each begins with 0: no filter
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
