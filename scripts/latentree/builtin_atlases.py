"""Where the atlases are that come with installed packages; imports none of these."""

import importlib.util
from pathlib import Path

from latentree.config import BUILTIN_ATLASES
from latentree.errors import InputError, listed, nearest


def builtin_path(name: str) -> Path:
    """The file of an atlas that comes with an installed package.

    Raises
    ------
    InputError
        For a name that is not known.
    """
    if name not in BUILTIN_ATLASES:
        raise InputError(
            f"builtin:{name}",
            f"no built-in atlas has this name{nearest(name, BUILTIN_ATLASES)}",
            f"Known ones: {listed('builtin:' + known for known in BUILTIN_ATLASES)}",
        )
    package, file = BUILTIN_ATLASES[name]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise InputError(f"builtin:{name}", f"comes with {package}, which is not installed", "Install it")
    return Path(spec.origin).parent / file
