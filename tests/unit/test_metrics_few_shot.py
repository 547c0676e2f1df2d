"""The few-shot curve against a loop written out with scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier

from latentree.metrics import few_shot_accuracy
from latentree.metrics.few_shot import in_turn


@pytest.fixture(scope="module")
def cells() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    types = rng.choice(["T", "B", "NK"], size=300, p=[0.6, 0.3, 0.1])
    centres = {"T": [0, 0], "B": [3, 0], "NK": [0, 3]}
    return np.array([centres[name] for name in types]) + rng.normal(size=(300, 2)), types


def test_equals_the_loop_written_out(cells):
    z, types = cells
    found = few_shot_accuracy(z, types, sizes=(10, 50), n_shuffles=2, n_test=60, seed=3)
    rng = np.random.default_rng(3)
    scores = []
    for _ in range(2):
        order = rng.permutation(300).tolist()
        train, test = order[:240], order[240:]
        queues = {name: [i for i in train if types[i] == name] for name in ("T", "B", "NK")}
        turns = []
        while any(queues.values()):
            turn = [queue.pop(0) for queue in queues.values() if queue]
            turns += sorted(turn, key=train.index)
        forest = RandomForestClassifier(n_estimators=50, max_depth=4, random_state=0)
        scores.append(
            [forest.fit(z[turns[:n]], types[turns[:n]]).score(z[test], types[test]) for n in (10, 50)]
        )
    assert found.sizes == (10, 50)
    assert found.n_test == 60
    assert found.mean == pytest.approx(np.mean(scores, axis=0))
    assert found.sd == pytest.approx(np.std(scores, axis=0, ddof=1))


def test_more_labels_help_and_sizes_that_are_not_there_are_left_out(cells):
    z, types = cells
    found = few_shot_accuracy(z, types, sizes=(3, 200, 211, 5000), n_shuffles=3)
    # 30% of 300 cells are tested on, because 2,000 would leave none
    assert found.n_test == 90
    assert found.sizes == (3, 200)
    assert found.mean[0] < found.mean[1]
    assert found.mean[1] > 0.85


def test_one_shuffle_has_no_spread_and_too_few_cells_are_refused(cells):
    z, types = cells
    assert np.isnan(few_shot_accuracy(z, types, sizes=(10,), n_shuffles=1).sd).all()
    with pytest.raises(ValueError, match="of 2 cells 0"):
        few_shot_accuracy(z[:2], types[:2])
    with pytest.raises(ValueError, match="one label for each cell"):
        few_shot_accuracy(z, types[:5])


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_types_take_turns_until_they_run_out(names):
    types = np.array(names)
    order = in_turn(np.arange(len(types)), types)
    assert sorted(order.tolist()) == list(range(len(types)))
    for n in range(1, len(types) + 1):
        first, rest = types[order[:n]], types[order[n:]]
        counts = {name: int((first == name).sum()) for name in set(names)}
        for name in set(rest):
            # a type with cells left is at most one behind any other
            assert counts[name] >= max(counts.values()) - 1
