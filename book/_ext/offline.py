"""Keeps the built pages self-contained: nothing is loaded from another machine.

jupyter-book always switches sphinx-thebe on, which names scripts and a kernel on public hosts in every page
although nothing here uses them. Its handlers are taken off again before the first one is due.
"""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

UNWANTED = {"sphinx_thebe"}


def disconnect(app: Sphinx, config: Config) -> None:
    """Take off every event handler of the unwanted extensions."""
    for listeners in list(app.events.listeners.values()):
        for listener in list(listeners):
            if listener.handler.__module__ in UNWANTED:
                app.disconnect(listener.id)


def setup(app: Sphinx) -> dict[str, Any]:
    """Run once all extensions are loaded."""
    app.connect("config-inited", disconnect, priority=1)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
