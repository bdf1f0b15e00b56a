"""Salient-object networks, with a stand-in for the library."""

import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from cvsa.errors import CVSAError
from cvsa.saliency.detectors import find_detector

IMAGE = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)


class Library(SimpleNamespace):
    """Like rembg: the mask of an image is its red channel."""

    def __init__(self) -> None:
        super().__init__(opened=[])

    def new_session(self, network: str) -> str:
        self.opened.append(network)
        return f"session of {network}"

    def remove(self, data: np.ndarray, session: str, only_mask: bool) -> np.ndarray:
        assert only_mask and session.startswith("session of ")
        return data[..., 0]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    library = Library()
    monkeypatch.setitem(sys.modules, "rembg", library)
    return library


@pytest.mark.parametrize(("name", "network"), [("u2net", "u2net"), ("isnet", "isnet-general-use")])
def test_the_networks_mask_becomes_a_map(library: Library, name: str, network: str) -> None:
    detector = find_detector(name)
    assert library.opened == []  # nothing is loaded before the first image
    map = detector(IMAGE)
    assert map.dtype == np.float32
    np.testing.assert_allclose(map, IMAGE[..., 0] / 255, atol=1e-6)
    assert library.opened == [network] and detector.parameters == {"network": network}


def test_one_session_serves_all_threads(library: Library) -> None:
    detector = find_detector("u2netp")
    with ThreadPoolExecutor(8) as pool:
        maps = list(pool.map(detector, [IMAGE] * 32))
    assert library.opened == ["u2netp"] and all(np.array_equal(map, maps[0]) for map in maps)


def test_the_extra_is_named_where_the_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rembg", None)  # importing it raises ImportError
    with pytest.raises(CVSAError, match=r"rembg.*classical"):
        find_detector("u2net")(IMAGE)


def test_a_library_that_leaves_the_process_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from cvsa.saliency import pretrained

    def leave(name: str) -> None:
        raise SystemExit(1)

    detector = pretrained.u2net()
    monkeypatch.setattr(pretrained.importlib, "import_module", leave)
    with pytest.raises(CVSAError, match=r"rembg"):
        detector(IMAGE)


def test_offline_one_line_says_what_to_do(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(network: str) -> None:
        raise ConnectionError("Max retries\nexceeded")

    monkeypatch.setattr(library, "new_session", offline)
    with pytest.raises(CVSAError, match="'u2net'.*Max retries exceeded.*internet.*classical") as caught:
        find_detector("u2net")(IMAGE)
    assert "\n" not in str(caught.value)
