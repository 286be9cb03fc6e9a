"""The colours of weights: cividis, which looks the same with and without colour blindness; over pictures inferno.

Nunez, Anderton and Renslow (2018), "Optimizing colormaps with consideration for color vision deficiency": lightness
grows evenly from dark blue to yellow, so that the map can also be read in grey. Inferno (Smith and van der Walt 2015)
does so from black over purple and orange, and has no grey that would be lost on a grey picture.
"""

__all__ = ["CIVIDIS", "INFERNO", "STEPS", "colour", "contrast", "ink"]

STEPS = 64  # of a weight from 0 to 1; neighbours differ by less than the eye tells apart

# The map at i / 16; between two of these it is straight to within 2 of 255, inferno to within 7.
CIVIDIS = (
    0x00224E, 0x002E6A, 0x1A386F, 0x32436D, 0x434E6C, 0x535A6D, 0x61656F, 0x6F7073, 0x7D7C78, 0x8B8778, 0x9A9376,
    0xAAA073, 0xBBAD6D, 0xCCBA64, 0xDDC858, 0xEFD748, 0xFEE838,
)  # fmt: skip
INFERNO = (
    0x000004, 0x0B0724, 0x210C4A, 0x3D0965, 0x57106E, 0x71196E, 0x8A226A, 0xA32C61, 0xBC3754, 0xD24644, 0xE45A31,
    0xF1731D, 0xF98E09, 0xFCAC11, 0xF9CB35, 0xF2EA69, 0xFCFFA4,
)  # fmt: skip


def colour(step: int, anchors: tuple[int, ...] = CIVIDIS) -> tuple[int, int, int]:
    """Return red, green and blue, 0 to 255, of the weight ``step / STEPS``."""
    place = step * (len(anchors) - 1)
    low, part = divmod(place, STEPS)
    high = min(low + 1, len(anchors) - 1)
    return tuple(  # type: ignore[return-value]
        round((_channel(anchors[low], shift) * (STEPS - part) + _channel(anchors[high], shift) * part) / STEPS)
        for shift in (16, 8, 0)
    )


def _channel(anchor: int, shift: int) -> int:
    return anchor >> shift & 0xFF


def contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """Return the contrast ratio of two colours, 1 to 21 (WCAG 2.2, definition of "contrast ratio")."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(rgb: tuple[int, int, int]) -> float:
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def ink(rgb: tuple[int, int, int]) -> str:
    """Return which of black and white can be read better on a colour."""
    black, white = (0, 0, 0), (255, 255, 255)
    return "#000" if contrast(rgb, black) >= contrast(rgb, white) else "#fff"
