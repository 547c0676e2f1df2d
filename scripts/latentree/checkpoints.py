"""Checkpoints of a fit: one file written whole, keyed, checked, locked against a second writer.

A checkpoint is one safetensors file (tensors, with JSON in its header), so a kill leaves the old one or
the new one, never a mixture of both. Nothing is read by pickle.
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from safetensors import SafetensorError, safe_open

from latentree.errors import InputError
from latentree.files import atomic_path
from latentree.locks import LOCK_FILES, HeldError, locked

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    import torch

Tensors: TypeAlias = "dict[str, torch.Tensor]"


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoint of one fit in a folder of its own.

    Parameters
    ----------
    folder
        Where checkpoint and lock lie; None: nothing is ever written or found.
    key
        Hash of settings, data and code; a checkpoint written under another key is left unused.
    """

    folder: Path | None
    key: str

    @contextmanager
    def locked(self, timeout: float = 2.0) -> Iterator[None]:
        """Hold the folder for one fit; the operating system lets go of it when the process is killed.

        Raises
        ------
        InputError
            Another fit holds it; the message says which process on which machine.
        """
        if self.folder is None:
            yield
            return
        try:
            with locked(self.folder, timeout):
                yield
        except HeldError as error:
            raise InputError(
                self.folder,
                f"another fit is writing its checkpoints here ({error})",
                "Wait for it to end, or stop it; give each fit a folder of its own",
            ) from None

    def save(self, tensors: Tensors, facts: dict[str, Any]) -> None:
        """Replace the checkpoint atomically; the tensors are copied as they are now."""
        if self.folder is None:
            return
        # fits without checkpoints need no torch
        from safetensors.torch import save_file

        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        text = json.dumps({"key": self.key, **facts})
        with atomic_path(self._file) as temporary:
            save_file(plain, temporary, metadata={"json": text, "sha256": _digest(text, plain)})

    def load(self) -> tuple[Tensors, dict[str, Any]] | None:
        """Tensors and facts of the last :meth:`save` under this key; None where there is nothing usable.

        What cannot be used (truncated, altered, another key) is said in the log and never fatal: the fit
        then starts anew.
        """
        if self.folder is None or not self._file.exists():
            return None
        try:
            with safe_open(self._file, framework="pt") as stream:
                metadata = stream.metadata() or {}
                tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
            text = metadata["json"]
            if metadata["sha256"] != _digest(text, tensors):
                raise ValueError("its checksum does not match")
            facts = json.loads(text)
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            logger.warning(
                "%s: the checkpoint is damaged (%s) and is not used; starting anew", self._file, error
            )
            return None
        if facts.pop("key") != self.key:
            logger.warning(
                "%s: the checkpoint belongs to other settings, data or code and is not used; starting anew",
                self._file,
            )
            return None
        return tensors, facts

    def delete(self) -> None:
        """Remove the checkpoint, the lock's file and, where nothing else is in it, the folder.

        Where another fit holds the folder by now, all stays: what lies there is that fit's.
        """
        if self.folder is None or not self.folder.exists():
            return
        try:
            with self.locked(timeout=0):
                # a process that opened the lock's file before it went away notices and opens a new one
                for name in (self._file.name, *LOCK_FILES):
                    (self.folder / name).unlink(missing_ok=True)
        except InputError:
            return
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    @property
    def _file(self) -> Path:
        assert self.folder is not None
        return self.folder / "checkpoint.safetensors"


def _digest(text: str, tensors: Tensors) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()
