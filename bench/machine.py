"""The machine and the software that numbers were measured with."""

import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from bench_tools import ROOT

from latentree import __version__
from latentree.provenance import commit_in_words

FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "anndata", "scvi-tools", "magic-impute")


def described() -> dict[str, Any]:
    """One row: processor, cores, memory, GPU, versions, date, commit."""
    info = _read("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.+)", info)
    flags = re.search(r"flags\s*:\s*(.+)", info)
    features = [
        flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flags and flag in flags[1].split()
    ]
    memory = re.search(r"MemTotal:\s*(\d+) kB", _read("/proc/meminfo"))
    return {
        "processor": model[1].strip() if model else platform.processor() or platform.machine(),
        "features": " ".join(features),
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory[1]) / 2**20) if memory else "",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "system": f"{platform.system()} {platform.machine()}",
        "date": f"{datetime.now(UTC):%d %B %Y}",
        "commit": commit_in_words(ROOT),
        "python": platform.python_version(),
        "latentree": __version__,
        **{name: _version(name) for name in PACKAGES},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _read(path: str) -> str:
    file = Path(path)
    return file.read_text() if file.is_file() else ""
