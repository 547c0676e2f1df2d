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
from latentree.metrics.ate_error import ate_error
from latentree.metrics.batch_mixing import batch_mixing
from latentree.metrics.clustering import ari, cluster_cells, nmi
from latentree.metrics.dci import dci_16_points, dci_disentanglement, dci_importances
from latentree.metrics.few_shot import FewShotCurve, few_shot_accuracy
from latentree.metrics.held_out_r2 import held_out_r2, squared_errors
from latentree.metrics.hoyer import hoyer
from latentree.metrics.importance_weights import (
    importance_weighted_log_likelihood,
    importance_weighted_per_cell,
)
from latentree.metrics.kim_mnih import kim_mnih, student_t_to_gaussian
from latentree.metrics.label_alignment import (
    LabelAlignment,
    factor_label_alignment,
    same_process_neighbours,
    scaled_mutual_information,
)
from latentree.metrics.latent_hoyer import LatentHoyer, gaussian_hoyer, latent_hoyer
from latentree.metrics.mcc import mcc, mcc_chance
from latentree.metrics.mmd import median_distance, mmd
from latentree.metrics.ratings import ndcg_at, ndcg_at_unmasked, recall_at, recall_at_unmasked
from latentree.metrics.silhouette import silhouette
from latentree.metrics.span_r2 import span_r2
from latentree.metrics.sparsity import active_gene_counts, zero_share

__all__ = [
    "FewShotCurve",
    "LabelAlignment",
    "LatentHoyer",
    "MatchedCorrelation",
    "Probe",
    "accuracy",
    "active_gene_counts",
    "ari",
    "ate_error",
    "balanced_accuracy",
    "batch_mixing",
    "chance_agreement",
    "chance_reference",
    "cluster_cells",
    "dci_16_points",
    "dci_disentanglement",
    "dci_importances",
    "factor_label_alignment",
    "few_shot_accuracy",
    "fit_probe",
    "gaussian_hoyer",
    "held_out_r2",
    "hoyer",
    "importance_weighted_log_likelihood",
    "importance_weighted_per_cell",
    "kim_mnih",
    "latent_hoyer",
    "majority_reference",
    "matched_correlation",
    "mcc",
    "mcc_chance",
    "median_distance",
    "mmd",
    "ndcg_at",
    "ndcg_at_unmasked",
    "nmi",
    "recall_at",
    "recall_at_unmasked",
    "same_process_neighbours",
    "scaled_mutual_information",
    "silhouette",
    "span_r2",
    "squared_errors",
    "student_t_to_gaussian",
    "zero_share",
]
