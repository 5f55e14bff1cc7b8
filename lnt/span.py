"""The exact reduction: gradient descent on the coefficients of the filters in the span of the data.

With A = [mu; xi_1; ..; xi_n] every gradient lies in the span of A's rows, so W(t) = a(t) W(0) + C(t) A and the
pre-activations of the training set are H = W A^T = a H(0) + C G, G = A A^T. One step costs P K^2 multiply-adds
whatever the dimension d is, and R runs take it as one batched matrix product.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from lnt.coefficients import Coefficients, from_span
from lnt.models import activation, output_signs, slope
from lnt.optimizers import MiniBatches
from lnt.problem import Problem
from lnt.snapshot import Snapshot, label_of

TEST_BUFFER_BYTES = 32 * 2**20


class SpanEngine:
    """Trains R runs side by side without any vector of size d.

    `step_size`, `momentum`, `weight_decay` are [R]; `batches` is None for full-batch descent.
    """

    def __init__(
        self,
        problem: Problem,
        power: float,
        step_size: Tensor,
        momentum: Tensor,
        weight_decay: Tensor,
        batches: MiniBatches | None = None,
    ) -> None:
        self.problem, self.power, self.batches, self.step = problem, power, batches, 0
        self.step_size, self.momentum, self.weight_decay = step_size, momentum, weight_decay
        self.gram = problem.rows @ problem.rows.mT  # [R, K, K]
        self.initial = problem.filters @ problem.rows.mT  # H(0) [R, P, K]
        self.span = torch.zeros_like(self.initial)  # C [R, P, K]
        self.decay = torch.ones_like(step_size)  # a [R]
        self.bias = None if problem.bias is None else problem.bias.clone()  # [R, P]
        self.signs = output_signs(self.initial.shape[1] // 2, self.initial)  # [P]
        self._products = torch.empty_like(self.initial)
        self._has_decay, self._has_momentum = bool(weight_decay.any()), bool(momentum.any())
        if self._has_momentum:
            self._span_velocity = torch.zeros_like(self.span)
            self._decay_velocity = torch.zeros_like(self.decay)
            self._bias_velocity = None if self.bias is None else torch.zeros_like(self.bias)

    def advance(self, steps: int) -> None:
        """Take `steps` gradient steps."""
        for _ in range(steps):
            if self._has_momentum or self._has_decay:
                self._step_with_memory()
            else:
                self._descend(self.span, self.bias)
            self.step += 1

    def _pre_activations(self) -> Tensor:
        """H [R, P, K] without biases: <w, mu>, <w, xi_1>, .. <w, xi_n>."""
        initial = self.initial * self.decay[:, None, None] if self._has_decay else self.initial
        return torch.baddbmm(initial, self.span, self.gram, out=self._products)

    def _with_bias(self, z: Tensor) -> Tensor:
        return z if self.bias is None else z + self.bias.unsqueeze(-1)

    def _outputs(self, z_noise: Tensor, z_signal: Tensor, labels: Tensor) -> Tensor:
        """f [R, n] from pre-activations of noise patches [R, P, n] and of +mu and -mu [R, P, 2], for true labels [R, n]."""
        noise = (self.signs @ activation(z_noise, self.power)) / len(self.signs) * 2
        signal = (self.signs @ activation(z_signal, self.power)) / len(self.signs) * 2
        return noise + torch.where(labels > 0, signal[:, :1], signal[:, 1:])

    def _signal(self, products: Tensor) -> Tensor:
        """Pre-activations [R, P, 2] of the patches +mu and -mu, given <w, mu> [R, P]."""
        return self._with_bias(torch.stack([products, -products], -1))

    def _descend(self, span: Tensor, bias: Tensor | None) -> None:
        """Add -eta times the loss gradient to `span` [R, P, K] and `bias` [R, P]."""
        problem, m = self.problem, len(self.signs) // 2
        products = self._pre_activations()
        z_noise, z_signal = self._with_bias(products[..., 1:]), self._signal(products[..., 0])
        observed = problem.observed_at(self.step)
        outputs = self._outputs(z_noise, z_signal, problem.labels)
        # eta / (n m) times -l'_i y~_i, the same factor for all filters up to the sign j
        push = observed * torch.sigmoid(-observed * outputs) * (self.step_size / (outputs.shape[1] * m))[:, None]
        if self.batches is not None:
            push *= self._batch_weights(push)
        noise_slope = slope(z_noise, self.power)
        for filters, sign in ((slice(None, m), 1), (slice(m, None), -1)):
            span[:, filters, 1:].addcmul_(noise_slope[:, filters], push[:, None], value=sign)
        positive = torch.where(problem.labels > 0, push, 0).sum(1)
        signal_push = slope(z_signal, self.power) * torch.stack([positive, push.sum(1) - positive], -1)[:, None]
        span[..., 0] += self.signs * (signal_push[..., 0] - signal_push[..., 1])
        if bias is not None:
            bias += self.signs * (signal_push.sum(-1) + torch.linalg.vecdot(noise_slope, push[:, None]))

    def _step_with_memory(self) -> None:
        """v <- momentum v - eta (grad + weight_decay w); w <- w + v, for all of C, a and b."""
        states = [self.span, self.decay] + ([] if self.bias is None else [self.bias])
        velocities = [torch.zeros_like(state) for state in states]
        if self._has_momentum:
            velocities = [self._span_velocity, self._decay_velocity]
            velocities += [] if self._bias_velocity is None else [self._bias_velocity]
        shrink = self.step_size * self.weight_decay
        for state, velocity in zip(states, velocities, strict=True):
            velocity *= self.momentum.view(-1, *[1] * (state.ndim - 1))
            velocity -= shrink.view(-1, *[1] * (state.ndim - 1)) * state
        self._descend(velocities[0], velocities[2] if self.bias is not None else None)
        for state, velocity in zip(states, velocities, strict=True):
            state += velocity

    def _batch_weights(self, like: Tensor) -> Tensor:
        """n / B for the samples of this step's mini-batch, 0 for the others, [R, n]."""
        assert self.batches is not None
        chosen = torch.as_tensor(self.batches.at(self.step), device=like.device)
        return torch.zeros_like(like).scatter_(1, chosen, like.shape[1] / chosen.shape[1])

    def filters(self) -> Tensor:
        """W(t) [R, P, D] in the coordinates of the problem."""
        return self.decay[:, None, None] * self.problem.filters + self.span @ self.problem.rows

    def snapshot(self) -> Snapshot:
        """Losses, predictions and coefficients of all runs at this step."""
        products, filters = self._pre_activations(), self.filters()
        observed = self.problem.observed_at(self.step)
        z_signal = self._signal(products[..., 0])
        outputs = self._outputs(self._with_bias(products[..., 1:]), z_signal, self.problem.labels)
        return Snapshot(
            losses=softplus(-observed * outputs),
            observed=observed,
            predicted=label_of(outputs),
            test_predicted=label_of(self._test_outputs(filters, z_signal)),
            coefficients=self._coefficients(products, filters),
        )

    def _test_outputs(self, filters: Tensor, z_signal: Tensor) -> Tensor:
        """f [R, N] on the test samples: one matrix product for all the runs that share their test set."""
        problem, filters = self.problem, self.problem.test_filters(filters)
        outputs = torch.empty_like(problem.test_labels)
        at_once = max(1, TEST_BUFFER_BYTES // (filters.shape[1] * outputs.shape[1] * outputs.element_size()))
        for draw, patches in enumerate(problem.test_patches):
            sharing = np.flatnonzero(problem.test_index == draw)
            for start in range(0, len(sharing), at_once):
                runs = torch.as_tensor(sharing[start : start + at_once], device=filters.device)
                z = filters[runs] @ patches.T  # [runs, P, N]
                if self.bias is not None:
                    z += self.bias[runs].unsqueeze(-1)
                outputs[runs] = self._outputs(z, z_signal[runs], problem.test_labels[runs])
        return outputs

    def _coefficients(self, products: Tensor, filters: Tensor) -> Coefficients:
        """gamma and rho from C; the residual compares the filters' own pre-activations with those trained on."""
        mismatch = torch.linalg.matrix_norm(filters @ self.problem.rows.mT - products)
        size = torch.linalg.matrix_norm(products)
        residual = torch.where(size > 0, mismatch / size, 0)
        return from_span(self.span, self.gram.diagonal(dim1=1, dim2=2), residual)
