"""The rows of the paper's tables as data: row -> base, view generator, alignment; and what each table needs.

Nothing else in the package knows a row or a base by name. Base, view generator and alignment combine freely
wherever a base takes the views, so a new combination is one more line here, or ``-p base moco_v2
-p align_weight 1`` for a single run; a method of your own is a file and a row whose base is "module:Class".
This module imports no torch: the command line, the workflow and the checks of a configuration read it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from cvsa.errors import CVSAError


@dataclass(frozen=True)
class View:
    """What a configuration must know of a view generator.

    Attributes:
        about: one line for people.
        saliency: whether it reads the object's place, so that a data set without saliency is refused.
    """

    about: str
    saliency: bool = False


VIEWS: dict[str, View] = {
    "random_resized_crop": View("two random resized crops"),
    "saliency_swap": View("Saliency Swap: a crop of the object over another image's object", saliency=True),
    "dilo": View("crops whose background is replaced outside the object's pixels", saliency=True),
    "contrastive_crop": View("crops centred in the saliency box, pushed to its edges", saliency=True),
    "random_paste": View("a crop pasted at a random place of another image, with its box"),
    "leave_one_out": View("a query and three keys that share all, no colour, no rotation change with it"),
    "neighbouring_patches": View("the centre patch and one of its eight neighbours"),
    "one_crop": View("one random resized crop"),
}
"""Name -> what it is; the generators themselves are in ``cvsa.views.maker``."""

PATCH = 96 / 224
"""Side of Rel-Loc's patches as a share of the images that are classified later (Doersch et al., 2015)."""

PAIRS = ("random_resized_crop", "saliency_swap", "dilo", "contrastive_crop", "random_paste")


@dataclass(frozen=True)
class Base:
    """A base objective: where its class is and what it combines with.

    Attributes:
        method: "module:Class", imported when a run starts.
        passes: images that go through the backbone per reference, (with gradient, without). Arithmetic says a
            step costs 3 per image with gradient (forward, and a backward of twice that) and 1 without.
        views: view generators it takes.
        area: share of an image's area that each of its views has.
        alignment: whether L_Align attaches; it needs two views that share no more than the object.
        queue: whether it keeps keys of earlier batches, of which a training set must have enough.
        masks: whether its own loss reads the view masks.
    """

    method: str
    passes: tuple[float, float]
    views: tuple[str, ...] = PAIRS
    area: float = 1.0
    alignment: bool = False
    queue: bool = False
    masks: bool = False

    @property
    def cost(self) -> float:
        """Forward passes that one reference costs, a backward pass counted as two."""
        return self.area * (3 * self.passes[0] + self.passes[1])


BASES: dict[str, Base] = {
    "rel_loc": Base("cvsa.methods.rel_loc:RelLoc", (2, 0), ("neighbouring_patches",), area=PATCH**2),
    "rot_pred": Base("cvsa.methods.rot_pred:RotPred", (4, 0), ("one_crop",)),
    "simclr": Base("cvsa.methods.simclr:SimCLR", (2, 0), alignment=True),
    "moco_v2": Base("cvsa.methods.moco:MoCoV2", (1, 1), alignment=True, queue=True),
    "looc": Base("cvsa.methods.looc:LooC", (1, 3), ("leave_one_out",), queue=True),
    "insloc": Base("cvsa.methods.insloc:InsLoc", (1, 1), ("random_paste",), queue=True),
    "byol": Base("cvsa.methods.byol:BYOL", (2, 2), alignment=True),
    "moco_cast": Base("cvsa.methods.cast:MoCoCAST", (1, 2), queue=True, masks=True),
}


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        base: name in BASES; "none" means no pre-training at all.
        view: name in VIEWS.
        align_weight: weight of L_Align in the total loss; 0 leaves the alignment module out.
        source: where the row stands in the paper, with METHOD's mark.
        about: one line for people.
    """

    base: str
    view: str
    align_weight: float
    source: str
    about: str


_BOTH = "tables 1 and 2 [A]"
ROWS: dict[str, Row] = {
    "Random": Row("none", "random_resized_crop", 0.0, "table 1 [A]", "no pre-training, random weights"),
    "Published": Row("none", "random_resized_crop", 0.0, "not in the paper [O]", "weights published by timm"),
    "Rel-Loc": Row("rel_loc", "neighbouring_patches", 0.0, _BOTH, "relative position of two patches, of 8"),
    "Rot-Pred": Row("rot_pred", "one_crop", 0.0, _BOTH, "which of four rotations"),
    "SimCLR": Row("simclr", "random_resized_crop", 0.0, _BOTH, "SimCLR on random resized crops"),
    "MoCo.v2": Row("moco_v2", "random_resized_crop", 0.0, _BOTH, "MoCo v2 on random resized crops"),
    "LooC": Row("looc", "leave_one_out", 0.0, _BOTH, "a space per augmentation left out: colour, rotation"),
    "InsLoc": Row("insloc", "random_paste", 0.0, _BOTH, "MoCo on a crop pasted into two backgrounds"),
    "BYOL": Row("byol", "random_resized_crop", 0.0, _BOTH, "BYOL on random resized crops"),
    "BYOL+DiLo": Row("byol", "dilo", 0.0, _BOTH, "BYOL on objects cut out onto other backgrounds"),
    "BYOL+CVSA": Row("byol", "saliency_swap", 1.0, _BOTH, "BYOL + Saliency Swap + saliency alignment"),
    "MoCo.v2+SS": Row("moco_v2", "saliency_swap", 0.0, "scale ablation [A]", "MoCo v2 on Saliency Swap"),
    "BYOL+SS": Row("byol", "saliency_swap", 0.0, "scale ablation [A]", "BYOL on Saliency Swap"),
    "SimCLR+SS": Row("simclr", "saliency_swap", 0.0, "not in the paper [O]", "SimCLR on Saliency Swap"),
    "SimCLR+CVSA": Row("simclr", "saliency_swap", 1.0, "not in the paper [O]", "SimCLR + SS + alignment"),
    "MoCo.v2+CVSA": Row("moco_v2", "saliency_swap", 1.0, "not in the paper [O]", "MoCo v2 + SS + alignment"),
    "MoCo.v2+CAST": Row("moco_cast", "random_resized_crop", 0.0, "related work [O]", "MoCo v2 + CAST's loss"),
    "BYOL+CCrop": Row("byol", "contrastive_crop", 0.0, "related work [O]", "BYOL on ContrastiveCrop's crops"),
}  # fmt: skip

# The ablation plot calls the full method by its parts.
ALIASES = {"BYOL+SS+Align": "BYOL+CVSA"}

# A line of a table: the row trained on generic images (stage 1) and the row trained on the fine-grained ones
# (stage 2), each None where there is none; rows as in the paper, in its order.
Line = tuple[str | None, str | None]
TABLES: dict[str, tuple[Line, ...]] = {
    "second_stage_only": tuple(
        (None, row)
        for row in ("Random", "Rel-Loc", "Rot-Pred", "SimCLR", "MoCo.v2", "LooC", "InsLoc", "BYOL",
                    "BYOL+DiLo", "BYOL+CVSA")
    ),
    # That the first stage of BYOL+DiLo and BYOL+CVSA is plain BYOL is inferred [I]: generic images have not
    # one object to swap, and the method is presented as a second stage.
    "dual_stage": (
        ("Rel-Loc", "Rel-Loc"), ("Rot-Pred", "Rot-Pred"), ("SimCLR", None), ("MoCo.v2", None),
        ("MoCo.v2", "MoCo.v2"), ("LooC", "LooC"), ("InsLoc", "InsLoc"), ("BYOL", None), ("BYOL", "BYOL"),
        ("BYOL", "BYOL+DiLo"), ("BYOL", "BYOL+CVSA"),
    ),
    "scale_ablation": ((None, "MoCo.v2+SS"), (None, "BYOL+SS"), (None, "BYOL+CVSA")),
}  # fmt: skip


def find_row(name: str) -> tuple[str, Row]:
    """Look a row up by its name in the paper or an alias.

    Returns:
        The row's own name and the row.

    Raises:
        CVSAError: no such row; names the nearest ones.
    """
    name = ALIASES.get(name, name)
    if name in ROWS:
        return name, ROWS[name]
    folded = {known.lower(): known for known in [*ROWS, *ALIASES]}
    near = difflib.get_close_matches(str(name).lower(), list(folded), n=1, cutoff=0.5)
    hint = f" Did you mean {folded[near[0]]!r}?" if near else ""
    raise CVSAError(f"Unknown row {name!r}.{hint} Rows: {', '.join(ROWS)}. `cvsa rows` describes them.")


def find_base(name: str) -> Base:
    """Look a base up by its name; "module:Class" is a method of your own, on two views.

    Raises:
        ValueError: neither; names the nearest one.
    """
    if name in BASES:
        return BASES[name]
    if ":" in name:
        return Base(name, (2, 0))
    hint, known = _nearest(name, BASES), ", ".join(BASES)
    raise ValueError(f"unknown base {name!r}.{hint} Bases: {known}, or your own as module:Class")


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


def plain_row(base: str) -> str:
    """The row that is a base as published, without what this paper adds: "byol" -> "BYOL"."""
    return next(name for name, row in ROWS.items() if row.base == base)


def check_combination(base: str, view: str, align_weight: float) -> None:
    """Refuse what makes no sense, with the reason.

    Raises:
        ValueError: unknown base or view; views the base cannot use; alignment where none attaches.
    """
    known = find_base(base)
    if view not in VIEWS:
        raise ValueError(f"unknown view {view!r}.{_nearest(view, VIEWS)} Views: {', '.join(VIEWS)}")
    takes = known.views
    if view not in takes:
        raise ValueError(
            f"base {base!r} does not take view {view!r} ({VIEWS[view].about}); it takes {', '.join(takes)}"
        )
    if align_weight > 0 and not known.alignment:
        others = ", ".join(name for name, other in BASES.items() if other.alignment)
        raise ValueError(
            f"align_weight {align_weight:g}: the alignment finds in one view what it shares with another, "
            f"and base {base!r} has no such pair of feature maps; set align_weight 0, or take {others}"
        )


def slug(name: str) -> str:
    """File-system name of a row: "BYOL+CVSA" -> "byol-cvsa", "MoCo.v2" -> "moco-v2"."""
    return "".join(c if c.isalnum() else "-" for c in name.lower())
