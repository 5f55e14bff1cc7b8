"""The order of mini-batches: which samples each step sees."""

import numpy as np
import torch

from lnt.seeding import generator, sample_per_run


class MiniBatches:
    """Which samples each step of R runs sees, from the stream `order`.

    The order of an epoch depends on seed and epoch only, so a resumed run sees the same batches and a checkpoint holds none.
    """

    def __init__(self, n: int, batch_size: int, seeds: np.ndarray) -> None:
        self.n, self.batch_size, self.seeds = n, batch_size, seeds  # seeds [R]
        self.per_epoch = -(-n // batch_size)  # steps
        self._epoch, self._order = -1, torch.empty(0)

    def at(self, step: int, device: torch.device | str = "cpu") -> torch.Tensor:
        """Sample indices [R, size of this batch]; the last batch of an epoch may be smaller."""
        epoch, position = divmod(step, self.per_epoch)
        # Steps come in order, so one epoch at a time is enough to keep.
        if epoch != self._epoch:
            (orders,), index = sample_per_run(
                self.seeds[:, None], lambda seed: (generator("order", seed, epoch).permutation(self.n),)
            )
            # A copy to the device once an epoch, not at each step.
            self._epoch, self._order = epoch, torch.as_tensor(orders[index], device=device)  # [R, n]
        return self._order[:, position * self.batch_size : (position + 1) * self.batch_size]
