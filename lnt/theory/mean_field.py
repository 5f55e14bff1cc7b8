"""A mean-field theory of the two stages without a fitted constant: what a run at given label counts does on average.

Time is t = step / T1 with T1 = n m / (eta s^2 d). Samples are of four kinds, the true class first: ++, +-, -+, --. The signal
learnt by class a grows by dS_a/dt = (kappa / n) [n_aa g(z_aa) - n_ab g(z_ab)] with g = -loss' and kappa = n SNR^2; a filter
that responds to the noise patch of a sample gains rho by d rho/dt = g(z). A fraction of the filters responds: half from the
start, others once the push of all other samples has carried them there. docs/theory.md derives every line.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy.special import expit, ndtr, ndtri

KINDS = ("++", "+-", "-+", "--")  # true class, observed class
TRUE, OBSERVED = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])  # the class of each kind: 0 is +, 1 is -
OTHER = 1 - OBSERVED
SIGN = np.array([1.0, -1.0, -1.0, 1.0])  # of the signal in the margin
CLEAN, NOISY = np.array([0, 3]), np.array([1, 2])  # the kinds of classes + and -
TINY = 1e-12
Numbers = Any  # a number, or an array; Cells turns it into an array [R]
# Nodes of the two normal variables that make samples of a kind differ: the push that all filters share, and how many respond.
PUSHES, SHARES = 7, 3


@dataclass(frozen=True)
class MarginLoss:
    """A loss of the margin z: its value, and g = -loss'. Both are elementwise functions of arrays; the default is logistic."""

    slope: Callable[[np.ndarray], np.ndarray] = lambda z: expit(-z)
    value: Callable[[np.ndarray], np.ndarray] = lambda z: np.logaddexp(0, -z)

    def curvature(self, z: np.ndarray) -> np.ndarray:
        """-g'(z) by central differences."""
        return (self.slope(z - 1e-3) - self.slope(z + 1e-3)) / 2e-3

    def longest_step(self, kappa: float) -> float:
        """The longest step in t that follows margins to a minimum of the loss at a finite z, and back; infinite without one."""
        z = np.linspace(-20, 20, 801)
        if (self.slope(z) >= 0).all():
            return np.inf
        # Margins move at most at the rate (1 + kappa) g, so Euler's method is stable up to twice this.
        return 1 / (float(np.abs(self.curvature(z)).max()) * (1 + kappa))


LOGISTIC = MarginLoss()


@dataclass(frozen=True)
class Cells:
    """R settings side by side. Everything that is not given for each of them is broadcast.

    kappa = n SNR^2 = n |mu|^2 / (s^2 d), n the sum of the counts. eta, s and the scale of mu enter in these combinations only.
    """

    counts: np.ndarray  # [R, 4] samples of each of the KINDS; they need not be integers
    kappa: Numbers  # [R]
    dim: Numbers  # [R] d
    width: Numbers = 20  # [R] m
    initial: Numbers = 0.0  # [R] s0 s sqrt(d), standard deviation of <w(0), xi>
    step: Numbers = 0.0  # [R] 1 / T1 in steps: one step of descent in units of t; 0 is gradient flow
    orthogonal: Numbers = False  # [R] noise patches are orthogonal to mu

    def __post_init__(self) -> None:
        counts = np.atleast_2d(np.asarray(self.counts, float))
        if counts.shape[1] != 4 or (counts < 0).any() or (counts.sum(1) < 1).any():
            raise ValueError("counts must be [R, 4], not negative, and at least one sample a row")
        names = [field.name for field in fields(self)[1:]]
        *values, _ = np.broadcast_arrays(*(np.asarray(getattr(self, name), float) for name in names), counts[:, 0])
        object.__setattr__(self, "counts", np.broadcast_to(counts, (len(values[0]), 4)))
        for name, value in zip(names, values, strict=True):
            object.__setattr__(self, name, value)
        for name, valid in (
            ("kappa", self.kappa >= 0),
            ("dim", self.dim >= 1),
            ("width", self.width >= 1),
            ("initial", self.initial >= 0),
            ("step", self.step >= 0),
        ):
            if not np.all(valid):
                raise ValueError(f"{name} is out of its bounds")

    @property
    def n(self) -> np.ndarray:
        """Training samples, [R]."""
        return self.counts.sum(1)


@dataclass(frozen=True)
class Prediction:
    """What is predicted at T times for R cells. Kinds are in the order of KINDS, classes and filter signs in the order +, -."""

    t: np.ndarray  # [T] step / T1
    cells: Cells
    signal: np.ndarray  # [T, R, 2] S_a: output on the signal patch of class a, times a
    signal_variance: np.ndarray  # [T, R, 2] of S_a over runs with these counts
    gamma: np.ndarray  # [T, R, 2] signal coefficient of a filter of each sign
    rho: np.ndarray  # [T, R, 4] mean over matching filters of rho on a sample of each kind
    rho_max: np.ndarray  # [T, R, 4] rho of a filter that responds from the start, on the sample where it is largest
    responding: np.ndarray  # [T, R, 4] share of matching filters that respond to a sample's noise patch
    margin: np.ndarray  # [T, R, 4] mean margin of each kind
    accuracy: np.ndarray  # [T, R, 4] share of each kind with a positive margin
    loss: np.ndarray  # [T, R, 4] mean loss of each kind
    variance: np.ndarray  # [T, R, 2] of <w, xi> on fresh noise patches orthogonal to mu, for filters of each sign
    covariance: np.ndarray  # [T, R, 2] the same between two filters of one sign
    cross_covariance: np.ndarray  # [T, R] between filters of opposite sign
    shift: np.ndarray  # [T, R, 2] <w, mu> of a filter of each sign, times its sign

    def over_kinds(self, values: np.ndarray, kinds: np.ndarray) -> np.ndarray:
        """Mean of `values` [T, R, 4] over the samples of some kinds, [T, R]; NaN without such a sample."""
        counts = self.cells.counts[:, kinds]
        with np.errstate(invalid="ignore", divide="ignore"):
            return (values[..., kinds] * counts).sum(-1) / counts.sum(-1)

    def memorised(self, share: float = 0.5) -> np.ndarray:
        """The time after which at least `share` of the mislabelled samples are fitted as labelled, [R].

        0 if they are from the start; NaN if they are not by the last time, or if none is mislabelled. Of N samples the k-th
        must be fitted, k = ceil(share N): at the median of its order statistic, (k - 0.3) / (N + 0.4) of the distribution.
        """
        many = self.cells.counts[:, NOISY].sum(1)
        level = (np.maximum(np.ceil(share * many - 1e-9), 1) - 0.3) / (many + 0.4)
        return last_crossing(self.t, self.over_kinds(self.accuracy, NOISY) - level, 0.0)

    def test_error(self, at: slice | np.ndarray | int = -1, nodes: int = 33) -> np.ndarray:
        """Test error on true labels at the times t[at], [.., R]."""
        cells = self.cells
        ratio = np.where((cells.orthogonal > 0) | (cells.kappa == 0), 0, cells.n / np.maximum(cells.kappa * cells.dim, TINY))
        return output_below_zero(
            self.signal[at],
            self.signal_variance[at],
            self.variance[at],
            self.covariance[at],
            self.cross_covariance[at],
            self.shift[at] * np.sqrt(ratio)[:, None],
            cells.width,
            nodes,
        )

    def lowest_test_error(self, times: int = 24, after: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """The lowest test error and its time, [R] each, over about `times` times t > `after`, even in log(t)."""
        first = max(1, int(np.searchsorted(self.t, after)))
        wanted = np.geomspace(self.t[first], self.t[-1], times)
        at = np.unique(np.searchsorted(self.t, wanted).clip(first, len(self.t) - 1))
        errors = self.test_error(at, nodes=21)
        best = errors.argmin(0)
        return errors[best, np.arange(errors.shape[1])], self.t[at][best]


def predict(cells: Cells, t_end: float, loss: MarginLoss = LOGISTIC, growth: float = 0.08) -> Prediction:
    """Solve the equations of docs/theory.md from t = 0 to t_end for all cells at once.

    `growth` is the step of the integration relative to t. Steps are never shorter than those of descent itself.
    """
    kappa = float(np.max(cells.kappa))
    times = time_grid(t_end, float(np.max(cells.step)), growth, kappa, loss.longest_step(kappa))
    state, found = _MeanField(cells, loss), []
    for now, then in zip(times, [*times[1:], np.nan], strict=True):
        found.append(state.observe())
        if np.isfinite(then):
            state.advance(then - now)
    columns = {name: np.stack([one[name] for one in found]) for name in found[0]}
    return Prediction(times, cells, **columns)


def time_grid(t_end: float, step: float, growth: float, kappa: float, longest: float = np.inf) -> np.ndarray:
    """Times from 0 to t_end: even at first, in steps of descent or such that little happens in one, then up to `longest`."""
    least = max(step, min(0.02, 0.1 / max(kappa, 1.0)), t_end * 1e-5)
    times = [0.0]
    while times[-1] < t_end * (1 - 1e-9):
        times.append(min(t_end, times[-1] + max(least, min(longest, growth * times[-1]))))
    return np.array(times)


class _MeanField:
    """The state of R cells at one time. Nodes [Q] stand for the samples of a kind; arrays over them are [R, 4, Q]."""

    def __init__(self, cells: Cells, loss: MarginLoss) -> None:
        self.cells, self.loss = cells, loss
        u, weight_u = _normal_nodes(PUSHES)
        v, weight_v = _normal_nodes(SHARES)
        self.nodes, self.u, self.v = u, np.repeat(u, SHARES), np.tile(v, PUSHES)
        self.share_weight, self.weight = weight_v, np.outer(weight_u, weight_v).ravel()
        runs, counts = len(cells.counts), cells.counts
        self.n, self.d, self.count = cells.n[:, None], cells.dim[:, None], counts[:, :, None]
        self.kappa, self.h = cells.kappa[:, None], cells.initial[:, None]
        oblique = (cells.orthogonal == 0)[:, None] & (self.kappa > 0)
        # <xi, mu> / |mu|^2 and <xi, mu> / (s^2 d) are normal with these standard deviations.
        self.to_noise = np.where(oblique, np.sqrt(self.n / np.maximum(self.kappa * self.d, TINY)), 0)
        self.to_signal = np.where(oblique, np.sqrt(self.kappa / (self.n * self.d)), 0)
        zero = np.zeros((runs, 4, self.weight.size))
        self.first, self.late, self.late_square = zero, zero, zero  # rho: responding from the start; later ones, and squares
        self.reaction, self.pushed = zero, zero  # of other samples on a sample's own push; -rho of filters of the other sign
        # <w, mu> of the filters of each sign, those that start above and below 0; the mean of a half-normal variable.
        start = np.maximum(np.sqrt(2 / np.pi) * self.h * np.sqrt(self.kappa / self.n), TINY)
        self.aligned = np.repeat(np.concatenate([start, -start], 1)[:, None], 2, 1)  # [R, 2, 2]
        self.bend, self.turn = np.zeros((runs, 4)), np.zeros((runs, 4))  # arc length and angle of the push, see _turn
        self.variance, self.covariance, self.cross = np.zeros((runs, 2)), np.zeros((runs, 2)), np.zeros(runs)
        self.own_variance, self.own_covariance = np.zeros((runs, 4)), np.zeros((runs, 4))
        self.along = np.zeros((runs, 2))  # signal that comes from noise patches, which are not orthogonal to it
        self.spread = np.zeros((runs, 2, 6))  # modes of the deviation of S_a from its mean, see _spread
        self.spread[:, :, 5] = self.h * np.sqrt(self.kappa / (self.n * cells.width[:, None]))
        self.spread_clean, self.spread_noisy = np.zeros((runs, 2, 6)), np.zeros((runs, 2, 6))
        self.leak = np.zeros((runs, 2))
        self.back: np.ndarray | float = 0.0
        self.overshoot = np.zeros((runs, 1))
        self.t = 0.0
        self._margins()

    def _mean(self, values: np.ndarray) -> np.ndarray:
        """Mean over the samples of each kind, [R, 4]."""
        return (values * self.weight).sum(2)

    def _by_sign(self, values: np.ndarray) -> np.ndarray:
        """Sum over all samples divided by d, for the filters that match their observed label, [R, 2]."""
        sums = self._mean(values) * self.cells.counts
        return np.stack([sums[:, [0, 2]].sum(1), sums[:, [1, 3]].sum(1)], 1) / self.d

    def _by_others(self, values: np.ndarray) -> np.ndarray:
        """The same without the sample itself, as a sample of each kind sees it, [R, 4]."""
        return np.maximum(self._by_sign(values)[:, OBSERVED] - self._mean(values) / self.d, 0)

    def _margins(self) -> None:
        """Everything at this time that follows from the state."""
        above, below = np.maximum(self.aligned, 0).mean(2), np.maximum(-self.aligned, 0).mean(2)
        self.signal = np.stack([above[:, 0] - above[:, 1], below[:, 1] - below[:, 0]], 1) + self.along
        self.gamma = self.aligned.mean(2) * [1, -1]
        self.shift = self.gamma + self.along
        push = self.shift * self.to_noise  # standard deviation of the signal's share in <w, xi>
        self.own_push, other_push = push[:, OBSERVED], push[:, OTHER]
        own = np.maximum(self.own_variance - self.own_covariance, TINY)
        shared_square = np.maximum(self.own_covariance, 0) + self.own_push**2
        shared, single = np.sqrt(shared_square), np.sqrt(self.h**2 + own)
        # A one-factor model: filters join where a normal variable, of which u is the part that they share, exceeds a level.
        tilt, joined = shared / single, np.clip((self.bend + self.turn) / (2 * np.pi), 1e-9, 1 - 1e-9)
        level = (ndtri(joined) * np.sqrt(1 + tilt**2))[:, :, None] + self.u * tilt[:, :, None]
        self.joined, density = ndtr(level), _density(level)
        self.common = self.u * shared[:, :, None] - self.reaction
        self.own_std = np.sqrt(own)[:, :, None]
        # Filters that respond from the start go on where their own rho outweighs the push.
        held = self.first * (1 - self.back) + self.common
        self.holding = ndtr(held / self.own_std) if self.t > 0 else np.ones_like(held)
        of_first = 0.5 * (held * self.holding + (self.own_std * _density(held / self.own_std) if self.t > 0 else 0))
        of_late = self.late * (1 - self.back) + 0.5 * self.joined * self.common
        h = self.h[:, :, None]
        # Filters of the other sign respond at first too, and their share of the output ends as their rho grows to -<w(0), xi>.
        ahead = self.first / np.maximum(h, TINY)
        chosen = 0.5 * (single[:, :, None] - h) * density + h * (_density(0.0) - _density(ahead) + ahead * ndtr(-ahead))
        self.responding = 0.5 * (self.holding + self.joined)
        # Of m filters a random number responds: v spreads the samples by its standard deviation.
        mean = self._mean(self.responding)
        relative = np.sqrt(np.maximum(1 - mean, 0) / (mean * self.cells.width[:, None]))
        self.factor = np.maximum(1 + self.v * relative[:, :, None], 0.05)
        noise = self.factor * (of_first + of_late + chosen)
        # Filters of the other sign are pushed above 0 by the others' rho and the signal, and their own gradient pushes back.
        part = self.own_push / np.sqrt(np.maximum(shared_square, TINY**2))
        self.signal_part = part[:, :, None]
        self.other_mean = -self.u * (part * other_push)[:, :, None]
        other_std = np.sqrt(np.maximum(self.variance[:, OTHER], 0) + other_push**2 * (1 - part**2) + TINY**2)[:, :, None]
        ratio = self.other_mean / other_std
        self.other_on = ndtr(ratio)
        self.excess = np.maximum(self.other_mean * self.other_on + other_std * _density(ratio) - self.pushed, 0)
        self.density, self.noise_share = density, np.maximum(self.own_covariance, 0) / np.maximum(shared_square, TINY**2)
        self.margin = (self.signal[:, TRUE] * SIGN)[:, :, None] + noise - self.excess
        self.pull = self.loss.slope(self.margin)

    def observe(self) -> dict[str, np.ndarray]:
        """The fields of Prediction."""
        rho = 0.5 * self.first + self.late
        return {
            "signal": self.signal,
            "signal_variance": (self.spread**2).sum(2),
            "gamma": self.gamma,
            "rho": self._mean(rho),
            "rho_max": np.where(self.cells.counts > 0, self.first.max(2), np.nan),
            "responding": self._mean(self.responding),
            "margin": self._mean(self.margin),
            "accuracy": self._positive(),
            "loss": self._mean(self.loss.value(self.margin)),
            "variance": self.variance + self.h**2,
            "covariance": self.covariance,
            "cross_covariance": self.cross,
            "shift": self.shift,
        }

    def _positive(self) -> np.ndarray:
        """Share of the samples of each kind with a positive margin, which is taken as linear between the nodes in u."""
        # What <w(0), xi> leaves of the output of a sample has mean 0; it matters while nothing else is there.
        left_over = self.h * np.sqrt((1 - 1 / np.pi) / self.cells.width[:, None])
        margin = (self.margin + self.u * left_over[:, :, None]).reshape(*self.margin.shape[:2], PUSHES, SHARES)
        left, right = margin[:, :, :-1], margin[:, :, 1:]
        low, high = self.nodes[:-1, None], self.nodes[1:, None]
        crossing = ndtr(low + (high - low) * np.clip(left / np.where(left == right, 1, left - right), 0, 1))
        below, above = ndtr(low), ndtr(high)
        inside = np.where(left > 0, np.where(right > 0, above, crossing) - below, np.where(right > 0, above - crossing, 0))
        ends = (margin[:, :, 0] > 0) * ndtr(self.nodes[0]) + (margin[:, :, -1] > 0) * ndtr(-self.nodes[-1])
        return (inside.sum(2) + ends) @ self.share_weight

    def advance(self, dt: float) -> None:
        """One step of the integration: Euler's, which is descent itself where dt is one step of it."""
        counts, pull = self.cells.counts, self.pull
        mean_pull = self._mean(pull)
        drive = (counts[:, CLEAN] * mean_pull[:, CLEAN] - counts[:, NOISY] * mean_pull[:, NOISY]) * self.kappa / self.n
        curvature = self.loss.curvature(self.margin)
        if self.t == 0:
            # The first step carries filters of the other sign below 0 by up to its own length.
            length = self.cells.step[:, None] * mean_pull.mean(1, keepdims=True)
            self.overshoot = np.maximum(length**2 - 2 * np.sqrt(2 / np.pi) * length * self.h, 0)
        self._spread(dt, curvature)
        self._turn(dt, drive)
        rho = 0.5 * self.first + self.late
        self.reaction = self.reaction + dt * self._by_sign(self.responding**2 * curvature)[:, OBSERVED][:, :, None] * rho
        self._align(dt * drive)
        self.late_square = self.late_square + dt * pull * (2 * self.late + 0.5 * dt * self.joined * pull)
        self.first = self.first + dt * pull * self.holding
        self.late = self.late + 0.5 * dt * pull * self.joined
        self.pushed = self.pushed + np.minimum(pull * dt, self.excess)
        self._moments()
        self.t += dt
        self._margins()

    def _align(self, pushes: np.ndarray) -> None:
        """Move <w, mu> by the pushes [R, 2] of both classes: filters above 0 see class +, those below 0 class -."""
        above, below = (pushes[:, side, None, None] * np.array([[1], [-1]]) for side in (0, 1))
        moved = self.aligned + np.where(self.aligned > 0, above, below)
        # What lies beyond 0 belongs to the other class, which may push back: then the filter stays at 0.
        first, second = np.where(self.aligned > 0, above, below), np.where(self.aligned > 0, below, above)
        beyond = moved * np.maximum(second / np.where(first == 0, 1, first), 0)
        self.aligned = np.where(moved * self.aligned < 0, beyond, moved)

    def _spread(self, dt: float, curvature: np.ndarray) -> None:
        """Deviations of S_a over runs with the same counts, to first order, in six independent modes.

        Four come from which samples were drawn (u and v of clean and of mislabelled ones), one from the noise patches' share of
        mu, one from w(0). The class answers by changing its margins.
        """
        counts, kappa = self.cells.counts, self.kappa / self.n
        clean, noisy = counts[:, CLEAN], counts[:, NOISY]
        by_u, by_v = self._mean(self.u * self.pull), self._mean(self.v * self.pull)
        leak = self.to_signal * np.sqrt(np.maximum(self.covariance, 0) * self.d)
        force = [np.sqrt(clean) * by_u[:, CLEAN], -np.sqrt(noisy) * by_u[:, NOISY]]
        force += [np.sqrt(clean) * by_v[:, CLEAN], -np.sqrt(noisy) * by_v[:, NOISY]]
        drawn = np.stack([*(one * kappa * dt for one in force), leak - self.leak, np.zeros_like(leak)], 2)
        self.leak = leak
        stiff, share = self._mean(curvature), self._mean(self.responding)
        stiff_clean, stiff_noisy = stiff[:, CLEAN][:, :, None], stiff[:, NOISY][:, :, None]
        answer_clean = dt * kappa[:, :, None] * clean[:, :, None] * stiff_clean
        answer_noisy = dt * kappa[:, :, None] * noisy[:, :, None] * stiff_noisy
        moved = self.spread + drawn - answer_clean * self.spread_clean + answer_noisy * self.spread_noisy
        # Implicit in S_a: the rate grows with kappa.
        self.spread = moved / (1 + answer_clean + answer_noisy)
        self.spread_clean = self.spread_clean - dt * share[:, CLEAN][:, :, None] * stiff_clean * (
            self.spread + self.spread_clean
        )
        self.spread_noisy = self.spread_noisy - dt * share[:, NOISY][:, :, None] * stiff_noisy * (
            self.spread_noisy - self.spread
        )

    def _turn(self, dt: float, drive: np.ndarray) -> None:
        """Turn the push <w, xi_i> that a filter gets without the sample's own rho: a normal process, a path on a sphere.

        A filter has responded by time t if it did so at any time before. For a convex path of length L whose ends lie at an
        angle psi, starting from w(0), P(positive somewhere) = 1/2 + (L + psi) / (4 pi).
        """
        rho = 0.5 * self.first + self.late
        speed = self._by_others(self.responding * self.pull**2) + (drive[:, OBSERVED] * self.to_noise) ** 2
        along = self._by_others(rho * self.pull) + self.own_push * drive[:, OBSERVED] * self.to_noise
        size = self.h**2 + self._by_others(0.5 * self.first**2 + self.late_square) + self.own_push**2
        # What the first step has left on the samples of the other label, for good.
        kick = 0.5 * (self._by_sign(np.ones_like(rho))[:, ::-1] * self.overshoot)[:, OBSERVED]
        size, speed = (size, speed + kick / dt**2) if self.t == 0 else (size + kick, speed)
        angle = np.arctan2(np.sqrt(np.maximum(size * speed - along**2, 0)) * dt, size + along * dt)
        after = np.maximum(size + 2 * along * dt + speed * dt**2 - self.h**2, 0)
        turned = np.arctan2(np.sqrt(after), np.broadcast_to(self.h, after.shape))
        # With w(0) = 0 the path starts at once at a right angle to it.
        self.bend = self.bend + np.where(size == 0, turned, angle)
        self.turn = np.maximum(self.turn, turned)

    def _moments(self) -> None:
        """Variances and covariances of <w, xi> on fresh noise patches, and the signal that comes from noise patches."""
        rho, kept, m = 0.5 * self.first + self.late, 1 - self.back, np.maximum(self.cells.width, 2)[:, None, None]
        common = self.common * self.noise_share[:, :, None]
        chosen = self.late * self.own_std * self.density / np.maximum(self.joined, 1e-6)
        square = 0.5 * self.first * (self.first * kept + common) + self.late_square * kept + self.late * common + chosen
        square = square * self.factor
        share = np.clip(rho / np.maximum(self.first, TINY), 0.3, 1)
        # Two different ones among m filters, of which a share `factor` times as large as usual responds.
        pairs = np.maximum(self.factor * (m * share * self.factor - 1) / ((m - 1) * share), 0) * rho * (rho * kept + common)
        others = self._by_sign(np.ones_like(rho))[:, ::-1] * self.overshoot
        leaning = np.maximum(self._by_sign(self.pushed * self.other_mean)[:, ::-1], 0)
        more, more_pairs = leaning + 0.5 * others, leaning + 0.25 * others
        self.variance, self.covariance = self._by_sign(square) + more, self._by_sign(pairs) + more_pairs
        self.own_variance = self._by_others(square) + more[:, OBSERVED]
        self.own_covariance = self._by_others(pairs) + more_pairs[:, OBSERVED]
        pushed = np.sqrt(self.pushed**2 + 0.25 * self.overshoot[:, :, None])
        self.cross = -self._by_sign(rho * pushed).sum(1)
        self.back = self._by_sign(self.other_on)[:, ::-1][:, OBSERVED][:, :, None]
        leaning_signal = self.u * self.signal_part
        along = self._by_sign(leaning_signal * self.factor * rho) + self._by_sign(leaning_signal * self.pushed)[:, ::-1]
        self.along = along * self.d * self.to_signal


def output_below_zero(
    signal: np.ndarray,
    signal_variance: np.ndarray,
    variance: np.ndarray,
    covariance: np.ndarray,
    cross: np.ndarray,
    shift: np.ndarray,
    width: np.ndarray,
    nodes: int = 33,
) -> np.ndarray:
    """P(S_a + mean_r relu(G_r + Q) - mean_r relu(G'_r - Q') < 0), the mean over both classes a.

    Arrays are [.., 2] for the signs or classes +, -; `cross` and `width` are [..]. The m filters of one sign have normal G_r
    with `variance` and `covariance`, those of the other sign G'_r, with covariance `cross` between them; Q = shift_+ z and
    Q' = shift_- z with one z ~ N(0, 1). Given what the filters of a sign share, the mean over the m of them is taken as normal;
    the rest is an integral over two variables.
    """
    grid = np.linspace(-5, 5, nodes)
    weight = _density(grid) / _density(grid).sum()
    shared = np.maximum(covariance, 0)
    single = np.sqrt(np.maximum(variance - shared, TINY))[..., None, None]
    std = np.sqrt(shared + shift**2)
    slope = (cross - shift[..., 0] * shift[..., 1]) / np.maximum(std[..., 0], TINY)
    rest = np.sqrt(np.maximum(std[..., 1] ** 2 - slope**2, 0))
    plus = std[..., 0, None, None] * grid[:, None]
    minus = slope[..., None, None] * grid[:, None] + rest[..., None, None] * grid
    (mean_plus, var_plus), (mean_minus, var_minus) = (
        _relu_moments(plus, single[..., 0, :, :]),
        _relu_moments(minus, single[..., 1, :, :]),
    )
    scatter = (var_plus + var_minus) / np.asarray(width)[..., None, None]
    errors = 0.0
    for sign, side in ((1, 0), (-1, 1)):
        total = np.sqrt(scatter + signal_variance[..., side, None, None] + TINY**2)
        mean = signal[..., side, None, None] + sign * (mean_plus - mean_minus)
        errors = errors + np.einsum("...ab,a,b->...", ndtr(-mean / total), weight, weight) / 2
    return np.asarray(errors)


def last_crossing(t: np.ndarray, values: np.ndarray, level: float) -> np.ndarray:
    """The time after which `values` [T, R] stay at or above `level`, [R]: 0 if they always do, NaN if they do not at the end.

    Between two times the values are taken as linear.
    """
    found = np.full(values.shape[1], np.nan)
    for run, column in enumerate(values.T):
        below = np.flatnonzero(~(column[1:] >= level)) + 1  # at t = 0 nothing is fitted, and nothing says so
        if len(below) == 0:
            found[run] = 0.0
        elif below[-1] + 1 < len(t) and np.isfinite(column[below[-1]]):
            low, high = below[-1], below[-1] + 1
            found[run] = t[low] + (level - column[low]) / (column[high] - column[low]) * (t[high] - t[low])
    return found


def sample_counts(n: int, rate_positive: float, rate_negative: float, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Label counts [draws, 4] of n samples with uniform true classes, each flipped with the rate of its class."""
    positive = rng.binomial(n, 0.5, draws)
    flipped, back = rng.binomial(positive, rate_positive), rng.binomial(n - positive, rate_negative)
    return np.stack([positive - flipped, flipped, back, n - positive - back], 1).astype(float)


@dataclass(frozen=True)
class Average:
    """What is predicted on average over drawn label counts, for R cells."""

    time: np.ndarray  # [R] half of the mislabelled are memorised, median; NaN if by t_end less than half of the draws are there
    time_range: np.ndarray  # [R, 2] its 10 % and 90 % quantiles over the draws in which it exists
    final_error: np.ndarray  # [R] test error at t_end, mean
    lowest_error: np.ndarray  # [R] mean over draws of the lowest test error


def average_over_counts(
    cells: Cells, rates: np.ndarray, t_end: float, loss: MarginLoss = LOGISTIC, draws: int = 32, seed: int = 0
) -> Average:
    """Predict each cell at `draws` label counts of its n samples, flipped with `rates` [R, 2] of the classes + and -.

    Test errors are convex in the counts: the few draws in which a class has lost most of its majority make the mean.
    """
    rng = np.random.default_rng(seed)
    settings = zip(cells.n.astype(int), *np.broadcast_to(rates, (len(cells.n), 2)).T, strict=True)
    counts = np.concatenate([sample_counts(n, plus, minus, draws, rng) for n, plus, minus in settings])
    rest = {field.name: np.repeat(getattr(cells, field.name), draws) for field in fields(cells)[1:]}
    found = predict(Cells(counts, **rest), t_end, loss)
    times = found.memorised().reshape(-1, draws)
    # Not reached sorts last; a draw without mislabelled samples says nothing.
    reached = np.where((counts[:, NOISY].sum(1) > 0).reshape(times.shape) & np.isnan(times), np.inf, times)
    some = np.isfinite(times).any(1)
    time = np.array([np.nanmedian(row) if ok else np.nan for row, ok in zip(reached, some, strict=True)])
    spread = np.array(
        [np.nanquantile(row, (0.1, 0.9)) if ok else (np.nan, np.nan) for row, ok in zip(times, some, strict=True)]
    )
    return Average(
        np.where(np.isfinite(time), time, np.nan),
        spread,
        found.test_error().reshape(-1, draws).mean(1),
        found.lowest_test_error()[0].reshape(-1, draws).mean(1),
    )


def expected_counts(n: float, rate_positive: float, rate_negative: float) -> np.ndarray:
    """The mean label counts of uniform true classes, [4]."""
    return n / 2 * np.array([1 - rate_positive, rate_positive, rate_negative, 1 - rate_negative])


def _normal_nodes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Hermite nodes and weights of N(0, 1)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return nodes, weights / weights.sum()


def _density(x: Any) -> np.ndarray:
    return np.exp(-np.minimum(x * x, 1400.0) / 2) / np.sqrt(2 * np.pi)


def _relu_moments(mean: np.ndarray, std: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of max(0, X), X normal."""
    ratio = mean / std
    positive, density = ndtr(ratio), _density(ratio)
    first = mean * positive + std * density
    return first, np.maximum((mean**2 + std**2) * positive + mean * std * density - first**2, 0)
