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
