"""The look of all figures: colours, fonts, widths, the names of axes; and how a figure becomes a file."""

from collections.abc import Collection
from io import BytesIO
from typing import Any

import matplotlib as mpl
from fontTools import subset
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

FORMATS = ("pdf", "png", "svg")  # of figures
# Tables of a font that say how to set text. A PDF needs none, since its text is set, and reading them takes longer than to
# draw the figure. There is no public way to leave them out; where this one fails, PDFs are larger and as good.
getattr(subset.Options, "_drop_tables_default", []).extend(("GDEF", "GPOS", "GSUB", "MATH"))
# Okabe & Ito's colour-blind-safe palette
SIGNAL, CLEAN, NOISY, PLAIN = "#0072B2", "#009E73", "#D55E00", "#444444"
CATEGORIES = (PLAIN, SIGNAL, NOISY, CLEAN, "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")  # in this order
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
    "data.dim_over_n": "dimensions per sample $d/n$",
    "data.n_gamma": r"signal $n|\mu|^2$",
    "data.signal_norm": r"signal norm $|\mu|$",
    "data.snr": r"SNR $|\mu|/(s\sqrt{d})$",
    "data.noise_std": "noise standard deviation $s$",
    "data.positive_share": "share of class +1",
    "data.noise_patches": "noise patches $L$",
    "data.noise_ratio": "noise in class $-1$, relative",
    "data.mixup": r"mixup $\alpha$",
    "noise.rate": r"label noise rate $\tau$",
    "optimizer.lr": r"step size $\eta$",
    "optimizer.rho": r"radius $\rho$ of SAM",
    "model.width": "filters per sign $m$",
    "model.leak": "slope of leaky ReLU below 0",
    "test_error": "test error (true labels)",
    "test_error_rare": "test error (rarest feature)",
    "test_error_observed": "test error (observed labels)",
    "best_test_error": "lowest test error\n(same samples: optimistic)",
    "best_test_error_fresh": "test error at the best step",
    "price_of_memorising": "price of memorising\n(final minus best test error)",
    "stage1_step": "step: clean fitted",
    "stage2_step": "step: mislabelled fitted",
    "stage1_time": "time: clean fitted",
    "stage2_time": "time: mislabelled fitted",
}


def label(key: str) -> str:
    """The axis label of a column."""
    return LABELS.get(key, key)


def quantity(key: str) -> str:
    """What a column measures, in a word or two: its label without what is in brackets."""
    return label(key).split("\n")[0].split(" (")[0]


def as_text(formula: str) -> str:
    """A formula of TeX as text, for captions of the page."""
    for tex, text in ((r"\,", " "), (r"\mathrm{SNR}", "SNR"), (r"\mu", "μ"), (r"\tau", "τ"), ("^2", "²"), ("^4", "⁴")):
        formula = formula.replace(tex, text)
    return formula


def rendered(figure: Figure, formats: Collection[str]) -> dict[str, bytes]:
    """The files of a figure by their format. The figure is laid out once and then stays as it is."""
    with mpl.rc_context(STYLE):
        # On the canvas and at the resolution of the PNG: what is measured of its texts is not measured again.
        figure.set_dpi(STYLE["savefig.dpi"])
        FigureCanvasAgg(figure)
        if (layout := figure.get_layout_engine()) is not None:
            layout.execute(figure)
            # With a layout, matplotlib draws a figure twice for each file.
            figure.set_layout_engine(None)
        return {kind: _file(figure, kind) for kind in formats}


def _file(figure: Figure, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format=kind, **options)
    return buffer.getvalue()


class NotebookFigure(Figure):
    """A figure that a notebook shows by itself: pyplot, which would, keeps every figure alive and needs a backend."""

    def _repr_png_(self) -> bytes:
        with mpl.rc_context(STYLE):
            return _file(self, "png", dpi=120)
