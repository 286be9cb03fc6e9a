"""Pictures of attention weights: heat maps, also over a picture, by matplotlib, and self-contained HTML pages."""

from fastattn.viz.heatmap import heatmap
from fastattn.viz.overlay import overlay
from fastattn.viz.page import gallery, page
from fastattn.viz.picture import picture_page
from fastattn.viz.saving import save

__all__ = ["gallery", "heatmap", "overlay", "page", "picture_page", "save"]
