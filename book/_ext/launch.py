"""The directive ``{launch} pretrain finetune``: buttons that open notebooks on Colab and on Binder.

The theme's own launch buttons appear on notebook pages only and would point at executed copies, which are not
in the repository. Addresses derive from the repository's address in ``_config.yml``.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def addresses(repository: str, branch: str, notebook: str) -> dict[str, str]:
    """Where a notebook of the repository opens.

    Args:
        repository: https address of a GitHub repository.
        branch: its branch.
        notebook: name without folder and ending.

    Returns:
        Name of the service -> address.
    """
    owner_and_name = urlsplit(repository).path.strip("/")
    path = f"notebooks/{notebook}.ipynb"
    return {
        "Colab": f"https://colab.research.google.com/github/{owner_and_name}/blob/{branch}/{path}",
        "Binder": f"https://mybinder.org/v2/gh/{owner_and_name}/{branch}?urlpath=lab/tree/{path}",
    }


class Launch(SphinxDirective):
    """One line of buttons a notebook."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        theme = self.config.html_theme_options
        lines = nodes.bullet_list(classes=["launch"])
        for notebook in self.arguments[0].split():
            line = nodes.paragraph("", "", nodes.literal("", f"{notebook}.ipynb"))
            for service, address in addresses(
                theme["repository_url"], theme.get("repository_branch", "main"), notebook
            ).items():
                line += nodes.Text(" ")
                line += nodes.reference("", f"open in {service}", refuri=address, classes=["launch-button"])
            lines += nodes.list_item("", line)
        return [lines]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("launch", Launch)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
