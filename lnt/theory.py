"""What the theory predicts. Constants are unknown there and are fitted, never claimed."""

import numpy as np


def stage1_scale(n: object, m: object, lr: object, noise_std: object, dim: object) -> np.ndarray:
    """T1 = n m / (eta s^2 d): the order of the number of steps after which Stage I ends.

    Solved for eta it is its own inverse: stage1_scale(n, m, T1, s, d) is the step size whose scale is T1 steps.
    Source: Han et al., "On the Role of Label Noise in the Feature Learning Process", ICML 2025, Stage I; the regime is
    n SNR^2 = Theta(1) and d of order n^2 and above.
    """
    size = np.asarray(n, float) * np.asarray(m, float)
    return size / (np.asarray(lr, float) * np.square(np.asarray(noise_std, float)) * np.asarray(dim, float))


def benign_ratio(n: object, signal_norm: object, noise_std: object, dim: object) -> np.ndarray:
    """n |mu|^4 / (s^4 d): test error is small at convergence if this is large, and of constant order if it is small.

    Source: Kou et al., ICML 2023, Theorems 4.2 and 4.3 (ReLU, flip rate small); with the noiseless bound
    exp(-n |mu|^4 / (C s^4 d)) of Han et al. 2025.
    """
    size = np.asarray(n, float) * np.asarray(signal_norm, float) ** 4
    return size / (np.asarray(noise_std, float) ** 4 * np.asarray(dim, float))


# Exponent a of the boundary y ~ x^a that benign_ratio = constant predicts, for the axes that it speaks of.
BENIGN_EXPONENTS = {
    ("data.dim", "data.signal_norm"): 1 / 4,
    ("data.n_train", "data.signal_norm"): -1 / 4,
    ("data.noise_std", "data.signal_norm"): 1.0,
    ("data.dim", "data.snr"): -1 / 4,
    ("data.n_train", "data.snr"): -1 / 4,
}
