"""R^2 in held-out cells: 1 for a law that is true, less for its rivals, 0 for noise, and the numbers of small cases by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lnt.analysis.figure_phase_diagram import figure_collapse
from lnt.analysis.goodness_of_fit import Ordering, _falling, changed, compared, fits_table, rivals, shuffled
from lnt.analysis.phase_diagram import grid
from lnt.intervals import jackknife_interval
from lnt.theory.laws import BENIGN_LAW, EARLY_LAW, Law, deep_law

KEYS = ("data.dim", "data.signal_norm")


def table(seeds=6, noise=0.01, power=4.0, columns=12):
    """Runs whose error is 1 / (2 + n |mu|^power / d), with noise of each run."""
    rng = np.random.default_rng(0)
    dims, norms = np.geomspace(100, 5000, columns), np.geomspace(1, 10, 20)
    dim, norm, seed = (part.ravel() for part in np.meshgrid(dims, norms, np.arange(seeds), indexing="ij"))
    error = 1 / (2 + 20 * norm**power / dim) + noise * rng.standard_normal(dim.size)
    runs = pd.DataFrame({"data.dim": dim, "data.signal_norm": norm, "seed": seed, "test_error": error})
    return runs.assign(**{"data.n_train": 20, "data.noise_std": 1.0, "data.snr": np.nan, "noise.rate": 0.0})


def fits_of(runs, law=BENIGN_LAW):
    return compared(grid(runs, *KEYS, "test_error"), runs, KEYS, law)


def explained(combination, value, place):
    return Ordering(combination, place).explained(np.asarray(value)[None])[0]


def falling(c, v, at):
    return _falling(*np.unique(c, return_inverse=True), v[None], at)[0]


def test_a_true_law_explains_all_and_its_rivals_less():
    law, *others, chance = fits_of(table())
    assert law.kind == "law"
    assert law.r2 > 0.99
    assert law.lead == (0, 0, 0)
    assert law.combination == chance.combination == "data.dim^-1 data.signal_norm^4"
    assert {other.combination for other in others} == {
        "data.dim^-2 data.signal_norm^4",
        "data.signal_norm^4",
        "data.dim^-1 data.signal_norm^3",
        "data.dim^-1 data.signal_norm^5",
        "data.dim^-1",
    }
    for other in others:
        assert other.r2 < law.r2
        assert other.lead[0] == pytest.approx(law.r2 - other.r2)
        assert other.lead[1] > 0, "six seeds of small noise tell them apart"
    assert chance.kind == "shuffled"
    assert chance.r2 < 0.1
    assert chance.lead[0] == pytest.approx(law.r2 - chance.r2)


def test_a_law_with_a_wrong_exponent_is_behind_a_rival():
    others = fits_of(table(power=5.0))[1:-1]
    best = max(others, key=lambda fit: fit.r2)
    assert best.combination == "data.dim^-1 data.signal_norm^5"
    assert best.lead[2] < 0


@pytest.mark.parametrize("cells", [80, 400])
def test_noise_is_not_explained(cells):
    """Bins fitted and judged on the same 80 cells explain 0.48 of pure noise."""
    rng, columns = np.random.default_rng(0), np.repeat(np.arange(10.0), cells // 10)
    found = [explained(rng.gamma(1, size=cells), rng.standard_normal(cells), columns) for _ in range(100)]
    assert np.mean(found) < 0.01
    assert np.quantile(found, 0.9) < 0.05


def test_noise_of_whole_columns_is_not_explained_by_the_column():
    """Cells of a column share their noise, and a combination that names the column must not profit: columns are held out."""
    rng = np.random.default_rng(0)
    columns = np.repeat(np.arange(1.0, 21), 10)
    found = [explained(columns, np.repeat(rng.standard_normal(20), 10), columns) for _ in range(100)]
    assert np.mean(found) < 0.01


def test_r2_by_hand():
    """Two columns predict each other: 1 - (sum of squared errors) / (sum of squares about the mean)."""
    c = np.tile(np.geomspace(1, 10, 10), 2)
    place = np.repeat([1.0, 2.0], 10)
    first, second = np.linspace(1, 0, 10), np.linspace(0.9, -0.1, 10)
    both = np.r_[first, second]
    assert explained(c, both, place) == pytest.approx(1 - 20 * 0.01 / np.sum((both - both.mean()) ** 2))
    assert explained(c, np.r_[first, first], place) == pytest.approx(1)
    # A value that rises is no falling function of c: the best one is a constant, which explains nothing.
    assert explained(c, -np.r_[first, first], place) == pytest.approx(0)
    # What falls in 1 / c rises in c.
    assert explained(1 / c, -np.r_[first, first], place) == pytest.approx(1)


def test_columns_ten_apart_are_held_out_together():
    """Eleven columns of two cells: v = 0 at c = 2 in the first and the last, 1 at c = 1 in the others, which say 1 of c = 2.

    The residuals are 4, and the squares about the mean, 18/22, are 18 (4/22)^2 + 4 (18/22)^2 = 72/22.
    """
    place = np.repeat(np.arange(11.0), 2)
    ends = (place == 0) | (place == 10)
    assert explained(np.where(ends, 2.0, 1.0), np.where(ends, 0.0, 1.0), place) == pytest.approx(1 - 4 / (72 / 22))


def test_the_closest_falling_function_by_hand():
    """0 at one point and 4 at three equal ones to its right pool to 12 / 4; between points it is linear."""
    assert falling(np.array([0.0, 1, 1, 1]), np.array([0.0, 4, 4, 4]), np.array([0.0, 0.5, 1])).tolist() == [3, 3, 3]
    assert falling(np.array([0.0, 1]), np.array([4.0, 2]), np.array([-1, 0.25, 2])).tolist() == [4, 3.5, 2]


def test_only_cells_with_a_positive_combination_are_compared():
    """At a rate of 1/2 the early law is 0, and the rival without the rate is not; cells that are planned only have no value."""
    keys, rng = ("data.dim", "noise.rate"), np.random.default_rng(0)
    dims, rates = np.geomspace(100, 5000, 12), np.linspace(0, 0.5, 11)
    dim, rate, seed = (part.ravel() for part in np.meshgrid(dims, rates, np.arange(6), indexing="ij"))
    runs = pd.DataFrame({"data.dim": dim, "noise.rate": rate, "flip_rate": rate, "seed": seed, "data.n_train": 20})
    runs = runs.assign(**{"data.signal_norm": 5.0, "data.noise_std": 1.0, "data.snr": np.nan})
    law = (1 - 2 * rate) ** 2 * 20 * 5**4 / dim
    runs["test_error"] = np.where(
        rate == 0.5, rng.uniform(size=len(runs)), 1 / (2 + law) + 0.05 * rng.standard_normal(len(runs))
    )
    cells = runs.assign(law=law)[law > 0].groupby(list(keys), as_index=False)[["law", "test_error"]].mean()
    rate_only = (1 - 2 * cells["noise.rate"]) ** 2
    data = grid(runs, *keys, "test_error", (np.r_[dims, 9000.0], rates))
    fits = compared(data, runs, keys, EARLY_LAW)
    by_name = {fit.combination: fit for fit in fits[:-1]}
    assert fits[0].r2 == pytest.approx(explained(cells["law"], cells["test_error"], cells["data.dim"]))
    assert by_name["(1 - 2 noise.rate)^2"].r2 == pytest.approx(explained(rate_only, cells["test_error"], cells["data.dim"]))
    assert by_name["data.dim^-1"].r2 == pytest.approx(explained(1 / cells["data.dim"], cells["test_error"], cells["data.dim"]))
    # The interval of a lead is the jackknife's: the same without the runs of one seed.
    lead, without = by_name["data.dim^-1"].lead, []
    for left_out in range(6):
        error = runs[(law > 0) & (seed != left_out)].groupby(list(keys))["test_error"].mean().to_numpy()
        r2 = [explained(c, error, cells["data.dim"]) for c in (cells["law"], 1 / cells["data.dim"])]
        without.append(r2[0] - r2[1])
    assert lead[1:] == pytest.approx(jackknife_interval(lead[0], without))


def test_an_axis_that_the_law_does_not_name_has_the_exponent_zero():
    runs = table(columns=3).assign(**{"model.width": lambda runs: runs["data.signal_norm"].round()})
    keys = ("data.dim", "model.width")
    law = compared(grid(runs.drop_duplicates([*keys, "seed"]), *keys, "test_error"), runs, keys, BENIGN_LAW)[0]
    assert law.exponents == {"data.dim": -1, "model.width": 0}
    assert law.combination == "data.dim^-1"


def test_without_enough_cells_nothing_is_said():
    c, place = np.geomspace(1, 10, 20), np.repeat([1.0, 2.0], 10)
    assert np.isfinite(explained(c, -c, place))
    assert np.isnan(explained(c[:19], -c[:19], place[:19]))
    assert np.isnan(explained(c, np.ones(20), place))
    assert np.isnan(explained(c, -c, np.ones(20))), "one column has nothing to be held out of"
    assert np.isfinite(explained(np.r_[c, 0, np.nan], np.r_[-c, 5, 5], np.r_[place, 1, 2])), (
        "cells outside the law are left out"
    )


def test_shuffled_values_are_chance():
    c, place = np.tile(np.geomspace(1, 10, 10), 8), np.repeat(np.arange(8.0), 10)
    assert explained(c, -np.log(c), place) == pytest.approx(1)
    assert shuffled(Ordering(c, place), -np.log(c)) < 0.05
    assert shuffled(Ordering(c, place), -np.log(c)) == shuffled(Ordering(c, place), -np.log(c))


def test_rivals_change_one_exponent_by_one_or_drop_it():
    def of(law, keys):
        return {tuple(rival.exponents_of(keys).get(key, 0) for key in keys) for rival in rivals(law, keys)}

    assert of(deep_law(3), ("data.n_train", "data.snr")) == {(0, 3), (2, 3), (1, 2), (1, 4), (1, 0)}
    assert of(EARLY_LAW, ("data.dim", "noise.rate")) == {(-2, 2), (0, 2), (-1, 1), (-1, 3), (-1, 0)}
    finite = replace(EARLY_LAW, finite_size=True)
    *others, without = rivals(finite, ("data.dim", "noise.rate"))
    assert [rival.finite_size for rival in others] == [True] * 5
    assert without == EARLY_LAW
    # The SNR changes alone, not |mu| with it at fixed SNR.
    assert of(BENIGN_LAW, ("data.dim", "data.snr")) == {(0, 4), (2, 4), (1, 3), (1, 5), (1, 0)}
    assert dict(changed(deep_law(3), "data.snr", 1).exponents) == dict(deep_law(4).exponents)
    # n |mu|^2, which says nothing about s and d, times the SNR = |mu| / (s sqrt(d)).
    exponents = changed(Law("", {"data.n_train": 1, "data.signal_norm": 2}), "data.snr", 1).exponents
    assert exponents == {"data.n_train": 1, "data.signal_norm": 3, "data.noise_std": -1, "data.dim": -0.5}


def test_fits_reach_the_table_and_the_figure():
    runs = table()
    fits = fits_of(runs)
    found = fits_table(fits)
    assert found.columns.tolist() == ["kind", "combination", "r2", "lead", "lead_low", "lead_high"]
    assert found["kind"].tolist() == ["law"] + ["rival"] * 5 + ["shuffled"]
    assert found["r2"].tolist() == [fit.r2 for fit in fits]
    assert found.loc[1, ["lead", "lead_low", "lead_high"]].tolist() == list(fits[1].lead)
    cells = runs.assign(c=BENIGN_LAW.of(runs)).groupby(list(KEYS), as_index=False)[["c", "test_error"]].mean()
    names = ("n", "test_error", "data.dim")
    figure, _ = figure_collapse(
        cells["c"].to_numpy(), cells["test_error"].to_numpy(), cells["data.dim"].to_numpy(), names, fits
    )
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert figure.axes[0].get_title() == f"$R^2$ in held-out cells: {fits[0].r2:.3f}"
    assert rf"$d^{{-1}}\,|\mu|^{{5}}$: {fits[4].r2:.3f}" in said
    assert said[-1] == f"shuffled: {fits[-1].r2:.3f}"


def test_the_finite_size_term_has_a_rival_without_it():
    """Errors follow n |mu|^4 / (s^4 d), without the term."""
    runs = table().assign(**{"flip_rate": 0.0, "data.orthogonal_noise": False})
    fits = fits_of(runs, replace(BENIGN_LAW, finite_size=True))
    assert [fit.without for fit in fits] == ["", *[""] * 5, "finite sizes", ""]
    assert fits[-2].combination == f"{fits[0].combination} without finite sizes"
    assert fits[-2].r2 > fits[0].r2
    assert fits[-2].lead[2] < 0


def test_five_seeds_at_least_for_the_lead_of_a_law():
    leads = np.array([fit.lead for fit in fits_of(table(seeds=4))[1:-1]])
    assert np.isfinite(leads[:, 0]).all()
    assert np.isnan(leads[:, 1:]).all()
