"""Draw the table of scores in docs/api.md from their records.

python tests/tools/scores.py            # writes the table into docs/api.md
"""

import re
from pathlib import Path

from fastattn.scores.ours import ours

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
ENDS = "<!-- drawn by tests/tools/scores.py -->"


def table():
    """A row for each score: its name, its formula, whose bars are no ends of cells, and its paper."""
    rows = (f"| `{one.name}` | {one.summary.replace('|', chr(92) + '|')} | {one.paper} |" for one in ours())
    return "\n".join(["| name | score of q and k | paper |", "|---|---|---|", *rows])


def page():
    """The text of the page with the table as it is now."""
    return re.sub(f"{ENDS}.*?{ENDS}", lambda _: f"{ENDS}\n{table()}\n{ENDS}", PAGE.read_text(), flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(page())
