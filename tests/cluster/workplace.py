"""``snakemake --profile slurm`` as a user types it, in a copy of the checkout, and what one sees of it."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml
from safetensors import SafetensorError, safe_open
from virtual_slurm import SlurmJob, VirtualSlurm, wait_until

# a fit takes seconds, so that faults can hit it, and leaves a checkpoint every few tenths of a second
SMALL_FITS = {
    "atlases": {
        "pbmc": {
            "path": "builtin:pbmc68k_reduced",
            "cell_type": "bulk_labels",
            "gene_sets": ["resources/gene_sets/immune_programs.gmt"],
        }
    },
    "preprocess": {"n_genes": 100},
    "models": {"sparse_vae": {"n_factors": 4, "max_epochs": 120, "checkpoint_every": 4}},
    "downstream": {"umap": False, "stability": {"n_resamples": 0, "n_halves": 0}},
}
ATLAS = "results/pbmc/atlas.h5ad"
TABLES = [
    f"results/pbmc/tables/{name}"
    for name in (
        *("metrics.tsv", "genes.tsv", "stability.tsv"),
        *("enrichment.tsv", "enrichment_summary.tsv", "enrichment_notes.json"),
    )
]
# the profile's own are made for clusters, where nobody looks at a job every few seconds
IMPATIENT = ("--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "5")


@dataclass(frozen=True)
class Master:
    """A running ``snakemake --profile slurm``."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def ends(self, seconds: float = 600.0) -> int:
        """Wait for its end; the exit code."""
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds:.0f} s:\n{self.said()[-6000:]}") from None

    def succeeds(self, seconds: float = 600.0) -> str:
        """Wait for its end, which must be a good one; what it said."""
        code = self.ends(seconds)
        assert code == 0, f"exit {code}:\n{self.said()[-6000:]}"
        return self.said()

    def signal(self, number: signal.Signals) -> None:
        """To its whole process group, as a terminal does."""
        os.killpg(self.process.pid, number)

    def said(self) -> str:
        return self.log.read_text(errors="replace")


@dataclass(frozen=True)
class Struck:
    """A fit at the time of a fault."""

    job: SlurmJob
    epochs: int
    """Those in its checkpoint."""


@dataclass(frozen=True)
class Workplace:
    """A copy of the checkout in the cluster's folder, where a user works."""

    root: Path
    cluster: VirtualSlurm

    def configured(self, seeds: Sequence[int], **more: object) -> str:
        """Write the config of some small fits; its name for --configfile."""
        config = SMALL_FITS | {"seeds": list(seeds)} | more
        (self.root / "my.yaml").write_text(yaml.safe_dump(config))
        return "my.yaml"

    @contextmanager
    def master(self, *arguments: str) -> Iterator[Master]:
        """``snakemake --profile slurm`` with more arguments; it does not outlive the block."""
        log = self.root / f"master{len(list(self.root.glob('master*.log')))}.log"
        with open(log, "wb") as stream:
            process = subprocess.Popen(
                ["snakemake", "--profile", "slurm", *IMPATIENT, *arguments],
                cwd=self.root,
                env=self.cluster.environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                # tests that a shell starts in the background ignore Ctrl-C, and this would inherit it
                preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
            )
        try:
            yield Master(process, log)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def run(self, *arguments: str) -> str:
        """Type the command and wait for its good end; what it said."""
        with self.master(*arguments) as master:
            return master.succeeds()

    def local(self, *arguments: str) -> str:
        """Snakemake without the profile."""
        done = subprocess.run(
            ["snakemake", *arguments],
            cwd=self.root,
            env=self.cluster.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def copied(self, name: str) -> "Workplace":
        """A second place that looks the same, Snakemake's records and all times included."""
        shutil.copytree(self.root, self.root.parent / name, symlinks=True)
        return Workplace(self.root.parent / name, self.cluster)

    def jobs(self, rule: str = "", seed: int | None = None) -> list[SlurmJob]:
        """Slurm jobs that were submitted from here, for one rule or group, with a certain fit in them."""
        jobs = [job for job in self.cluster.jobs(self.root) if rule in job.comment]
        if seed is None:
            return jobs
        logs = {log.stem: log.read_text() for log in self.slurm_logs()}
        return [job for job in jobs if f"seed{seed}/factors.h5ad" in logs.get(job.number, "")]

    def slurm_logs(self) -> list[Path]:
        return sorted(self.root.glob(".snakemake/slurm_logs/**/*.log"))

    def running_fit(self, seed: int = 0) -> Struck:
        """The fit's job and its checkpoint, once it runs and has one."""
        wait_until(lambda: self.checkpoint_epochs(seed), f"a checkpoint of seed {seed}", 180)
        (job,) = [job for job in self.jobs("fit_torch_model", seed) if job.state == "RUNNING"]
        return Struck(job, self.checkpoint_epochs(seed))

    def checkpoint_epochs(self, seed: int = 0) -> int:
        """Epochs in a fit's checkpoint; 0 where there is none."""
        try:
            (file,) = self.root.glob(f"results/*/fits/**/seed{seed}/**/checkpoint.safetensors")
            with safe_open(file, framework="numpy") as stream:
                return len(json.loads(stream.metadata()["json"])["history"])
        except (ValueError, OSError, SafetensorError):
            return 0

    def is_fitted(self, seed: int = 0) -> bool:
        return any(self.root.glob(f"results/*/fits/*/k*/seed{seed}/fit.json"))

    def summary(self, seed: int = 0) -> dict:
        """A finished fit's own account."""
        (file,) = self.root.glob(f"results/*/fits/*/k*/seed{seed}/fit.json")
        return json.loads(file.read_text())

    def fit_log(self, seed: int = 0) -> str:
        """What the fit has said so far; every attempt starts a log of its own."""
        return "".join(log.read_text() for log in self.root.glob(f"results/logs/*/fit_model/*seed{seed}.log"))

    def results(self) -> dict[str, bytes]:
        """Bytes of all tables and of all fits' weights, by their paths below results."""
        results = self.root / "results"
        files = [*results.glob("*/tables/*"), *results.glob("*/fits/**/model.safetensors")]
        return {str(file.relative_to(results)): file.read_bytes() for file in files}


def restarts(job: SlurmJob, cluster: VirtualSlurm) -> int:
    """How often Slurm has put a job back into its queue."""
    (number,) = re.findall(r"Restarts=(\d+)", cluster.call("scontrol", "show", "job", job.number))
    return int(number)
