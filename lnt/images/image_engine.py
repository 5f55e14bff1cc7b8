"""Training networks on images: one network, or R small ones of the same shape side by side through torch.func."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from lnt.images.augment import Batches
from lnt.losses import Loss
from lnt.noise.observed_labels import ObservedLabels
from lnt.seeding import generator
from lnt.training.batch_order import MiniBatches
from lnt.training.engine import Ahead, Snapshot
from lnt.training.mixup import Mixup, mixed, mixed_losses
from lnt.training.optimizers import Optimizer
from lnt.training.selection_signals import class_margins

EVALUATED_AT_ONCE = 1000  # images of each run
UNSEEN = -1  # stands for the prediction of a sample that no forward pass has seen yet
DROPOUT = 2  # in the key (step, 2, peer), in the stream order, of what the network itself draws at a step; see AUGMENT


@dataclass(frozen=True)
class ImageProblem:
    """Training and test samples of R runs, and their networks at step 0."""

    train: Batches
    test: Batches
    index: Tensor  # [R, n] positions of the training samples in `train`
    test_index: Tensor  # [R, N]
    labels: Tensor  # [R, n] true classes
    observed: ObservedLabels
    test_labels: Tensor  # [R, N]
    test_observed: Tensor | None  # [R, N]
    networks: Callable[[], list[nn.Module]]  # R of them, with their initial weights
    seeds: np.ndarray  # [R] of the stream order
    augment: str
    classes: int
    labels_known: bool = True  # whether `labels` are the true ones; else observed ones stand in their place
    test_labels_known: bool = True
    peer: int = 0  # which of the networks that a strategy trains for each run

    @property
    def test_rare(self) -> Tensor | None:
        """Nobody says which features images show."""
        return None

    def as_classes(self, labels: Tensor) -> Tensor:
        """Labels of images are the numbers of their classes."""
        return labels

    def test_error_observed(self, predicted: Tensor) -> Tensor | None:
        """Against one draw of the noise, since it may depend on the image."""
        return None if self.test_observed is None else (predicted != self.test_observed).mean(1, dtype=torch.float64)


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """What PyTorch draws on this device inside is a function of `seed`; its generator is put back afterwards."""
    on_gpu = device.type == "cuda"
    # Not torch.manual_seed: it seeds all devices, and without a GPU it formats a stack trace each time.
    draws = torch.cuda.default_generators[device.index] if on_gpu else torch.default_generator
    before = draws.get_state()
    draws.manual_seed(seed)
    try:
        yield
    finally:
        draws.set_state(before)


class ImageEngine:
    """Trains R networks with torch.optim, all of them at the same step sizes.

    Everything random is a function of seed and step (MiniBatches, Batches.augmented, Mixup, `seeded`), so a checkpoint needs
    only the step number, beside the predictions of the last two epochs and what a loss remembers of samples. R > 1 requires
    networks without batch normalisation or dropout.
    `autocast`: forward passes in bfloat16. Samples of weight 0 enter no batch statistics; where there are such, mixup leaves
    these samples out, elsewhere they are mixed in and only their own part of the loss is 0.
    """

    def __init__(
        self,
        problem: ImageProblem,
        optimizer: Optimizer,
        rate: Callable[[int], float],
        batches: MiniBatches | None,
        autocast: bool,
        compiled: bool,
        loss: Loss,
        mixup: Mixup | None = None,
    ) -> None:
        self.loss, self.mixup = loss, mixup
        self.problem, self.batches, self.rate, self.step = problem, batches, rate, 0
        self.weights = torch.ones(problem.labels.shape, device=problem.labels.device)  # [R, n] of the samples in the loss
        self._numbers, self._autocast, self._compiled = optimizer, autocast, compiled
        # Made in the forward passes of training, in the epoch before and in this one, [2, R, n]; UNSEEN before the first.
        self._predicted = torch.full((2, *problem.labels.shape), UNSEEN, dtype=torch.int16, device=problem.labels.device)
        self._noted = False  # whether those of this step are in it
        self._ahead: Tensor | None = None  # logits [R, B] of the coming step, if its forward pass has been made
        self._begin()

    def _begin(self) -> None:
        """Initial weights, an optimizer without memory."""
        device, networks = self.problem.labels.device, self.problem.networks()
        dtype = self.problem.train.scale.dtype
        shape = (*self.problem.labels.shape, self.problem.classes)
        self._targets = torch.zeros(shape, dtype=dtype, device=device) if self.loss.remembers else None  # [R, n, K]
        # Built anew each time, so a restart begins from the same initial weights.
        networks = [network.to(device, dtype) for network in networks]
        if len(networks) == 1:
            (self.network,) = networks
            if device.type == "cuda":
                # The layout in which GPU convolutions are fastest.
                self.network.to(memory_format=torch.channels_last)
            self.parameters: Mapping[str, Tensor] = dict(self.network.named_parameters())
            run = torch.compile(self.network) if self._compiled else self.network
            self._forward: Callable[[Tensor], Tensor] = lambda images: run(images[0])[None]
        else:
            # Only the structure counts here: functional_call puts in the weights of each run.
            self.network = copy.deepcopy(networks[0]).eval()
            self.parameters, buffers = stack_module_state(networks)
            # functional_call is given parameters only: batch statistics would be those of one network for all runs.
            assert not buffers, "networks with buffers cannot train side by side"
            forward = vmap(lambda parameters, images: functional_call(self.network, parameters, (images,)))
            self._forward = lambda images: forward(self.parameters, images)
        self.optimizer = self._numbers.make(self.parameters.values(), self.rate(self.step))

    def restart(self, runs: Tensor) -> None:
        """Put all networks back to where they started. Runs that train side by side all restart at the same step."""
        if bool(runs.any()):
            assert bool(runs.all())
            self._begin()

    def outputs(self, images: Tensor) -> Tensor:
        """Logits [R, B, K] of images [R, B, C, H, W]."""
        if len(images) == 1 and images.device.type == "cuda":
            # With R = 1 the axis of runs is taken off first: channels_last is defined for four axes.
            images = images[0].contiguous(memory_format=torch.channels_last)[None]
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._autocast):
            logits = self._forward(images)
        return logits.to(self.problem.train.scale.dtype)

    def advance(self, steps: int) -> None:
        """Take `steps` optimizer steps."""
        self.network.train()
        # Only where it matters: networks without batch statistics (which are buffers) treat each sample on its own.
        leave_out = any(True for _ in self.network.buffers()) and bool((self.weights == 0).any())
        # Whoever looks ahead chooses among samples that have passed through the network already.
        leave_out = leave_out and self._ahead is None
        for _ in range(steps):
            of_batch = self._of_batch()
            images = self._images(of_batch)
            # All networks are one parameter group, hence one step size for all runs.
            self.optimizer.param_groups[0]["lr"] = self.rate(self.step)
            if self.step % self._steps_per_epoch() == 0:
                self._predicted[0] = self._predicted[1]
            self._noted = False
            with self._drawing():
                # A closure may return the loss, which nobody asks for here.
                self.optimizer.step(partial(self._backward, images, of_batch, leave_out))  # type: ignore[arg-type]
            self.step += 1

    def _drawing(self) -> AbstractContextManager[None]:
        """In which dropout draws for the coming step: of one network, since torch.func refuses all that is random."""
        draws = generator("order", int(self.problem.seeds[0]), self.step, DROPOUT, self.problem.peer)
        return seeded(self.weights.device, int(draws.integers(2**62)))

    def look_ahead(self) -> Ahead:
        """The samples of the coming step, which starts from this forward pass; batch statistics see all of them."""
        self.network.train()
        of_batch = self._of_batch()
        with self._drawing():
            logits = self._ahead = self.outputs(self._images(of_batch))
        samples = torch.arange(self.weights.shape[1], device=logits.device).expand(self.weights.shape)[of_batch]
        shown = logits.detach()
        return Ahead(samples, self._losses(shown, self.problem.observed.at(self.step)[of_batch]), shown.argmax(2))

    def _of_batch(self) -> Any:
        """One index for positions, labels and weights of the coming step alike: rows [R, 1] with columns [R, B]."""
        if self.batches is None:
            return slice(None)
        runs = torch.arange(len(self.weights), device=self.weights.device)[:, None]
        return runs, self.batches.at(self.step, runs.device)

    def _images(self, of_batch: Any) -> Tensor:
        """Those of the coming step, [R, B, C, H, W]."""
        problem = self.problem
        return problem.train.augmented(problem.index[of_batch], problem.augment, problem.seeds, self.step)

    def _backward(self, images: Tensor, of_batch: Any, leave_out: bool) -> None:
        """Gradients of the mean loss over a batch, and its predictions; `leave_out` keeps weight 0 out of the network.

        Called as often as the optimizer asks; the first call is at the weights of this step, and has its predictions.
        """
        self.optimizer.zero_grad()
        weights, labels = self.weights[of_batch], self.problem.observed.at(self.step)[of_batch]
        part = weights[0].nonzero()[:, 0] if leave_out else slice(None)
        if leave_out and not weights.any():
            # A step without a gradient: momentum and weight decay go on.
            for parameter in self.parameters.values():
                parameter.grad = torch.zeros_like(parameter)
            return
        images, labels, kept = images[:, part], labels[:, part], weights[:, part]
        if self.mixup is None:
            logits = self.outputs(images) if self._ahead is None else self._ahead
            self._ahead = None
            losses = self._losses(logits, labels)
            if self._targets is not None:
                losses = losses + self._penalties(logits, of_batch, part)
            losses = kept * losses
        else:
            # Drawn from the number of the step, so it is the same each time that the optimizer asks.
            pair = self.mixup.at(self.step, images.shape[1], images)
            logits = self.outputs(mixed(images, *pair))
            losses = mixed_losses(partial(self._losses, logits), labels, kept, *pair)
        # The divisor is the whole batch. Runs share no parameters, so no gradients mix in the sum over them.
        (losses.sum(1) / weights.shape[1]).sum().backward()
        # The prediction of a mixed sample is that of no sample.
        if self.mixup is None and not self._noted:
            predicted = self._predicted[1][of_batch]
            predicted[:, part] = logits.detach().argmax(2).to(predicted)
            self._predicted[1][of_batch], self._noted = predicted, True

    def _penalties(self, logits: Tensor, of_batch: Any, part: Any) -> Tensor:
        """What the loss adds to those of the samples `part` of a batch, [R, b], given what it remembers of them."""
        assert self._targets is not None
        targets, probabilities = self._targets[of_batch], logits.softmax(2)
        # Once a step, like the predictions.
        if not self._noted:
            targets[:, part] = self.loss.remembered(targets[:, part], probabilities.detach())
            self._targets[of_batch] = targets
        return self.loss.penalty(targets[:, part], probabilities)

    def _steps_per_epoch(self) -> int:
        return 1 if self.batches is None else self.batches.per_epoch

    def _changed(self) -> Tensor:
        """Share of the samples, [R], that the forward passes of the last two epochs predict differently, or saw only once."""
        before, now = self._predicted
        return ((now != before) | (before == UNSEEN)).to(self.weights).mean(1)

    def _losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Losses [R, B] of logits [R, B, K]; the logistic loss is the cross entropy."""
        # The loss takes one axis of samples, so R and B become one.
        return self.loss.of_logits(logits.flatten(0, 1), labels.flatten()).view(labels.shape)

    @torch.no_grad()
    def _all_outputs(self, batches: Batches, index: Tensor) -> Tensor:
        """Logits [R, n, K] in evaluation mode."""
        self.network.eval()
        # In parts: the activations of all samples at once need not fit in memory.
        return torch.cat([self.outputs(batches.at(part)) for part in index.split(EVALUATED_AT_ONCE, dim=1)], 1)

    def losses(self) -> Tensor:
        """Losses of the training samples without augmentation, [R, n]."""
        return self._losses(self._all_outputs(self.problem.train, self.problem.index), self.problem.observed.at(self.step))

    def margins(self) -> Tensor:
        """Margins of the training samples without augmentation, [R, n]."""
        return class_margins(self._all_outputs(self.problem.train, self.problem.index), self.problem.observed.at(self.step))

    def loss_at_zero(self) -> float:
        """A smaller loss than this says that the observed class has a probability above 1/2."""
        return self.loss.at_zero

    def probabilities(self) -> Tensor:
        """Predicted probabilities of the classes of the training samples without augmentation, [R, n, K]."""
        return self._all_outputs(self.problem.train, self.problem.index).softmax(2)

    def snapshot(self) -> Snapshot:
        """Losses and predictions in evaluation mode; `parameters` are the live ones, with batch statistics among them."""
        problem, observed = self.problem, self.problem.observed.at(self.step)
        logits = self._all_outputs(problem.train, problem.index)
        return Snapshot(
            losses=self._losses(logits, observed),
            observed=observed,
            weights=self.weights.clone(),
            predicted=logits.argmax(2),
            test_predicted=self._all_outputs(problem.test, problem.test_index).argmax(2),
            loss_at_zero=self.loss_at_zero(),
            changed=None if self.mixup else self._changed(),
            losses_used=self._losses(logits, problem.observed.at(self.step - 1)) if self.step else None,
            parameters=self.trained(),
            margins=class_margins(logits, observed),
        )

    def trained(self) -> dict[str, Tensor]:
        """Everything that defines the networks, [R, ..] each."""
        if len(self.weights) > 1:
            return {name: value.detach() for name, value in self.parameters.items()}
        # state_dict rather than parameters: batch statistics belong to the network too.
        return {name: value[None] for name, value in self.network.state_dict().items()}

    def state(self) -> dict[str, Any]:
        """Everything needed to resume training: tensors and numbers."""
        return {
            "step": self.step,
            "networks": self.trained(),
            "optimizer": self.optimizer.state_dict(),
            "weights": self.weights,
            "predicted": self._predicted,
            "targets": self._targets,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Resume from a state."""
        self.step = state["step"]
        self.weights.copy_(state["weights"])
        # A state of an earlier version has no predictions: they stay UNSEEN, and count as changed for two epochs.
        if "predicted" in state:
            self._predicted.copy_(state["predicted"])
        if self._targets is not None:
            self._targets.copy_(state["targets"])
        for name, value in self.trained().items():
            # Into the live tensors: the optimizer and the compiled network hold on to these.
            value.copy_(state["networks"][name])
        self.optimizer.load_state_dict(state["optimizer"])
