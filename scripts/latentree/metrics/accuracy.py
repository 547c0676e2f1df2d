"""How well cell types can be read off the latents by a linear classifier, with its reference values."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Probe:
    """A logistic regression on standardised latents.

    Attributes
    ----------
    centre, scale
        Mean and standard deviation of the training cells' latents, shape (n_factors,).
    classifier
        The fitted scikit-learn classifier, or the only type's name where the training cells have one.
    """

    centre: np.ndarray
    scale: np.ndarray
    classifier: Any

    def predict(self, latents: np.ndarray) -> np.ndarray:
        """The predicted type of each cell.

        Parameters
        ----------
        latents
            Shape (n_cells, n_factors).

        Returns
        -------
        Array of names, shape (n_cells,).
        """
        if isinstance(self.classifier, str):
            return np.full(len(latents), self.classifier)
        return self.classifier.predict((np.asarray(latents, dtype=np.float64) - self.centre) / self.scale)


def fit_probe(latents: np.ndarray, cell_types: ArrayLike) -> Probe:
    """Fit a multinomial logistic regression (L2, C = 1) on standardised latents.

    Parameters
    ----------
    latents
        Latents of the training cells, shape (n_cells, n_factors).
    cell_types
        Their types, shape (n_cells,).
    """
    from sklearn.linear_model import LogisticRegression

    z = np.asarray(latents, dtype=np.float64)
    types = np.asarray(cell_types, dtype=str)
    centre, scale = standardisation(z)
    if len(np.unique(types)) == 1:
        return Probe(centre, scale, str(types[0]))
    classifier = LogisticRegression(C=1.0, max_iter=2000).fit((z - centre) / scale, types)
    return Probe(centre, scale, classifier)


def standardisation(latents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each latent; a constant latent has standard deviation 1.

    Parameters
    ----------
    latents
        Shape (n_cells, n_factors), float64.

    Returns
    -------
    Two arrays of shape (n_factors,).
    """
    centre, scale = latents.mean(axis=0), latents.std(axis=0)
    # a dead latent is constant up to rounding; dividing by its rounding error would make it noise
    constant = scale <= 1e-6 * np.maximum(np.abs(centre), np.finfo(np.float32).tiny)
    return centre, np.where(constant, 1.0, scale)


def accuracy(cell_types: ArrayLike, predicted: ArrayLike) -> float:
    """The share of cells whose type is predicted.

    Parameters
    ----------
    cell_types, predicted
        Names, shape (n_cells,).
    """
    return float(np.mean(np.asarray(cell_types, dtype=str) == np.asarray(predicted, dtype=str)))


def balanced_accuracy(cell_types: ArrayLike, predicted: ArrayLike) -> float:
    """The accuracy within each type, averaged over the types that are there.

    Parameters
    ----------
    cell_types, predicted
        Names, shape (n_cells,). A type that is only predicted has no accuracy and does not count.
    """
    types = np.asarray(cell_types, dtype=str)
    right = types == np.asarray(predicted, dtype=str)
    return float(np.mean([right[types == name].mean() for name in np.unique(types)]))


def majority_reference(train_types: ArrayLike, test_types: ArrayLike) -> tuple[float, float]:
    """Accuracy and balanced accuracy of always saying the training cells' most frequent type.

    Parameters
    ----------
    train_types, test_types
        Names, shape (n_train,) and (n_test,). Of equally frequent types the first by name is said.
    """
    names, counts = np.unique(np.asarray(train_types, dtype=str), return_counts=True)
    said = np.full(len(np.asarray(test_types)), names[counts.argmax()])
    return accuracy(test_types, said), balanced_accuracy(test_types, said)


def chance_reference(train_types: ArrayLike, test_types: ArrayLike) -> tuple[float, float]:
    """Expected accuracy and balanced accuracy of drawing types by their frequency among the training cells.

    A test cell of type c is guessed with probability p(c), so the expectations are the means of p over
    the test cells and over the test cells' types.

    Parameters
    ----------
    train_types, test_types
        Names, shape (n_train,) and (n_test,).
    """
    names, counts = np.unique(np.asarray(train_types, dtype=str), return_counts=True)
    frequency = dict(zip(names.tolist(), (counts / counts.sum()).tolist(), strict=True))
    types, n_cells = np.unique(np.asarray(test_types, dtype=str), return_counts=True)
    guessed = np.array([frequency.get(name, 0.0) for name in types.tolist()])
    return float(np.average(guessed, weights=n_cells)), float(guessed.mean())
