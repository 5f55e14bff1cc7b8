"""The look of figures: widths and type of a paper, names of one's own, titles that wrap, colours for every colour vision."""

import itertools
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from lnt.analysis import figure_selection, figure_theory
from lnt.analysis import figure_style as style
from lnt.analysis.figure_legend import wrapped
from lnt.analysis.figure_names import heading, label, level
from lnt.analysis.figure_stages import PANELS
from lnt.analysis.figure_style import NotebookFigure, fitted, look, shown, side_by_side
from lnt.errors import ConfigError

# Machado, Oliveira & Fernandes 2009 (IEEE TVCG 15), severity 1, on linear RGB.
DICHROMATS = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
PAGE = Path(style.__file__).with_name("report_page.js")
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(colour, vision):
    """CIELAB of a colour as it is seen."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.array(DICHROMATS[vision]) @ linear, 0, 1) / (TO_XYZ @ np.ones(3))
    x, y, z = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize(
    "colours",
    [
        style.CATEGORIES,
        [style.SIGNAL, style.CLEAN, style.NOISY, style.PLAIN],
        *[[colour for colour, _ in lines.values()] for lines in PANELS.values() if len(lines) > 1],
        [colour for colour, _ in figure_selection.LOOKS.values()],
        figure_theory.COLOURS,
        *[re.findall(r"#\w{6}", line) for line in PAGE.read_text().splitlines() if re.match(r" *const (LIGHT|DARK)", line)],
    ],
)
@pytest.mark.parametrize("vision", DICHROMATS)
def test_colours_of_one_figure_can_be_told_apart(colours, vision):
    """A difference of 10 in CIELAB is seen at a glance; 2.3 is just noticeable."""
    for first, second in itertools.combinations(colours, 2):
        assert np.linalg.norm(lab(first, vision) - lab(second, vision)) > 10, (first, second)


def test_red_and_green_are_alike_to_a_deutan():
    """The check can fail."""
    red, green = "#a63200", "#5a6e00"
    assert np.linalg.norm(lab(red, "normal") - lab(green, "normal")) > 40
    assert np.linalg.norm(lab(red, "deutan") - lab(green, "deutan")) < 20


@pytest.mark.parametrize(
    ("paper", "width", "small", "large"),
    [
        (None, None, 3.0, 9.0),
        ("icml", None, 3.25, 6.75),
        ("neurips", None, 5.5, 5.5),
        ("tmlr", None, 6.5, 6.5),
        ("icml", "column", 3.25, 3.25),
        ("icml", "full", 6.75, 6.75),
        ("icml", 4.5, 4.5, 4.5),
        (None, "column", style.SINGLE, style.SINGLE),
    ],
)
def test_figures_have_the_widths_of_the_venue(paper, width, small, large):
    with look(paper, width):
        assert (fitted(3.0), fitted(9.0)) == (small, large)
        with mpl.rc_context(style.STYLE):
            figure = NotebookFigure(figsize=(9.0, 2.0))
            assert figure.get_size_inches().tolist() == [large, 2.0]
            assert mpl.rcParams["font.size"] == (9 if paper else 8)
    assert fitted(9.0) == 9.0, "the look ends with its context"


def test_a_figure_that_cannot_be_read_in_a_column_takes_the_text():
    with look("icml", "column"):
        assert fitted(7.0, least=3.0) == 3.25
        assert fitted(7.0, least=4.0) == 6.75


def test_panels_side_by_side():
    assert [side_by_side(6, width, 1.9) for width in (6.9, 5.5, 3.25, 1.0)] == [3, 2, 1, 1]
    assert side_by_side(2, 6.9, 1.9) == 2


def test_files_have_the_fonts_of_the_look_they_were_made_in(tmp_path):
    """Also those that are written later; Type 3 fonts are what conferences refuse."""
    with look("icml"), mpl.rc_context(style.STYLE):
        figure = NotebookFigure(figsize=(3.0, 2.0))
        figure.subplots().set_title(r"words and $\tau$")
    figure.savefig(tmp_path / "figure.pdf")
    content = (tmp_path / "figure.pdf").read_bytes()
    assert b"STIXGeneral" in content
    assert b"DejaVu" not in content
    assert b"/Type3" not in content


def test_names_of_ones_own():
    own = {"noise": {"rate": "flip rate $\\tau$"}, "gce": "GCE", "loss.q": "$q$", "small_loss share": "by share"}
    assert label("noise.rate") == r"label noise rate $\tau$"
    assert level("gce q=0.7") == "gce q=0.7"
    with look(labels=own):
        assert label("noise.rate") == "flip rate $\\tau$"
        assert label("data.dim") == "dimension $d$"
        assert level("gce q=0.7") == "GCE $q$=0.7"
        assert level("small_loss share") == "by share"
        assert level("small_loss threshold") == "small_loss threshold"
        assert heading("noise.rate=0.2, loss=gce") == "flip rate $\\tau$ 0.2, loss=GCE"
    assert label("noise.rate") == r"label noise rate $\tau$"


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ("noise.rate=0.35, data.dim=2000", r"$\tau=0.35$, $d=2000$"),
        ("data.snr=1e-05", r"$\mathrm{SNR}=10^{-5}$"),
        ("data.dim=1.5e+06", r"$d=1.5\times 10^{6}$"),
        ("data.classes=[3, 8], noise.rate=0.2", r"data.classes=[3, 8], $\tau=0.2$"),
        ("strategy=small_loss", "strategy=small_loss"),
        ("noise.rate=null", "noise.rate=null"),
        ("", ""),
    ],
)
def test_titles_have_symbols_of_the_theory(title, text):
    assert heading(title) == text


def test_titles_wrap_between_words():
    text = r"strategy=small_loss, $\mathrm{SNR} = 0.25 and more$, optimizer=normalized_gd"
    lines = wrapped(text, 105, 8).split("\n")
    assert lines == ["strategy=small_loss,", r"$\mathrm{SNR} = 0.25 and more$,", "optimizer=normalized_gd"]
    assert wrapped(text, 1000, 8) == text
    assert wrapped("two\nlines", 1000, 8) == "two\nlines"


def test_panels_that_show_a_chosen_column():
    panels = {"a": ["test_error"], "b": ["clean_loss", "noisy_loss"], "c": ["signal_coef"]}
    assert shown(panels) == ["a", "b", "c"]
    with look(panels=["noisy_loss", "signal_coef"]):
        assert shown(panels) == ["b", "c"]
    with look(panels=["kept_share"]):
        assert shown(panels) == ["a", "b", "c"], "a figure without a chosen column stays whole"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"paper": "nature"}, "paper=nature: must be one of icml, neurips, tmlr, or null"),
        ({"width": "wide"}, "width=wide: must be column, full, a number of inches from 1 to 20, or null"),
        ({"width": 0.1}, "width=0.1: must be"),
        ({"labels": "tau"}, "labels=tau: must be names by key"),
        ({"labels": {"noise.rate": 3}}, "labels=.*: must be names by key"),
        ({"labels": {"noise.rate": r"rate $\tua$"}}, r"labels.noise.rate=rate \$\\tua\$: is no text with formulas"),
        ({"labels": {"noise.rate": "5 $"}}, r"labels.noise.rate=5 \$: is no text with formulas"),
        ({"panels": "test_error"}, "panels=test_error: must be a list of columns"),
    ],
)
def test_what_makes_no_look_is_refused(settings, words):
    with pytest.raises(ConfigError, match=words), look(**settings):
        pass
