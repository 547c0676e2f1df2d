"""A GPU that the cluster granted must be used; nothing else changes what the config says."""

import pytest

from latentree.job_device import job_device


@pytest.mark.parametrize(
    ("device", "resources", "expected"),
    [
        ("auto", {}, "auto"),
        ("auto", {"gpu": 0}, "auto"),
        ("auto", {"gpu": 1}, "cuda"),
        ("auto", {"gpu": 0, "gres": "gpu:1"}, "cuda"),
        ("auto", {"gres": "lustre:1"}, "auto"),
        ("cuda", {"gpu": 0}, "cuda"),
        ("cpu", {"gpu": 0}, "cpu"),
    ],
)
def test_the_device_of_a_job(device: str, resources: dict, expected: str) -> None:
    assert job_device(device, resources) == expected


def test_an_idle_gpu_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert job_device("cpu", {"gpu": 1}) == "cpu"
    assert "stays idle" in caplog.text
