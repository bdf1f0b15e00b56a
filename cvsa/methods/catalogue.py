"""The rows of the paper's tables as data: row name -> base, view generator, alignment.

Nothing else in the package knows a row by name. Base, view generator and alignment combine freely, so a new
combination is one more line here, or ``-p base moco_v2 -p align_weight 1`` for a single run.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from cvsa.errors import CVSAError

Base = Literal["none", "byol", "moco_v2"]
View = Literal["random_resized_crop", "saliency_swap"]


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        base: contrastive objective; "none" means no pre-training at all.
        view: generator of the two views.
        align_weight: weight of L_Align in the total loss; 0 leaves the alignment module out.
        source: where the row stands in the paper, with METHOD's mark.
        about: one line for people.
    """

    base: Base
    view: View
    align_weight: float
    source: str
    about: str


ROWS: dict[str, Row] = {
    "Random": Row(
        "none", "random_resized_crop", 0.0, "table 1 [A]", "no pre-training, random initialisation"
    ),
    "MoCo.v2": Row(
        "moco_v2", "random_resized_crop", 0.0, "tables 1 and 2 [A]", "MoCo v2 on random resized crops"
    ),
    "MoCo.v2+SS": Row(
        "moco_v2", "saliency_swap", 0.0, "scale ablation [A]", "MoCo v2 on Saliency Swap views"
    ),
    "BYOL": Row("byol", "random_resized_crop", 0.0, "tables 1 and 2 [A]", "BYOL on random resized crops"),
    "BYOL+SS": Row("byol", "saliency_swap", 0.0, "scale ablation [A]", "BYOL on Saliency Swap views"),
    "BYOL+CVSA": Row(
        "byol", "saliency_swap", 1.0, "tables 1 and 2 [A]", "BYOL + Saliency Swap + saliency alignment"
    ),
}

# The ablation plot calls the full method by its parts.
ALIASES = {"BYOL+SS+Align": "BYOL+CVSA"}


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


def slug(name: str) -> str:
    """File-system name of a row: "BYOL+CVSA" -> "byol-cvsa", "MoCo.v2" -> "moco-v2"."""
    return "".join(c if c.isalnum() else "-" for c in name.lower())
