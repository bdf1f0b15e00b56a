"""What every method has: an online encoder, weighted losses, an update of its own after each step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvsa.errors import CVSAError
from cvsa.methods.backbone import build_backbone
from cvsa.methods.heads import MomentumCopy, Queue, raised
from cvsa.methods.world import world

if TYPE_CHECKING:
    from cvsa.config import PretrainConfig
    from cvsa.methods.alignment import SaliencyAlignment
    from cvsa.views import Views


class Method(nn.Module):
    """A module which turns its views into a dict of losses and updates itself after a step.

    The training loop knows nothing else: it minimises ``sum(weights[k] * losses[k])``, calls
    :meth:`after_step`, and records ``diagnostics``. Whatever a method keeps between steps (momentum copies, a
    queue) is in its state_dict. Where several processes share a step, each sees its rows of the batch: losses
    and diagnostics are means over them, or made of all rows, gathered (``cvsa.methods.world``).

    Attributes:
        encoder: the online backbone, kept after pre-training.
        weights: weight of each loss in the total, L_CVSA = L_Cont + w L_Align [A].
        diagnostics: detached scalars of the last forward. ``embedding_std``: see :func:`embedding_std`;
            ``attention_gap``: mean attention on foreground minus background, where the alignment is attached;
            ``pretext_accuracy``: share of right answers, where the method asks a question.
        takes: the views of a forward pass, in order.
        momentum_schedule: "cosine" raises the momentum of the copies to 1 over training, "constant" leaves
            it.
    """

    takes: tuple[str, ...] = ("query", "key")
    momentum_schedule: Literal["cosine", "constant"] = "constant"

    def __init__(self, config: PretrainConfig) -> None:
        super().__init__()
        self.encoder = build_backbone(config.backbone, image_size=config.image_size)
        self.alignment: SaliencyAlignment | None = None
        self.align_symmetric = True
        self.base_momentum = config.ema_momentum
        self.weights = {"contrastive": 1.0}
        self.diagnostics: dict[str, Tensor] = {}

    def attach_alignment(self, module: SaliencyAlignment, weight: float, symmetric: bool = True) -> None:
        """Add L_Align with this weight; its momentum copy is updated with the method's own.

        Args:
            module: of the encoder's width.
            weight: w, not negative.
            symmetric: in every direction of the base's own loss [I]; else with the first view as query
                only [O].
        """
        self.alignment, self.align_symmetric = module, symmetric
        self.weights["alignment"] = weight

    def forward(self, views: tuple[Views, ...]) -> dict[str, Tensor]:
        """Unweighted scalar losses of the views: "contrastive" or "pretext", and "alignment" if attached."""
        raise NotImplementedError

    def check_views(self, views: Sequence[Views]) -> None:
        """Refuse another number of views than the method takes.

        Raises:
            CVSAError: names the views wanted.
        """
        if len(views) != len(self.takes):
            wanted = f"{len(self.takes)} view{'s' * (len(self.takes) > 1)} ({', '.join(self.takes)})"
            name, hint = type(self).__name__, "choose a view generator that makes them."
            raise CVSAError(f"{name} takes {wanted}, got {len(views)}: {hint}")

    def losses(
        self,
        contrastive: Tensor,
        embeddings: Sequence[Tensor],
        pairs: Sequence[tuple[Tensor, Tensor, Tensor]],
    ) -> dict[str, Tensor]:
        """Assemble the losses of a step and set the diagnostics.

        Args:
            contrastive: the base's own loss, scalar.
            embeddings: online projections (B, d), one per view, for the diagnostics.
            pairs: per direction of the base's loss, online map of the query view (B, D, H, W), map of the key
                view (B, D, H, W) and mask of the query view (B, 1, S, S). L_Align is summed over them as the
                base sums its own loss: two directions for a symmetrised base, one otherwise [I]; over the
                first alone where the alignment was attached one-way.
        """
        losses = {"contrastive": contrastive}
        with torch.no_grad():
            whole = [world().gather(z.detach().float()) for z in embeddings]  # (B, d), of all processes
            self.diagnostics = {"embedding_std": torch.stack([embedding_std(z) for z in whole]).mean()}
        if self.alignment is not None:
            used = pairs if self.align_symmetric else pairs[:1]
            terms, gaps = zip(*(self.alignment(*pair) for pair in used), strict=True)
            losses["alignment"] = torch.stack(terms).sum()
            self.diagnostics["attention_gap"] = torch.stack(gaps).mean()
        return losses

    def key_map(self, images: Tensor) -> Tensor:
        """Map of a key view, (B, 3, S, S) -> (B, D, H, W): the online encoder's, or its momentum copy's."""
        return self.encoder(images)

    @torch.no_grad()
    def attention(self, views: tuple[Views, ...]) -> Tensor:
        """The alignment module's attention of the first view, found in the second; for figures, in eval mode.

        Returns:
            (B, 1, H, W) in (0, 1).

        Raises:
            CVSAError: no alignment is attached.
        """
        if self.alignment is None:
            raise CVSAError(
                "No alignment module, hence no attention: use a row with alignment, such as BYOL+CVSA."
            )
        return self.alignment.attention(self.encoder(views[0].images), self.key_map(views[1].images))

    def restart_copies(self) -> None:
        """Make every momentum copy equal to what it follows, after the encoder was given other weights."""
        for module in self.modules():
            if isinstance(module, MomentumCopy):
                module.restart()

    def momentum(self, progress: float) -> float:
        """Momentum at ``progress`` t in [0, 1]: m, or 1 - (1 - m)(cos(pi t) + 1)/2 (BYOL)."""
        if self.momentum_schedule == "constant":
            return self.base_momentum
        return 1 - (1 - self.base_momentum) * (math.cos(math.pi * progress) + 1) / 2

    def after_step(self, progress: float) -> None:
        """Update every momentum copy, the alignment's included, and every queue; after the optimiser's step.

        Args:
            progress: share of training done, in [0, 1].
        """
        momentum = self.momentum(progress)
        for module in self.modules():
            if isinstance(module, MomentumCopy):
                module.update(momentum)
            elif isinstance(module, Queue):
                module.advance()


class MomentumMethod(Method):
    """A method whose keys come from a momentum copy of the encoder."""

    def __init__(self, config: PretrainConfig) -> None:
        super().__init__(config)
        self.target_encoder = MomentumCopy(self.encoder)

    def key_map(self, images: Tensor) -> Tensor:
        return self.target_encoder(images)


class PretextMethod(Method):
    """A method which asks for what is known by construction: no embeddings, no partner view to align with."""

    def __init__(self, config: PretrainConfig) -> None:
        super().__init__(config)
        self.weights = {"pretext": 1.0}

    def attach_alignment(self, module: SaliencyAlignment, weight: float, symmetric: bool = True) -> None:
        """Refuse: the alignment needs two views which share an object.

        Raises:
            CVSAError: always.
        """
        name, hint = type(self).__name__, "set align_weight 0, or take a contrastive base."
        raise CVSAError(f"{name} has no pair of views to align: {hint}")

    def answer(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of the answers, and their accuracy as the diagnostic.

        Args:
            logits: (B, C).
            labels: (B,) int64 in [0, C).
        """
        accuracy = (logits.detach().argmax(dim=1) == labels).float().mean()
        self.diagnostics = {"pretext_accuracy": accuracy}
        return {"pretext": F.cross_entropy(raised(logits), labels)}


def embedding_std(z: Tensor) -> Tensor:
    """Collapse diagnostic: standard deviation of L2-normalised embeddings over the batch, times sqrt(d).

    1 when they spread evenly over the sphere, 0 when all are the same (Chen and He, SimSiam, 2021, section
    4.1).

    Args:
        z: (B, d), B at least 2.
    """
    return F.normalize(z.detach().float(), dim=1).std(dim=0).mean() * math.sqrt(z.shape[1])
