"""A made-up measurement of speed, with numbers that are easy to divide."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cvsa.report.speed_records import AXES, PARTS, Contender, PartTimes, Phase, Point, Speed, Work


def phases(*rates: float, batch: int = 50) -> list[Phase]:
    """One phase per round, of ten steps at such a rate in images/s; half of its time on the processor."""
    return [
        Phase(round=n, steps=10, seconds=10 * batch / rate, processor=5 * batch / rate)
        for n, rate in enumerate(rates)
    ]


def contender(role: Any, library: str, row: str, images: Any, *rates: float, **given: Any) -> Contender:
    """A contender that was timed at these rates, and made views alone at these of ``feed``."""
    feed = phases(*given.pop("feed", ()))
    return Contender(
        role=role,
        library=library,
        row=row,
        images=images,
        batch=50,
        rounds=phases(*rates),
        feed=feed,
        **given,
    )


def example_speed(**changes: Any) -> Speed:
    """A valid measurement of two rounds on a CPU, with fields replaced."""
    rows = ("BYOL", "MoCo.v2")
    contenders = [
        *(contender("ceiling", "cvsa", row, "fixed", 1000, 2000) for row in (*rows, "BYOL+CVSA")),
        *(
            contender("ours", "cvsa", row, "bank", 800, 1800, feed=(4000, 9000))
            for row in (*rows, "BYOL+SS", "BYOL+CVSA")
        ),
        *(
            contender("peer", library, row, images, rate, 2 * rate, feed=(2 * rate, 4 * rate), workers=2)
            for row in rows
            for library, images, rate in (
                ("lightly", "files", 200), ("lightly", "memory", 250), ("torchvision", "files", 100),
                ("torchvision", "memory", 160), ("kornia", "memory", 600),
            )
        ),
    ]  # fmt: skip
    points = [
        Point(axis=axis, value=size, what="BYOL+CVSA", threads=1, seconds=[0.01 * size] * 2,
              memory_mib=[float(size**2)] * 2)
        for axis in AXES
        for size in (4, 8, 16)
    ]  # fmt: skip
    milliseconds = {part: float(number) for number, part in enumerate(PARTS, start=1)}
    fields: dict[str, Any] = {
        "name": "cpu-tiny-a-cpu", "setting": "cpu-tiny", "about": "a small network",
        "backbone": "resnet_slim", "image_size": 48, "bank_size": 48, "bank_images": 1000, "batch_size": 50,
        "asked": ["ceiling", "ours", "peers"], "asked_rounds": 2, "asked_seconds": 1.0, "complete": True,
        "contenders": contenders,
        "views": [
            Work(library="cvsa", row="BYOL", images="bank", batch=50, rounds=phases(4000, 5000)),
            Work(library="kornia", row="BYOL", images="memory", batch=50, rounds=phases(1000, 1000)),
        ],
        "parts": [PartTimes(row="BYOL", threads=1, rounds=[milliseconds] * 2)],
        "growth": points,
        "code": {"version": "0", "commit": "c" * 40, "dirty": False, "hashes": {}},
        "lock": None, "libraries": {"torch": "2", "kornia": "0.9"},
        "hardware": {"device": "cpu", "cpu": "a CPU", "threads": 2, "precision": "fp32"},
        "load_average": 0.1, "started": datetime(2026, 1, 1, tzinfo=UTC), "seconds": 10.0,
    }  # fmt: skip
    return Speed(**{**fields, **changes})
