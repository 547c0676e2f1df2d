"""Tree-based regularisation (Layne et al., arXiv 2405.20482): estimators and the study on real cells."""

from latentree.tbr.estimators import fit_tbr
from latentree.tbr.result import Estimator, TBRFit

__all__ = ["Estimator", "TBRFit", "fit_tbr"]
