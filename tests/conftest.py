"""Fixtures that all tests share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# before any library reads them: pytest's workers already keep all cores busy, and threads that wait for
# each other at small matrices cost many times what they compute
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real cells and gene sets beside the checkout; tests that need it skip without it."""
    folder = Path(os.environ.get("LATENTREE_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no folder of real data at {folder}; set LATENTREE_SHARED_DATA to run this test")
    return folder
