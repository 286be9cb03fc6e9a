"""A figure and its axes that show themselves where a cell of a notebook ends with one of them.

This file needs matplotlib, and is imported where something is drawn.
"""

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["ShownAxes", "ShownFigure"]


class ShownFigure(Figure):
    """A figure that is not one of ``pyplot``, and shows itself in a notebook all the same."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", bbox_inches="tight")
        return buffer.getvalue()


class ShownAxes(Axes):
    """Axes of such a figure: they show the whole of it."""

    def _repr_png_(self) -> bytes:
        figure = self.get_figure(root=True)
        assert isinstance(figure, ShownFigure)
        return figure._repr_png_()
