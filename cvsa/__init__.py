"""CVSA companion: saliency swap, saliency alignment and the evidence around them.

Reproduces "Exploring Localization for Self-supervised Fine-grained Contrastive Learning"
(arXiv 2106.15788, BMVC 2022), for which no official code exists. Nothing heavy is imported here:
``cvsa.views``, ``cvsa.methods`` and the rest load torch when they are imported themselves.
"""

__version__ = "0.1.0"
