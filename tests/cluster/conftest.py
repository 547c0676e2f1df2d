"""A real Slurm for the tests, and workplaces in which snakemake submits to it."""

from collections.abc import Callable, Iterator
from functools import cache

import pytest
from virtual_slurm import INSTALL, VirtualSlurm, missing_programs, new_folder
from workplace import ATLAS, TABLES, Workplace

from workflow_harness import copy_of_the_checkout


@pytest.fixture(scope="session")
def cluster() -> Iterator[VirtualSlurm]:
    """A running cluster; all that the tests write lies in its folder."""
    if missing := missing_programs():
        pytest.skip(f"no {', '.join(missing)} here; {INSTALL}")
    with VirtualSlurm(new_folder()) as running:
        yield running


@pytest.fixture(scope="session")
def prepared(cluster) -> Workplace:
    """A workplace with an atlas and no fit; tests work in copies of it."""
    root = cluster.folder / "prepared"
    place = Workplace(copy_of_the_checkout(root).root, cluster)
    # the atlas does not depend on the seeds
    place.local("--cores", "2", "--configfile", place.configured([0]), "--", ATLAS)
    return place


@pytest.fixture(scope="session")
def undisturbed(prepared) -> Callable[[tuple[int, ...]], dict[str, bytes]]:
    """What a run of fits with these seeds gives where nothing happens to it, on one machine."""

    @cache
    def results(seeds: tuple[int, ...]) -> dict[str, bytes]:
        place = prepared.copied(f"undisturbed{len(seeds)}")
        place.local("--cores", "2", "--configfile", place.configured(seeds), "--", *TABLES)
        return place.results()

    return results
