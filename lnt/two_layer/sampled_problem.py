"""R sampled training problems, as the engines take them: vectors in coordinates, labels, initial filters, test samples."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lnt.noise.observed_labels import LabelNoise, ObservedLabels, PartOfLabels, Samples
from lnt.seeding import Seeds, sample_per_run
from lnt.two_layer.data import VectorData
from lnt.two_layer.network import TwoLayerCNN


@dataclass(frozen=True)
class SampledProblem:
    """Sampled inputs of R runs. All vectors of a run share one orthonormal basis whose first V axes hold the signal.

    The training set consists of K = S + L n distinct patches: first the S signal patches (+mu and -mu; for XOR +u, -u, +v, -v),
    which many samples share, then the noise patch of each sample, and so on if there are L > 1 of these. Where a sample is one
    patch, signal plus noise, they are the K = n samples. Where the network has an output for each class, labels are classes.
    """

    patches: Tensor  # [R, K, D]: signal patches, xi_1 .. xi_n, further noise patches; or the n samples
    signal_index: Tensor  # [R, n] the signal patch of each training sample
    labels: Tensor  # [R, n] true training labels, -1 or +1; or classes
    observed: ObservedLabels | PartOfLabels
    filters: Tensor  # [R, P, D]: w(0)
    bias: Tensor | None  # [R, P]: b(0)
    test_patches: Tensor  # [U, L N, D]: N(0, I), for each of the U distinct draws of a test set
    test_signal_index: Tensor  # [U, N] the signal patch of each test sample
    test_index: np.ndarray  # [R]: the row of both for each run
    test_labels: Tensor  # [R, N] true test labels
    test_transition: Tensor | None  # [R or 1, C, C]: P(observed = column | true = row) of test samples
    test_scale: Tensor | None  # [R, N]: the size of each test sample's noise as a multiple of noise_std; None: 1
    noise_std: Tensor  # [R]
    signals: int  # signal patches among the K: S, or 0
    signal_classes: tuple[int, ...]  # [S] the class of each signal patch
    axes: int  # V
    orthogonal_noise: bool
    noise_patches: int = 1  # L

    labels_known: ClassVar[bool] = True
    test_labels_known: ClassVar[bool] = True
    softmax: bool = False  # whether the network has an output for each class
    rare: tuple[bool, ...] | None = None  # [S] which signal patches show the rarest feature
    means: Tensor | None = None  # [R, S, D]: the signals, where a sample is one patch

    @property
    def per_axis(self) -> int:
        """Signal patches for each direction: 2, as they come in pairs (mu, -mu), or 1."""
        return len(self.signal_classes) // self.axes

    @property
    def basis(self) -> Tensor:
        """Rows that span the data, [R, V + L n, D]: the signal directions (mu, or u and v), xi_1 .. xi_n, and so on."""
        if self.means is None:
            return torch.cat([self.patches[:, : self.signals : self.per_axis], self.patches[:, self.signals :]], 1)
        return torch.cat([self.means[:, :: self.per_axis], self.patches - self._means_of_samples()], 1)

    @property
    def basis_norms(self) -> Tensor:
        """Their lengths, [R, V + L n]."""
        if self.means is not None:
            return torch.linalg.vector_norm(self.basis, dim=2)
        # Of the patches first, so that a large problem is not copied.
        norms = torch.linalg.vector_norm(self.patches, dim=2)
        return torch.cat([norms[:, 0 : self.signals : self.per_axis], norms[:, self.signals :]], 1)

    def on_basis(self, span: Tensor) -> Tensor:
        """C [R, P, K] over the patches, as coefficients [R, P, V + L n] of the basis."""
        n = self.labels.shape[1]
        if self.means is None:
            directions = span[..., 0 : self.signals : self.per_axis]
            if self.per_axis == 2:
                # X has mu and -mu as rows of their own: the coefficient of mu is the difference of theirs.
                directions = directions - span[..., 1 : self.signals : 2]
            return torch.cat([directions, span[..., self.signals : self.signals + self.noise_patches * n]], -1)
        kinds = self.means.shape[1] // 2
        of_samples = torch.nn.functional.one_hot(self.signal_index // 2, kinds) * (1 - 2 * (self.signal_index % 2))[..., None]
        own = span[..., :n]
        return torch.cat([own @ of_samples.to(span), own], -1)

    def _means_of_samples(self) -> Tensor:
        """The signal in each sample, [R, n, D]."""
        assert self.means is not None
        return self.means.gather(1, self.signal_index[..., None].expand(-1, -1, self.means.shape[2]))

    def of(self, runs: Tensor) -> "SampledProblem":
        """The training problems of some of the runs."""
        per_run = ("patches", "signal_index", "labels", "filters", "bias", "noise_std", "means")
        parts: dict[str, Any] = {name: None if (value := getattr(self, name)) is None else value[runs] for name in per_run}
        assert isinstance(self.observed, ObservedLabels)
        return replace(self, **parts, observed=self.observed.of(runs))

    def samples(self, run: int) -> Tensor:
        """The training samples of a run as stacks of patches, [n, 1 + L, D] or [n, 1, D]."""
        if self.means is not None:
            return self.patches[run][:, None]
        signals, noise = self.patches[run].tensor_split([self.signals])
        return torch.stack([signals[self.signal_index[run]], *noise.chunk(self.noise_patches)], 1)

    def as_classes(self, labels: Tensor) -> Tensor:
        """Class 0 is +1 and class 1 is -1, as in lnt/noise/observed_labels.py; or labels are classes."""
        return labels if self.softmax else (labels < 0).long()

    @property
    def test_rare(self) -> Tensor | None:
        """Which test samples show the rarest feature, [R, N]; None where there is but one."""
        if self.rare is None:
            return None
        index = self.test_signal_index
        return torch.tensor(self.rare, device=index.device)[index][torch.as_tensor(self.test_index, device=index.device)]

    def test_error_observed(self, predicted: Tensor) -> Tensor | None:
        """P(observed != predicted) on the test samples, [R]: the mean over the noise of their labels, which is not drawn.

        With one output, and flip rates p+ and p- of both classes, it is 1 - mean(|f| + (1 - p+ - p-) f y - (p+ - p-) f) / 2,
        where f is the prediction, -1, 0 or +1; 0 is never right.
        """
        if self.test_transition is None:
            return None
        if self.softmax:
            runs = torch.arange(len(self.test_transition), device=predicted.device)[:, None]
            return 1 - self.test_transition[runs, self.test_labels, predicted].mean(1)
        count = predicted.shape[1]
        agree = torch.linalg.vecdot(predicted, self.test_labels) / count
        positive, negative = self.test_transition[:, 0, 1], self.test_transition[:, 1, 0]
        return 1 - (predicted.abs().mean(1) + (1 - positive - negative) * agree - (positive - negative) * predicted.mean(1)) / 2

    def test_filters(self, filters: Tensor) -> Tensor:
        """Filters [R, P, D] such that their products with test_patches are <w, xi> for fresh noise patches xi.

        The scale s goes to the filter, and so does the projection, but not `test_scale`. Coordinates beyond d need no cut:
        filters are 0 there.
        """
        # The small filters [R, P, D] are scaled instead of the patches [U, N, D]: runs of different s share these.
        filters = filters * self.noise_std[:, None, None]
        if self.orthogonal_noise:
            filters[..., : self.axes] = 0
        return filters


def sample_problem(
    data: VectorData,
    noise: LabelNoise,
    model: TwoLayerCNN,
    seeds: Seeds,
    runs: int,
    reduced: bool,
    like: Tensor,
) -> SampledProblem:
    """Draw the problems of `runs` runs with the dtype and device of `like`.

    `reduced`: D = V + L n + P coordinates whatever d is, or d if these are few; otherwise explicit vectors with D = d. Where D
    differs between runs, the vectors of some end in zeros.
    """

    def per_run(value: object) -> np.ndarray:
        # A copy, as a broadcast array is read-only, and torch warns of tensors over such memory.
        return np.broadcast_to(np.asarray(value), (runs,)).copy()

    def tensor(array: np.ndarray) -> Tensor:
        return torch.as_tensor(array).to(like)

    def labels(classes: np.ndarray) -> Tensor:
        return torch.as_tensor(classes.astype(np.int64), device=like.device) if data.softmax else tensor(1 - 2 * classes)

    dim, task = per_run(data.dim), data.task()
    taken, filters_in_all = data.axes + data.n_train * data.noise_patches, task.count * model.width
    widths = np.where(few_dimensions(data, dim) | (not reduced), dim, taken + filters_in_all)
    width = int(widths.max())
    shares, law = distinct_rows(data.class_shares(), runs)

    def keys(seed: object, *others: np.ndarray) -> np.ndarray:
        # [R, ..]: runs that share seed, dimension and class shares share a draw.
        return np.stack([per_run(seed), *others], 1)

    def training_set(seed: int, d: int, own: int, law: int) -> tuple[np.ndarray, np.ndarray]:
        kinds, patches = data.sample_training_set(seed, d, own, reduced)
        return data.with_shares(kinds, shares[law], "data", seed, data.balanced), widened(patches, width)

    def initial_filters(seed: int, d: int, own: int) -> tuple[np.ndarray, np.ndarray]:
        filters, bias = model.sample_filters(seed, d, taken, own, reduced, task.count)
        return widened(filters, width), bias

    def test_set(seed: int, own: int, law: int) -> tuple[np.ndarray, np.ndarray]:
        kinds, patches = data.sample_test_set(seed, own)
        return data.with_shares(kinds, shares[law], "test", seed, balanced=False), widened(patches, width)

    # Scales (s, s0, |mu|) are applied below, after the draws: runs that differ in them only share one draw.
    (kinds, patches), drawn = sample_per_run(keys(seeds.data, dim, widths, law), training_set)
    (filters, bias), initial = sample_per_run(keys(seeds.init, dim, widths), initial_filters)
    (test_kinds, test_patches), test_index = sample_per_run(keys(seeds.test, widths, law), test_set)
    class_of = np.array(data.signal_classes, np.int16)

    kinds, signals = kinds[drawn], len(class_of)  # [R, n], S
    true, test_true = class_of[kinds], class_of[test_kinds]
    sampled = like.new_zeros(runs, data.distinct_patches, width)
    # Only the first V axes: the basis is adapted to the signal.
    sampled[:, :signals, : data.axes] = tensor(per_run(data.norm())[:, None, None] * data.signals())
    # Converted and scaled where they end up: of a large problem each copy counts.
    every_run = np.array_equal(drawn, np.arange(len(patches)))
    sampled[:, signals:] = torch.as_tensor(patches) if every_run else tensor(patches)[drawn]
    std = tensor(per_run(data.noise_std))
    sampled[:, signals:] *= std[:, None, None]
    scales = np.broadcast_to(data.noise_scales(), (runs, task.count))
    alike = bool((scales == 1).all())
    if not alike:
        of_samples = np.take_along_axis(scales, true.astype(np.int64), 1)
        sampled[:, signals:] *= tensor(np.tile(of_samples, data.noise_patches))[..., None]
    init_std = tensor(per_run(model.initial_std(dim)))
    noise_seeds = per_run(seeds.noise)
    transition = noise.mean_transition(Samples(np.arange(task.count)[None], task)) if noise.for_test else None
    problem = SampledProblem(
        patches=sampled,
        signal_index=torch.as_tensor(kinds, dtype=torch.int64, device=like.device),
        labels=labels(true),
        observed=ObservedLabels(noise, Samples(true, task), noise_seeds, labels),
        filters=tensor(filters)[initial] * init_std[:, None, None],
        bias=tensor(bias)[initial] * init_std[:, None] if model.bias else None,
        test_patches=tensor(test_patches),
        test_signal_index=torch.as_tensor(test_kinds, dtype=torch.int64, device=like.device),
        test_index=test_index,
        test_labels=labels(test_true)[test_index],
        test_transition=None if transition is None else tensor(transition),
        test_scale=None if alike else tensor(np.take_along_axis(scales, test_true[test_index].astype(np.int64), 1)),
        noise_std=std,
        signals=signals,
        signal_classes=data.signal_classes,
        axes=data.axes,
        orthogonal_noise=data.orthogonal_noise,
        noise_patches=data.noise_patches,
        softmax=data.softmax,
        rare=None if (rare := data.rare()) is None else tuple(rare.tolist()),
    )
    return as_one_patch(problem) if data.one_patch else problem


def distinct_rows(values: np.ndarray, runs: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows [U, C] of values [C] or [R, C], and the row of each run, [R]."""
    rows, index = np.unique(np.atleast_2d(values), axis=0, return_inverse=True)
    return rows, np.broadcast_to(index.reshape(-1), (runs,))


def as_one_patch(problem: SampledProblem) -> SampledProblem:
    """The same problem, with the two patches of each sample added up."""
    means, noise = problem.patches.tensor_split([problem.signals], 1)
    one = replace(problem, patches=noise, means=means, signals=0)
    return replace(one, patches=noise + one._means_of_samples())


def few_dimensions(data: VectorData, dim: np.ndarray) -> np.ndarray:
    """Whether d is so small, 2 d < S + L n, that a step on vectors costs less than one by the Gram matrix of the patches."""
    return 2 * dim < data.distinct_patches


def widened(rows: np.ndarray, width: int) -> np.ndarray:
    """Rows with zeros appended up to `width`."""
    return rows if rows.shape[1] == width else np.pad(rows, ((0, 0), (0, width - rows.shape[1])))
