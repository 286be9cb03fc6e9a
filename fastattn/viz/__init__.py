"""Pictures of attention weights: a heat map by matplotlib, and one self-contained HTML page."""

from fastattn.viz.heatmap import heatmap
from fastattn.viz.page import gallery, page
from fastattn.viz.saving import save

__all__ = ["gallery", "heatmap", "page", "save"]
