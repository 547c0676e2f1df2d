"""How far a fit is: epochs, loss, time so far and time left."""

import sys
import time

from tqdm.auto import tqdm


class Progress:
    """A bar of epochs on a terminal; a line now and then elsewhere, so that logs stay short.

    A line for every tenth of the epochs, and where these are long one a minute. The time left is an
    upper bound, because a fit may stop early.
    """

    SECONDS = 60.0
    """No log is silent for longer, unless a single epoch is."""

    def __init__(self, n_epochs: int, done: int, shown: bool) -> None:
        self._bar = tqdm(total=n_epochs, initial=done, unit="epoch", disable=not (shown and on_terminal()))
        self._every = max(1, n_epochs // 10)
        self._lines = shown and not on_terminal()
        self._n_epochs, self._first = n_epochs, done
        self._started = self._said = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, row: dict[str, float]) -> None:
        self._bar.set_postfix(loss=f"{row['loss']:.5g}", validation=f"{row['validation_loss']:.5g}")
        self._bar.update()
        epoch = int(row["epoch"])
        now = time.monotonic()
        is_due = epoch % self._every == 0 or epoch == self._n_epochs or now - self._said > self.SECONDS
        if self._lines and is_due:
            self._said = now
            losses = f"loss {row['loss']:.5g}, validation {row['validation_loss']:.5g}"
            left = (now - self._started) / (epoch - self._first) * (self._n_epochs - epoch)
            times = f"{in_words(now - self._started)} so far"
            if epoch < self._n_epochs:
                times += f", at most about {in_words(left)} left"
            print(f"epoch {epoch} of {self._n_epochs}: {losses}; {times}", file=sys.stderr, flush=True)


def in_words(seconds: float) -> str:
    """A time for people: ``12 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def on_terminal() -> bool:
    return sys.stderr.isatty()
