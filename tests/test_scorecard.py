"""The scorecard on made-up tables in which every law is known to hold, to fail, or to lack data."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from lnt.analysis.figure_scorecard import figure_scorecard
from lnt.analysis.report_page import Page
from lnt.analysis.scorecard import (
    CONFIDENCE,
    Row,
    binomial_interval,
    judge,
    noticed_number,
    noticed_share,
    scorecard,
    to_table,
)
from lnt.analysis.scorecard_evidence import Evidence
from lnt.analysis.statements import STATEMENTS

STEPS = np.unique(np.rint(np.geomspace(1, 4000, 40))).astype(int)
SETTINGS = {
    "data": "signal_noise",
    "noise": "symmetric",
    "model": "two_layer_cnn",
    "loss": "logistic",
    "optimizer": "gd",
    "strategy": "none",
    "data.n_train": 100,
    "data.n_test": 2000,
    "data.dim": 4000.0,
    "data.noise_std": 1.0,
    "data.signal_norm": np.nan,
    "data.snr": np.sqrt(0.08),
    "data.orthogonal_noise": False,
    "noise.rate": 0.3,
    "model.width": 10,
    "model.init_std": 1e-5,
    "model.init_norm": np.nan,
    "model.power": 1.0,
    "model.bias": False,
    "seed": 0,
}
RATES, NORMS = (0.1, 0.2, 0.4), (0.5, 0.7, 0.9, 1.2, 1.6, 2.0, 2.4, 3.0, 4.0)


def cells():
    """n and d alone at kappa = 8; x at three rates; n and d at kappa = 1; far inside Stage I; no label noise."""
    for n in (50, 100, 200):
        yield {"data.n_train": n, "data.snr": np.sqrt(8 / n)}
    for dim in (1e3, 2e3, 8e3):
        yield {"data.dim": dim}
    for rate in RATES:
        for x in NORMS:
            yield {"noise.rate": rate, "data.snr": np.sqrt(x / (1 - 2 * rate) / 100), "data.dim": 5000.0}
    for n, dim in ((50, 500), (50, 1e3), (100, 1e3), (100, 2e3), (100, 4e3), (200, 4e3)):
        yield {"data.n_train": n, "data.snr": np.sqrt(1 / n), "data.dim": dim, "data.n_test": 100_000}
    yield {"data.snr": np.sqrt(0.225), "data.dim": 8000.0}
    for size, dim in ((2, 1e3), (3, 1e3), (4, 1e3), (3, 4e3), (4, 4e3)):
        yield {"noise.rate": 0.0, "data.signal_norm": size, "data.snr": np.nan, "data.dim": dim, "data.n_test": 100_000}


class MadeUp:
    """Runs and curves of a world whose laws are the arguments: each takes the table of quantities of theory."""

    def __init__(self, seeds=20, scatter=0.05):
        rng = np.random.default_rng(0)
        rows = [SETTINGS | cell | {"seed": seed} for cell in cells() for seed in range(seeds)]
        self.runs = pd.DataFrame(rows)
        self.runs.insert(0, "run_id", [str(i) for i in range(len(rows))])
        rate = self.runs["noise.rate"]
        self.n, self.dim = self.runs["data.n_train"].astype(float), self.runs["data.dim"]
        self.kappa = self.n * self.runs["data.snr"].fillna(self.runs["data.signal_norm"] / np.sqrt(self.dim)) ** 2
        self.x, self.noisy = self.kappa * (1 - 2 * rate), rate > 0
        self.t1 = self.n * 10 / (0.01 * self.dim)
        self.scatter = np.exp(scatter * rng.standard_normal(len(rows)))
        self.early = (1 - 2 * rate) ** 2 * self.kappa**2 * self.dim / self.n / (1 + self.kappa * (1 - 2 * rate) ** 2)
        self.final = self.kappa**2 * self.dim / self.n / (1 + self.kappa)
        # the laws, to be replaced
        self.length = 3 * self.t1 * self.scatter
        self.exists, self.leads = self.x > 1.05, self.x > 2.2
        self.early_error = norm.sf(np.sqrt(self.early * self.scatter))
        self.final_error = np.where(self.noisy, 0.6 * rate, norm.sf(np.sqrt(self.final * self.scatter)))
        self.best_error, self.overtaken, self.lowest_gamma = (
            self.final_error.copy(),
            np.full(len(rows), 0.5),
            np.zeros(len(rows)),
        )
        self.clean_early, self.noisy_early, self.separates = np.ones(len(rows)), np.zeros(len(rows)), np.ones(len(rows))

    def tables(self):
        count = {"step_size": 0.01, "status": "completed", "clean_accuracy": 1.0, "noisy_accuracy": 1.0, "signal_coef": 1.0}
        runs = self.runs.assign(**count, test_error=self.final_error, best_test_error_fresh=self.best_error)
        rates = {f"flip_rate{kind}": runs["noise.rate"] for kind in ("", "_positive", "_negative")}
        runs = runs.assign(**rates, overtaken_share=self.overtaken, noise=np.where(self.noisy, "symmetric", "none"))
        each = {name: np.repeat(np.asarray(values), len(STEPS)) for name, values in vars(self).items() if name not in ("runs",)}
        curves = runs[["run_id"]].merge(pd.DataFrame({"step": STEPS}), how="cross")
        ratio = curves["step"] / each["length"]
        memorised = np.clip(0.5 + 0.6 * np.log(ratio), each["noisy_early"], 1)
        # Without Stage I the mislabelled are fitted from the first step on.
        memorised = np.where(each["noisy"], np.where(each["exists"], memorised, 1.0), np.nan)
        curves = curves.assign(noisy_accuracy=memorised, clean_accuracy=each["clean_early"], test_error=each["early_error"])
        curves = curves.assign(signal_coef=np.where(each["leads"], 1.0, 0.1), noise_coef_clean=0.5, noise_coef_noisy=0.5)
        curves = curves.assign(
            selection_precision=each["separates"], selection_recall=1.0, signal_coef_min=each["lowest_gamma"]
        )
        return runs, curves


@pytest.fixture
def world():
    return MadeUp()


def judged(world):
    table = to_table(scorecard(*world.tables())[1]).set_index("statement")
    tested = table["verdict"] != "not tested"
    assert np.isfinite(table.loc[tested, ["value", "low", "high"]].astype(float)).all(axis=None)
    return table


def find(table, words):
    (row,) = [row for statement, row in table.iterrows() if words in statement]
    return row


def test_a_world_in_which_all_laws_hold(world):
    table = judged(world)
    # "never" is refuted by one run and shown by none
    expected = dict.fromkeys(table.index, "supported") | {"gamma is never negative": "undecided"}
    # the smallest share of seeds that 20 seeds can exclude is below the 90 % that are asked for
    expected |= {claim: "undecided" for claim in table.index if table.loc[claim, "statistic"] == "share of seeds"}
    assert table["verdict"].to_dict() == expected
    for name, predicted in (
        ("time ~ n^a", 1),
        ("time ~ d^a", -1),
        ("z^2 ~ n^a", -1),
        ("z^2 ~ d^a", 1),
        ("final test error", 1),
    ):
        assert find(table, name)["value"] == pytest.approx(predicted, abs=0.05), name
    # between two grid points each: 0.9 and 1.2, 2.0 and 2.4, on a log scale
    assert find(table, "exists from x = 1")["value"] == pytest.approx(np.sqrt(0.9 * 1.2))
    assert find(table, "from x = 2 on")["value"] == pytest.approx(np.sqrt(2.0 * 2.4))
    assert find(table, "decides on Stage I")["value"] == pytest.approx(-1, abs=0.01)
    assert find(table, "constant share")["value"] == pytest.approx(0.5)
    # 0.6 tau over 0.5 tau
    assert find(table, ">= 0.5 min")["value"] == pytest.approx(1.2)


def test_enough_seeds_show_that_nearly_all_do():
    table = judged(MadeUp(seeds=80))
    shares = table[table["statistic"] == "share of seeds"]
    assert set(shares["verdict"]) == {"supported", "undecided"}
    assert shares.index[shares["verdict"] == "undecided"].tolist() == ["gamma is never negative"]


# For each statement a world in which it is false: what is changed, and the statement.
FALSE = {
    "time ~ n^a": lambda w: {"length": 3 * w.scatter * w.t1 / np.sqrt(w.n)},
    "time ~ d^a": lambda w: {"length": 3 * w.scatter * w.t1 * w.dim / 4000},
    "exists from x = 1 on": lambda w: {"exists": w.x > 1.8},
    "from x = 2 on": lambda w: {"leads": w.x > 0.8},
    "decides on Stage I": lambda w: {"exists": w.kappa > 3.0},
    "clean samples are fitted": lambda w: {"clean_early": np.where(w.runs["seed"] % 2, 1, 0.9)},
    "mislabelled samples are predicted": lambda w: {"noisy_early": np.where(w.runs["seed"] % 2, 0, 0.2)},
    "separates clean": lambda w: {"separates": np.where(w.runs["seed"] % 2, 1, 0.9)},
    "gamma > rho-bar after 0.1 T1": lambda w: {"leads": w.runs["seed"] % 2 == 0},
    "constant share": lambda w: {"overtaken": 0.05 * np.ones(len(w.runs))},
    ">= 0.5 min": lambda w: {"final_error": np.where(w.noisy, 0.3 * w.runs["noise.rate"], w.final_error)},
    "no second stage": lambda w: {"best_error": w.final_error - 0.02},
    "never negative": lambda w: {"lowest_gamma": np.where(w.runs["seed"] == 3, -0.1, 0)},
    "z^2 ~ n^a": lambda w: {"early_error": norm.sf(np.sqrt(w.early * w.n / 100))},
    "z^2 ~ d^a": lambda w: {"early_error": norm.sf(np.sqrt(w.early * np.sqrt(2000 / w.dim)))},
    "final test error": lambda w: {"final_error": np.where(w.noisy, 0.2, norm.sf(np.sqrt(2 * np.sqrt(w.final))))},
}


@pytest.mark.parametrize("words", FALSE)
def test_each_statement_is_contradicted_where_it_is_false(world, words):
    vars(world).update(FALSE[words](world))
    (statement,) = [
        statement for statement in STATEMENTS if words in statement.claim and "x = 2" not in statement.claim.replace(words, "")
    ]
    assert judge(statement, Evidence(*world.tables())).verdict == "contradicted"


def test_every_statement_has_such_a_world():
    assert len(FALSE) == len(STATEMENTS)


def test_noise_that_no_rate_names_is_judged_as_noise(world):
    """The rates are those that training writes; with noise=matrix there is no noise.rate at all."""
    runs, curves = world.tables()
    runs = runs.drop(columns="noise.rate").assign(noise=np.where(world.noisy, "matrix", "none"))
    runs.insert(5, "noise.matrix", [f"[[{1 - r},{r}]]" for r in world.runs["noise.rate"]])
    table = to_table(scorecard(runs, curves)[1]).set_index("statement")
    before = judged(world)
    for column in ("verdict", "value", "cells", "runs"):
        assert table[column].tolist() == before[column].tolist(), column


def test_unknown_rates_are_outside_all_conditions(world):
    runs, curves = world.tables()
    unknown = runs.assign(flip_rate=np.nan, flip_rate_positive=np.nan, flip_rate_negative=np.nan)
    table = to_table(scorecard(unknown, curves)[1]).set_index("statement")
    assert set(table["verdict"]) == {"not tested"}


def test_runs_outside_the_conditions_are_not_judged(world):
    runs, curves = world.tables()
    outside = {"model.power": 2.0, "model.bias": True, "step_size": 1.0, "model.init_std": 1.0, "loss": "hinge"}
    for key, value in outside.items():
        row = find(to_table(scorecard(runs.assign(**{key: value}), curves)[1]).set_index("statement"), "exists from x = 1")
        assert (row["verdict"], row["note"]) == ("not tested", "no run meets the conditions"), key
    for other in ({"model": "other"}, {"strategy": "small_loss"}, {"data": "xor"}):
        assert len(Evidence(runs.assign(**other), curves).runs) == 0


def test_too_few_seeds_give_no_verdict():
    table = judged(MadeUp(seeds=4))
    assert set(table["verdict"]) == {"not tested"}
    assert "fewer than 5 seeds" in set(table["note"])


def test_runs_without_stage1_are_counted_and_too_many_end_the_test(world):
    """One of twenty seeds, then two."""
    for count, expected in ((1, "supported"), (2, "not tested")):
        world.exists = (world.x > 1.05) & (world.runs["seed"] >= count)
        row = find(judged(world), "time ~ n^a")
        assert row["verdict"] == expected
        assert row["censored"] == count * row["runs"] / 20
    assert row["note"] == f"{row['censored']} of {row['runs']} runs have no Stage I"


def test_what_was_not_varied_has_no_exponent(world):
    runs, curves = world.tables()
    alone = runs[(runs["data.n_train"] == 100) & (runs["noise.rate"] == 0.3) & (world.kappa.between(7.9, 8.1))]
    table = to_table(scorecard(alone, curves)[1]).set_index("statement")
    assert find(table, "time ~ n^a")["note"] == "what it depends on was not varied enough"
    assert find(table, "time ~ d^a")["value"] == pytest.approx(-1, abs=0.05)


def test_power_is_what_simulation_finds():
    """A true value at the end that `noticed` names is contradicted in 80 % of the cases."""
    rng, seeds, region, sd = np.random.default_rng(0), 20, (0.75, 1.25), 0.3
    draws = rng.normal(0, sd, (4000, seeds))
    from scipy.stats import t as student

    quantile = student.ppf((1 + CONFIDENCE) / 2, seeds - 1)
    end = float(noticed_number(quantile * sd / np.sqrt(seeds), seeds, region).split()[1])
    means, halves = end + draws.mean(1), quantile * draws.std(1, ddof=1) / np.sqrt(seeds)
    assert np.mean(means + halves < region[0]) == pytest.approx(0.8, abs=0.04)
    share = float(noticed_share(100, (0.9, 1.0)).split()[1])
    counts = rng.binomial(100, share, 4000)
    contradicted = np.mean([binomial_interval(int(count), 100)[1] < 0.9 for count in counts])
    assert contradicted == pytest.approx(0.8, abs=0.04)


def test_the_figure_draws_what_there_is(world):
    runs, curves = world.tables()
    for part in (runs, runs.head(5)):
        evidence, rows = scorecard(part, curves)
        figure = figure_scorecard(evidence, rows)
        assert [ax.get_title("left") for ax in figure.axes[:6]] == [f"({name})" for name in "abcdef"]


def test_the_page_shows_what_is_known_of_each_statement():
    says = ("a < b & c", "somebody", "small steps", "share of seeds", "all")
    known = Row(*says, 1.0, 0.9, 1.1, "supported", "below 0.8", 20, 3, 60, 0, 0, "", "b")
    no_interval = Row(*says, 1.5, np.nan, np.nan, "undecided", "", 3, 1, 3, 0, 0, "too few seeds", "c")
    nothing = Row(*says, np.nan, np.nan, np.nan, "not tested", "", 0, 0, 0, 0, 0, "no such runs", "")
    page = Page("t", "s", (), {}, (), (), (), to_table([known, no_interval, nothing])).text()
    table = page.partition('<section id="scorecard">')[2].partition("</section>")[0]
    rows = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in table.split("<tr>")[1:]]
    columns = {name: [row[place] for row in rows[1:]] for place, name in enumerate(rows[0])}
    assert columns["measured"] == ["1 [0.9, 1.1]", "1.5", ""]
    assert columns["verdict"] == ["supported", "undecided", "not tested"]
    assert columns["note"] == ["", "too few seeds", "no such runs"]
    assert columns["seeds, cells, runs"] == ["20, 3, 60", "3, 1, 3", "0, 0, 0"]
    assert columns["panel"] == ["b", "c", ""]
    assert set(columns["statement"]) == {"a &lt; b &amp; c"}
