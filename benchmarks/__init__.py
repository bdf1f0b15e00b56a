"""How fast a training step is, beside its own ceiling and beside peer libraries, measured on one machine.

Not installed: run from a checkout as ``python -m benchmarks``. Records go to ``results/benchmarks``; the
chapter on what the method costs is drawn from them (``cvsa.report.speed``). [O]
"""
