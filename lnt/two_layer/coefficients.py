"""Signal learning and noise memorisation: the coefficients of a filter in the span of the data.

    w_{j,r}(t) = a(t) w_{j,r}(0) + j gamma_{j,r} mu / |mu|^2 + sum_i rho_{j,r,i} xi_i / |xi_i|^2

a(t) is 1 without weight decay. With several noise patches there is a rho for each; with K classes filters have a class k in
place of a sign j, and their signal is mu_k.

Source: Kou et al. 2023, Definition 5.1; Han et al. 2025, signal-noise decomposition.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lnt.training.engine import Coefficients


def from_span(span: Tensor, square_norms: Tensor, residual: Tensor, axes: int, signal_classes: Sequence[int]) -> Coefficients:
    """Coefficients from C [R, P, V + n] in W = a W(0) + C [mu; xi], given |mu|^2, |xi_i|^2 as [R, V + n].

    `signal_classes` [S] are the classes of the signal patches, which are the V directions u, or u and -u in turn. gamma of a
    filter is the largest coefficient of a signal patch of its class: j times that of mu; with several directions of a class
    the largest of theirs (XOR: |coefficient of u| for j = +1, |coefficient of v| for j = -1).
    """
    scaled, patches = span * square_norms[:, None], len(signal_classes)
    signs = scaled.new_tensor([1, -1] if patches > axes else [1])
    of_patches = (scaled[..., :axes, None] * signs).flatten(2)  # [R, P, S]
    classes = torch.tensor(signal_classes, device=span.device)
    count = int(classes.max()) + 1
    own = [of_class[..., classes == c].amax(2) for c, of_class in enumerate(of_patches.chunk(count, 1))]
    return Coefficients(torch.cat(own, 1), scaled[..., axes:], residual, count)


def decompose(
    filters: Tensor, initial: Tensor, decay: Tensor, rows: Tensor, axes: int, signal_classes: Sequence[int]
) -> Coefficients | None:
    """Coefficients of given filters [R, P, D] by least squares; None where the decomposition does not hold.

    initial [R, P, D] is w(0), decay [R] is a(t), rows [R, V + n, D] are mu (or u, v), xi_1 .. xi_n; `axes` is V, and
    `signal_classes` those of `from_span`. The residual is the share
    of |W - a W(0)| outside the span of the rows. The decomposition is refused if the rows are dependent (V + n > d, or mu = 0)
    or if the residual is more than rounding can explain.
    """
    moved = filters - decay[:, None, None] * initial
    # The rank is taken of rows of length 1, in double: its tolerance is relative to the largest row, so a short mu beside
    # long xi would count as dependent.
    gram, unit = rows @ rows.mT, torch.nn.functional.normalize(rows.double(), dim=2)
    if rows.shape[1] > rows.shape[2] or bool((torch.linalg.matrix_rank(unit @ unit.mT, hermitian=True) < rows.shape[1]).any()):
        return None
    span = torch.linalg.solve(gram, rows @ moved.mT).mT
    size = torch.linalg.matrix_norm(moved)
    outside = torch.linalg.matrix_norm(moved - span @ rows)
    # At step 0 nothing has moved: 0 / 0, but the decomposition holds.
    residual = torch.where(size > 0, outside / size, 0)
    if bool((residual > torch.finfo(rows.dtype).eps ** 0.5).any()):
        return None
    return from_span(span, gram.diagonal(dim1=1, dim2=2), residual, axes, signal_classes)
