"""Configuration as data: one pydantic model per kind of experiment, presets, one way to resolve them.

Values are layered: preset, then the preset's recipe for the row's base, then the row, then what the caller
gives. A field's description is its help text, with unit and range; notebooks' parameter cells carry the same
names. This module imports no torch, so that the command line and the workflow start fast.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cvsa.errors import CVSAError, one_line
from cvsa.methods.catalogue import VIEWS, check_combination, find_base, find_row, slug

DRAWN = ("synthbirds", "synthscenes")
"""Data sets that are drawn; the others are photographs on disk (see `cvsa.data.sets`)."""
PARTS = ("localization", "background", "protocols", "sgd")
"""What an evaluation can measure; "sgd" is the linear probe by the published recipe, the slowest of them."""
UNLABELLED = ("coco",)
"""Data sets whose labels are not used: they serve the first stage only."""


class DataConfig(BaseModel):
    """Which images, at which size, with which saliency."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    dataset: Literal[
        "synthbirds", "synthscenes", "folder",
        "cub200", "nabirds", "aircraft", "cars", "inat2018", "pets", "coco", "imagenet",
    ] = Field(
        "synthbirds",
        description="data set: drawn, published (see `cvsa data list`), or 'folder': photographs in root",
    )  # fmt: skip
    root: Path | None = Field(
        None,
        description="folder of photographs in ImageFolder layout (dataset 'folder') or of a published set; "
        "empty: $CVSA_DATA/DATASET",
    )
    saliency: Literal[
        "auto", "masks", "boxes", "parts", "predicted",
        "classical", "vit", "u2net", "u2netp", "isnet", "birefnet", "none",
    ] = Field(
        "auto",
        description="where saliency comes from: stored masks, boxes, parts or predicted *.npz; a detector "
        "(classical, vit, u2net, u2netp, isnet, birefnet); auto: the first stored, else classical; drawn "
        "pictures have exact masks",
    )  # fmt: skip
    saliency_error: str = Field(
        "exact",
        pattern=r"^(exact|box|random_box|(dilated|shifted):-?\d*\.?\d+)$",
        description="what is done to the saliency of training images: exact, box, random_box, dilated:SHARE "
        "or shifted:SHARE",
    )
    masks_root: Path | None = Field(
        None,
        description="folder of your own saliency maps, PNG under the images' paths; empty: masks/ in root",
    )
    split_file: str | None = Field(
        None, description="CSV of a folder's own train/test split, relative to root"
    )
    bank_size: int = Field(64, ge=32, le=1024, description="side of the stored images, pixels")
    num_classes: int = Field(10, ge=2, le=200, description="classes drawn (synthetic sets)")
    train_images: int = Field(1000, ge=2, description="training images drawn (synthetic sets)")
    val_images: int = Field(500, ge=2, description="validation images drawn (synthetic sets)")
    test_images: int = Field(1000, ge=2, description="test images drawn, in each test split (synthetic sets)")
    val_fraction: float = Field(
        0.1, ge=0.0, lt=1.0, description="share of a folder's training images held out for validation"
    )
    habitat_bias: float = Field(
        0.5,
        ge=0.0,
        le=1.0,
        description="how often a training background is the class's own habitat (SynthBirds)",
    )
    object_size: float = Field(
        0.2,
        ge=0.05,
        le=0.3,
        description="mean share of a drawn picture that the object covers (synthetic sets)",
    )
    difficulty: str = Field("easy", description="difficulty preset of SynthBirds")
    data_seed: int = Field(
        0,
        ge=0,
        description="seed of the drawn data or of the held-out split; the same for all runs of a table",
    )

    @model_validator(mode="after")
    def _fields_of_photographs(self) -> DataConfig:
        if self.root is None if self.dataset == "folder" else self.root is not None and self.dataset in DRAWN:
            raise ValueError(
                "dataset 'folder' needs root, and only photographs take root; "
                "add e.g. -p dataset folder -p root PATH"
            )
        if self.split_file is not None and self.dataset != "folder":
            raise ValueError(f"split_file is for dataset 'folder'; {self.dataset!r} has splits of its own")
        if self.dataset in DRAWN and self.saliency in ("masks", "boxes", "parts", "predicted", "none"):
            raise ValueError(
                f"{self.dataset!r} is drawn with exact masks; its saliency is auto or a detector, "
                f"not {self.saliency!r}"
            )
        if self.masks_root is not None and (self.dataset in DRAWN or self.saliency not in ("auto", "masks")):
            raise ValueError("masks_root is for photographs, with saliency auto or masks")
        return self

    @property
    def folder(self) -> Path | None:
        """``root`` with ~ and environment variables resolved; a record keeps what was given ($CVSA_DATA/x).

        Raises:
            CVSAError: an environment variable that is not set.
        """
        return None if self.root is None else expand(self.root, "root")


def expand(path: Path, name: str) -> Path:
    """A path with ~ and environment variables resolved.

    Args:
        path: as given.
        name: of the parameter, for the message.

    Raises:
        CVSAError: an environment variable that is not set.
    """
    full = os.path.expanduser(os.path.expandvars(path))
    if "$" in full:
        raise CVSAError(
            f"Parameter {name} = '{path}': that environment variable is not set. "
            "Set it, or give a plain path."
        )
    return Path(full)


ADDED_LATER: dict[str, Any] = {
    "label_fraction": 1.0,
    "swap_area": "box",
    "swap_crop": 1.0,
    "swap_backgrounds": "same",
    "align_symmetric": True,
    "align_depth": 2,
}
"""Fields that came after runs had been recorded, and the value that means what those runs did."""


WHERE = frozenset({"device", "compile", "gpus", "pretrained", "finetuned"})
"""Fields that tell where a run computes, and where what it starts from lies: the same run anywhere."""


class RunConfig(DataConfig):
    """What every kind of run has."""

    row: str = Field("BYOL+CVSA", description="row of the paper's tables, see `cvsa rows`")
    preset: str = Field("tiny", description="size of the experiment, see `cvsa presets`")
    seed: int = Field(0, ge=0, description="seed of initialisation, sampling and augmentation")
    backbone: str = Field("resnet_slim", description="'resnet_slim', 'vit_slim' or any timm model name")
    image_size: int = Field(64, ge=32, le=1024, description="side of the network's input, pixels")
    batch_size: int = Field(100, ge=2, description="images per step")
    epochs: int = Field(20, ge=1, description="passes over the training images")
    optimizer: Literal["sgd", "lars", "adamw"] = Field("sgd", description="optimiser")
    lr: float = Field(0.1, gt=0, description="peak learning rate")
    weight_decay: float = Field(1e-4, ge=0, description="weight decay; none on biases and norms")
    warmup_epochs: float = Field(1.0, ge=0, description="linear warm-up before the cosine, in epochs")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="fp32, or bf16 by autocast; auto: bf16 on a GPU that has it, fp32 on a CPU"
    )

    def identity(self) -> str:
        """Twelve hex digits naming this configuration; where it runs and its parent lies do not count.

        A field of ``ADDED_LATER`` counts only where it differs from what earlier runs did.
        """
        fields = {
            name: value
            for name, value in self.model_dump(mode="json").items()
            if name not in WHERE and value != ADDED_LATER.get(name, ...)
        }
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]

    def name(self) -> str:
        """Readable name for folders: row, data, seed and identity."""
        data = self.root.name if self.root else self.dataset
        return f"{slug(self.row)}-{slug(data)}-s{self.seed}-{self.identity()[:6]}"


class ChildConfig(RunConfig):
    """What may start from a pre-training run."""

    pretrained: Path | None = Field(
        None,
        description="folder of the pre-training run to start from, or 'timm' for the backbone's published "
        "weights; empty: random initialisation",
    )
    parent: str | None = Field(None, description="run id of that run; filled in from its record")


PUBLISHED = Path("timm")
"""The value of ``pretrained`` that asks for the weights timm publishes for the backbone."""


class TrainingConfig(ChildConfig):
    """What trains a network in steps."""

    compile: bool = Field(
        False, description="compile the networks first (torch.compile), for long runs on a GPU"
    )
    gpus: int = Field(
        1, ge=1, description="processes that share every batch, each on a GPU of its own (or all on the CPU)"
    )

    @model_validator(mode="after")
    def _shared(self) -> TrainingConfig:
        if self.batch_size % self.gpus:
            raise ValueError(
                f"batch_size {self.batch_size} cannot be shared by gpus {self.gpus}: "
                f"give a multiple of {self.gpus}"
            )
        return self


class PretrainConfig(TrainingConfig):
    """Self-supervised pre-training of one row."""

    stage: int = Field(
        2, ge=1, le=2, description="1: on the preset's generic images; 2: on the fine-grained ones"
    )
    base: str = Field("byol", description="base objective, see `cvsa rows`, or your own as module:Class")
    view: str = Field("saliency_swap", description="generator of the views")
    align_weight: float = Field(0.0, ge=0, description="weight of L_Align; 0 leaves the module out")
    crop_scale: float = Field(
        0.2, gt=0, le=1, description="least area of a random resized crop, share of the image"
    )
    swap_scale: float = Field(
        0.5,
        gt=0,
        le=1,
        description="least area of Saliency Swap's crop, share of the saliency box "
        "(the paper's ablated hyper-parameter)",
    )
    swap_area: Literal["box", "image"] = Field(
        "box",
        description="what swap_scale is a share of: the saliency box, or the image (the crop stays within "
        "the box: where the box has less, it is taken whole)",
    )
    swap_crop: float = Field(
        1.0,
        gt=0,
        le=1,
        description="least area of a random resized crop of the finished swap, share of the view; 1: none",
    )
    swap_backgrounds: Literal["same", "scenes", "blank"] = Field(
        "same",
        description="what Saliency Swap pastes on: other images of the same set, drawn scenes (train_images "
        "of them), or one random colour a view",
    )
    swap_probability: float = Field(
        1.0, ge=0, le=1, description="share of views made by Saliency Swap; the rest are random resized crops"
    )
    dilo_fraction: float = Field(
        0.3, ge=0, le=1, description="share of DiLo's views that get another background"
    )
    dilo_backgrounds: Literal["all", "image", "texture", "plain"] = Field(
        "all", description="what DiLo puts behind the object"
    )
    view_mask: Literal["rectangle", "saliency"] = Field(
        "rectangle", description="view mask: the pasted rectangle, or the saliency inside it"
    )
    augmentation: Literal["byol", "moco_v2", "simclr", "none"] = Field(
        "byol", description="photometric recipe"
    )
    projector_hidden: int = Field(
        512, ge=1, description="hidden units of the projector (and of BYOL's predictor)"
    )
    projector_dim: int = Field(128, ge=1, description="dimension of the embedding")
    projector_norm: bool = Field(
        False,
        description="BatchNorm in the projector of MoCo v2, LooC and InsLoc; as published they have none",
    )
    ema_momentum: float = Field(
        0.99, ge=0, lt=1, description="momentum of the EMA copy; BYOL raises it to 1 by a cosine"
    )
    temperature: float = Field(0.2, gt=0, description="temperature of InfoNCE")
    queue_size: int = Field(
        800, ge=1, description="negatives kept (MoCo v2, LooC, InsLoc); no larger than the training set"
    )
    cast_weight: float = Field(3.0, ge=0, description="weight of CAST's loss (MoCo.v2+CAST)")
    align_dim: int = Field(256, ge=1, description="channels C of the alignment's features")
    align_scores: Literal["normalised", "raw"] = Field(
        "normalised",
        description="correlation: cosine with learned, bounded scale and bias, or raw dot product",
    )

    align_symmetric: bool = Field(
        True,
        description="L_Align in both directions where the base's own loss has both; else the first view is "
        "the query",
    )
    align_depth: int = Field(
        2, ge=1, le=3, description="1x1 convolutions in g_conv and in p_conv each; BatchNorm, ReLU between"
    )

    @model_validator(mode="after")
    def _sensible(self) -> PretrainConfig:
        if self.base == "none":
            raise ValueError(
                f"row {self.row!r} has nothing to pre-train; run the finetune or probe notebook, "
                "without pretrained for 'Random', with pretrained 'timm' for published weights"
            )
        check_combination(self.base, self.view, self.align_weight)
        if self.dataset not in DRAWN and self.saliency == "none":
            if VIEWS[self.view].saliency:
                raise ValueError(
                    f"view {self.view!r} needs to know where the object is, and saliency is 'none'; "
                    "give masks, boxes or predicted maps, or take view random_resized_crop"
                )
            if self.align_weight > 0 or find_base(self.base).masks:
                raise ValueError(
                    "the alignment and CAST train attention to match the saliency, and saliency is 'none'; "
                    "give masks, boxes or predicted maps, or take a row without them"
                )
        if find_base(self.base).queue and self.dataset in DRAWN and self.queue_size > self.train_images:
            raise ValueError(
                f"queue_size {self.queue_size} is larger than the training set ({self.train_images} images), "
                "so the queue would hold an image's own old key; lower queue_size"
            )
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs ({self.warmup_epochs}) must be below epochs ({self.epochs})")
        return self


class LabelledConfig(ChildConfig):
    """What needs labels."""

    @model_validator(mode="after")
    def _labels(self) -> LabelledConfig:
        if self.dataset in UNLABELLED:
            raise ValueError(f"data set {self.dataset!r} is used without labels, for the first stage only")
        return self


class FinetuneConfig(LabelledConfig, TrainingConfig):
    """Supervised fine-tuning, the paper's metric: top-1 on the test split."""

    crop_scale: float = Field(
        0.5, gt=0, le=1, description="least area of the training crop, share of the image"
    )
    label_fraction: float = Field(
        1.0, gt=0, le=1, description="share of the training labels used, the same share of each class"
    )


class ProbeConfig(LabelledConfig):
    """What the frozen features know: linear probe and weighted kNN, of class and of habitat."""

    knn_k: int = Field(20, ge=1, description="neighbours of the weighted kNN")
    knn_temperature: float = Field(0.07, gt=0, description="temperature of the kNN's weights")


class EvaluateConfig(LabelledConfig):
    """What else one may ask of a network: where it looks, what it leans on, what its features do."""

    finetuned: Path | None = Field(
        None,
        description="folder of the fine-tuning run whose classifier is asked too; it names pretrained",
    )
    classifier: str | None = Field(None, description="run id of that run; filled in from its record")
    parts: str = Field(
        "localization,background,protocols",
        description="what is measured, with commas between: localization, background, protocols, sgd; or all",
    )
    images: int = Field(500, ge=2, description="images of a split that maps are made for, drawn at random")
    episodes: int = Field(400, ge=2, description="few-shot episodes")

    @field_validator("parts")
    @classmethod
    def _known_parts(cls, parts: str) -> str:
        asked = [part.strip() for part in parts.split(",") if part.strip()]
        if unknown := [part for part in asked if part not in (*PARTS, "all")] or ([] if asked else [parts]):
            raise ValueError(f"unknown part {unknown[0]!r}; there are {', '.join(PARTS)}, and all")
        return ",".join(part for part in PARTS if part in asked or "all" in asked)


Config = TypeVar("Config", bound=RunConfig)

BUTTERFLIES = {
    "dataset": "folder", "root": "$CVSA_DATA/butterfly100", "split_file": "alt_split.csv",
    "saliency": "predicted",
}  # fmt: skip

# A preset holds, per kind, what differs from the fields' defaults. "extends" names the preset it starts from,
# "stands_for" the one whose rows it runs at a smaller size, "confirms" the one whose findings it tests anew.
PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {
        "about": "SynthBirds at 48 px and a slim ResNet: the whole book in minutes on 2 CPU cores",
        # Data seed 0 served to choose network and recipe; the tables are measured on birds no choice saw.
        "all": {"image_size": 48, "bank_size": 48, "object_size": 0.3, "habitat_bias": 0.8, "data_seed": 1},
        "pretrain": {"epochs": 20, "batch_size": 50, "projector_norm": True, "align_dim": 64},
        # One rate per base, for all of its rows: what results/sweep chose (a test compares).
        "rel_loc": {"lr": 0.01},
        "rot_pred": {"lr": 0.1},
        "simclr": {"lr": 0.1},
        "moco_v2": {"lr": 0.3},
        "looc": {"lr": 0.1},
        "insloc": {"lr": 0.1},
        "byol": {"lr": 0.1},
        "stage1": {"dataset": "synthscenes", "data_seed": 0},
        # No transformer of this size learns by SGD in so few steps; no sweep chose these rates. [O]
        "vit_slim": {
            "pretrain": {"optimizer": "adamw", "lr": 1e-3}, "finetune": {"optimizer": "adamw", "lr": 3e-3},
        },
        "finetune": {"epochs": 20, "lr": 0.1, "batch_size": 50},
        "probe": {},
        "evaluate": {"images": 300},
    },
    "sweep": {
        "about": "chooses the learning rate of every base for tiny, on birds no table sees",
        "extends": "tiny",
        "all": {"data_seed": 0},
    },
    "saliency": {
        "about": "the tiny preset with worse and worse saliency: made once, committed as records",
        "extends": "tiny",
    },
    "ablations": {
        "about": "the scale ablation and the points on which the source is silent: made once, committed",
        "extends": "tiny",
    },
    "pilot": {
        "about": "what contrastive learning sees as shortcut, crops and length change: made once, committed",
        "extends": "tiny",
    },
    # For one GPU. Rates are the slim network's until `small_sweep` has chosen its own. [O]
    "small": {
        "about": "ResNet-18 at 128 px on 10,000 birds of 100 classes, and its parts: for one GPU",
        "extends": "tiny",
        "all": {
            "backbone": "resnet18", "image_size": 128, "bank_size": 160, "num_classes": 100,
            "train_images": 10_000, "val_images": 1000, "test_images": 4000,
        },
        "pretrain": {
            "epochs": 60, "batch_size": 100, "warmup_epochs": 3, "align_dim": 128, "queue_size": 4096,
        },
        "finetune": {"epochs": 30},
        "evaluate": {"images": 1000},
    },
    "small_butterfly": {
        "about": "part of small: 100 butterflies and moths at 128 px, first stage on groceries",
        "extends": "small",
        "all": {**BUTTERFLIES, "bank_size": 128},
        "stage1": {"dataset": "folder", "root": "$CVSA_DATA/grocery81"},
    },
    "small_grocery": {
        "about": "part of small: photographs of groceries, often without a single object",
        "extends": "small",
        "all": {"dataset": "folder", "root": "$CVSA_DATA/grocery81", "bank_size": 144},
        "pretrain": {"queue_size": 1024},
    },
    "small_resnet50": {
        "about": "part of small: its main rows with a ResNet-50",
        "extends": "small",
        "all": {"backbone": "resnet50"},
    },
    "small_sweep": {
        "about": "chooses the learning rate of every base for small, on birds no table sees",
        "extends": "small",
        "all": {"data_seed": 0},
        "pretrain": {"epochs": 20},
    },
    "small_cpu": {
        "about": "stands for small without a GPU: 4,000 birds of 50 classes, hours on two cores",
        "stands_for": "small",
        "extends": "tiny",
        "all": {"num_classes": 50, "train_images": 4000, "test_images": 2000},
        "pretrain": {"epochs": 30},
    },
    # Written down before the first of its runs: other birds, other seeds, as many labels as CUB-200-2011. [O]
    "confirm": {
        "about": "small_cpu again by a plan fixed in advance: other birds and seeds, 30 labels a class",
        "confirms": "small_cpu",
        "extends": "small_cpu",
        "all": {"data_seed": 2, "val_images": 2000},
        "finetune": {"label_fraction": 0.375},
    },
    "pets3": {
        "about": "three breeds of the Oxford-IIIT Pet data set at 64 px, read from $CVSA_DATA/pets3",
        "extends": "tiny",
        "all": {"dataset": "folder", "root": "$CVSA_DATA/pets3", "image_size": 64, "bank_size": 64},
        "pretrain": {"epochs": 100, "queue_size": 256},
        "finetune": {"epochs": 40},
    },
    "butterfly100": {
        "about": "100 butterflies and moths at 64 px, predicted masks, read from $CVSA_DATA/butterfly100",
        "extends": "tiny",
        "all": {**BUTTERFLIES, "image_size": 64, "bank_size": 64},
        "pretrain": {"epochs": 12},
        "finetune": {"epochs": 10},
    },
    "paper": {
        "about": "ResNet-50 at 224 px; the paper's recipe is unknown, these are the documented substitutes",
        "all": {
            "dataset": "cub200", "backbone": "resnet50", "image_size": 224, "bank_size": 256,
            "batch_size": 256,
        },
        "stage1": {"dataset": "coco"},
        "pretrain": {"epochs": 200, "warmup_epochs": 10, "align_dim": 256},
        # Published recipes; queues of 65,536 (LooC: 16,384) keys are cut to what the smallest of the paper's
        # data sets can fill.
        "byol": {
            "optimizer": "lars", "lr": 0.2, "weight_decay": 1.5e-6, "ema_momentum": 0.996, "crop_scale": 0.08,
            "projector_hidden": 4096, "projector_dim": 256,
        },
        "moco_v2": {
            "optimizer": "sgd", "lr": 0.03, "weight_decay": 1e-4, "ema_momentum": 0.999, "crop_scale": 0.2,
            "augmentation": "moco_v2", "projector_hidden": 2048, "projector_dim": 128, "queue_size": 4096,
            "temperature": 0.2,
        },
        "simclr": {
            "optimizer": "lars", "lr": 0.3, "weight_decay": 1e-6, "augmentation": "simclr",
            "crop_scale": 0.08, "projector_hidden": 2048, "projector_dim": 128, "temperature": 0.1,
        },
        "looc": {
            "lr": 0.03, "ema_momentum": 0.999, "augmentation": "moco_v2", "projector_hidden": 2048,
            "projector_dim": 128, "queue_size": 4096,
        },
        "insloc": {
            "lr": 0.03, "ema_momentum": 0.999, "augmentation": "moco_v2", "projector_hidden": 2048,
            "projector_dim": 128, "queue_size": 4096,
        },
        "rel_loc": {
            "lr": 0.2, "batch_size": 512, "epochs": 70, "warmup_epochs": 5, "augmentation": "none",
            "projector_hidden": 4096,
        },
        "rot_pred": {
            "lr": 0.2, "batch_size": 128, "epochs": 70, "warmup_epochs": 5, "augmentation": "none",
            "crop_scale": 0.08,
        },
        "moco_cast": {
            "lr": 0.125, "ema_momentum": 0.999, "augmentation": "moco_v2", "projector_hidden": 2048,
            "projector_dim": 128, "queue_size": 4096, "temperature": 0.07,
        },
        "finetune": {"epochs": 200, "batch_size": 16, "lr": 1e-3, "weight_decay": 5e-4, "warmup_epochs": 0},
        "probe": {},
    },
}  # fmt: skip

KINDS: dict[type[RunConfig], str] = {
    PretrainConfig: "pretrain",
    FinetuneConfig: "finetune",
    ProbeConfig: "probe",
    EvaluateConfig: "evaluate",
}


def _preset(name: str, kind: str, base: str, backbone: str | None) -> dict[str, Any]:
    """Values of a preset: for all, for the kind of run, for its base, for the network that was asked for."""
    if name not in PRESETS:
        raise CVSAError(f"Unknown preset {name!r}. Presets: {', '.join(PRESETS)}.")
    preset = PRESETS[name]
    below = _preset(preset["extends"], kind, base, backbone) if "extends" in preset else {}
    recipe = preset.get(base, {}) if kind == "pretrain" else {}
    network = preset.get(backbone or "", {}).get(kind, {})
    return {**below, **preset.get("all", {}), **preset.get(kind, {}), **recipe, **network}


def _first_stage(name: str) -> dict[str, Any]:
    """Which generic images a preset's first stage sees, and for how long."""
    preset = PRESETS[name]
    below = _first_stage(preset["extends"]) if "extends" in preset else {}
    return {**below, **preset.get("stage1", {})}


def _over(values: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """What is given over a preset's values; with other images, what describes the preset's own goes too."""
    own = {"dataset": DRAWN[0], "root": None, **values}
    if any(str(given[name]) != str(own[name]) for name in ("dataset", "root") if name in given):
        own = {k: v for k, v in own.items() if k not in ("root", "split_file", "saliency", "masks_root")}
    return {**own, **given}


def resolve(model: type[Config], **given: Any) -> Config:
    """Layer preset, row and what the caller gives, and validate the result before anything runs.

    Args:
        model: one of KINDS.
        **given: fields of the model; None (or an empty string) means "the preset's value".

    Raises:
        CVSAError: unknown row, preset or field, wrong type, value out of range: one line naming the field.
    """
    given = {k: v for k, v in given.items() if v is not None and v != ""}
    row_name, row = find_row(given.get("row", model.model_fields["row"].default))
    kind = KINDS[model]
    preset = given.get("preset", model.model_fields["preset"].default)
    values = _preset(preset, kind, given.get("base", row.base), given.get("backbone"))
    if kind == "pretrain":
        if str(given.get("stage")) == "1":
            values = _over(values, _first_stage(preset))
        values |= {"base": row.base, "view": row.view, "align_weight": row.align_weight}
    return validate(model, {**_over(values, given), "row": row_name})


def validate(model: type[Config], values: dict[str, Any]) -> Config:
    """Validate plain values against a model; a failure becomes one line.

    Raises:
        CVSAError: names the first offending field, what was given and what is allowed.
    """
    try:
        return model(**values)
    except ValidationError as error:
        raise CVSAError(_explain(model, error)) from None


def _explain(model: type[RunConfig], error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        import difflib

        near = difflib.get_close_matches(field, list(model.model_fields), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        known = ", ".join(model.model_fields)
        return f"Unknown parameter {field!r} for {KINDS[model]}.{hint} Parameters: {known}."
    if not field:
        return one_line(first["msg"].removeprefix("Value error, ")) + "."
    about = model.model_fields[field].description
    return one_line(f"Parameter {field} = {first['input']!r}: {first['msg']} ({about}).")


# What leads the parameters cell: a person's usual choices.
_FIRST = ("row", "preset", "seed", "dataset", "root", "pretrained", "finetuned", "parts")
_SHOWN = ("row", "preset", "seed")  # with their defaults; the preset decides the rest


def parameters(model: type[RunConfig]) -> list[str]:
    """Names of the fields a person may give, the usual choices first."""
    names = [name for name in model.model_fields if name not in ("parent", "classifier")]
    return sorted(names, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))


def parameter_cell(model: type[RunConfig]) -> str:
    """A notebook's parameters cell: every field with its type and help, and where to write the run.

    None stands for the preset's value (an evaluation takes row, data and seed from its pre-trained run), so
    that a default is written in one place only.
    """
    lines = []
    for name in parameters(model):
        field = model.model_fields[name]
        kind, shown = (
            _plain_type(field.annotation),
            name in _SHOWN and model is PretrainConfig,
        )
        lines.append(f"{name}: {kind} = {field.default!r}" if shown else f"{name}: Optional[{kind}] = None")
        lines[-1] += f"  # {field.description}"
    return "\n".join(
        [*lines, "out: Optional[str] = None  # folder of this run; None: a folder of its own below runs/"]
    )


def _plain_type(annotation: Any) -> str:
    """bool, int, float or str: what a command line can give; paths and choices are text there."""
    return annotation.__name__ if annotation in (bool, int, float) else "str"
