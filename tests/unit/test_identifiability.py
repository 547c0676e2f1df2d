"""The diagnostics of a sparse fit: anchors, empty factors, genes of no factor, covariance."""

import math
from dataclasses import replace

import numpy as np
import pytest

from latentree.models.identifiability import diagnose


def test_diagnostics_count_anchors_empty_genes_and_covariance():
    weights = np.array([[1, 0, 0], [2, 0, 0], [1, 3, 0], [0, 1, 0], [0, 0, 0]], dtype=float)
    moment = np.array([[1, 1.3, 0.9], [1.3, 4, 0], [0.9, 0, 1]])
    found = diagnose(weights != 0, moment)
    assert (found.n_factors, found.n_alive, found.n_genes, found.genes_without_factor) == (3, 2, 5, 1)
    assert found.n_anchors == (2, 1, 0)
    assert found.anchored_factors == 1
    assert found.share_of_zeros == pytest.approx(10 / 15)
    assert found.covariance_ratio == pytest.approx(1.3)
    text = " ".join(found.sentences())
    assert "1 of 3 factors are empty" in text
    assert "1 of 5 genes depend on no factor" in text
    assert "1 of 2 living factors have fewer than 2 genes" in text
    assert "covary by 1.30 times" in text


def test_diagnostics_have_nothing_to_say_where_all_is_well():
    used = np.repeat(np.eye(2), 2, axis=0) != 0
    assert diagnose(used, np.array([[1, 0.4], [0.4, 1]])).sentences() == ()
    nothing = diagnose(np.zeros((4, 2), dtype=bool), np.eye(2))
    assert nothing.covariance_ratio == 0
    assert len(nothing.sentences()) == 1
    assert math.isfinite(nothing.covariance_ratio)


def test_curves_that_save_little_are_told():
    found = replace(diagnose(np.repeat(np.eye(2), 2, axis=0) != 0, np.eye(2)), curve_gain=0.004)
    assert len(found.sentences()) == 1
    assert "save 0.4% of the held-out error" in found.sentences()[0]
    assert replace(found, curve_gain=0.2).sentences() == ()
    assert replace(found, curve_gain=-0.1).sentences() != ()
