"""Metrics, one per file: arrays in, a number out.

>>> from latentree.metrics import ari
>>> ari(["a", "a", "b"], [1, 1, 0])
1.0
"""

from latentree.metrics.accuracy import (
    Probe,
    accuracy,
    balanced_accuracy,
    chance_reference,
    fit_probe,
    majority_reference,
)
from latentree.metrics.agreement import MatchedCorrelation, chance_agreement, matched_correlation
from latentree.metrics.clustering import ari, cluster_cells, nmi
from latentree.metrics.dci import dci_disentanglement, dci_importances
from latentree.metrics.held_out_r2 import held_out_r2, squared_errors
from latentree.metrics.hoyer import hoyer
from latentree.metrics.mcc import mcc, mcc_chance
from latentree.metrics.span_r2 import span_r2
from latentree.metrics.sparsity import active_gene_counts, zero_share

__all__ = [
    "MatchedCorrelation",
    "Probe",
    "accuracy",
    "active_gene_counts",
    "ari",
    "balanced_accuracy",
    "chance_agreement",
    "chance_reference",
    "cluster_cells",
    "dci_disentanglement",
    "dci_importances",
    "fit_probe",
    "held_out_r2",
    "hoyer",
    "majority_reference",
    "matched_correlation",
    "mcc",
    "mcc_chance",
    "nmi",
    "span_r2",
    "squared_errors",
    "zero_share",
]
