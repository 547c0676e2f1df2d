"""Negative binomial counts, given the logarithm of their mean."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from latentree.batches import Batch
from latentree.models.likelihoods import Likelihood, with_fits

# theta beyond these is Poisson, or says that a count is nothing but rare
_LEAST_THETA, _MOST_THETA = 1e-2, 1e3
# log means below this are zeros whatever the library
_LEAST_LOG_MEAN = -15.0
# digamma is slow: the dispersions move in one of so many steps
_STEPS_PER_DISPERSION = 4
# library that mean counts are told for, as in log1p of counts per 10k
PER_LIBRARY = 1e4


class NegativeBinomialLikelihood(Likelihood):
    """count_j ~ NB(mean library * exp(predictor), dispersion theta_j): variance mean + mean^2 / theta.

    ``parameter`` is log theta_j; its prior is flat between bounds.
    """

    _lgammas: Tensor

    def __init__(self, n_fits: int, n_genes: int) -> None:
        super().__init__(n_fits, n_genes)
        # plain numbers, because looking at a tensor's value would make a GPU wait
        self.most_log_mean = 10.0
        self._step = 0
        self.register_buffer("_lgammas", torch.zeros(n_fits, n_genes), persistent=False)

    @torch.no_grad()
    def start(self, fit: int, theta: Tensor, largest_count: float) -> None:
        """Dispersions theta (n_genes,) of one fit, and the largest count of its training cells."""
        self.parameter[fit] = theta.clamp(_LEAST_THETA, _MOST_THETA).log()
        # keeps exp() finite; no mean comes near it in a fit that is not diverging
        self.most_log_mean = max(self.most_log_mean, math.log1p(largest_count) + 3)

    def target(self, batch: Batch) -> Tensor:
        assert batch.counts is not None
        return with_fits(batch.counts)

    def cell_offset(self, batch: Batch) -> Tensor:
        assert batch.log_library is not None
        return with_fits(batch.log_library)

    def terms(self, predictor: Tensor, target: Tensor, genes: slice) -> tuple[Tensor, Tensor, Tensor | None]:
        n_cells = predictor.shape[1]
        theta = self.parameter.detach()[:, None, genes].exp()
        log_mean = predictor.clamp_(_LEAST_LOG_MEAN, self.most_log_mean)
        mean = log_mean.exp()
        total = mean + theta
        log_total = total.log()
        # for each gene: sums over cells
        per_gene = ((target + theta).mul_(log_total)).sum(1) - torch.linalg.vecdot(target, log_mean, dim=1)
        per_gene -= n_cells * (theta * theta.log())[:, 0]
        in_parameter = None
        if self._in_full():
            seen = _Seen.of(target, theta)
            self._lgammas[:, genes] = seen.lgammas() / n_cells
            if self.training:
                in_theta = (log_total - theta.log() - 1).sum(1) + ((target + theta) / total).sum(1)
                in_parameter = (in_theta + seen.digammas()) * theta[:, 0] / n_cells
        value = (per_gene / n_cells + self._lgammas[:, genes]).sum(1)
        in_predictor = mean.sub_(target).div_(total).mul_(theta / n_cells)
        return value, in_predictor, in_parameter

    def log_prob(self, predictor: Tensor, target: Tensor) -> Tensor:
        theta = self.parameter[:, None].exp()
        log_mean = predictor.clamp(min=_LEAST_LOG_MEAN)
        log_total = torch.logaddexp(theta.log(), log_mean)
        counted = torch.lgamma(target + theta) - torch.lgamma(theta) - torch.lgamma(target + 1)
        return counted + theta * (theta.log() - log_total) + target * (log_mean - log_total)

    def mean(self, predictor: Tensor) -> Tensor:
        """log1p of the mean counts in a library of 10k."""
        return torch.log1p(PER_LIBRARY * predictor.clamp(max=0).exp())

    def _in_full(self) -> bool:
        """Whether this step computes what needs lgamma and digamma, the slow part.

        Always in evaluation. In training the dispersions move, and the loss is told to the last digit, in
        one of so many steps; between them the loss takes these terms, constant but for the dispersions and
        the cells of the batch, from the last of these steps. No other gradient needs them.
        """
        return not self.training or self._step % _STEPS_PER_DISPERSION == 0

    def prior_loss(self) -> Tensor:
        return self.parameter.detach().new_zeros(len(self.parameter))

    def begin_epoch(self) -> None:
        self._step = 0

    @torch.no_grad()
    def after_step(self) -> None:
        self._step += 1
        self.parameter.clamp_(math.log(_LEAST_THETA), math.log(_MOST_THETA))


@dataclass(frozen=True)
class _Seen:
    """Where counts are not zero, which is all that lgamma and digamma are needed for.

    ``places`` are the coordinates (n,) of the counts (n_fits, n_cells, n_genes), ``count`` and ``theta`` (n,)
    the values there; ``shape`` is (n_fits, n_genes).
    """

    places: tuple[Tensor, ...]
    count: Tensor
    theta: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, counts: Tensor, theta: Tensor) -> "_Seen":
        places = counts.nonzero(as_tuple=True)
        at = theta[places[0], 0, places[2]]
        return cls(places, counts[places], at, (counts.shape[0], counts.shape[2]))

    def lgammas(self) -> Tensor:
        """Sum over cells of log(count! gamma(theta) / gamma(count + theta)), (n_fits, n_genes)."""
        count, theta = self.count, self.theta
        return self._by_gene(torch.lgamma(count + 1) + torch.lgamma(theta) - torch.lgamma(count + theta))

    def digammas(self) -> Tensor:
        """Its derivative by theta, (n_fits, n_genes)."""
        return self._by_gene(torch.digamma(self.theta) - torch.digamma(self.count + self.theta))

    def _by_gene(self, values: Tensor) -> Tensor:
        sums = values.new_zeros(self.shape)
        return sums.index_put_((self.places[0], self.places[2]), values, accumulate=True)
