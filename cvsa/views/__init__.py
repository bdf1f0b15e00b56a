"""Views: what a contrastive method sees of an image, made in batches on the device that trains."""

from cvsa.views.crop import random_resized_crop
from cvsa.views.maker import VIEW_GENERATORS, ViewMaker, ViewSettings
from cvsa.views.photometric import AUGMENTATIONS, Photometric
from cvsa.views.resample import resample
from cvsa.views.swap import saliency_swap
from cvsa.views.types import Views

__all__ = [
    "AUGMENTATIONS",
    "VIEW_GENERATORS",
    "Photometric",
    "ViewMaker",
    "ViewSettings",
    "Views",
    "random_resized_crop",
    "resample",
    "saliency_swap",
]
