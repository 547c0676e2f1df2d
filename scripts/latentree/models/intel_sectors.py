"""Clusters for InteL-VAE: a Gaussian cut into sectors that are pushed apart (Miao et al. 2022, Eq. 6, C.2).

In a plane, a point of sector i moves along the sector's bisector by a power of its distance from the nearest
edge, so points on edges stay and the map is continuous. Two sectors need no plane but one coordinate.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from latentree.models.intel_mappings import Mapping

MOST_SECTORS = 8
"""Sectors of a plane where more clusters can be split over several: narrower ones hardly move their points
(median distance from the edge under N(0, I): .67 with 2 sectors, .22 with 7, .16 with 10)."""

# the push is PUSH * dis ^ POWER, the paper's c1 and c2; SMOOTH keeps its slope finite on the edges
_PUSH, _POWER, _SMOOTH = 5.0, 0.2, 1e-4
_TINY = 1e-12
# a line's edge stays where a standard normal has some mass
_LEAST_SHARE = 1e-6


def sectors_by_plane(n_clusters: int) -> tuple[int, ...]:
    """Factors of the number of clusters: sectors of each plane (C.2), few planes of at most 8 sectors.

    A prime number above 8 has no factors and gets one plane of so many sectors.
    """
    if n_clusters <= MOST_SECTORS:
        return (n_clusters,)
    for factor in range(MOST_SECTORS, 1, -1):
        if n_clusters % factor == 0:
            return (factor, *sectors_by_plane(n_clusters // factor))
    return (n_clusters,)


class Sectors(Mapping):
    """Clusters as sectors of one or several planes; coordinates behind them pass through.

    Parameters
    ----------
    n_clusters
        Clusters in all: the product of the sectors of all planes, 2 at least.
    learn_proportions
        Whether the shares of the sectors are learned: sector i of a plane has the angle
        2 pi softmax(u)_i, and so the share softmax(u)_i of the prior. They start equal.
    """

    about_zero = True
    steep = True

    def __init__(self, n_clusters: int, learn_proportions: bool) -> None:
        super().__init__()
        self.n_sectors = sectors_by_plane(n_clusters)
        self.widths = [1 if n == 2 else 2 for n in self.n_sectors]
        self.least_factors = sum(self.widths)
        self.logits = nn.ParameterList(
            nn.Parameter(torch.zeros(n), requires_grad=learn_proportions) for n in self.n_sectors
        )

    def shares(self) -> list[Tensor]:
        """Share of the prior that each sector of a plane holds, (n_sectors,) for every plane."""
        return [logits.softmax(dim=0) for logits in self.logits]

    def forward(self, y: Tensor) -> Tensor:
        *places, rest = y.split([*self.widths, y.shape[1] - self.least_factors], dim=1)
        moved = [
            _pushed_on_line(place, shares) if place.shape[1] == 1 else _pushed_in_plane(place, shares)
            for place, shares in zip(places, self.shares(), strict=True)
        ]
        return torch.cat([*moved, rest], dim=1)

    @torch.no_grad()
    def labels(self, y: Tensor) -> Tensor:
        """The cluster of each code, (n_cells,) int64; the first plane counts slowest."""
        *places, _ = y.split([*self.widths, y.shape[1] - self.least_factors], dim=1)
        label = torch.zeros(len(y), dtype=torch.int64, device=y.device)
        for place, shares in zip(places, self.shares(), strict=True):
            sector = (
                (place[:, 0] > _line_edge(shares)).long()
                if place.shape[1] == 1
                else _sector(place, _plane_edges(shares))
            )
            label = label * len(shares) + sector
        return label

    def facts(self) -> dict[str, Any]:
        return {"cluster_shares": [shares.tolist() for shares in self.shares()]}


def _push(distance: Tensor) -> Tensor:
    """How far a point at this distance (at least 0) from the nearest edge moves; 0 on the edge."""
    return _PUSH * ((distance + _SMOOTH) ** _POWER - _SMOOTH**_POWER)


def _line_edge(shares: Tensor) -> Tensor:
    """Where N(0, 1) has the share of the first sector below it."""
    return torch.special.ndtri(shares[0].clamp(_LEAST_SHARE, 1 - _LEAST_SHARE))


def _pushed_on_line(y: Tensor, shares: Tensor) -> Tensor:
    """Two sectors of a line, (n_cells, 1)."""
    offset = y - _line_edge(shares)
    return y + offset.sign() * _push(offset.abs())


def _plane_edges(shares: Tensor) -> Tensor:
    """Angles at which the sectors begin, and 2 pi, (n_sectors + 1,)."""
    return 2 * math.pi * torch.cat([shares.new_zeros(1), shares.cumsum(dim=0)])


def _sector(y: Tensor, edges: Tensor) -> Tensor:
    """Sector of each point (n_cells, 2), (n_cells,); without gradients, which a choice has not."""
    angle = torch.atan2(y[:, 1], y[:, 0]).detach() % (2 * math.pi)
    # rounding may leave the last edge below 2 pi: beyond it is the last sector
    return torch.bucketize(angle, edges[1:-1].detach().contiguous(), right=True)


def _pushed_in_plane(y: Tensor, shares: Tensor) -> Tensor:
    """Sectors of a plane, (n_cells, 2)."""
    edges = _plane_edges(shares)
    sector = _sector(y, edges)
    lower, upper = edges[:-1][sector], edges[1:][sector]
    distance = torch.minimum(_from_ray(y, lower), _from_ray(y, upper))
    bisector = 0.5 * (lower + upper)
    along = torch.stack([bisector.cos(), bisector.sin()], dim=1)
    return y + _push(distance)[:, None] * along


def _from_ray(y: Tensor, angle: Tensor) -> Tensor:
    """Distance of points (n_cells, 2) from rays at these angles (n_cells,), (n_cells,).

    |y| sin(angle between), or |y| for points behind the ray's end, which sectors wider than pi have; by
    products instead of angles, whose gradients at 0 are not finite.
    """
    cos, sin = angle.cos(), angle.sin()
    across = (cos * y[:, 1] - sin * y[:, 0]).abs()
    length = (y.square().sum(dim=1) + _TINY).sqrt()
    in_front = (cos * y[:, 0] + sin * y[:, 1]).detach() > 0
    return torch.where(in_front, across, length)
