"""Fixtures that all tests share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real cells and gene sets beside the checkout; tests that need it skip without it."""
    folder = Path(os.environ.get("LATENTREE_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no folder of real data at {folder}; set LATENTREE_SHARED_DATA to run this test")
    return folder
