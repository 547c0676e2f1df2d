"""What the enrichment can be told."""

import re

from pydantic import Field

from latentree.settings import Settings

ENRICHR = "https://maayanlab.cloud/Enrichr/geneSetLibrary?mode=text&libraryName="
"""Where Enrichr exports a library as text, but for its name."""
LIBRARY = "library:"
"""What names a library among gene sets starts with this."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def library_name(entry: str) -> str | None:
    """``NAME`` of ``library:NAME``; None for the name of a file.

    Raises
    ------
    ValueError
        The name is none that a library can have.
    """
    if not entry.startswith(LIBRARY):
        return None
    name = entry.removeprefix(LIBRARY)
    if not _NAME.fullmatch(name):
        raise ValueError(f"{entry!r}: a library's name is letters, digits, '_', '.' and '-' only")
    return name


class EnrichmentConfig(Settings):
    """Gene sets of factors, and what chance gives."""

    gsea: bool = Field(
        True, description="pre-ranked GSEA of the loadings other than zero, beside over-representation"
    )
    n_permutations: int = Field(
        20,
        ge=0,
        description="control: times that the genes of each fit are renamed at random and tested again",
    )
    n_gsea_permutations: int = Field(
        1, ge=0, description="the same for GSEA, where each takes as long as the test itself"
    )
    repeat_jaccard: float = Field(
        0.5,
        gt=0,
        le=1,
        description="of two enriched sets of a factor that share so much (Jaccard index of their modelled"
        " genes), the report shows the better one; all are tested",
    )
    library_address: str = Field(
        ENRICHR,
        pattern="^https?://",
        description="where libraries are fetched from; the library's name is appended",
    )
