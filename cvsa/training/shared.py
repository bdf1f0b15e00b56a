"""A network that several processes train together: batch norm over all rows, gradients averaged."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cvsa.errors import CVSAError
from cvsa.methods.heads import raised
from cvsa.methods.world import world


class SharedBatchNorm(_BatchNorm):
    """Batch norm over the rows of all processes, each with the same number of them, (b, C, ...).

    Of plain tensor operations, as torch's own works on GPUs only, and its gradient has no gradient in turn,
    which CAST's loss takes through a head. State, and all that is done in eval mode, are those of torch's.
    """

    def _check_input_dim(self, x: Tensor) -> None:
        """Any number of axes."""

    def forward(self, x: Tensor) -> Tensor:
        return _activated(self, self._normalise(x) if self.training else super().forward(x))

    def _normalise(self, x: Tensor) -> Tensor:
        wide, (here, axes) = raised(x), (world(), [0, *range(2, x.ndim)])
        count = here.size * x.numel() // x.shape[1]
        channels = [1, -1, *[1] * (x.ndim - 2)]
        mean = here.total(wide.sum(axes)) / count  # (C,)
        centred = wide - mean.view(channels)
        variance = here.total(centred.square().sum(axes)) / count  # (C,)
        self._follow(mean.detach(), variance.detach(), count)
        scale = torch.rsqrt(variance + self.eps)
        y = centred * (scale if self.weight is None else scale * self.weight).view(channels)
        return (y if self.bias is None else y + self.bias.view(channels)).to(x.dtype)

    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics towards these, the variance without its bias."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        step = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), step)
        self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var.dtype), step)


class SharedMapNorm(nn.SyncBatchNorm):
    """The same by torch's kernels: for maps on a GPU, where the work is."""

    def forward(self, x: Tensor) -> Tensor:
        return _activated(self, super().forward(x))


def _activated(layer: nn.Module, y: Tensor) -> Tensor:
    """What timm's layers of norm and activation in one do after the norm."""
    for name in ("drop", "act"):
        y = getattr(layer, name)(y) if hasattr(layer, name) else y
    return y


def synchronise(module: nn.Module, compiled: bool = False) -> None:
    """Make every batch norm in a network one over the rows of all processes.

    The layers stay the objects they are, so whatever refers to one still does (an optimiser, a momentum
    copy).

    Args:
        module: the network, its momentum copies included.
        compiled: parts of it will be compiled; the layers then stay out of that, as they exchange.

    Raises:
        CVSAError: a layer that is derived from torch's and does something else.
    """
    for name, layer in module.named_modules():
        if not isinstance(layer, _BatchNorm) or isinstance(layer, SharedBatchNorm | SharedMapNorm):
            continue
        if type(layer).forward is not _BatchNorm.forward and not hasattr(layer, "act"):
            raise CVSAError(
                f"Several processes cannot share {name}, a batch norm of its own kind "
                f"({type(layer).__name__}). Set gpus 1, or take another backbone."
            )
        on_gpu = any(state.is_cuda for state in layer.state_dict().values())
        layer.__class__ = SharedMapNorm if on_gpu and isinstance(layer, nn.BatchNorm2d) else SharedBatchNorm
        layer.process_group = None  # type: ignore[assignment]  # of SharedMapNorm: all processes
        if compiled:
            layer.forward = torch.compiler.disable(layer.forward)  # type: ignore[method-assign]


def connect(module: nn.Module, compiled: bool = False) -> Callable[[Any], dict[str, Tensor]]:
    """What to call in place of a network, so that its gradients are means over all processes.

    Call it before the optimiser is built. Alone the network itself is returned, as it is.

    Some published backbones have weights that their map does not use, which then get no gradient in one
    process and shall get none in several: ``find_unused_parameters``, at the cost of a walk through each
    step's graph. Gradients taken inside a forward pass (CAST) are no concern of torch's class: it looks at
    what ends in a weight's ``grad``. Each process makes its own momentum copies, queues and statistics, the
    same as all others, so that no buffers have to be sent.
    """
    if world().size == 1:
        return module
    from torch.nn.parallel import DistributedDataParallel

    synchronise(module, compiled)
    # torch gave the parameter another name, and warns of the old one.
    known = inspect.signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    buffers: dict[str, Any] = {name: False}
    return DistributedDataParallel(module, find_unused_parameters=True, **buffers)
