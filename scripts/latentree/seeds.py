"""Seeds derived by name, so that no two uses of one user's seed share random numbers."""

import hashlib

CONSENSUS = "consensus"
"""What stands for the seed, in tables and paths, where all seeds of a model speak together."""


def derive_seed(*parts: str | int) -> int:
    """A 32-bit seed from the parts, for example ``derive_seed(0, "sparse_vae", 10)``.

    The same parts give the same seed on every machine and Python version.
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
