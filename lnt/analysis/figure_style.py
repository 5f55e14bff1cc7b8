"""The look of all figures: colours, fonts, widths, the names of axes; and how a figure is saved."""

from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from lnt.files import write_atomically

# Okabe & Ito's colour-blind-safe palette
SIGNAL, CLEAN, NOISY, PLAIN = "#0072B2", "#009E73", "#D55E00", "#444444"
STYLE: Any = {  # matplotlib types rc keys as one long Literal
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.0,  # a frame would hide the line that it touches
    "legend.fontsize": 7,
    "lines.linewidth": 1.4,
    "pdf.fonttype": 42,  # embed fonts as TrueType, so that text stays text
    "savefig.dpi": 200,
}

SINGLE, DOUBLE = 3.35, 6.9  # column widths of a two-column paper in inches
LABELS = {
    "data.dim": "dimension $d$",
    "data.n_train": "training samples $n$",
    "data.signal_norm": r"signal norm $|\mu|$",
    "data.snr": r"SNR $|\mu|/(s\sqrt{d})$",
    "data.noise_std": "noise standard deviation $s$",
    "noise.rate": r"label noise rate $\tau$",
    "optimizer.lr": r"step size $\eta$",
    "model.width": "filters per sign $m$",
    "test_error": "test error (true labels)",
    "test_error_observed": "test error (observed labels)",
    "best_test_error": "lowest test error\n(same samples: optimistic)",
    "best_test_error_fresh": "test error at the best step",
    "price_of_memorising": "price of memorising\n(final minus best test error)",
    "stage1_step": "step: clean fitted",
    "stage2_step": "step: mislabelled fitted",
}


def label(key: str) -> str:
    """The axis label of a column."""
    return LABELS.get(key, key)


def save_figure(figure: Figure, path: Path) -> None:
    """Write `path`.pdf with embedded fonts and `path`.png."""
    with mpl.rc_context(STYLE):
        for kind in ("pdf", "png"):
            write_atomically(path.with_name(f"{path.name}.{kind}"), partial(figure.savefig, format=kind))


class NotebookFigure(Figure):
    """A figure that a notebook shows by itself: pyplot, which would, keeps every figure alive and needs a backend."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        with mpl.rc_context(STYLE):
            self.savefig(buffer, format="png", dpi=120)
        return buffer.getvalue()
