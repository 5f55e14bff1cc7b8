"""The exact reduction: gradient descent on the coefficients of the filters in the span of the data.

Let X be the K = S + n distinct patches of the training set: +mu, -mu (S = 2), xi_1, .., xi_n. Every gradient lies in the
span of its rows, so W(t) = a(t) W(0) + C(t) X, and the pre-activations of all patches are H = W X^T = a H(0) + C G with
G = X X^T.
One step costs P K^2 multiply-adds whatever the dimension d is, and R runs take it as one batched matrix product.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from lnt.losses import Logistic, Loss
from lnt.training.batch_order import MiniBatches
from lnt.training.engine import Coefficients, Snapshot
from lnt.two_layer import kernels
from lnt.two_layer.coefficients import from_span
from lnt.two_layer.network import activation, second_layer, slope
from lnt.two_layer.sampled_problem import SampledProblem

ALIGNED = 8  # K is filled up with zero patches to a multiple of this: short ragged rows defeat vector instructions
LOGISTIC = Logistic()
# Products with the test set are made in pieces of this size: on a CPU they are used while they are in the cache of a core.
TEST_BUFFER_BYTES = {"cpu": 2**20, "cuda": 2**26}


class SpanEngine:
    """Trains R runs side by side without any vector of size d.

    `step_size`, `momentum`, `weight_decay` are [R]; `batches` is None for full-batch descent; `factor(step)` multiplies the
    step sizes, the same for all runs.
    """

    def __init__(
        self,
        problem: SampledProblem,
        power: float,
        step_size: Tensor,
        momentum: Tensor,
        weight_decay: Tensor,
        batches: MiniBatches | None = None,
        factor: Callable[[int], float] = lambda step: 1.0,
        loss: Loss = LOGISTIC,
    ) -> None:
        self.loss = loss
        self.problem, self.power, self.batches, self.factor, self.step = problem, power, batches, factor, 0
        self.step_size, self.momentum, self.weight_decay = step_size, momentum, weight_decay
        self.n = problem.labels.shape[1]
        # Zero patches change nothing: no sample reads their outputs, and they push no filter.
        self.patches = pad(problem.patches, (0, 0, 0, -problem.patches.shape[1] % ALIGNED))  # X [R, K, D]
        self.gram = self.patches @ self.patches.mT  # G [R, K, K]
        self.initial = problem.filters @ self.patches.mT  # H(0) [R, P, K]
        self.span = torch.zeros_like(self.initial)  # C [R, P, K]
        self.decay = torch.ones_like(step_size)  # a [R]
        self.bias = None if problem.bias is None else problem.bias.clone()  # [R, P]
        self.second_layer = second_layer(self.initial.shape[1], self.initial)  # [P]
        self.weights = torch.ones_like(problem.labels)  # [R, n] of the samples in the loss; their mean is 1
        self._fused = power == 1 and loss.has_kernel and problem.patches.device.type == "cpu"
        self._no_bias = problem.patches.new_empty(0, 0)
        # Allocated once: every step writes into the same memory.
        self._products, self._scratch = torch.empty_like(self.initial), torch.empty_like(self.initial)
        self._has_decay, self._has_momentum = bool(weight_decay.any()), bool(momentum.any())
        moving = self._has_decay or self._has_momentum
        # Plain descent has no velocities to keep and adds gradients to C directly, which saves passes over memory.
        self._velocities = [torch.zeros_like(state) for state in self._states()] if moving else []
        self._small = self._fused and not moving and batches is None and self.patches.shape[1] <= kernels.SMALL
        self._factor_before = factor(0)
        # The gradient has no part along W(0), so a (the middle one) moves by weight decay alone.
        span, _, *bias = self._velocities or self._states()
        self._moved = (span, bias[0] if bias else None)  # what a gradient is added to
        if self._fused:
            # numpy views for the kernel, made once. All state must therefore change in place: a new tensor would leave the
            # kernel with the old memory.
            arrays = (self._products, span, self.bias, self._moved[1], problem.signal_index)
            self._views = [(self._no_bias if array is None else array).numpy() for array in arrays]

    def advance(self, steps: int) -> None:
        """Take `steps` gradient steps."""
        # Weights change between calls only, when a strategy acts.
        full_rate = self.weights * (self.step_size / self.n)[:, None]
        if self._small and not self.problem.observed.changes:
            self._descend_small(steps, full_rate)
            return
        for _ in range(steps):
            factor = self.factor(self.step)
            rate = full_rate if factor == 1 else full_rate * factor
            if self._velocities:
                self._step_with_memory(rate, factor)
            else:
                self._descend(rate)
            self.step += 1

    def _descend_small(self, steps: int, rate: Tensor) -> None:
        """Take steps of plain descent on small runs, all steps of one run after another."""
        factors = torch.tensor([self.factor(step) for step in range(self.step, self.step + steps)], dtype=rate.dtype)
        signal_index, observed = self.problem.signal_index, self.problem.observed.at(self.step)
        arrays = (factors, self.initial, self.gram, self.span, self._no_bias if self.bias is None else self.bias)
        kernels.descend_small(self.problem.signals, *(array.numpy() for array in (*arrays, signal_index, observed, rate)))
        self.step += steps

    def _states(self) -> list[Tensor]:
        """Everything that descent changes: C, a and the biases."""
        return [self.span, self.decay] + ([] if self.bias is None else [self.bias])

    def _step_with_memory(self, rate: Tensor, factor: float) -> None:
        """V <- momentum V eta / eta' - eta (grad + weight_decay w);  w <- w + V, for C, a and b alike.

        With eta' the step size before, that is PyTorch's v <- momentum v + grad + weight_decay w;  w <- w - eta v, V = -eta v.
        """
        states, velocities = self._states(), self._velocities
        # V holds the step size of the step before, so it is rescaled where the schedule has changed it.
        momentum = self.momentum * (factor / self._factor_before)
        self._factor_before = factor
        for state, velocity in zip(states, velocities, strict=True):
            shape = (-1, *[1] * (state.ndim - 1))
            velocity *= momentum.view(shape)
            velocity -= (factor * self.step_size * self.weight_decay).view(shape) * state
        # The states have not moved yet: the gradient is taken at w(t), not at a point ahead.
        self._descend(rate)
        for state, velocity in zip(states, velocities, strict=True):
            state += velocity

    def _descend(self, rate: Tensor) -> None:
        """Add -eta times the gradient of the loss to what moves; `rate` [R, n] is eta / n times the samples' weights."""
        observed, (span, bias) = self.problem.observed.at(self.step), self._moved
        if self.batches is not None:
            # All other samples get weight 0. A step costs as much as with all samples, but runs with different batches keep one
            # shape.
            rate = rate * self._batch_weights()
        if self._fused:
            self._products_now()
            arrays = [*self._views, observed.numpy(), rate.numpy()]
            kernels.descend(self.problem.signals, *arrays)
            return
        z = self._pre_activations()
        # The scratch memory holds activations here and slopes below; activations are no longer needed then.
        outputs = self._training_outputs(activation(z, self.power, out=self._scratch))
        # -eta l'_i y~_i / n: how far a sample pushes the activations of its patches
        push = self.loss.minus_slope(observed * outputs) * observed * rate
        by_signal = push.new_zeros(len(push), self.problem.signals).scatter_add_(1, self.problem.signal_index, push)
        # A signal patch is pushed by all the samples that share it, a noise patch by its own sample.
        by_patch = torch.cat([by_signal, push], 1)
        by_patch = pad(by_patch, (0, z.shape[2] - by_patch.shape[1]))[:, None]  # [R, 1, K]
        slopes, m = slope(z, self.power, out=self._scratch), len(self.second_layer) // 2
        # In halves, with j/m as a number: a product with the second layer [P] would be another tensor of this size.
        span[:, :m].addcmul_(slopes[:, :m], by_patch, value=1 / m)
        span[:, m:].addcmul_(slopes[:, m:], by_patch, value=-1 / m)
        if bias is not None:
            bias += self.second_layer * (slopes @ by_patch.mT)[..., 0]

    def _products_now(self) -> Tensor:
        """H = W X^T [R, P, K]; overwritten by the next call."""
        # Without weight decay a stays 1, and the product would cost a pass over memory for nothing.
        initial = self.initial * self.decay[:, None, None] if self._has_decay else self.initial
        return torch.baddbmm(initial, self.span, self.gram, out=self._products)

    def _pre_activations(self) -> Tensor:
        """H plus biases [R, P, K]; overwritten by the next call."""
        return self._products_now() if self.bias is None else self._products_now().add_(self.bias[..., None])

    def _training_outputs(self, activations: Tensor) -> Tensor:
        """f [R, n] from the activations of all patches [R, P, K]: each sample adds up its signal and its noise patch."""
        by_patch = self.second_layer @ activations  # [R, K]
        signals = self.problem.signals
        return by_patch[:, signals : signals + self.n] + by_patch.gather(1, self.problem.signal_index)

    def _batch_weights(self) -> Tensor:
        """n / B for the samples of this step's mini-batch, 0 for the others, [R, n]."""
        assert self.batches is not None
        chosen = torch.as_tensor(self.batches.at(self.step), device=self.weights.device)
        return torch.zeros_like(self.weights).scatter_(1, chosen, self.n / chosen.shape[1])

    def restart(self, runs: Tensor) -> None:
        """Put the filters and biases of the runs [R] (bool) back to where they started."""
        # In place (see _views); the weights stay, as a strategy has just set them.
        self.span[runs], self.decay[runs] = 0, 1
        if self.bias is not None and self.problem.bias is not None:
            self.bias[runs] = self.problem.bias[runs]
        for velocity in self._velocities:
            velocity[runs] = 0

    def state(self) -> dict[str, Any]:
        """Everything needed to resume training."""
        tensors = [*self._states(), *self._velocities, self.weights]
        return {"step": self.step, "tensors": tensors, "factor_before": self._factor_before}

    def load(self, state: Mapping[str, Any]) -> None:
        """Resume from a state."""
        self.step, self._factor_before = state["step"], state["factor_before"]
        for tensor, saved in zip([*self._states(), *self._velocities, self.weights], state["tensors"], strict=True):
            # In place (see _views), and to whatever device this run trains on.
            tensor.copy_(saved)

    def losses(self) -> Tensor:
        """l(y~ f) of the training samples, [R, n]."""
        outputs = self._training_outputs(activation(self._pre_activations(), self.power))
        return self.loss.value(self.problem.observed.at(self.step) * outputs)

    def filters(self) -> Tensor:
        """W(t) [R, P, D] in the coordinates of the problem."""
        return self.decay[:, None, None] * self.problem.filters + self.span @ self.patches

    def snapshot(self) -> Snapshot:
        """Losses, predictions and coefficients of all runs at this step."""
        z, filters = self._pre_activations(), self.filters()
        observed = self.problem.observed.at(self.step)
        activations = activation(z, self.power)
        outputs = self._training_outputs(activations)
        return Snapshot(
            losses=self.loss.value(observed * outputs),
            observed=observed,
            weights=self.weights.clone(),
            predicted=outputs.sign(),
            test_predicted=self._test_outputs(filters, self.second_layer @ activations[..., : self.problem.signals]).sign_(),
            loss_at_zero=self.loss.at_zero,
            losses_used=self.loss.value(self.problem.observed.at(self.step - 1) * outputs) if self.step else None,
            coefficients=self._coefficients(z, filters),
        )

    def _test_outputs(self, filters: Tensor, signal: Tensor) -> Tensor:
        """f [R, N] on the test samples, given the outputs [R, S] of the signal patches.

        All the runs that share a test set take part in one matrix product.
        """
        problem, filters = self.problem, self.problem.test_filters(filters)
        outputs = torch.empty_like(problem.test_labels)
        count, width = filters.shape[1], outputs.shape[1]
        at_once = max(1, TEST_BUFFER_BYTES[outputs.device.type] // (count * width * outputs.element_size()))
        buffer = outputs.new_empty(min(at_once, len(outputs)), count, width)
        for draw, patches in enumerate(problem.test_patches):
            sharing = torch.as_tensor(np.flatnonzero(problem.test_index == draw), device=filters.device)
            for runs in sharing.split(at_once):
                z = buffer[: len(runs)]  # [runs, P, N]
                torch.mm(filters[runs].flatten(0, 1), patches.T, out=z.view(-1, width))
                bias = self._no_bias if self.bias is None else self.bias[runs]
                index = problem.test_signal_index[draw]
                if self._fused:
                    arrays = (z, bias, signal[runs], index, runs, outputs)
                    kernels.write_outputs(*(array.numpy() for array in arrays))
                else:
                    if self.bias is not None:
                        z += bias[..., None]
                    outputs[runs] = signal[runs][:, index] + self.second_layer @ activation(z, self.power, out=z)
        return outputs

    def _coefficients(self, z: Tensor, filters: Tensor) -> Coefficients:
        """gamma and rho from C; the residual compares the filters' own pre-activations with those trained on."""
        products = z if self.bias is None else z - self.bias[..., None]
        # C is trained, not fitted afterwards, so rounding errors are all that can part the two.
        mismatch = torch.linalg.matrix_norm(filters @ self.patches.mT - products)
        size = torch.linalg.matrix_norm(products)
        signals = self.problem.signals
        # X has mu and -mu as rows of their own: the coefficient of mu is the difference of theirs.
        directions = self.span[..., 0:signals:2] - self.span[..., 1:signals:2]  # mu, or u and v
        span = torch.cat([directions, self.span[..., signals : signals + self.n]], -1)
        square_norms = torch.linalg.vecdot(self.problem.basis, self.problem.basis)
        return from_span(span, square_norms, torch.where(size > 0, mismatch / size, 0), self.problem.axes)
