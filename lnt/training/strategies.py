"""Strategies against label noise, as a practitioner has them: when to stop, which samples to keep.

A strategy acts on engines through their per-sample weights and their loss (and may restart a run): it knows neither engine
nor data, and never sees a true label, at most the share of wrong ones. Every run trains to its end; `choose` says which
recorded network the strategy would have returned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from lnt.errors import require
from lnt.losses import MOST_SINGULAR
from lnt.seeding import generator, sample_per_run
from lnt.settings import Component, PerRunFloat, unless
from lnt.training.engine import Engine, Snapshot
from lnt.training.selection_signals import SIGNALS, History, ranks
from lnt.training.weight_average import AveragedEngine

if TYPE_CHECKING:  # it takes long to import, and few runs need it
    from sklearn.mixture import GaussianMixture


@dataclass(frozen=True)
class PriorKnowledge:
    """Knowledge that strategies may have about R runs besides what engines show: each [R]."""

    t1: np.ndarray  # predicted length of Stage I in steps
    clean_share: np.ndarray  # 1 - P(observed != true); NaN where true labels are not known
    seeds: np.ndarray  # of the stream `order`
    epoch: int = 1  # steps in which every sample is seen once, the same for all runs
    history: History | None = None  # how the first network has predicted the training samples at recorded steps so far


class Strategy(Component):
    """Train on all samples to the end, and return the last network."""

    networks: ClassVar[int] = 1  # trained side by side for each run; only the first is measured
    copies: ClassVar[int] = 0  # of the weights of each network, that it holds beside them
    estimates_transition: ClassVar[bool] = False  # whether the loss gets its transition from the strategy, not from the noise

    restart = False  # a setting of some strategies; the others have this value

    @property
    def restarts(self) -> bool:
        """Whether training restarts from the initial weights on the way."""
        return self.restart

    @property
    def looks_ahead(self) -> bool:
        """Whether it chooses among the samples of a step after their forward pass."""
        return False

    def check(self, total: int, recordings: int, known: PriorKnowledge) -> None:
        """Raise ConfigError if the strategy could not act in `total` steps of which about `recordings` are recorded."""

    def acts_at(self, total: int, known: PriorKnowledge) -> np.ndarray:
        """The steps after which `act` is called."""
        return np.empty(0, int)

    def wrap(self, engine: Engine) -> Engine:
        """What is trained and measured in place of an engine; itself, unless a strategy does something at every step."""
        return engine

    def begin(self, engine: Engine, known: PriorKnowledge) -> None:
        """Called at step 0."""

    def advance(self, engines: Sequence[Engine], steps: int, known: PriorKnowledge, memory: dict[str, Tensor]) -> None:
        """Take `steps` steps. A strategy may look in between; what it writes into `memory` is there when it is called again."""
        for engine in engines:
            engine.advance(steps)

    def act(self, engines: Sequence[Engine], known: PriorKnowledge) -> None:
        """Set weights, given the losses."""

    def criterion(self, now: Snapshot, before: Tensor | None) -> Tensor | None:
        """The value that early stopping watches, [R], at a recorded step; `before` are the predictions at the previous one."""
        return None

    def choose(self, criterion: np.ndarray) -> np.ndarray:
        """The recorded step whose network is returned, [R], given the criterion [T, R]; NaN after a run has diverged."""
        return np.full(criterion.shape[1], len(criterion) - 1)


@dataclass(frozen=True)
class NoStrategy(Strategy):
    """Ordinary training."""

    option = "none"


@dataclass(frozen=True)
class EarlyStopping(Strategy):
    """Return the network of an earlier recorded step, without knowing the test error.

    rule=holdout: a share `holdout` of the training samples, noisy labels and all, is not trained on; the step with the lowest
    error there wins, the last of equal ones. rule=prediction_changes: nothing is held out; the share of training predictions
    that change, a moving average over three recorded steps, has its first minimum between the two stages. Either gives up once
    there was nothing better for `patience` recorded steps. The untrained network is never returned.

    On images changes are those of Label Wave (Yuan, Feng, Liu, "Early Stopping Against Label Noise Without Validation Data",
    ICLR 2024): between consecutive epochs, of the predictions made in the forward passes of training. On signal-noise data the
    rule is a variant of it: predictions are compared between recorded steps, which are even in log(step).
    """

    rule: str = "holdout"  # holdout (samples with noisy labels that are not trained on) | prediction_changes (nothing held out)
    holdout: float = 0.2  # share of the training samples held out
    patience: int = 10  # recorded steps without a better one

    def validate(self) -> None:
        require(self.rule in ("holdout", "prediction_changes"), "rule", self.rule, "must be holdout or prediction_changes")
        require(0 < self.holdout < 1, "holdout", self.holdout, "must lie in (0, 1)")
        require(self.patience >= 1, "patience", self.patience, "must be at least 1")

    def check(self, total: int, recordings: int, known: PriorKnowledge) -> None:
        enough = recordings >= 3
        require(enough, "rule", self.rule, f"chooses among the recorded steps; recordings={recordings} must be at least 3")

    def begin(self, engine: Engine, known: PriorKnowledge) -> None:
        """Set the held-out samples' weights to 0."""
        if self.rule == "holdout":
            n = engine.weights.shape[1]
            # At least one sample is held out, but never all of them, however few there are.
            count = min(max(1, round(self.holdout * n)), n - 1)
            # The key (0, 0) has two numbers; mini-batches have one (the epoch), augmentation has three. So none is the same.
            (orders,), index = sample_per_run(
                known.seeds[:, None], lambda seed: (generator("order", seed, 0, 0).permutation(n),)
            )
            # Held out means weight 0: the samples stay in the batch, so no engine has to know about it.
            trained = torch.as_tensor(orders[index] >= count, device=engine.weights.device)
            engine.weights.copy_(normalised(trained))

    def criterion(self, now: Snapshot, before: Tensor | None) -> Tensor | None:
        """Error on held-out observed labels, or share of predictions that changed (all, where there is nothing to compare)."""
        if self.rule == "holdout":
            wrong = (now.predicted != now.observed) & (now.weights == 0)
            return wrong.sum(1) / (now.weights == 0).sum(1)
        if now.changed is not None:
            return now.changed
        changed = torch.ones_like(now.losses) if before is None else (now.predicted != before).to(now.losses)
        return changed.mean(1)

    def choose(self, criterion: np.ndarray) -> np.ndarray:
        """The first minimum that is not undercut for `patience` recorded steps; of equal held-out errors the last by then."""
        values = np.where(np.isfinite(criterion), criterion, np.inf)
        if self.rule == "prediction_changes":
            # The first value fills the window, so that the average has a value at every recorded step.
            padded = np.concatenate([values[:1], values[:1], values])
            values = (padded[2:] + padded[1:-1] + padded[:-2]) / 3
        # With wrong labels an untrained network may do well by chance on a few of them. It wins only if there is nothing else.
        values[0] = np.inf
        best = np.zeros(values.shape[1], int)
        for step in range(1, len(values)):
            # Once `patience` steps have passed without a better one, training would have stopped: later minima do not count.
            better = (values[step] < np.take_along_axis(values, best[None], 0)[0]) & (step - best <= self.patience)
            best[better] = step
        if self.rule == "holdout":
            # An error on a few samples takes few values, and stays the same while the network still learns.
            recorded, lowest = np.arange(len(values))[:, None], np.take_along_axis(values, best[None], 0)
            equal = (values == lowest) & np.isfinite(values) & (recorded <= best + self.patience)
            best = np.where(equal, recorded, best).max(0)
        return best


@dataclass(frozen=True)
class ActsOnce(Strategy):
    """Acts once in each run: at `step`, after `epoch` epochs, or at `t1` times the predicted length of Stage I.

    A subclass defines `change`, and may have a setting `restart`: training starts again after it.
    """

    step: int | None = None  # when; give this, or epoch, or t1
    epoch: int | None = None  # when, in epochs
    t1: float | None = unless("step", "epoch", value=0.2)  # when, in units of Stage I's predicted scale (constant left open)

    def validate(self) -> None:
        times = self.step, self.epoch, self.t1
        given = sum(time is not None for time in times)
        require(given == 1, "step, epoch, t1", list(times), "exactly one of the three must be given, the others null")
        require(self.step is None or self.step >= 1, "step", self.step, "must be at least 1")
        require(self.epoch is None or self.epoch >= 1, "epoch", self.epoch, "must be at least 1")
        require(self.t1 is None or self.t1 > 0, "t1", self.t1, "must be positive")

    def check(self, total: int, recordings: int, known: PriorKnowledge) -> None:
        if self.step is not None:
            require(self.step < total, "step", self.step, f"acts at step {self.step}, but training has {total} steps")
            return
        if self.epoch is not None:
            at = self.epoch * known.epoch
            require(at < total, "epoch", self.epoch, f"acts at step {at}, but training has {total} steps")
            return
        last = float(np.max(self.t1 * known.t1))
        unknown = "Stage I has a predicted length for gradient descent on signal-noise data only; give step or epoch instead"
        require(np.isfinite(last), "t1", self.t1, unknown)
        require(last < total, "t1", self.t1, f"acts at step {last:.6g}, but training has {total} steps")

    def acts_at(self, total: int, known: PriorKnowledge) -> np.ndarray:
        # Each run has its own T1 and so its own step: `act` is called at all of them, and picks the runs whose step it is.
        return np.unique(self._steps(known))

    def _steps(self, known: PriorKnowledge) -> np.ndarray:
        """When each run is changed, [R]."""
        if self.t1 is not None:
            return np.maximum(np.rint(self.t1 * known.t1), 1).astype(int)
        at = np.full(known.t1.shape, self.step if self.epoch is None else self.epoch * known.epoch)
        return np.maximum(at, 1).astype(int)

    def act(self, engines: Sequence[Engine], known: PriorKnowledge) -> None:
        """Change the runs whose time it is."""
        # Fails loudly for a subclass that trains several networks: these rules look at one.
        (engine,) = engines
        due = self._steps(known) == engine.step
        self.change(engine, due, known)
        if self.restart:
            engine.restart(torch.as_tensor(due, device=engine.weights.device))

    def change(self, engine: Engine, due: np.ndarray, known: PriorKnowledge) -> None:
        """Set the weights or the loss of the runs that are `due` [R] (bool)."""


@dataclass(frozen=True)
class SmallLoss(ActsOnce):
    """Once, at `step`, after `epoch` epochs or `t1` times the predicted length of Stage I, keep the samples with a small loss.

    keep=threshold: losses below that at margin 0, log 2 of the logistic loss (Han et al. 2025). keep=share: the smallest
    `share` of them (null: 1 - noise rate, see `clean_share`). keep=mixture: those that a mixture of two Gaussians gives to the
    component with the lower mean (Li et al., DivideMix, ICLR 2020). `restart`: training starts again from the initial filters.
    If nothing is kept, all is.

    `signal` ranks the samples for keep=share in place of the loss: by falling margin; by learning time, the recorded step from
    which on a sample is predicted as observed; or by wrong events, how often at recorded steps it is not. The last two look at
    the steps recorded until then, and equal samples go by their loss.
    """

    keep: str = "threshold"  # threshold (below the loss at margin 0) | share (the smallest) | mixture (lower of two Gaussians)
    share: PerRunFloat | None = None  # for keep=share; null = 1 - noise rate (an oracle; or rate=estimated)
    restart: bool = False  # train again from the initial filters
    rate: str = "oracle"  # for share=null: oracle (the true noise rate) | estimated (from the losses, by two Gaussians)
    signal: str = "loss"  # what keep=share ranks by: loss | margin | learning_time | wrong_events

    def validate(self) -> None:
        super().validate()
        require(self.signal in SIGNALS, "signal", self.signal, f"must be one of {', '.join(SIGNALS)}")
        ranked = self.signal == "loss" or self.keep == "share"
        require(ranked, "signal", self.signal, f"is for keep=share; keep={self.keep} looks at losses")
        require(self.keep in ("threshold", "share", "mixture"), "keep", self.keep, "must be threshold, share or mixture")
        check_share(self.share, self.rate)
        fits = self.rate == "oracle" or self.keep == "share"
        require(fits, "rate", self.rate, f"is for keep=share; keep={self.keep} looks at no rate")

    def check(self, total: int, recordings: int, known: PriorKnowledge) -> None:
        super().check(total, recordings, known)
        if self.keep == "share":
            check_oracle(self.share, self.rate, known)
        enough = recordings >= 3 or self.signal in ("loss", "margin")
        require(enough, "signal", self.signal, f"looks at recorded steps; recordings={recordings} must be at least 3")

    def change(self, engine: Engine, due: np.ndarray, known: PriorKnowledge) -> None:
        """Select samples."""
        now = torch.as_tensor(due, device=engine.weights.device)
        engine.weights[now] = normalised(self._kept(engine, now, known)).to(engine.weights)

    def _kept(self, engine: Engine, now: Tensor, known: PriorKnowledge) -> Tensor:
        """Mask of the samples to keep in the runs whose time is `now` [R] (bool)."""
        if self.keep == "threshold":
            return (engine.losses() < engine.loss_at_zero())[now]
        losses, due = engine.losses()[now], now.cpu().numpy()
        if self.keep == "share":
            share = None if self.share is None else np.broadcast_to(self.share, due.shape)[due]
            signal = losses if self.signal == "loss" else ranks(self._suspicion(engine, known)[now], losses)
            return smallest(signal, clean_share(share, self.rate, losses, known.clean_share[due]))
        # scikit-learn fits one mixture at a time, on the CPU.
        return torch.stack([torch.as_tensor(low_component(row)) for row in losses.double().cpu().numpy()]).to(losses.device)

    def _suspicion(self, engine: Engine, known: PriorKnowledge) -> Tensor:
        """The signal, [R, n], larger for a sample that is more suspect."""
        if self.signal == "margin":
            return -engine.margins()
        assert known.history is not None, "the loop notes it"
        return known.history.learned if self.signal == "learning_time" else known.history.wrong


@dataclass(frozen=True)
class EstimatedTransition(ActsOnce):
    """Train with the cross entropy, estimate the transition matrix once, and go on with loss=forward or backward under it.

    At `step`, after `epoch` epochs or `t1` times the predicted length of Stage I, T[i, j] = p(observed = j | x^i) is read off
    the network: p(. | x) are its predicted probabilities, and the anchor x^i of class i has rank floor(quantile (n - 1)), from
    0, among the n training samples by p(i | x). `restart`: training starts again from the initial weights. An estimate without
    an inverse (two classes with one anchor) is dropped, and training goes on with the cross entropy.
    Source: Patrini et al., "Making Deep Neural Networks Robust to Label Noise: a Loss Correction Approach", CVPR 2017.
    """

    # Later than SmallLoss: probabilities take longer to settle than the order of losses.
    t1: float | None = unless("step", "epoch", value=0.5)  # when, in units of Stage I's predicted scale (constant left open)
    quantile: PerRunFloat = 0.97  # the anchor of a class among samples by their probability of it; 1 = the largest
    restart: bool = False  # train again from the initial weights

    estimates_transition = True

    def validate(self) -> None:
        super().validate()
        quantile = np.asarray(self.quantile)
        require((quantile > 0) & (quantile <= 1), "quantile", self.quantile, "must lie in (0, 1]")

    def change(self, engine: Engine, due: np.ndarray, known: PriorKnowledge) -> None:
        """Estimate, and correct the loss."""
        quantile = np.broadcast_to(self.quantile, due.shape)[due]
        found = transition_at_anchors(engine.probabilities().double().cpu().numpy()[due], quantile)
        transition = np.broadcast_to(engine.loss.transition, (len(due), *found.shape[1:])).copy()
        # NaN, in a run that has diverged, compares as False and stays.
        singular = np.linalg.cond(found) >= MOST_SINGULAR
        transition[due] = np.where(singular[:, None, None], transition[due], found)
        engine.loss = engine.loss.bound(lambda: transition)


@dataclass(frozen=True)
class CoTeaching(Strategy):
    """Two networks from different initial weights; each is trained on the samples whose loss is small in the other.

    At step t a share 1 - (1 - share) min(t / ramp, 1) is kept; share=null is 1 - noise rate (see `clean_share`), ramp=null is
    100 steps, or ten epochs if these are longer.

    within=all: of all samples, chosen every `every` steps (null: 10, or an epoch if that is longer); an estimated rate is that
    of each network at each choice. within=batch, as published: of each mini-batch, in its forward passes, with t the step at
    which the epoch began; an estimated rate is that of each network and epoch, from all training losses.
    Source: Han et al., "Co-teaching", NeurIPS 2018.

    disagreement (co-teaching plus): after `initial` epochs of this, a share of those samples of a batch for which the networks
    predict different classes; a batch without one trains nothing.
    Source: Yu et al., "How does Disagreement Help Generalization against Label Corruption?", ICML 2019.
    """

    share: PerRunFloat | None = None  # share of samples kept in the end; null = 1 - noise rate (an oracle; or rate=estimated)
    ramp: int | None = None  # steps over which the share falls from 1; null = 100, or ten epochs if these are longer
    every: int | None = None  # steps between two choices of within=all; null = 10, or an epoch if that is longer
    rate: str = "oracle"  # for share=null: oracle (the true noise rate) | estimated (from the losses, by two Gaussians)
    within: str = "all"  # all (chosen now and then among all samples) | batch (in each mini-batch, as published)
    disagreement: bool = False  # within=batch: only samples for which both networks predict different classes
    initial: int = 0  # epochs before `disagreement` counts

    networks = 2

    @property
    def looks_ahead(self) -> bool:
        return self.within == "batch"

    def validate(self) -> None:
        check_share(self.share, self.rate)
        for key in ("ramp", "every"):
            value = getattr(self, key)
            require(value is None or value >= 1, key, value, "must be at least 1")
        require(self.within in ("all", "batch"), "within", self.within, "must be all or batch")
        in_batches = self.within == "batch"
        require(self.every is None or not in_batches, "every", self.every, "is for within=all; batch chooses at each step")
        require(in_batches or not self.disagreement, "disagreement", self.disagreement, "is for within=batch")
        require(self.initial >= 0, "initial", self.initial, "must be at least 0")
        require(self.disagreement or self.initial == 0, "initial", self.initial, "is for disagreement=true")

    def check(self, total: int, recordings: int, known: PriorKnowledge) -> None:
        check_oracle(self.share, self.rate, known)
        if self.within == "all":
            every = self._every(known)
            require(every < total, "every", every, f"must be below the number of steps, {total}")
        ends = self.initial * known.epoch
        require(ends < total, "initial", self.initial, f"ends at step {ends}, but training has {total} steps")

    def acts_at(self, total: int, known: PriorKnowledge) -> np.ndarray:
        return np.arange(self._every(known), total, self._every(known)) if self.within == "all" else np.empty(0, int)

    def _every(self, known: PriorKnowledge) -> int:
        return max(10, known.epoch) if self.every is None else self.every

    def act(self, engines: Sequence[Engine], known: PriorKnowledge) -> None:
        """Each network chooses for the other."""
        chosen = []
        for losses in (engine.losses() for engine in engines):
            share = clean_share(self.share, self.rate, losses, known.clean_share)
            chosen.append(smallest(losses, self._now(share, engines[0].step, known)))
        for engine, kept in zip(engines, reversed(chosen), strict=True):
            engine.weights.copy_(normalised(kept))

    def _now(self, share: np.ndarray, step: int, known: PriorKnowledge) -> np.ndarray:
        """The share that is kept at a step, on the way from 1 to `share` [R]."""
        ramp = max(100, 10 * known.epoch) if self.ramp is None else self.ramp
        return 1 - (1 - share) * min(step / ramp, 1)

    def advance(self, engines: Sequence[Engine], steps: int, known: PriorKnowledge, memory: dict[str, Tensor]) -> None:
        """Take `steps` steps; within=batch chooses before each."""
        if self.within == "all":
            super().advance(engines, steps, known, memory)
            return
        for _ in range(steps):
            self._choose_in_batch(engines, self._shares(engines, known, memory), known)
            for engine in engines:
                engine.advance(1)

    def _shares(self, engines: Sequence[Engine], known: PriorKnowledge, memory: dict[str, Tensor]) -> Sequence[np.ndarray]:
        """The shares [R] that each network keeps in the end; estimates are made as an epoch begins, and remembered in it."""
        if self.rate == "oracle":
            share = known.clean_share if self.share is None else np.broadcast_to(self.share, known.clean_share.shape)
            return [share] * len(engines)
        if engines[0].step % known.epoch == 0:
            found = [clean_share(None, self.rate, engine.losses(), known.clean_share) for engine in engines]
            memory["shares"] = torch.as_tensor(np.stack(found))
        return list(memory["shares"].numpy())

    def _choose_in_batch(self, engines: Sequence[Engine], shares: Sequence[np.ndarray], known: PriorKnowledge) -> None:
        """Set the weights of the samples of the coming step: mean 1 over these, or 0 where none is chosen."""
        batches, epoch = [engine.look_ahead() for engine in engines], engines[0].step // known.epoch
        one, other = (batch.predicted for batch in batches)
        candidates = one != other if self.disagreement and epoch >= self.initial else None
        shares = [self._now(share, epoch * known.epoch, known) for share in shares]
        chosen = [smallest(batch.losses, share, candidates) for batch, share in zip(batches, shares, strict=True)]
        for engine, batch, kept in zip(engines, batches, reversed(chosen), strict=True):
            weights = kept.double() * kept.shape[1] / kept.sum(1, keepdim=True).clamp(min=1)
            engine.weights.scatter_(1, batch.samples, weights.to(engine.weights))


@dataclass(frozen=True)
class WeightAverage(Strategy):
    """Measure and return a moving average of the weights: A(t) = decay A(t-1) + (1 - decay) w(t), with A(start) = w(start).

    Training itself is the ordinary one. All metrics are those of the network with the weights A. Source: Tarvainen & Valpola,
    "Mean teachers are better role models", NeurIPS 2017, whose teacher has these weights.
    """

    decay: float = 0.999  # the share of the average that stays at each step, in [0, 1)
    start: int = 0  # the step from which on it is an average; up to there it is the weights themselves

    copies = 2  # the average; while it is measured, the weights in training

    def validate(self) -> None:
        require(0 <= self.decay < 1, "decay", self.decay, "must lie in [0, 1)")
        require(self.start >= 0, "start", self.start, "must be at least 0")

    def check(self, total: int, recordings: int, known: PriorKnowledge) -> None:
        require(self.start < total, "start", self.start, f"must be below the number of steps, {total}")

    def wrap(self, engine: Engine) -> Engine:
        return AveragedEngine(engine, self.decay, self.start)


def transition_at_anchors(probabilities: np.ndarray, quantile: np.ndarray) -> np.ndarray:
    """T[i, j] = p(j | x^i), [R, K, K], from probabilities [R, n, K]: x^i has rank floor(quantile (n - 1)) by p(i | x)."""
    runs, n = np.arange(len(probabilities)), probabilities.shape[1]
    # Stable: equal probabilities go by position, the same way in every batch of runs.
    order = probabilities.argsort(1, kind="stable")  # [R, n, K]
    anchors = order[runs, np.floor(quantile * (n - 1)).astype(int)]  # [R, K]
    return probabilities[runs[:, None], anchors]


def smallest(losses: Tensor, share: np.ndarray, candidates: Tensor | None = None) -> Tensor:
    """Mask [R, n] of the round(share k), at least one, smallest losses of each run among k candidates; share [R].

    Candidates are all n, or those of a mask [R, n]; where there are none, none is chosen.
    """
    among = torch.ones_like(losses, dtype=torch.bool) if candidates is None else candidates
    count = (torch.tensor(share, device=losses.device) * among.sum(1)).round().clamp(min=1)
    # argsort twice gives ranks. Stable: equal losses go by position, the same way in every batch of runs.
    ranks = losses.where(among, torch.inf).argsort(stable=True, dim=1).argsort(1)
    return (ranks < count[:, None]) & among


def check_share(share: PerRunFloat | None, rate: str) -> None:
    """Raise ConfigError unless `share` and `rate` say how many samples to keep."""
    require(rate in ("oracle", "estimated"), "rate", rate, "must be oracle or estimated")
    if share is not None:
        require((np.asarray(share) > 0) & (np.asarray(share) <= 1), "share", share, "must lie in (0, 1]")
        require(rate == "oracle", "rate", rate, f"is for share=null; share={share} says how many samples are kept")


def check_oracle(share: PerRunFloat | None, rate: str, known: PriorKnowledge) -> None:
    """Raise ConfigError if the share is to come from a noise rate that nobody knows."""
    told = share is not None or rate == "estimated" or bool(np.isfinite(known.clean_share).all())
    require(told, "share", share, "must be given, or rate=estimated: the noise rate is not known without true labels")


def clean_share(share: PerRunFloat | None, rate: str, losses: Tensor, oracle: np.ndarray) -> np.ndarray:
    """The share of samples to keep, [R]: the one that is given, or 1 - noise rate.

    rate=oracle takes `oracle` [R], from the true rate, which nobody knows in practice. rate=estimated needs the losses [R, n]
    only: it is the weight of the lower component of a mixture of two Gaussians. Without label noise there is one group of
    losses, which the mixture splits all the same.
    """
    if share is not None:
        return np.broadcast_to(share, oracle.shape)
    return oracle if rate == "oracle" else np.array([low_weight(row) for row in losses.double().cpu().numpy()])


def low_component(losses: np.ndarray) -> np.ndarray:
    """Mask [n] of the losses that belong to the lower of two Gaussians; all of them if they do not differ."""
    mixture, scaled = two_gaussians(losses)
    if mixture is None:
        return np.ones(len(losses), bool)
    return np.asarray(mixture.predict(scaled) == mixture.means_[:, 0].argmin())


def low_weight(losses: np.ndarray) -> float:
    """Weight of the lower of two Gaussians fitted to the losses [n]; 1 if they do not differ."""
    mixture, _ = two_gaussians(losses)
    return 1.0 if mixture is None else float(mixture.weights_[mixture.means_[:, 0].argmin()])


def two_gaussians(losses: np.ndarray) -> "tuple[GaussianMixture | None, np.ndarray]":
    """A mixture of two Gaussians fitted to the losses [n], and these on the scale of the fit, [n, 1]; None if none differ."""
    from sklearn.mixture import GaussianMixture  # takes as long to import as some sweeps take to train

    spread = np.ptp(losses)
    if not np.isfinite(spread) or spread < 1e-12 or len(losses) < 2:
        return None, losses[:, None]
    # To [0, 1], since reg_covar is absolute: at another scale of the losses it would weigh more or less.
    scaled = (losses[:, None] - losses.min()) / spread
    # A fixed random state: the same losses must select the same samples, alone, in a sweep and after a resume.
    return GaussianMixture(2, reg_covar=5e-4, random_state=0).fit(scaled), scaled


def normalised(kept: Tensor) -> Tensor:
    """Weights [R, n] with mean 1 over the samples: n / count for those kept, 0 for others; 1 for all where none is kept."""
    # Mean 1, so the size of a step does not depend on how many samples are kept.
    weights = torch.where(kept.any(1, keepdim=True), kept, True).double()
    return weights / weights.mean(1, keepdim=True)
