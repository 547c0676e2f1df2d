"""The page's sections on time and memory."""

from collections.abc import Callable
from pathlib import Path

from page_tools import (
    Section,
    absent,
    at_least,
    at_most,
    flow,
    markdown,
    number,
    percent,
    read,
    share,
    text,
    whole,
)


def steps(folder: Path) -> Section:
    """A whole step beside the reference's."""
    title = "A training step beside the loop over genes"
    table = read(folder, "speed_step")
    if table.empty:
        return absent(title)
    row = table.iloc[0]
    lines = [
        f"## {title}",
        flow(
            f"`bench/speed.py`: {row['genes']} genes, {row['factors']} factors, batches of {row['batch']}. "
            "reference: the plain Sparse VAE of the paper's code, rewritten in "
            "bench/reference_sparse_vae.py as its loop over genes stands there (one head and one column "
            "write per gene). robust, paper: whole steps of this library (batch, encoder, decoder, penalty, "
            "Adam) with the mlp decoder and as many hidden units. Medians; the three take turns."
        ),
        "",
        *markdown(
            table,
            {
                "hidden": ("hidden units", whole),
                "step": ("step", text),
                "milliseconds": ("CPU ms", number),
                "times_faster": ("times faster", number),
            },
        ),
    ]
    own = table[table["step"] != "reference"]
    faster = own.set_index(own["step"] + ", " + own["hidden"].astype(str) + " hidden units")["times_faster"]
    return Section(lines, [at_least("mlp step, times faster than the loop", faster, 2.0, number)])


def decoder(folder: Path) -> Section:
    """The decoder's part of a step."""
    title = "The mlp decoder alone"
    table = read(folder, "decoder_speed")
    if table.empty:
        return absent(title)
    many_genes = whole(table["many_genes"].iloc[0])
    lines = [
        f"## {title}",
        flow(
            "`bench/decoder_speed.py`: misfit and all its gradients, beside the loop's and beside products "
            "of square float32 matrices (sgemm: the machine's rate), in turn; the best of the rounds. "
            "Operations counted: 2 · batch · genes · (factors · hidden + hidden² + hidden) forward, twice "
            "that backward; what is done element by element comes on top, uncounted. Memory: what a step "
            f"adds at its peak at {many_genes} genes."
        ),
        "",
        *markdown(
            table,
            {
                "hidden": ("hidden units", whole),
                "computed": ("computed", text),
                "milliseconds": ("CPU ms", number),
                "gigaflops": ("Gflop/s", number),
                "share_of_sgemm": ("of sgemm", percent),
                "times_the_loop": ("times faster than the loop", number),
                "extra_mb_many_genes": ("added MB", number),
            },
        ),
    ]
    exact = table[table["computed"] == "fused float32"]
    exact = exact.set_index(exact["hidden"].astype(str) + " hidden units")
    bars = [
        at_least("decoder's share of sgemm's rate", exact["share_of_sgemm"], 0.55, percent),
        at_most(f"decoder's added MB at {many_genes} genes", exact["extra_mb_many_genes"], 100.0, number),
    ]
    return Section(lines, bars)


def fits(folder: Path) -> Section:
    """Whole fits."""
    title = "Whole fits beside the loop over genes"
    table = read(folder, "speed_fit")
    if table.empty:
        return absent(title)
    row = table.iloc[0]
    lines = [
        f"## {title}",
        flow(
            f"{row['atlas']} ({row['cells']:,} cells, {row['genes']} genes), {row['factors']} factors, "
            f"beside 100 epochs of the loop with 100 hidden units and batches of 512 ({row['note']}). "
            "stacked: the paper's synthetic study, default settings, all data sets at once by "
            "`latentree.fit_stack`."
        ),
        "",
        *markdown(
            table,
            {
                "fit": ("fit", text),
                "atlas": ("data", text),
                "cpu_seconds": ("CPU s", number),
                "share": ("of the loop's", share),
                "note": ("", text),
            },
        ),
    ]
    shares = table.set_index("fit")["share"].drop(["reference loop", "stacked"])
    linear = shares.index.str.contains("linear|additive")
    stacked = table[table["fit"] == "stacked"].set_index("fit")
    bars = [
        at_most("default fits beside the loop", shares[~linear], 0.1, share),
        at_most("linear and additive fits beside the loop", shares[linear], 0.02, share),
        at_most(f"CPU s, {stacked['note'].iloc[0]}", stacked["cpu_seconds"], 90.0, number),
    ]
    return Section(lines, bars)


def python(folder: Path) -> Section:
    """What of a step is not torch."""
    title = "Python's share of a step"
    table = read(folder, "speed_python")
    if table.empty:
        return absent(title)
    lines = [
        f"## {title}",
        flow(
            f"{table['genes'].iloc[0]} genes, batches of {table['batch'].iloc[0]}: share of a training step "
            "outside of torch's operators by torch's profiler (Python, and whatever it calls besides, such "
            "as scipy; the profiler's own cost counts to it)."
        ),
        "",
        *markdown(
            table,
            {
                "fit": ("fit", text),
                "milliseconds": ("ms per step, profiled", number),
                "outside_torch": ("outside of torch", percent),
            },
        ),
    ]
    shares = table.set_index("fit")["outside_torch"]
    return Section(lines, [at_most("share of a step outside of torch", shares, 0.2, percent)])


def scale(folder: Path) -> Section:
    """Large atlases."""
    title = "Large atlases"
    table = read(folder, "scale")
    if table.empty:
        return absent(title)
    lines = [
        f"## {title}",
        flow(
            f"`bench/scale.py`: generated counts, {table['genes'].iloc[0]:,} genes, a tenth above zero, each "
            "fit in a process of its own. Added memory: peak less what was held after the imports, "
            "everything included that the process then reads (log values and counts are one CSR matrix "
            "each). Start: all CPU time but the epochs', reading included."
        ),
        "",
        *markdown(
            table,
            {
                "cells": ("cells", whole),
                "decoder": ("decoder", text),
                "likelihood": ("likelihood", text),
                "epoch_seconds": ("CPU s per epoch", number),
                "microseconds_per_cell": ("µs per cell", number),
                "other_seconds": ("start, CPU s", number),
                "csr_mb": ("CSR MB", number),
                "added_mb": ("added MB", number),
                "limit_mb": ("3 × CSR + 100", number),
            },
        ),
    ]
    named = table["decoder"] + ", " + table["likelihood"] + ", " + table["cells"].map(whole)
    table = table.set_index(named)
    main = table[table["cells"] == 20_000]
    bars = []
    if not main.empty:
        bars = [
            at_most("20,000 × 2,000: CPU s per epoch", main["epoch_seconds"], 1.2, number),
            at_most(
                "20,000 × 2,000: added MB", main["added_mb"], main["limit_mb"], number, "3 × CSR + 100 MB"
            ),
        ]
    per_cell = table.groupby(["decoder", "likelihood"])["microseconds_per_cell"]
    growth = (per_cell.max() / per_cell.min())[per_cell.size() > 1]
    growth.index = [", ".join(names) for names in growth.index]
    if len(growth):
        bars.append(at_most("time per cell, slowest size by fastest", growth, 1.2, number))
    return Section(lines, bars)


def gpu(folder: Path) -> Section:
    """On a GPU."""
    title = "On a GPU"
    table = read(folder, "gpu")
    if table.empty:
        return absent(
            title, "Not measured: this machine has no CUDA GPU. `bench/gpu.py` measures it where one is."
        )
    lines = [
        f"## {title}",
        flow(
            f"`bench/gpu.py` on {table['device'].iloc[0]}: {table['cells'].iloc[0]:,} cells × "
            f"{table['genes'].iloc[0]:,} genes, batches of {table['batch'].iloc[0]:,}, wall time. Share: the "
            "decoder's products (forward, and twice that backward) per second of an epoch, of the rate of "
            "8,192 × 8,192 float32 products in the same process."
        ),
        "",
        *markdown(
            table,
            {
                "fit": ("fit", text),
                "cells_per_second": ("cells per s", whole),
                "tera_per_second": ("Tflop/s", number),
                "share_of_products": ("share", percent),
                "wall_seconds": ("whole call, s", number),
                "peak_gb": ("peak GB", number),
            },
        ),
    ]
    return Section(lines)


def atlas_memory(folder: Path) -> Section:
    """The atlas stage."""
    title = "Atlas stage: memory"
    table = read(folder, "atlas_memory")
    if table.empty:
        return absent(title)
    lines = [
        f"## {title}",
        flow(
            f"`bench/atlas_memory.py`: a generated atlas of {table['cells'].iloc[0]:,} cells × "
            f"{table['genes'].iloc[0]:,} genes at 10% density (CSR {number(table['csr_mb'].iloc[0])} MB), "
            "default settings. Peak memory less what was held after the imports; `--storages` names other "
            "ways of storing."
        ),
        "",
        *markdown(
            table,
            {
                "storage": ("stored as", text),
                "added_mb": ("added MB", number),
                "times_csr": ("times CSR", number),
                "prepare_seconds": ("wall s to prepare", number),
                "write_seconds": ("to write", number),
            },
        ),
    ]
    table = table.set_index("storage")
    bar = at_most("atlas stage: added MB", table["added_mb"], table["limit_mb"], number, "4 × CSR + 100 MB")
    return Section(lines, [bar])


def magic(folder: Path) -> Section:
    """MAGIC beside the original."""
    title = "MAGIC beside magic-impute"
    table = read(folder, "magic_speed")
    if table.empty:
        return absent(title)
    first = table.iloc[0]
    ratios = (
        table[["wall_seconds", "cpu_seconds", "added_mb"]]
        / table.loc[0, ["wall_seconds", "cpu_seconds", "added_mb"]]
    )
    table["ratio"] = ratios["cpu_seconds"]
    table["memory_ratio"] = ratios["added_mb"]
    lines = [
        f"## {title}",
        flow(
            f"`bench/magic_speed.py`: all {first['genes']:,} genes of {first['cells']:,} cells, "
            f"{percent(first['filled'])} filled, each engine in a process of its own with {first['threads']} "
            "thread(s); the result stays in memory (float32 here, float64 there)."
        ),
        "",
        *markdown(
            table,
            {
                "engine": ("engine", text),
                "wall_seconds": ("wall s", number),
                "cpu_seconds": ("CPU s", number),
                "ratio": ("ratio", number),
                "added_mb": ("added MB", number),
                "memory_ratio": ("ratio", number),
            },
        ),
        flow(
            "On the same low-dimensional matrix without PCA both give the same numbers (relative error per "
            "gene at most 2e-7, five settings, two atlases). End to end the mean distance to magic-impute "
            "is .86 to .94 of magic-impute's own mean distance between two seeds (eight matrices, five "
            "seeds); a single pair of seeds can lie outside of that. (These two by hand, November 2026.)"
        ),
        "",
    ]
    return Section(lines)


SECTIONS: list[Callable[[Path], Section]] = [steps, decoder, fits, python, scale, gpu, atlas_memory, magic]
