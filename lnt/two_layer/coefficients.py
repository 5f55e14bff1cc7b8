"""Signal learning and noise memorisation: the coefficients of a filter in the span of the data.

    w_{j,r}(t) = a(t) w_{j,r}(0) + j gamma_{j,r} mu / |mu|^2 + sum_i rho_{j,r,i} xi_i / |xi_i|^2

a(t) is 1 without weight decay. Source: Kou et al. 2023, Definition 5.1; Han et al. 2025, signal-noise decomposition.
"""

import torch
from torch import Tensor

from lnt.training.engine import Coefficients
from lnt.two_layer.network import second_layer


def from_span(span: Tensor, square_norms: Tensor, residual: Tensor, axes: int) -> Coefficients:
    """Coefficients from C [R, P, V + n] in W = a W(0) + C [mu; xi], given |mu|^2, |xi_i|^2 as [R, V + n].

    With V = 2 directions u, v (XOR) either sign of its own direction serves a filter: gamma is |coefficient of u| for j = +1,
    |coefficient of v| for j = -1.
    """
    scaled, filters = span * square_norms[:, None], span.shape[1]
    if axes == 1:
        # The sign j of the filter: by definition the coefficient of mu is j gamma.
        gamma = scaled[..., 0] * second_layer(filters, span).sign()
    else:
        gamma = torch.cat([scaled[:, : filters // 2, 0], scaled[:, filters // 2 :, 1]], 1).abs()
    return Coefficients(gamma, scaled[..., axes:], residual)


def decompose(filters: Tensor, initial: Tensor, decay: Tensor, rows: Tensor, axes: int) -> Coefficients | None:
    """Coefficients of given filters [R, P, D] by least squares; None where the decomposition does not hold.

    initial [R, P, D] is w(0), decay [R] is a(t), rows [R, V + n, D] are mu (or u, v), xi_1 .. xi_n. The residual is the share
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
    return from_span(span, gram.diagonal(dim1=1, dim2=2), residual, axes)
