"""`cvsa evaluate RUN`: from a run's folder to its evaluation, told in a few lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cvsa.errors import CVSAError
from cvsa.evaluation.evaluate import evaluate
from cvsa.lineage import resolve_evaluation
from cvsa.notebook import run_folder
from cvsa.records import read_record

ARGUMENT = {"pretrain": "pretrained", "finetune": "finetuned"}


def evaluate_run(run: Path, parts: str | None, pretrained: Path | None, out: Path | None) -> Iterator[str]:
    """Evaluate a finished run and tell what came out.

    Args:
        run: folder of a fine-tuning or a pre-training run.
        parts: see ``EvaluateConfig.parts``; None for its default.
        pretrained: folder of the run that a fine-tuning started from, if it has moved.
        out: folder of the evaluation; None for one of its own below runs/.

    Yields:
        Lines of text: where the record is, the metrics, what was not available and why.

    Raises:
        CVSAError: no such run, or one of another kind; see :func:`cvsa.evaluation.evaluate.evaluate`.
    """
    record = read_record(run)
    if record.kind not in ARGUMENT:
        raise CVSAError(
            f"{run} holds a run of kind {record.kind!r}; give a fine-tuning or a pre-training run."
        )
    if pretrained is not None and record.kind == "pretrain":
        raise CVSAError(f"{run} is a pre-training run itself; --pretrained goes with a fine-tuning run.")
    given = {"pretrained": pretrained, ARGUMENT[record.kind]: run, "parts": parts}
    config = resolve_evaluation(**given)[0]
    folder = run_folder(out, "evaluate", config)
    done = evaluate(folder, **given)
    yield f"{done.row}, seed {done.seed}: {len(done.metrics)} metrics in {folder} ({done.seconds:.0f} s)"
    width = max(map(len, done.metrics), default=0)
    yield from (f"{name:<{width}}  {value:8.4f}" for name, value in done.metrics.items())
    yield from (f"not available: {name}: {why}" for name, why in done.unavailable.items())
