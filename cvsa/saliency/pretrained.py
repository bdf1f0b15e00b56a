"""Saliency from published salient-object networks, through the library rembg (an optional extra).

rembg (MIT) is maintained, runs on onnxruntime without a second deep-learning framework, and fetches the
weights itself, with checksums, into ~/.u2net (or $U2NET_HOME). The networks:

    u2net, u2netp   U2-Net and its small version (Qin et al., Pattern Recognition 2020), 176 MB and 5 MB
    isnet           IS-Net for general use (Qin et al., ECCV 2022), 179 MB
    birefnet        BiRefNet, lite (Zheng et al., 2024), 224 MB; the best edges, seconds per image on a CPU

They were trained with masks, though not with labels of your images: results that use them are not purely
self-supervised, and a table must say so. The maps of the U2-Nets and of IS-Net are stretched to [0, 1] image
by image, so that they always find something.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from functools import cached_property, partial
from threading import Lock
from typing import Any

import numpy as np

from cvsa.errors import CVSAError, one_line
from cvsa.saliency.detectors import check_image, stretch

INSTALL = "pip install 'rembg[cpu]'"


@dataclass(frozen=True)
class Pretrained:
    """A network of rembg; loaded at the first image.

    Args:
        name: of this detector.
        network: of rembg.
        side: of the square that the network looks at, pixels.
    """

    name: str
    network: str
    side: int
    version: str = field(default="1", init=False)
    _loading: Any = field(default_factory=Lock, init=False, repr=False, compare=False)

    @property
    def parameters(self) -> dict[str, Any]:
        return {"network": self.network}

    def __call__(self, image: np.ndarray) -> np.ndarray:
        check_image(image)
        with self._loading:  # several threads would fetch the weights at once
            library, session = self._session
        mask = np.asarray(library.remove(np.ascontiguousarray(image), session=session, only_mask=True))
        if mask.ndim != 2 or mask.dtype != np.uint8:
            raise CVSAError(f"rembg gave a mask {mask.dtype} {mask.shape}, expected uint8 (H, W); {INSTALL}.")
        return stretch(mask / 255, image.shape[:2])

    @cached_property
    def _session(self) -> tuple[Any, Any]:
        try:
            library = importlib.import_module("rembg")
        # Without onnxruntime it prints advice and leaves the process.
        except (ImportError, SystemExit) as error:
            raise CVSAError(
                f"Detector {self.name!r} needs an optional library: {INSTALL}; 'classical' needs none."
            ) from error
        try:
            return library, library.new_session(self.network)
        except Exception as error:  # of the download, the checksum, the runtime
            reason = f"{type(error).__name__}: {str(error)[:100]}"
            raise CVSAError(
                one_line(
                    f"The network {self.network!r} cannot be loaded ({reason}): connect to the internet "
                    "once, so that rembg can fetch its weights, or use 'classical', which needs none."
                )
            ) from error


u2net = partial(Pretrained, "u2net", "u2net", 320)
u2netp = partial(Pretrained, "u2netp", "u2netp", 320)
isnet = partial(Pretrained, "isnet", "isnet-general-use", 1024)
birefnet = partial(Pretrained, "birefnet", "birefnet-general-lite", 1024)
