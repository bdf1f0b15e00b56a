"""Is everything there, how fast is this machine, what will each preset take: `cvsa doctor`."""

from cvsa.doctor.checks import examine
from cvsa.doctor.finding import Check, Finding, Report

__all__ = ["Check", "Finding", "Report", "examine"]
