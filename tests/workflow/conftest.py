"""A copy of the checkout to run in, and one small finished run that tests look at and ask again."""

import pytest

from workflow_harness import SMALL, Checkout, copy_of_the_checkout


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    """A fresh copy of the checkout."""
    return copy_of_the_checkout(tmp_path / "latentree")


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Checkout:
    """A copy of the checkout in which the small config has run to its end."""
    made = copy_of_the_checkout(tmp_path_factory.mktemp("finished") / "latentree")
    made.snakemake("--configfile", made.config(SMALL))
    return made
