"""What every test can count on: one thread, a known seed, and no trace left behind."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

# Two busy threads on shared cores wait for each other longer than they work.
torch.set_num_threads(1)

hypothesis.settings.register_profile(
    "house",
    deadline=None,  # a shared machine's clock says nothing about the code
    derandomize=bool(os.environ.get("CI")),  # a change fails for what it did, not by luck
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    print_blob=True,
)
# A longer search by hand: make test ARGS='--hypothesis-profile=deep tests/types'
hypothesis.settings.register_profile(
    "deep", hypothesis.settings.get_profile("house"), max_examples=1000, derandomize=False
)
hypothesis.settings.load_profile("house")


def _torchvision_operators() -> torch.library.Library | None:
    """Declare the operators that torchvision's own library would, where it cannot be loaded.

    Some builds of torchvision are linked against CUDA and fail beside a CPU-only torch, although
    no classifier uses these operators. The caller keeps what is returned alive.
    """
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        return None
    try:
        for compiled in Path(found.origin).parent.glob("_C*.so"):
            torch.ops.load_library(compiled)
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None


_KEPT_ALIVE = _torchvision_operators()


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is measured of this machine is kept for these tests only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECATEUR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def manual_seed() -> Iterator[None]:
    """Seed torch before every test; fail a test that leaves a global setting changed."""
    torch.manual_seed(0)
    before = _global_settings()
    yield
    after = _global_settings()
    assert after == before, f"a global setting was left changed: {before} -> {after}"


def _global_settings() -> dict[str, object]:
    return {
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "mkldnn": torch.backends.mkldnn.enabled,
        "mha fast path": torch.backends.mha.get_fastpath_enabled(),
        "flash attention": torch.backends.cuda.flash_sdp_enabled(),
        "math attention": torch.backends.cuda.math_sdp_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


@pytest.fixture
def generator() -> torch.Generator:
    """Random numbers of a test's own."""
    return torch.Generator().manual_seed(0)
