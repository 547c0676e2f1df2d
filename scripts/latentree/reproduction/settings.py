"""What `make reproduce` can be told; imported by the config, so nothing heavy."""

from pydantic import Field

from latentree.settings import Settings

# braces mean wildcards to Snakemake
_PATH = r"^[^{}]+$"


class ReproductionSettings(Settings):
    """The papers' experiments (`make reproduce`, docs/reproduction.md); a run of atlases ignores this."""

    quick: bool = Field(
        False, description="one seed and small grids, in a folder of its own: shows that all of it runs"
    )
    data: str | None = Field(
        None,
        pattern=_PATH,
        description="folder of real cells (file names: docs/reproduction.md); without it the experiments on"
        " cells are skipped and the page says so",
    )
    movielens: str | None = Field(
        None,
        pattern=_PATH,
        description="file u.data of MovieLens-100k, which is not shipped; without it the experiment on"
        " ratings is skipped",
    )
