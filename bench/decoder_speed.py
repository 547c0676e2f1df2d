"""Speed of the shared network's loss and gradients: beside the plain loop over genes and beside sgemm.

    python bench/decoder_speed.py [--rounds 15] [--genes 558]

One process, one thread, CPU time. Everything that is compared takes turns within a round, and the best of
the rounds counts, because others on the machine can only add to a time. Table decoder_speed: the loop of
the reference code (its decoder and misfit alone), the fused decoder in float32 and bfloat16, at hidden layers
of 64 and 100 units, the share that each reaches of the rate of a product of two square matrices, and the most
memory that a step adds at many genes.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from typing import Any

import torch
from bench_tools import forget_peak, one_thread, parser, peak_mb, resident_mb, write
from reference_sparse_vae import ReferenceSparseVAE
from torch import Tensor

from latentree.models.fused_decoder import FusedLoss, multiplies_bfloat16
from latentree.models.likelihoods import GaussianLikelihood

N_FACTORS, BATCH, SQUARE = 15, 512, 1536
FUSED = {"fused float32": torch.float32, "fused bfloat16": torch.bfloat16}
Step = Callable[[], Any]


def main(arguments: list[str] | None = None) -> None:
    made = parser(__doc__)
    made.add_argument("--rounds", type=int, default=15, help="turns that each measurement takes")
    made.add_argument("--genes", type=int, default=558)
    made.add_argument("--many-genes", type=int, default=2000, help="for the extra memory")
    made.add_argument("--hidden", type=int, nargs="+", default=[64, 100])
    chosen = made.parse_args(arguments)
    if chosen.quick:
        chosen.rounds, chosen.genes, chosen.many_genes = 1, 20, 30
    with one_thread():
        write(rows(chosen), "decoder_speed", chosen.out)


def rows(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One per size of the hidden layers and way to compute."""
    for hidden in chosen.hidden:
        steps = {"sgemm": square_product(), "reference loop": reference_step(chosen.genes, hidden)}
        steps |= {name: fused_step(chosen.genes, hidden, precision) for name, precision in FUSED.items()}
        seconds = best_of(steps, chosen.rounds)
        sgemm_rate = 2 * SQUARE**3 / seconds["sgemm"]
        for name, best in seconds.items():
            operations = 2 * SQUARE**3 if name == "sgemm" else step_operations(chosen.genes, hidden)
            yield {
                "computed": name,
                "hidden": hidden,
                "genes": chosen.genes,
                "factors": N_FACTORS,
                "batch": BATCH,
                "milliseconds": 1e3 * best,
                "gigaflops": 1e-9 * operations / best,
                "share_of_sgemm": operations / best / sgemm_rate,
                "times_the_loop": math.nan if name == "sgemm" else seconds["reference loop"] / best,
                "many_genes": chosen.many_genes,
                "extra_mb_many_genes": (
                    extra_megabytes(chosen.many_genes, hidden, FUSED[name]) if name in FUSED else math.nan
                ),
                "bfloat16_in_hardware": multiplies_bfloat16(torch.device("cpu")),
            }


def best_of(steps: dict[str, Step], n_rounds: int) -> dict[str, float]:
    """The least CPU seconds of each step; the first round is not counted."""
    best = dict.fromkeys(steps, math.inf)
    for number in range(n_rounds + 1):
        for name, step in steps.items():
            start = time.process_time()
            step()
            if number > 0:
                best[name] = min(best[name], time.process_time() - start)
    return best


def step_operations(n_genes: int, hidden: int) -> int:
    """Multiplications and additions of the matrix products of a step: each layer forward, by its input and
    by its parameters. What is done element by element is not counted."""
    return 6 * BATCH * n_genes * hidden * (hidden + N_FACTORS + 1)


def extra_megabytes(n_genes: int, hidden: int, precision: torch.dtype) -> float:
    """The most memory that a fused step adds to what is held before it, in a process that has freed none."""
    with get_context("spawn").Pool(1) as fresh:
        return fresh.apply(_extra_megabytes, (n_genes, hidden, precision))


def _extra_megabytes(n_genes: int, hidden: int, precision: torch.dtype) -> float:
    with one_thread():
        # loads what torch loads late
        fused_step(10, hidden, precision)()
        step = fused_step(n_genes, hidden, precision)
        forget_peak()
        before = resident_mb()
        step()
        return peak_mb() - before


def square_product() -> Step:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(SQUARE, SQUARE, generator=generator) for _ in range(2))
    product = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=product)


def reference_step(n_genes: int, hidden: int) -> Step:
    """Loss and gradients of the reference's decoder, by z, weights, noise levels and the network."""
    torch.manual_seed(0)
    model = ReferenceSparseVAE(n_genes, N_FACTORS, hidden, BATCH)
    z = torch.randn(BATCH, N_FACTORS, requires_grad=True)
    x = torch.randn(BATCH, n_genes)
    parameters = [z, model.weights, model.log_sigmas]
    parameters += [*model.generator.parameters(), *model.column_means.parameters()]

    def step() -> tuple[Tensor, ...]:
        loss = 0.5 * ((x - model.decode(z)) / model.log_sigmas.exp()).square().mean()
        return torch.autograd.grad(loss, parameters)

    return step


def fused_step(n_genes: int, hidden: int, precision: torch.dtype) -> Step:
    """Loss and gradients of the same decoder as the library computes them, with the same numbers learned."""
    generator = torch.Generator().manual_seed(0)
    shapes = [
        (n_genes,),
        (BATCH, N_FACTORS),
        (n_genes, N_FACTORS),
        (hidden, N_FACTORS),
        (hidden, hidden),
        (hidden,),
        (n_genes, hidden),
    ]
    inputs = [(0.3 * torch.randn(1, *shape, generator=generator)).requires_grad_() for shape in shapes]
    likelihood = GaussianLikelihood(1, n_genes)
    x = torch.randn(1, BATCH, n_genes, generator=generator)

    def step() -> tuple[Tensor, ...]:
        base = inputs[0][:, None].expand(-1, BATCH, -1)
        loss = FusedLoss.apply(base, *inputs[1:], likelihood.parameter, x, likelihood, precision)
        return torch.autograd.grad(loss.sum(), [*inputs, likelihood.parameter])

    return step


if __name__ == "__main__":
    main()
