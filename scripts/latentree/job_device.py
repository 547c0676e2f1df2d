"""Which device a fit's job must use: what the config says, or the GPU that the cluster granted."""

import logging
from typing import Any

logger = logging.getLogger(__name__)


def job_device(device: str, resources: Any) -> str:
    """The config's device; "cuda" instead of "auto" where the job was granted a GPU.

    A GPU that stands idle is paid for all the same, and a torch without CUDA would fall back in silence:
    with "cuda" the fit ends with a message instead.

    Parameters
    ----------
    device
        "auto", "cpu" or "cuda", as the config says.
    resources
        The job's resources, as Snakemake hands them to scripts: ``gpu`` is a number of GPUs, ``gres`` a
        request such as "gpu:1".
    """
    granted = bool(resources.get("gpu")) or "gpu" in str(resources.get("gres") or "")
    if granted and device == "cpu":
        logger.warning("this job was granted a GPU, but the config says device: cpu; the GPU stays idle")
    if granted and device == "auto":
        logger.info("this job was granted a GPU: device auto means cuda")
        return "cuda"
    return device
