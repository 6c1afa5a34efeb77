"""The machine that the tests of this folder run on; without a GPU they are skipped, and say so.

``pytest tests/gpu --confcutdir tests/gpu`` leaves the conftest above aside, which needs av and soundfile; with
``--rehearse`` the CPU takes the GPU's part.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from machines import Gpu, Pretend


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rehearse", action="store_true", help="run the tests of a GPU on the CPU")


@pytest.fixture(scope="session")
def machine(request: pytest.FixtureRequest) -> Iterator[Gpu]:
    """The GPU, or what takes its part."""
    if request.config.getoption("--rehearse", False):
        with pytest.MonkeyPatch.context() as patch:
            pretend = Pretend()
            pretend.install(patch)
            yield pretend
        return
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA GPU here: nothing of the experts engine on a GPU was tested")
    if not _has_kernels():
        pytest.skip("bitsandbytes has no kernels for this CUDA: nothing of the experts engine on a GPU was tested")
    yield Gpu()


def _has_kernels() -> bool:
    try:
        from bitsandbytes.cextension import lib
    except Exception:  # it fails in many ways where its libraries do not fit the machine
        return False
    return lib.compiled_with_cuda
