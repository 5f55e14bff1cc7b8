"""The exact reduction: gradient descent in the span of the data, whatever the dimension d is.

Let X be the K = S + L n distinct patches of the training set: +mu, -mu (S = 2), xi_1, .., xi_n (L = 1). Every gradient lies
in the span of its rows, so W(t) = a(t) W(0) + C(t) X. A step needs the pre-activations H = W X^T of the samples it sees, and
moves C in their columns. There are two forms of it, exact both:

- by Gram matrix: H = a H(0) + C G with G = X X^T, in P K multiply-adds for each patch seen;
- on vectors: H = W X^T and W <- W + D X for a step D of C, in 2 P d multiply-adds for each patch seen. Fewer if 2 d < K.

R runs take a step as one batched matrix product. Mini-batches, and full batches of which some samples have weight 0, compute
with the patches that they see only.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from lnt.losses import Logistic, Loss
from lnt.training.batch_order import MiniBatches
from lnt.training.engine import Ahead, Coefficients, Snapshot
from lnt.training.metrics import stage_level
from lnt.training.mixup import Mixup
from lnt.two_layer import kernels
from lnt.two_layer.batched_matrices import aligned, gram, index_for, only, rows_of, sums_with
from lnt.two_layer.coefficients import from_span
from lnt.two_layer.mixed_patches import add_by_patch, by_sample, mixed_values, unmixed_values
from lnt.two_layer.network import TwoLayerCNN, second_layer
from lnt.two_layer.outputs import Outputs, outputs_of
from lnt.two_layer.sampled_problem import SampledProblem
from lnt.two_layer.update_rules import DESCENT, Descent, Seen

# Tensors of the engine with an axis of runs in front.
PER_RUN = (
    *("step_size", "momentum", "weight_decay", "weights", "patches", "initial", "span", "decay", "bias", "vectors", "gram"),
    *("second", "stage_times", "_open", "_products", "_scratch"),
)
LOGISTIC = Logistic()
# Products with the test set are made in pieces of this size: on a CPU they are used while they are in the cache of a core.
TEST_BUFFER_BYTES = {"cpu": 2**20, "cuda": 2**26}


class SpanEngine:
    """Trains R runs side by side without any vector of size d, or (`on_vectors`) with vectors where d is small.

    `step_size`, `momentum`, `weight_decay` are [R]; `batches` is None for full-batch descent; `factor(step)` multiplies the
    step sizes, the same for all runs.
    """

    def __init__(
        self,
        problem: SampledProblem,
        model: TwoLayerCNN,
        step_size: Tensor,
        momentum: Tensor,
        weight_decay: Tensor,
        batches: MiniBatches | None = None,
        factor: Callable[[int], float] = lambda step: 1.0,
        loss: Loss = LOGISTIC,
        on_vectors: bool = False,
        until_fitted: bool = False,
        rule: Descent = DESCENT,
        mixup: Mixup | None = None,
    ) -> None:
        self.on_vectors, self.rule, self.mixup = on_vectors, rule, mixup
        self.problem, self.sigma, self.batches, self.factor, self.step = problem, model.sigma, batches, factor, 0
        self.step_size, self.momentum, self.weight_decay = step_size, momentum, weight_decay
        self.n, self.runs = problem.labels.shape[1], len(problem.labels)
        self.patches = aligned(problem.patches)  # X [R, K, D]
        self.initial = problem.filters @ self.patches.mT  # H(0) [R, P, K]
        self.span = torch.zeros_like(self.initial)  # C [R, P, K]
        self.decay = torch.ones_like(step_size)  # a [R]
        self.bias = None if problem.bias is None else problem.bias.clone()  # [R, P]
        # One of the two: W [R, P, D], or G [R, K, K].
        self.vectors = problem.filters.clone() if on_vectors else None
        self.gram = None if on_vectors else gram(self.patches)
        classes = len(set(problem.signal_classes))
        self._outputs_count = classes if problem.softmax else 1
        self._first_weights = second_layer(self.initial.shape[1], self.initial, model.output, self._outputs_count)  # [P]
        self.second_rate = model.second_layer_rate
        # [R, P] where it is trained; None stands for the first weights.
        self.second = self._first_weights.repeat(self.runs, 1) if model.second_layer == "trained" else None
        self.weights = problem.patches.new_ones(problem.labels.shape)  # [R, n] of the samples in the loss; their mean is 1
        usual = model.sigma.is_plain and model.output == "mean" and model.second_layer == "fixed"
        usual = usual and problem.means is None and not until_fitted and mixup is None
        usual = usual and not problem.softmax and problem.noise_patches == 1 and problem.test_scale is None
        # Whether the kernels know all but the loss.
        self._usual = usual and problem.patches.device.type == "cpu"
        self.loss = loss
        # [R] the runs that have not fitted all labels yet, where these end training.
        self._open = torch.ones(self.runs, dtype=torch.bool, device=self.weights.device) if until_fitted else None
        # [R, 2] when both stages were reached, NaN before.
        self.stage_times = self.weights.new_full((self.runs, 2), torch.nan).double() if rule.between_steps else None
        self._judged = -1  # the last step at whose start it was asked which runs have
        self._no_bias = problem.patches.new_empty(0, 0)
        # Allocated once: every step on all samples writes into the same memory.
        self._products, self._scratch = torch.empty_like(self.initial), torch.empty_like(self.initial)
        self._all = Seen(self.patches if self.gram is None else self.gram, problem.signal_index)
        self._has_decay = bool(weight_decay.any())
        moving = self._has_decay or bool(momentum.any()) or rule.remembers
        # Plain descent has no velocities to keep and adds gradients to C directly, which saves passes over memory.
        self.velocities = {name: torch.zeros_like(state) for name, state in self.states().items()} if moving else {}
        small = self.gram is not None and self.patches.shape[1] <= kernels.SMALL
        self._small = small and not moving and batches is None and rule is DESCENT
        self._factor_before = factor(0)

    @property
    def loss(self) -> Loss:
        """The loss in force."""
        return self._loss

    @loss.setter
    def loss(self, loss: Loss) -> None:
        self._loss, slope = loss, loss.slope() if self._usual else None
        # As the kernels take it; None: batched operations of PyTorch.
        self._slope = None if slope is None else (slope.form, slope.table(self.runs).astype(self.problem.patches.numpy().dtype))

    @property
    def readout(self) -> Outputs:
        """What outputs mean under the loss in force."""
        return outputs_of(self.loss, self.problem.softmax)

    def advance(self, steps: int) -> None:
        """Take `steps` gradient steps."""
        if self._open is not None and not bool(self._open.all()):
            self._advance_open(steps)
            return
        # Weights change between calls only, when a strategy acts.
        full_rate = self.weights * (self.step_size / self.n)[:, None]
        if self._small and self._slope is not None and not self.problem.observed.changes:
            self._descend_small(steps, full_rate)
            return
        counts = self.weights > 0
        # Mixup pairs all samples, those of weight 0 too.
        active = None if bool(counts.all()) or self.mixup is not None else counts
        seen = self._all if active is None or self.batches is not None else self._see(only(active, self._everyone()))
        for _ in range(steps):
            factor = self.factor(self.step)
            rate = full_rate if factor == 1 else full_rate * factor
            if self.batches is not None:
                chosen = self.batches.at(self.step, rate.device)
                # The mean is over the batch, and the samples of weight 0 among them count in it.
                rate = rate * (self.n / chosen.shape[1])
                seen = self._see(chosen if active is None else only(active, chosen))
            self.rule.step(self, rate, factor, seen)
            self.step += 1

    def _advance_open(self, steps: int) -> None:
        """Take the steps of the runs that have not ended; the others stand still, and cost nothing."""
        assert self._open is not None
        runs = self._open.nonzero()[:, 0]
        if len(runs):
            part = self._of(runs)
            part.advance(steps)
            self._factor_before = part._factor_before
            for whole, own in zip(self._saved(), part._saved(), strict=True):
                whole[runs] = own
        self.step += steps

    def _of(self, runs: Tensor) -> "SpanEngine":
        """An engine of some of the runs, at this step; what it trains are copies."""
        part = copy.copy(self)
        part.problem, part.rule, part.runs = self.problem.of(runs), self.rule.of(runs), len(runs)
        part.loss = self.loss.of_runs(runs.cpu().numpy())
        for name in PER_RUN:
            value = getattr(self, name)
            setattr(part, name, None if value is None else value[runs])
        part.velocities = {name: velocity[runs] for name, velocity in self.velocities.items()}
        part._all = Seen(part.patches if part.gram is None else part.gram, part.problem.signal_index)
        return part

    def look_ahead(self) -> Ahead:
        """The samples of the coming step, as the networks see them before it."""
        samples = self._everyone() if self.batches is None else self.batches.at(self.step, self.weights.device)
        seen = self._all if self.batches is None else self._see(samples)
        z = self._products_of(seen)
        z = z if self.bias is None else z + self.bias[..., None]
        outputs = self._outputs(self.sigma.value(z), seen.signal_index)
        observed = self.problem.observed.at(self.step).gather(1, samples)
        return Ahead(samples, self.readout.losses(outputs, observed), self.readout.predicted(outputs))

    def _everyone(self) -> Tensor:
        """All samples, [R, n]."""
        return torch.arange(self.n, device=self.weights.device).expand(self.runs, -1)

    def _see(self, samples: Tensor) -> Seen:
        """What a step on the samples [R, B] computes with."""
        signals = torch.arange(self.problem.signals, device=samples.device).expand(self.runs, -1)
        firsts = (self.problem.signals + patch * self.n for patch in range(self.problem.noise_patches))
        patches = torch.cat([signals, *(samples + first for first in firsts)], 1)
        # G is symmetric: its rows are its columns, and lie in one piece.
        rows = rows_of(self.patches if self.gram is None else self.gram, patches)
        return Seen(rows, self.problem.signal_index.gather(1, samples), samples, patches)

    def _descend_small(self, steps: int, rate: Tensor) -> None:
        """Take steps of plain descent on small runs, all steps of one run after another."""
        assert self.gram is not None
        assert self._slope is not None
        factors = torch.tensor([self.factor(step) for step in range(self.step, self.step + steps)], dtype=rate.dtype)
        seen = self.problem.signal_index, self.problem.observed.at(self.step), rate
        arrays = (factors, self.initial, self.gram, self.span, self._no_bias if self.bias is None else self.bias, *seen)
        kernels.descend_small(self.problem.signals, *self._slope, *(array.numpy() for array in arrays))
        self.step += steps

    def stages_ahead(self) -> list[int]:
        """The stages, 0 and 1, that a single run has not reached yet."""
        assert self.stage_times is not None
        return self.stage_times[0].isnan().nonzero()[:, 0].tolist()

    def stage_level(self, stage: int) -> float:
        """Positive where a single run has reached a stage: 0, clean samples fitted; 1, mislabelled ones memorised."""
        clean = self.readout.labels(self.problem.observed.at(self.step)) == self.problem.labels
        return stage_level(self.margins()[0], (clean if stage == 0 else ~clean)[0])

    def reach(self, stages: Sequence[int], shares: np.ndarray) -> None:
        """Note that a single run reaches stages at `shares` of this step, NaN if it does not."""
        assert self.stage_times is not None
        times = (self.step + torch.as_tensor(shares)) * float(self.step_size[0])
        self.stage_times[0, list(stages)] = times.to(self.stage_times)

    def states(self) -> dict[str, Tensor]:
        """Everything that descent changes: C, a, the biases, W, the second layer."""
        states = {"span": self.span, "decay": self.decay, "bias": self.bias, "vectors": self.vectors, "second": self.second}
        return {name: state for name, state in states.items() if state is not None}

    def recall(self, factor: float) -> None:
        """V <- momentum V eta / eta' - eta weight_decay w, with eta' the step size before, for C, a, b and W alike.

        With -eta grad added to V, and w <- w + V, that is PyTorch's v <- momentum v + grad + weight_decay w;  w <- w - eta v.
        """
        # V holds the step size of the step before, so it is rescaled where the schedule has changed it.
        momentum = self.momentum * (factor / self._factor_before)
        self._factor_before, states = factor, self.states()
        for name, velocity in self.velocities.items():
            state = states[name]
            shape, share = (-1, *[1] * (state.ndim - 1)), self.second_rate if name == "second" else 1
            velocity *= momentum.view(shape)
            velocity -= (share * factor * self.step_size * self.weight_decay).view(shape) * state

    def go(self, moves: Mapping[str, Tensor]) -> None:
        """w <- w + V in the runs that have not ended. Without velocities `descend` has moved everything."""
        states = self.states()
        for name, move in moves.items():
            state = states[name]
            state += move if self._open is None else move * self._open.view(-1, *[1] * (state.ndim - 1))

    def descend(self, rate: Tensor, seen: Seen) -> None:
        """Add -eta times the gradient of the loss to what moves; `rate` [R, n] is eta / n times the samples' weights."""
        moved = self.velocities or self.states()
        # The gradient has no part along W(0), so a moves by weight decay alone.
        if seen.patches is None and not self.on_vectors:
            self._add_step(moved["span"], moved, seen, rate)
        else:
            self.add(moved, self.move(rate, seen), seen)

    def move(self, rate: Tensor, seen: Seen) -> dict[str, Tensor]:
        """-eta times the gradient, apart: of C in the columns of the patches seen [R, P, k], of biases and second layer."""
        own = {"bias": self.bias, "second": self.second}
        apart = {name: torch.zeros_like(state) for name, state in own.items() if state is not None}
        apart["span"] = self.initial.new_zeros(*self.initial.shape[:2], seen.rows.shape[1])
        self._add_step(apart["span"], apart, seen, rate)
        return apart

    def add(self, moved: Mapping[str, Tensor], move: Mapping[str, Tensor], seen: Seen) -> None:
        """Add a move to what is moved: also in the columns of C, and in W."""
        for name in move:
            if name != "span":
                moved[name].add_(move[name])
        step = move["span"]
        if seen.patches is None:
            moved["span"].add_(step)
        else:
            moved["span"].scatter_add_(2, seen.patches[:, None].expand_as(step), step)
        if self.on_vectors:
            moved["vectors"].baddbmm_(step, seen.rows)

    def _add_step(self, step: Tensor, moved: Mapping[str, Tensor], seen: Seen, rate: Tensor) -> None:
        """Add the steps of C to `step` [R, P, k], of biases and second layer to what is moved."""
        observed, index, products = self.problem.observed.at(self.step), seen.signal_index, self._products_of(seen)
        if seen.samples is not None:
            observed, rate = observed.gather(1, seen.samples), rate.gather(1, seen.samples)
        bias_step = moved.get("bias")
        if self.mixup is not None:
            self._add_mixed_step(step, moved, products, index, observed, rate)
            return
        if self._slope is not None:
            arrays = (products, step, self.bias, bias_step, index, observed, rate)
            given = (self._no_bias if array is None else array for array in arrays)
            kernels.descend(self.problem.signals, *self._slope, *(array.numpy() for array in given))
            return
        z = products if self.bias is None else products.add_(self.bias[..., None])
        # The scratch memory holds activations here and slopes below; activations are no longer needed then.
        scratch = self._scratch if z.shape == self._scratch.shape else torch.empty_like(z)
        activations = self.sigma.value(z, out=scratch)
        outputs = self._outputs(activations, index)
        if self._open is not None:
            # At the first gradient of a step: some rules take further ones at other weights.
            if self._judged < self.step:
                self._judged = self.step
                self._open &= ~self.readout.fitted(outputs, observed).all(1)
            rate = rate * self._open[:, None]
        # -eta l'_i y~_i / n: how far a sample pushes the activations of its patches
        by_patch = push = self.readout.push(outputs, observed, rate)
        if self.problem.signals:
            by_signal = push.new_zeros(*push.shape[:-1], self.problem.signals)
            by_signal.scatter_add_(-1, index_for(index, push), push)
            # A signal patch is pushed by all the samples that share it, a noise patch by its own sample.
            by_patch = torch.cat([by_signal, *[push] * self.problem.noise_patches], -1)
        by_patch = pad(by_patch, (0, z.shape[2] - by_patch.shape[-1]))
        by_patch = by_patch if by_patch.ndim == 3 else by_patch[:, None]  # [R, 1 or K, k]
        # The filters of an output share its push: P = outputs x filters of each.
        of_output = (by_patch.shape[1], -1)
        # Before slopes take the place of activations; added last, since this step takes place at the old weights.
        pulls = None if self.second is None else sums_with(activations, by_patch)
        slopes, m = self.sigma.slope(z, out=scratch), z.shape[1] // 2
        if self.second is not None:
            slopes *= self.second[..., None]
            step.unflatten(1, of_output).addcmul_(slopes.unflatten(1, of_output), by_patch[:, :, None])
        elif self.problem.softmax:
            share = float(self._first_weights[0])
            step.unflatten(1, of_output).addcmul_(slopes.unflatten(1, of_output), by_patch[:, :, None], value=share)
        else:
            # In halves, with j/m as a number: a product with the second layer [P] would be another tensor of this size.
            share = float(self._first_weights[0])
            step[:, :m].addcmul_(slopes[:, :m], by_patch, value=share)
            step[:, m:].addcmul_(slopes[:, m:], by_patch, value=-share)
        if bias_step is not None:
            pushed = sums_with(slopes, by_patch)
            bias_step += pushed if self.second is not None else self._first_weights * pushed
        if pulls is not None:
            moved["second"].add_(pulls, alpha=self.second_rate)

    def _add_mixed_step(
        self, step: Tensor, moved: Mapping[str, Tensor], products: Tensor, index: Tensor, observed: Tensor, rate: Tensor
    ) -> None:
        """The same on mixed samples, given W X^T [R, P, k]."""
        assert self.mixup is not None
        problem = self.problem
        pair = self.mixup.at(self.step, index.shape[1], products)
        z = mixed_values(by_sample(products, index, problem.signals, problem.noise_patches), *pair)  # [R, P, patches, B]
        z = z if self.bias is None else z + self.bias[..., None, None]
        activations = self.sigma.value(z).sum(2)  # [R, P, B]
        outputs, (partners, share) = self._combined(activations), pair
        push = self.readout.push(outputs, observed, rate * share)
        push = push + self.readout.push(outputs, observed.gather(1, partners), (rate * (1 - share)).gather(1, partners))
        push = push if push.ndim == 3 else push[:, None]  # [R, 1 or K, B]
        # The filters of an output share its push.
        push = push.repeat_interleave(z.shape[1] // push.shape[1], 1)  # [R, P, B]
        second = self._first_weights if self.second is None else self.second
        moves = self.sigma.slope(z, out=torch.empty_like(z)) * (second[..., None] * push)[:, :, None]
        add_by_patch(step, unmixed_values(moves, *pair), index, problem.signals)
        if "bias" in moved:
            moved["bias"].add_(moves.sum((2, 3)))
        if "second" in moved:
            moved["second"].add_((activations * push).sum(2), alpha=self.second_rate)

    def _products_of(self, seen: Seen) -> Tensor:
        """H = W X^T [R, P, k] of the patches seen; of all of them it is overwritten by the next call."""
        out = self._products if seen.patches is None else None
        if self.vectors is not None:
            return torch.bmm(self.vectors, seen.rows.mT, out=out)
        initial = self.initial
        if seen.patches is not None:
            initial = initial.gather(2, seen.patches[:, None].expand(-1, initial.shape[1], -1))
        # Without weight decay a stays 1, and the product would cost a pass over memory for nothing.
        initial = initial * self.decay[:, None, None] if self._has_decay else initial
        # All of G is its own transpose, and a product with it as it lies is faster.
        columns = seen.rows if seen.patches is None else seen.rows.mT
        return torch.baddbmm(initial, self.span, columns, out=out)

    def _pre_activations(self) -> Tensor:
        """H plus biases [R, P, K]; overwritten by the next call."""
        products = self._products_of(self._all)
        return products if self.bias is None else products.add_(self.bias[..., None])

    def _outputs(self, activations: Tensor, index: Tensor) -> Tensor:
        """f [R, B] or [R, K, B] from activations [R, P, k]: each sample adds up its signal patch `index` [R, B] and its noise
        patches.
        """
        by_patch = self._combined(activations)  # [R, .., k]
        signals, patches = self.problem.signals, self.problem.noise_patches
        own = by_patch[..., signals : signals + patches * index.shape[1]]
        own = own if patches == 1 else own.unflatten(-1, (patches, -1)).sum(-2)
        return own + by_patch.gather(-1, index_for(index, by_patch)) if signals else own

    def _combined(self, activations: Tensor, runs: Tensor | slice = slice(None)) -> Tensor:
        """The second layer's sums over filters, [r, k] or [r, K, k], of the activations [r, P, k] of some runs."""
        if self.problem.softmax:
            of_output = (self._outputs_count, -1)
            weights = self._first_weights[None] if self.second is None else self.second[runs]
            return (weights.unflatten(1, of_output)[:, :, None] @ activations.unflatten(1, of_output))[:, :, 0]
        if self.second is None:
            return self._first_weights @ activations
        return (self.second[runs, None] @ activations)[:, 0]

    def _training_outputs(self, activations: Tensor) -> Tensor:
        """f [R, n] or [R, K, n] from the activations of all patches [R, P, ..]."""
        return self._outputs(activations, self.problem.signal_index)

    def trained(self) -> dict[str, Tensor]:
        """C, a, biases, W and second layer: filters are linear in them."""
        return self.states()

    def restart(self, runs: Tensor) -> None:
        """Put the filters and biases of the runs [R] (bool) back to where they started."""
        # The weights stay, as a strategy has just set them.
        self.span[runs], self.decay[runs] = 0, 1
        if self.bias is not None and self.problem.bias is not None:
            self.bias[runs] = self.problem.bias[runs]
        if self.vectors is not None:
            self.vectors[runs] = self.problem.filters[runs]
        if self.second is not None:
            self.second[runs] = self._first_weights
        for velocity in self.velocities.values():
            velocity[runs] = 0

    def state(self) -> dict[str, Any]:
        """Everything needed to resume training."""
        tensors = self._saved()
        times = {} if self.stage_times is None else {"stage_times": self.stage_times}
        return {"step": self.step, "tensors": tensors, "factor_before": self._factor_before, **times}

    def _saved(self) -> list[Tensor]:
        ended = [] if self._open is None else [self._open]
        return [*self.states().values(), *self.velocities.values(), self.weights, *ended]

    def load(self, state: Mapping[str, Any]) -> None:
        """Resume from a state."""
        self.step, self._factor_before = state["step"], state["factor_before"]
        for tensor, saved in zip(self._saved(), state["tensors"], strict=True):
            tensor.copy_(saved)  # to whatever device this run trains on
        if self.stage_times is not None:
            self.stage_times.copy_(state["stage_times"])

    def losses(self) -> Tensor:
        """l(y~ f) of the training samples, [R, n]."""
        return self.readout.losses(self._outputs_now(), self.problem.observed.at(self.step))

    def margins(self) -> Tensor:
        """Margins of the training samples, [R, n]."""
        return self.readout.margins(self._outputs_now(), self.problem.observed.at(self.step))

    def probabilities(self) -> Tensor:
        """Predicted probabilities of the classes of the training samples, [R, n, K]."""
        return self.readout.probabilities(self._outputs_now())

    def _outputs_now(self) -> Tensor:
        """f [R, n] or [R, K, n] of the training samples at this step."""
        return self._training_outputs(self.sigma.value(self._pre_activations()))

    def loss_at_zero(self) -> Tensor | float:
        """The loss of a sample on the decision boundary, [R, n] where it depends on the observed label."""
        return self.readout.loss_at_zero(self.problem.observed.at(self.step))

    def filters(self) -> Tensor:
        """W(t) [R, P, D] in the coordinates of the problem."""
        return self._composed() if self.vectors is None else self.vectors

    def _composed(self) -> Tensor:
        """a W(0) + C X."""
        return self.decay[:, None, None] * self.problem.filters + self.span @ self.patches

    def snapshot(self) -> Snapshot:
        """Losses, predictions and coefficients of all runs at this step."""
        z, filters = self._pre_activations(), self.filters()
        observed = self.problem.observed.at(self.step)
        activations = self.sigma.value(z)
        outputs = self._training_outputs(activations)
        used = self.problem.observed.at(max(self.step - 1, 0))
        return Snapshot(
            losses=self.readout.losses(outputs, observed),
            observed=self.readout.labels(observed),
            weights=self.weights.clone(),
            predicted=self.readout.predicted(outputs),
            test_predicted=self.readout.predicted(self._test_outputs(filters, activations)),
            loss_at_zero=self.loss_at_zero(),
            losses_used=self.readout.losses(outputs, used) if self.step else None,
            coefficients=self._coefficients(z, filters),
            margins=self.readout.margins(outputs, observed),
            stage_times=self.stage_times,
        )

    def _test_outputs(self, filters: Tensor, activations: Tensor) -> Tensor:
        """f [R, N] or [R, K, N] on the test samples, given the activations [R, P, K] of the training patches.

        All the runs that share a test set take part in one matrix product.
        """
        problem, one_patch = self.problem, self.problem.means is not None
        # Of the signal patches the outputs [R, S]; of signals that are part of a patch the products with filters [R, P, S].
        own = activations[..., : problem.signals]
        signal = self._combined(own) if problem.means is None else filters @ problem.means.mT
        filters = problem.test_filters(filters)
        samples, patches_each = problem.test_labels.shape[1], problem.noise_patches
        outputs = filters.new_empty(len(filters), *([self._outputs_count] if problem.softmax else []), samples)
        count, width = filters.shape[1], samples * patches_each
        at_once = max(1, TEST_BUFFER_BYTES[outputs.device.type] // (count * width * outputs.element_size()))
        short = self._slope is not None and filters.shape[2] <= kernels.SHORT
        buffer = None if short else outputs.new_empty(min(at_once, len(outputs)), count, width)
        for draw, patches in enumerate(problem.test_patches):
            sharing = torch.as_tensor(np.flatnonzero(problem.test_index == draw), device=filters.device)
            index = problem.test_signal_index[draw]
            if buffer is None:
                columns = pad(patches.T, (0, -width % kernels.LANES)).contiguous()
                arrays = (filters[sharing], self._bias_of(sharing), columns, signal[sharing], index, sharing, outputs)
                kernels.write_short(*(array.numpy() for array in arrays))
                continue
            for runs in sharing.split(at_once):
                z = buffer[: len(runs)]  # [runs, P, L N]
                torch.mm(filters[runs].flatten(0, 1), patches.T, out=z.view(-1, width))
                if self._slope is not None:
                    given = (z, self._bias_of(runs), signal[runs], index, runs, outputs)
                    kernels.write_outputs(*(array.numpy() for array in given))
                    continue
                if problem.test_scale is not None:
                    z.unflatten(2, (patches_each, -1)).mul_(problem.test_scale[runs][:, None, None])
                if self.bias is not None:
                    z += self.bias[runs, :, None]
                if one_patch:
                    z += signal[runs][..., index]
                    outputs[runs] = self._combined(self.sigma.value(z, out=z), runs)
                    continue
                noise = self._combined(self.sigma.value(z, out=z), runs)
                noise = noise if patches_each == 1 else noise.unflatten(-1, (patches_each, -1)).sum(-2)
                outputs[runs] = signal[runs][..., index] + noise
        return outputs

    def _bias_of(self, runs: Tensor) -> Tensor:
        """Biases of some runs, as the kernels take them."""
        return self._no_bias if self.bias is None else self.bias[runs]

    def _coefficients(self, z: Tensor, filters: Tensor) -> Coefficients:
        """gamma and rho from C; the residual compares the pre-activations of a W(0) + C X with those trained on."""
        products = z if self.bias is None else z - self.bias[..., None]
        composed = filters if self.vectors is None else self._composed()
        # C is trained, not fitted afterwards, so rounding errors are all that can part the two.
        mismatch = torch.linalg.matrix_norm(composed @ self.patches.mT - products)
        size = torch.linalg.matrix_norm(products)
        square_norms = self.problem.basis_norms.square()
        residual = torch.where(size > 0, mismatch / size, 0)
        signals = self.problem.axes, self.problem.signal_classes
        return from_span(self.problem.on_basis(self.span), square_norms, residual, *signals)
