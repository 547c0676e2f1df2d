"""Fixtures that all tests share."""

import os
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parents[1]

# before any library reads them: pytest's workers already keep all cores busy, and threads that wait for
# each other at small matrices cost many times what they compute
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


# files whose tests look at the same finished run, which is made once for each worker that they run on
_OF_THE_FINISHED_RUN = (
    "test_bad_input.py",
    "test_cluster_plan.py",
    "test_engines_and_trees.py",
    "test_reruns.py",
    "test_run.py",
)


class _SharedRuns(LoadScopeScheduling):
    """Tests one by one, but on one worker those that share a run of the workflow.

    xdist's own groups say so by a mark, which it hides in the test's id; pytest 9.2 keeps ids as they are.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        if file.endswith(_OF_THE_FINISHED_RUN):
            return "finished run"
        return file if file.startswith(("tests/workflow/", "tests/browser/", "tests/cluster/")) else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """How ``pytest -n`` shares tests out."""
    return _SharedRuns(config, log)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real cells and gene sets beside the checkout; tests that need it skip without it."""
    folder = Path(os.environ.get("LATENTREE_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no folder of real data at {folder}; set LATENTREE_SHARED_DATA to run this test")
    return folder
