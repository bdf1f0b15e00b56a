"""One point of growth, in a process of its own: a step's seconds and the peak of memory, which never falls.

Reads a job as JSON from standard input and writes ``{"seconds": ..., "memory_mib": ...}`` to standard output.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.contenders import WARM_UP
from benchmarks.rounds import LEAST, Clock
from cvsa.config import PretrainConfig
from cvsa.methods import SaliencyAlignment, build_backbone
from cvsa.provenance import peak_memory_mib
from cvsa.steps import noise, row_step, row_views
from cvsa.training.runtime import Runtime

IMAGES = 1000  # in the bank, where their number is not what grows
SMALLEST = {"image_size": 32, "bank_size": 32, "batch_size": 2}


def step_of(config: PretrainConfig, runtime: Runtime, images: int) -> Callable[[], None]:
    """A row's step on so many images of noise."""
    bank = noise(images, config.bank_size, torch.Generator().manual_seed(config.seed))
    return row_step(config, runtime, row_views(config, runtime, bank))


def alignment_step(config: PretrainConfig, runtime: Runtime, side: int) -> Callable[[], None]:
    """The alignment's loss in one direction, forward and backward, on maps (B, D, side, side) of noise."""
    width = build_backbone(config.backbone, image_size=config.image_size).num_features
    module = SaliencyAlignment(
        width, dim=config.align_dim, scores=config.align_scores, depth=config.align_depth
    )
    module = runtime.place(module).train()  # type: ignore[assignment]
    generator = torch.Generator().manual_seed(config.seed)
    query, key = (
        torch.randn(config.batch_size, width, side, side, generator=generator).to(runtime.device)
        for _ in range(2)
    )
    mask = torch.ones(config.batch_size, 1, side, side, device=runtime.device)
    query.requires_grad_()

    def step() -> None:
        module.zero_grad(set_to_none=True)
        query.grad = None
        with runtime.autocast():
            loss, _ = module(query, key, mask)
        loss.backward()

    return step


def peak_mib(device: torch.device) -> float:
    """Peak memory so far, MiB: of the GPU, or resident in this process.

    Linux hands a parent's peak down through getrusage, so there it is read from the process's own status.
    """
    status = Path("/proc/self/status")
    if device.type == "cpu" and status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) / 1024
    return peak_memory_mib(device)


def measure_point(job: dict[str, Any]) -> dict[str, float]:
    """Seconds of the median step and MiB of memory above those of a step at the least size.

    Args:
        job: "config" of the row, "axis" and "value" of what grows, "threads", "seconds" to time.
    """
    config = PretrainConfig(**job["config"])
    runtime = Runtime.of(config)
    torch.set_num_threads(job["threads"])
    # What is loaded at the first step, libraries and compiled loops, is not what grows.
    step_of(config.model_copy(update=SMALLEST), runtime, 4)()
    clock = Clock()
    if runtime.device.type == "cuda":
        clock = Clock(wait=lambda: torch.cuda.synchronize(runtime.device))
        torch.cuda.reset_peak_memory_stats(runtime.device)
    before = peak_mib(runtime.device)
    axis, value = job["axis"], job["value"]
    if axis == "map":
        step = alignment_step(config, runtime, value)
    else:
        grown = {"batch": {"batch_size": value}, "image": {"image_size": value, "bank_size": value}}
        images = value if axis == "bank" else IMAGES
        step = step_of(config.model_copy(update=grown.get(axis, {})), runtime, images)
    for _ in range(WARM_UP):
        step()
    passed: list[float] = []
    while len(passed) < LEAST or sum(passed) < job["seconds"]:
        passed.append(clock.timed(step, 0.0, 0, least=1).seconds)
    return {
        "seconds": statistics.median(passed),
        "memory_mib": max(0.0, round(peak_mib(runtime.device) - before, 3)),
    }


if __name__ == "__main__":
    print(json.dumps(measure_point(json.load(sys.stdin))))
