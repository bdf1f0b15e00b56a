"""What is measured: networks, images and batches of each setting, and the rows that are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cvsa.config import DataConfig, PretrainConfig, resolve
from cvsa.errors import CVSAError

CEILINGS = ("BYOL", "MoCo.v2", "BYOL+CVSA")
OURS = ("BYOL", "MoCo.v2", "MoCo.v2+SS", "BYOL+SS", "BYOL+CVSA")
PEERS = ("BYOL", "MoCo.v2")  # what peers have as well
IN_PARTS = ("BYOL", "MoCo.v2", "BYOL+CVSA")
VIEWS_OF = ("BYOL", "BYOL+SS", "BYOL+CVSA")  # whose views are made alone
GROWS = "BYOL+CVSA"


@dataclass(frozen=True)
class Setting:
    """One size of network and images.

    Attributes:
        name: of the setting.
        about: one line for people.
        cuda: whether it is for a GPU.
        preset: whose heads, optimisers and recipes it has.
        fields: of the pre-training, over the preset's.
        birds: of the drawn images, fields of ``DataConfig``; None: the preset's own images.
        growth: name in ``speed_records.AXES`` -> sizes.
    """

    name: str
    about: str
    cuda: bool
    preset: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    birds: Mapping[str, Any] | None = None
    growth: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def config(self, row: str, device: str = "auto") -> PretrainConfig:
        """The pre-training of a row.

        Raises:
            CVSAError: unknown row.
        """
        placed = device if self.cuda else "cpu"
        return resolve(PretrainConfig, row=row, preset=self.preset, device=placed, **self.fields)

    def data(self) -> DataConfig:
        """Which images: drawn birds, whose PNG files compress as pictures do and those of noise do not."""
        if self.birds is None:
            return self.config(OURS[0])
        return DataConfig(dataset="synthbirds", **self.birds)


def _birds(size: int) -> dict[str, Any]:
    return {"bank_size": size, "train_images": 2048, "val_images": 2, "test_images": 2}


def _on_gpu(
    name: str, network: str, backbone: str, side: int, stored: int, sizes: tuple[int, ...]
) -> tuple[Setting, Setting]:
    """A published network as it is, and with the networks of our own steps compiled (not lightly's)."""
    about = f"{network} at {side} px, batch 256, on drawn birds"
    fields = {"backbone": backbone, "image_size": side, "bank_size": stored, "batch_size": 256}
    growth = {
        "batch": (32, 64, 128, 256), "bank": (1000, 4000, 16000), "map": (4, 7, 14, 28), "image": sizes,
    }  # fmt: skip
    compiled = {**fields, "compile": True}
    return (
        Setting(name, about, True, "paper", fields, _birds(stored), growth),
        Setting(f"{name}-compiled", f"{about}, compiled", True, "paper", compiled, _birds(stored)),
    )


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting(
            "cpu-tiny", "the tiny preset: its slim ResNet, size and batch, on drawn birds", False, "tiny",
            growth={
                "batch": (25, 50, 100, 200), "image": (32, 48, 64, 96, 128),
                "bank": (1000, 4000, 16000, 64000), "map": (4, 6, 8, 12, 16, 24),
            },
        ),
        *_on_gpu("gpu-resnet18-128", "ResNet-18", "resnet18", 128, 144, (64, 96, 128, 192)),
        *_on_gpu("gpu-resnet50-224", "ResNet-50", "resnet50", 224, 256, (128, 160, 224, 256)),
    )
}  # fmt: skip
"""Name -> setting; a new one is one more entry."""


def find_setting(name: str) -> Setting:
    """Look a setting up.

    Raises:
        CVSAError: no such setting; names those there are.
    """
    if name not in SETTINGS:
        raise CVSAError(f"Unknown setting {name!r}. Settings: {', '.join(SETTINGS)}.")
    return SETTINGS[name]
