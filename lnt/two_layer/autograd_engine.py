"""The plain PyTorch loop over a real module at full dimension: the oracle of the exact reduction, and any other optimizer."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lnt.losses import Logistic, Loss
from lnt.training.batch_order import MiniBatches
from lnt.training.engine import Ahead, Coefficients, Snapshot
from lnt.training.mixup import Mixup, mixed, mixed_losses
from lnt.training.optimizers import Optimizer
from lnt.two_layer.coefficients import decompose
from lnt.two_layer.network import TwoLayerCNN, TwoLayerNet
from lnt.two_layer.outputs import Outputs, outputs_of
from lnt.two_layer.sampled_problem import SampledProblem

LOGISTIC = Logistic()


class AutogradEngine:
    """Trains one run (R = 1) with torch.optim; patches are explicit, mini-batches index them."""

    def __init__(
        self,
        problem: SampledProblem,
        model: TwoLayerCNN,
        optimizer: Optimizer,
        step_size: float,
        batches: MiniBatches | None = None,
        loss: Loss = LOGISTIC,
        mixup: Mixup | None = None,
    ) -> None:
        self.loss, self.mixup = loss, mixup
        self.problem, self.batches, self.step = problem, batches, 0
        self._model = model
        self._numbers, self._step_size = optimizer, step_size
        self._total = optimizer.total_steps(problem.labels.shape[1])
        self.weights = problem.patches.new_ones(problem.labels.shape)  # [1, n] of the samples in the loss; their mean is 1
        self._begin()
        self._open = True  # until all labels are fitted, if training ends there
        # Explicit copies of the shared signal patches: autograd sees plain samples.
        self.samples = problem.samples(0)  # [n, 1 + L, D], or [n, 1, D]

    def _begin(self) -> None:
        """Initial filters, an optimizer without memory."""
        problem = self.problem
        outputs = len(set(problem.signal_classes)) if problem.softmax else 1
        bias = None if problem.bias is None else problem.bias[0]
        self.network = TwoLayerNet(problem.filters[0], bias, self._model, outputs)
        second = self.network.second_layer
        groups: Any = self.network.parameters()
        if self._model.second_layer == "trained":
            # A group of its own, which has its own step size.
            groups = [{"params": [weight for weight in groups if weight is not second]}, {"params": [second]}]
        self.optimizer = self._numbers.make(groups, self._step_size)
        # a(t) and its velocity. Gradients lie in the span of the data, so only momentum and weight decay act on a.
        self._decay, self._decay_velocity = problem.patches.new_ones(1), 0.0

    @property
    def readout(self) -> Outputs:
        """What outputs mean under the loss in force."""
        return outputs_of(self.loss, self.problem.softmax)

    def trained(self) -> dict[str, Tensor]:
        """Filters, biases and second layer, and a(t)."""
        return {**self.network.state_dict(), "decay": self._decay}

    def restart(self, runs: Tensor) -> None:
        """Put filters and biases back to where they started, if `runs` [1] (bool) says so."""
        if bool(runs.all()):
            # A new optimizer: a restarted run must not keep momentum or moments of the filters that it leaves.
            self._begin()

    def state(self) -> dict[str, Any]:
        """Everything needed to resume training."""
        network, optimizer = self.network.state_dict(), self.optimizer.state_dict()
        decay = (self._decay.item(), self._decay_velocity)
        kept = {"network": network, "optimizer": optimizer, "decay": decay, "weights": self.weights}
        return {"step": self.step, **kept, **({"open": self._open} if self._numbers.until_fitted else {})}

    def load(self, state: Mapping[str, Any]) -> None:
        """Resume from a state."""
        self.step, (decay, self._decay_velocity) = state["step"], state["decay"]
        self._decay.fill_(decay)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.weights.copy_(state["weights"])
        self._open = state.get("open", True)

    @torch.no_grad()
    def losses(self) -> Tensor:
        """l(y~ f) of the training samples, [1, n]."""
        return self.readout.losses(self._outputs(self.samples), self.problem.observed.at(self.step))

    def loss_at_zero(self) -> Tensor | float:
        """The loss of a sample on the decision boundary, [R, n] where it depends on the observed label."""
        return self.readout.loss_at_zero(self.problem.observed.at(self.step))

    @torch.no_grad()
    def margins(self) -> Tensor:
        """Margins of the training samples, [1, n]."""
        return self.readout.margins(self._outputs(self.samples), self.problem.observed.at(self.step))

    @torch.no_grad()
    def probabilities(self) -> Tensor:
        """Predicted probabilities of the classes of the training samples, [1, n, K]."""
        return self.readout.probabilities(self._outputs(self.samples))

    def _outputs(self, samples: Tensor) -> Tensor:
        """f [1, B] or [1, K, B] of samples [B, .., D]."""
        return self.network(samples).movedim(0, -1)[None]

    def advance(self, steps: int) -> None:
        """Take `steps` optimizer steps."""
        for _ in range(steps):
            observed = self.problem.observed.at(self.step)[0]
            seen = self._seen()
            rate = self._step_size * self._numbers.factor(self.step, self._total)
            for group, share in zip(self.optimizer.param_groups, (1, self._model.second_layer_rate), strict=False):
                group["lr"] = rate * share
            if self._ended(observed[seen], seen):
                self.step += 1
                continue
            # A closure may return the loss, which nobody asks for here.
            self.optimizer.step(partial(self._backward, observed[None, seen], seen))  # type: ignore[arg-type]
            self._shrink(rate)
            self.step += 1

    def _seen(self) -> Tensor | slice:
        """The samples of the coming step."""
        return slice(None) if self.batches is None else self.batches.at(self.step, self.weights.device)[0]

    @torch.no_grad()
    def look_ahead(self) -> Ahead:
        """The samples of the coming step, as the network sees them before it."""
        seen, observed = self._seen(), self.problem.observed.at(self.step)
        outputs, numbers = self._outputs(self.samples[seen]), torch.arange(observed.shape[1], device=observed.device)
        return Ahead(numbers[None, seen], self.readout.losses(outputs, observed[:, seen]), self.readout.predicted(outputs))

    def _ended(self, labels: Tensor, seen: Tensor | slice) -> bool:
        """Whether all labels are fitted, or were, where training ends there."""
        if self._numbers.until_fitted and self._open:
            with torch.no_grad():
                self._open = not bool(self.readout.fitted(self._outputs(self.samples[seen]), labels[None]).all())
        return not self._open

    def _backward(self, labels: Tensor, seen: Tensor | slice) -> None:
        """Gradients of the loss of some samples with the labels [1, B]; called as often as the optimizer asks."""
        self.optimizer.zero_grad()
        samples, weights = self.samples[seen], self.weights[:, seen]
        if self.mixup is None:
            losses = weights * self.readout.losses(self._outputs(samples), labels)
        else:
            pair = self.mixup.at(self.step, len(samples), samples)
            outputs = self._outputs(mixed(samples[None], *pair)[0])
            losses = mixed_losses(partial(self.readout.losses, outputs), labels, weights, *pair)
        # The mean over the batch, not over the weights: samples of weight 0 still count in the divisor.
        losses.mean().backward()

    def _shrink(self, rate: float) -> None:
        """Follow a(t), the factor that momentum and weight decay leave on w(0)."""
        if self._numbers.stays_in_span:
            pull = np.asarray(self._numbers.weight_decay).item() * self._decay.item()
            self._decay_velocity = np.asarray(self._numbers.momentum).item() * self._decay_velocity + pull
            self._decay -= rate * self._decay_velocity

    @torch.no_grad()
    def snapshot(self) -> Snapshot:
        """Losses, predictions and coefficients at this step."""
        problem = self.problem
        outputs, observed = self._outputs(self.samples), problem.observed.at(self.step)
        used = problem.observed.at(max(self.step - 1, 0))
        return Snapshot(
            losses=self.readout.losses(outputs, observed),
            observed=self.readout.labels(observed),
            weights=self.weights.clone(),
            predicted=self.readout.predicted(outputs),
            test_predicted=self.readout.predicted(self._test_outputs()),
            loss_at_zero=self.loss_at_zero(),
            losses_used=self.readout.losses(outputs, used) if self.step else None,
            coefficients=self._coefficients(),
            margins=self.readout.margins(outputs, observed),
        )

    def _test_outputs(self) -> Tensor:
        """f [1, N] or [1, K, N], with the noise patches of the test set scaled (and projected) as the training ones."""
        problem = self.problem
        noise_patches = problem.test_patches[problem.test_index[0]] * problem.noise_std[0]
        if problem.orthogonal_noise:
            along = torch.zeros_like(noise_patches[:, : problem.axes])
            noise_patches = torch.cat([along, noise_patches[:, problem.axes :]], 1)
        noise = noise_patches.unflatten(0, (problem.noise_patches, -1))  # [L, N, D]
        if problem.test_scale is not None:
            noise = noise * problem.test_scale[0][:, None]
        signals = problem.patches[0, : problem.signals] if problem.means is None else problem.means[0]
        signal = signals[problem.test_signal_index[problem.test_index[0]]]
        # In blocks, since the test set at full dimension is the largest array there is, and a stack of it is a copy.
        blocks = zip(signal.split(4096), noise.split(4096, 1), strict=True)
        if problem.means is not None:
            return torch.cat([self._outputs((one + other[0])[:, None]) for one, other in blocks], -1)
        return torch.cat([self._outputs(torch.stack([one, *other], 1)) for one, other in blocks], -1)

    def _coefficients(self) -> Coefficients | None:
        if not self._numbers.stays_in_span:
            # Steps of Adam, say, leave the span of the data: there are no coefficients.
            return None
        problem, filters = self.problem, self.network.filters[None].detach()
        return decompose(filters, problem.filters, self._decay, problem.basis, problem.axes, problem.signal_classes)
