"""The order of mini-batches, on sizes that can be counted by hand."""

import numpy as np
import pytest

from lnt.seeding import generator
from lnt.training.batch_order import MiniBatches


def batches(n, size, steps, seeds=(3,)):
    order = MiniBatches(n, size, np.array(seeds))
    return [order.at(step) for step in range(steps)]


@pytest.mark.parametrize(
    ("n", "size", "sizes"),
    [(5, 2, [2, 2, 1]), (6, 3, [3, 3]), (5, 5, [5]), (5, 9, [5]), (3, 1, [1, 1, 1])],
)
def test_an_epoch_visits_each_sample_once_and_its_last_batch_may_be_smaller(n, size, sizes):
    found = batches(n, size, 3 * len(sizes))
    assert [batch.shape for batch in found] == [(1, count) for count in sizes] * 3
    for epoch in range(3):
        seen = np.concatenate(found[epoch * len(sizes) : (epoch + 1) * len(sizes)], 1)[0]
        assert sorted(seen) == list(range(n))


def test_an_epoch_is_a_permutation_from_the_stream_of_its_seed_and_number():
    """This ties every stored run: another stream or key would be another order."""
    found = np.concatenate(batches(7, 3, 6), 1)[0]
    wanted = [generator("order", 3, epoch).permutation(7) for epoch in (0, 1)]
    np.testing.assert_array_equal(found, np.concatenate(wanted))
    assert (wanted[0] != wanted[1]).any()


def test_each_run_has_the_order_of_its_own_seed_in_any_company():
    together = batches(20, 8, 5, (5, 3, 5))
    alone = {seed: batches(20, 8, 5, (seed,)) for seed in (3, 5)}
    for step, batch in enumerate(together):
        for run, seed in enumerate((5, 3, 5)):
            np.testing.assert_array_equal(batch[run], alone[seed][step][0])
    assert (together[0][0] != together[0][1]).any()


def test_a_run_that_goes_on_in_the_middle_sees_the_same_batches():
    whole = batches(7, 3, 9)
    order = MiniBatches(7, 3, np.array([3]))
    for step in (5, 6, 1, 8, 0):
        np.testing.assert_array_equal(order.at(step), whole[step])
