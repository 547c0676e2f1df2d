"""The figures of the page: where each comes from, what it shows in words, and its caption."""

from dataclasses import dataclass

from latentree.report.inputs import Inputs


@dataclass(frozen=True)
class Picture:
    """A figure: its data URI, what it shows in words (alt), and the caption below it."""

    uri: str
    alt: str
    caption: str


_OF_ALL = {
    "tree": ("Tree of the cell types.", "Tree of the cell types (environments)."),
    "scores": (
        "Accuracy of every model on test cells beside majority and chance; numbers in the table.",
        "Dots are seeds, bars are means.",
    ),
    "stability": (
        "Agreement of matched factors between fits on halves of the cells, on resampled cells and with "
        "other seeds; numbers in the table.",
        "Dots are factors, bars are means; references are grey.",
    ),
    "n_factors": (
        "Held-out fit, stability and numbers of factors against the number of factors; numbers in the table.",
        "What speaks for each number of factors.",
    ),
    "sparsity": (
        "Sparsity of the loadings of every model against the number of factors.",
        "Sparsity of the loadings against the number of factors.",
    ),
    "tbr": (
        "Scores of the estimators beside their references; numbers in the table.",
        "Marks are seeds; grey lines are the reference levels.",
    ),
    "tbr_tree": (
        "Tree of the cell types with a triangle on every branch where an effect changes; numbers in the"
        " table.",
        "Triangles: effects of latents that change on the branch to the right of them, sized by the change."
        " Branches below a root without cells share one change.",
    ),
}
_OF_FITS = {
    "embedding": (
        "t-SNE of the latents of {fit}, cells coloured and numbered by cell type.",
        "t-SNE of the latents, each scaled to unit variance; distances between groups mean little.",
    ),
    "umap": (
        "UMAP of the latents of {fit}, cells coloured and numbered by cell type.",
        "UMAP of the same latents.",
    ),
    "usage": (
        "Usage of the factors of {fit} by cell type: numbers in the tables of the factors.",
        "Usage by cell type: colour is the mean, size the share of the type's cells.",
    ),
    "conditions": (
        "Differences of the factors of {fit} between conditions: numbers in the tables of the factors.",
        "Differences between conditions over samples: all types with intervals, then by cell type.",
    ),
    "loadings": (
        "Heat map of the top genes of every factor of {fit}; the tables of the factors name them.",
        "Top genes (rows) of all factors (columns); white is zero.",
    ),
    "training": (
        "Training curves of {fit}, seed {seed}: parts of the loss against the epoch.",
        "Training of seed {seed}: the loss by its parts, per epoch.",
    ),
    "groups": (
        "Heat map of the gene sets that the factors of {fit}, seed {seed}, move, beside the permuted"
        " control's.",
        "Seed {seed}: gene sets (rows) that each factor (column) moves most; right: sets of random genes.",
    ),
}


def picture(inputs: Inputs, name: str) -> Picture | None:
    """A picture of the whole run; None where it was not drawn."""
    uri = inputs.pictures.get(f"{name}.svg")
    return None if uri is None else Picture(uri, *_OF_ALL[name])


def fit_pictures(inputs: Inputs, model: str, n_factors: int, first_seed: int) -> tuple[Picture, ...]:
    """The pictures of one model; those of single fits say of which seed they are."""
    found = []
    for kind, words in _OF_FITS.items():
        uri = inputs.pictures.get(f"{kind}_{model}_k{n_factors}.svg")
        if uri is not None:
            alt, caption = (text.format(fit=f"{model}, k = {n_factors}", seed=first_seed) for text in words)
            found.append(Picture(uri, alt, caption))
    return tuple(found)
