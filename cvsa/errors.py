"""The one exception for mistakes a user can mend."""

from __future__ import annotations


class CVSAError(Exception):
    """A user's mistake, said in one line: what is wrong, where, what is allowed, what to do.

    The command line prints the line and exits with status 2; a notebook shows the line, not a traceback.
    """

    def _render_traceback_(self) -> list[str]:
        # IPython calls this instead of formatting the frames: the user sees the line, not our call stack.
        return [f"{type(self).__name__}: {self}"]


def one_line(message: str) -> str:
    """Fold a message to one line (pydantic and OS errors may span several)."""
    return " ".join(message.split())
