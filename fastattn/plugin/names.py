"""The one rule for names: lower-case identifiers of ASCII, so that no two of them look alike."""

import re

from fastattn.errors import foreign_letter

__all__ = ["NAME_HINT", "fault_of"]

NAME_HINT = "use lower case letters, digits and underscores."

_NAME = re.compile("[a-z_][a-z0-9_]*")


def fault_of(name: object) -> str:
    r"""Return what is wrong with a name, or nothing.

    Examples
    --------
    >>> from fastattn.plugin.names import fault_of
    >>> fault_of("low_rank"), fault_of("Low-rank")
    ('', "'Low-rank' is not a valid name")
    >>> ascii(fault_of("d\u043et"))
    '"\'d\\u043et\' is not a valid name: \'\\u043e\' is U+043E, CYRILLIC SMALL LETTER O"'
    """
    if isinstance(name, str) and _NAME.fullmatch(name):
        return ""
    letter = foreign_letter(name) if isinstance(name, str) else ""
    return f"{name!r} is not a valid name" + (f": {letter}" if letter else "")
