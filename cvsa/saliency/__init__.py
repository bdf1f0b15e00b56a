"""From saliency maps to saliency boxes."""

from cvsa.saliency.boxes import map_to_box, maps_to_boxes

__all__ = ["map_to_box", "maps_to_boxes"]
