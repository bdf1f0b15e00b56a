"""A saliency detector that needs neither training nor download: what is not background, by its colours.

Two steps on a graph of about 160 superpixels (Achanta et al., TPAMI 2012):

1. Robust background detection (Zhu, Liang, Wei and Sun, CVPR 2014): a region is background as far as it is
   *connected* to the border, which an object that merely touches the border is not; saliency is contrast to
   the background, smoothed by a least-squares problem.
2. Ours [O]: the map becomes evidence, is joined with a preference for the centre and with colour models of
   object and background that are re-estimated five times, and is smoothed again. The result is a probability,
   so that 0.5 is the natural cut. The weights were set on 80 photographs of pets and 80 drawn birds.

Colours are CIELAB; a difference of about 2.3 is just noticeable.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from cvsa.errors import CVSAError
from cvsa.saliency.detectors import check_image, shrink, stretch

COMPACTNESS, ROUNDS = 10.0, 5  # of the superpixels: colour difference that weighs as much as one spacing
UNIFORM = 5.0  # an image whose regions differ by less, in CIELAB units, shows nothing
SMALLEST = 4  # pixels; below this on a side there is nothing to segment

# Step 1, as published.
GEODESIC, CONNECTED, SPATIAL, LINKED, BACKGROUND = 10.0, 1.0, 0.4, 10.0, 5.0
# Step 2 [O]. Distances in shares of the image's sides.
GAIN, KEPT = 1.5, 0.5  # weight of step 1 at the start, and share of it that stays
CENTRE, CENTRE_WIDTH, CENTRE_RADIUS = 1.5, 0.25, 0.39  # at this radius the preference changes its sign
COLOUR, REACH = 7.0, 0.5  # width of the colour models in CIELAB units, and how far they reach in space
SIZE, SMOOTHNESS, UPDATES = 0.5, 8.0, 5

_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])  # D65
_STEPS = np.arange(256) / 255
_LINEAR = np.where(_STEPS > 0.04045, ((_STEPS + 0.055) / 1.055) ** 2.4, _STEPS / 12.92).astype(np.float32)


@dataclass(frozen=True)
class Classical:
    """Robust background detection with refined colour models.

    Args:
        side: longest side on which superpixels are made, pixels, at least 32.
        regions: about how many superpixels, 16 to 1000; time grows with the cube.
    """

    side: int = 96
    regions: int = 160
    name: str = field(default="classical", init=False)
    version: str = field(default="1", init=False)

    def __post_init__(self) -> None:
        if self.side < 32 or not 16 <= self.regions <= 1000:
            raise CVSAError(
                f"Detector 'classical' takes side >= 32 and regions from 16 to 1000, got {self.side} and "
                f"{self.regions}."
            )

    @property
    def parameters(self) -> dict[str, Any]:
        return {"side": self.side, "regions": self.regions}

    def __call__(self, image: np.ndarray) -> np.ndarray:
        check_image(image)
        small = shrink(Image.fromarray(np.ascontiguousarray(image)), self.side)
        if min(small.size) < SMALLEST:
            return np.zeros(image.shape[:2], dtype=np.float32)
        labels, graph = segment(lab(np.asarray(small)), self.regions)
        if len(graph.area) < 2 or graph.distance.max() < UNIFORM:
            return np.zeros(image.shape[:2], dtype=np.float32)
        return stretch(refine(graph, contrast(graph))[labels], image.shape[:2])


@dataclass(frozen=True)
class Graph:
    """K superpixels.

    Attributes:
        area: (K,) pixels, relative to their mean.
        place: (K, 2) centre, y x in shares of the image's sides.
        border: (K,) how many pixels of the image's border it holds.
        near: (K, K) bool, whether two touch, diagonally too.
        distance: (K, K) between mean colours, CIELAB units.
    """

    area: np.ndarray
    place: np.ndarray
    border: np.ndarray
    near: np.ndarray
    distance: np.ndarray


def lab(image: np.ndarray) -> np.ndarray:
    """sRGB (..., 3) uint8 -> CIELAB (..., 3) float32, L in [0, 100]."""
    xyz = _LINEAR[image] @ (_XYZ.T / _WHITE).astype(np.float32)
    curve = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = curve[..., 0], curve[..., 1], curve[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1).astype(np.float32)


def superpixels(image: np.ndarray, regions: int) -> np.ndarray:
    """SLIC: k-means of colour and place, each pixel among the nine nearest cells of a grid.

    Args:
        image: (H, W, 3) float32.
        regions: how many, about.

    Returns:
        (H, W) int64, numbers of the regions without gaps.
    """
    height, width = image.shape[:2]
    spacing = max(1.0, (height * width / regions) ** 0.5)
    rows, columns = max(1, round(height / spacing)), max(1, round(width / spacing))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    scale = COMPACTNESS / spacing
    points = np.stack([*image.reshape(-1, 3).T, scale * y.ravel(), scale * x.ravel()])  # (5, HW)
    cell_y = (np.arange(height) * rows // height).repeat(width)
    cell_x = np.tile(np.arange(width) * columns // width, height)
    labels = cell_y * columns + cell_x
    steps = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    # A neighbour beyond the grid is replaced by the cell at its edge, which is a candidate anyway.
    candidates = np.stack(
        [(cell_y + i).clip(0, rows - 1) * columns + (cell_x + j).clip(0, columns - 1) for i, j in steps]
    )  # (9, HW)
    centres = np.zeros((5, rows * columns), dtype=np.float32)
    for _ in range(ROUNDS):
        count = np.bincount(labels, minlength=rows * columns)
        gap = np.zeros(candidates.shape, dtype=np.float32)
        for values, centre in zip(points, centres, strict=True):
            total = np.bincount(labels, values, len(count))
            np.divide(total, count, out=centre, where=count > 0, casting="unsafe")
            difference = np.take(centre, candidates)
            difference -= values
            gap += difference * difference
        labels = np.take_along_axis(candidates, gap.argmin(0)[None], 0)[0]
    return np.unique(labels, return_inverse=True)[1].reshape(height, width)


def segment(image: np.ndarray, regions: int) -> tuple[np.ndarray, Graph]:
    """Superpixels (H, W) of a CIELAB image (H, W, 3), and their graph."""
    labels = superpixels(image, regions)
    height, width = labels.shape
    flat, count = labels.ravel(), np.bincount(labels.ravel())
    number = len(count)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(flat, values.ravel(), number) / count

    y, x = np.mgrid[:height, :width]
    colour = np.stack([mean(image[..., channel]) for channel in range(3)], axis=1)
    frame = np.concatenate([labels[0], labels[-1], labels[1:-1, 0], labels[1:-1, -1]])
    near = np.zeros((number, number), dtype=bool)
    near[labels[:-1], labels[1:]] = near[labels[:, :-1], labels[:, 1:]] = True
    near[labels[:-1, :-1], labels[1:, 1:]] = near[labels[1:, :-1], labels[:-1, 1:]] = True
    near |= near.T
    np.fill_diagonal(near, False)
    return labels, Graph(
        area=count / count.mean(),
        place=np.stack([mean(y + 0.5) / height, mean(x + 0.5) / width], axis=1),
        border=np.bincount(frame, minlength=number),
        near=near,
        distance=_pairwise(colour),
    )


def contrast(graph: Graph) -> np.ndarray:
    """Saliency (K,) in [0, 1] by robust background detection (Zhu et al. 2014, equations 1 to 9).

    Boundary connectivity of region i, with the geodesic colour distance g over the graph:
        c_i = sum over border regions j of exp(-g_ij^2 / 2 s^2)  /  sqrt(sum over all j of the same)
    """
    geodesic = _shortest(_links(graph))
    similar = np.exp(-(geodesic**2) / (2 * GEODESIC**2))
    connectivity = similar @ (graph.border > 0) / np.sqrt(similar.sum(1))
    background = 1 - np.exp(-(connectivity**2) / (2 * CONNECTED**2))
    closeness = np.exp(-(_pairwise(graph.place) ** 2) / (2 * SPATIAL**2))
    foreground = _unit((graph.distance * closeness) @ background)
    # Least squares: background regions to 0, contrasting ones to 1, similar neighbours alike.
    system = _laplacian(graph, LINKED, 0.1) + np.diag(BACKGROUND * background + foreground)
    return _unit(np.linalg.solve(system, foreground))


def _links(graph: Graph) -> np.ndarray:
    """Lengths (K, K) of the edges of the graph, inf where there is none; border regions are all linked."""
    edge = graph.border > 0
    linked = graph.near | (edge[:, None] & edge)
    # Differences as small as those between neighbours of one texture do not add up on a long path.
    nearest = np.where(graph.near, graph.distance, np.inf).min(1)
    links = np.where(linked, np.maximum(graph.distance - np.median(nearest), 0), np.inf)
    np.fill_diagonal(links, 0)
    return links


def _shortest(links: np.ndarray) -> np.ndarray:
    """All shortest paths (Floyd and Warshall)."""
    paths = links.astype(np.float32)
    detour = np.empty_like(paths)  # kept: fresh memory for each region would cost more than the arithmetic
    for via in range(len(paths)):
        np.add(paths[:, via, None], paths[via], out=detour)
        np.minimum(paths, detour, out=paths)
    return paths


def refine(graph: Graph, saliency: np.ndarray) -> np.ndarray:
    """Probability (K,) in [0, 1] of belonging to the object, from the contrast (K,) in [0, 1]. [O]

    Log odds of a region: its contrast against the mean contrast, its distance from the centre, and how much
    better the colours of the object explain it than those of the background; both colour models are kernel
    densities without the region itself, so that no region vouches for itself.
    """
    area = graph.area
    evidence = GAIN * np.log((saliency + 0.02) / (np.average(saliency, weights=area) + 0.02))
    radius = ((graph.place - 0.5) ** 2).sum(1)
    centre = CENTRE * (CENTRE_RADIUS**2 - radius) / (2 * CENTRE_WIDTH**2)
    kernel = np.exp(-((graph.distance / COLOUR) ** 2 + (_pairwise(graph.place) / REACH) ** 2) / 2)
    np.fill_diagonal(kernel, 0)
    # Minimises sum a_i (s_i - p_i)^2 + smoothness * sum w_ij (s_i - s_j)^2.
    smooth = np.linalg.inv(SMOOTHNESS * _laplacian(graph, COLOUR, 0.02) + np.diag(area)) * area
    probability = smooth @ _sigmoid(evidence + centre)
    for _ in range(UPDATES):
        inside, outside = kernel @ (area * probability), kernel @ (area * (1 - probability))
        share = np.average(probability, weights=area)
        size = SIZE * np.log((share + 0.02) / (1 - share + 0.02))
        colour = np.log((inside + 0.01) / (outside + 0.01)) - size
        probability = smooth @ _sigmoid(KEPT * evidence + centre + colour)
    return probability.clip(0, 1)


def _laplacian(graph: Graph, width: float, least: float) -> np.ndarray:
    weights = graph.near * (np.exp(-((graph.distance / width) ** 2) / 2) + least)
    return np.diag(weights.sum(1)) - weights


def _pairwise(points: np.ndarray) -> np.ndarray:
    from scipy.spatial.distance import cdist

    distances: np.ndarray = cdist(points, points)
    return distances


def _unit(values: np.ndarray) -> np.ndarray:
    spread = np.ptp(values)
    return (values - values.min()) / spread if spread > 0 else np.zeros_like(values)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))
