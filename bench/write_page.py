"""Write docs/benchmarks.md from the tables of one run.

python bench/write_page.py [--out results/bench] [--page docs/benchmarks.md]
"""

from pathlib import Path

import page_fits
import page_models
import page_programs
import page_speed
import page_tbr
from bench_tools import ROOT, parser
from page_tools import Bar, flow, read

PAGE = ROOT / "docs" / "benchmarks.md"

INTRODUCTION = """\
# Benchmarks

`make bench` measures everything on this page in one run and writes the page; nothing here is edited by hand.
One thread and CPU time unless said. What is compared runs in one process, or takes turns on the same data:
trust ratios within a table, single times drift. Each table is also in results/bench as a .tsv, and each
script in bench runs alone (`python bench/cells.py --help`). The atlases are read from a folder that `--data`
names. The committed page was made from the scripts one by one on one afternoon, with fewer splits and sets
where the tables say so; speed_python and the loop's ratios were measured before the last speed-ups of ours.
"""

DEMO = """\
## Demo
`make demo` once packages are installed: 2 min 49 s wall on 2 cores, refits to other cells included (by hand,
November 2026); a second call finds nothing to do in seconds. Installing takes about 80 s from a near package
index.
"""


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--page", type=Path, default=PAGE)
    chosen = made.parse_args()
    chosen.page.write_text(written(chosen.out), encoding="utf-8")


def written(folder: Path) -> str:
    """The page of the tables in a folder."""
    makers = [*page_fits.SECTIONS, *page_models.SECTIONS, *page_speed.SECTIONS, *page_tbr.SECTIONS]
    makers += page_programs.SECTIONS
    sections = [make(folder) for make in makers]
    bars = [bar for section in sections for bar in section.bars]
    lines = [INTRODUCTION, *machine(folder), *verdicts(bars)]
    for section in sections:
        lines += section.lines
    return "\n".join([*lines, DEMO]).rstrip() + "\n"


def machine(folder: Path) -> list[str]:
    """What the numbers were measured with, and for how long."""
    table = read(folder, "machine")
    if table.empty:
        return []
    row = table.iloc[0].fillna("")
    packages = ("torch", "numpy", "scipy", "scikit-learn", "anndata", "scvi-tools", "magic-impute")
    versions = ", ".join(f"{name} {row[name]}" for name in packages)
    lines = [
        "## Machine",
        flow(
            f"{row['processor']} ({row['features']}), {row['cores']} cores, {row['memory_gib']} GiB, GPU: "
            f"{row['gpu']}; {row['system']}, Python {row['python']}; {versions}. latentree "
            f"{row['latentree']}, commit {row['commit']}. Measured on {row['date']}."
        ),
        "",
    ]
    jobs = read(folder, "jobs")
    if not jobs.empty:
        lines += [f"The jobs of this run took {jobs['wall_seconds'].sum() / 60:.0f} minutes together.", ""]
        failed = list(jobs.loc[jobs["exit"] != 0, "job"])
        if failed:
            lines += [f"**These jobs failed, and what they measure is missing: {', '.join(failed)}.**", ""]
    return lines


def verdicts(bars: list[Bar]) -> list[str]:
    """All targets at once, each with the worst number that was measured against it."""
    if not bars:
        return []
    n_met = sum(bar.met for bar in bars)
    lines = [
        "## Targets",
        f"{n_met} of {len(bars)} are met. The number shown is the worst one of those that count.",
        "",
        "| target | wanted | measured | met |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {bar.what} | {bar.target} | {bar.measured} | {'yes' if bar.met else '**no**'} |" for bar in bars
    ]
    return [*lines, ""]


if __name__ == "__main__":
    main()
