"""docs/extending.md: its files, written to a folder of their own, work with its commands, as users would run them."""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from scipy.stats import f, kstest
from test_components import as_yaml, field_comments

import lnt
from lnt.column_names import COMPONENTS
from lnt.errors import ConfigError
from lnt.help import comments
from lnt.noise.by_class import Symmetric
from lnt.noise.observed_labels import Classes, LabelNoise, Samples
from lnt.options import CONF
from lnt.runs.experiments_from_settings import experiment_from
from lnt.runs.simulate import configuration
from lnt.settings import snake_case
from lnt.training import loop
from lnt.training.metrics import own_metrics
from lnt.training.optimizers import Optimizer

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text()
BLOCKS = re.findall(r"^```(\w+) ?(.*)\n((?:.*\n)*?)```$", PAGE, re.MULTILINE)  # language, file name, text
FILES = sorted({info for language, info, _ in BLOCKS if language in ("python", "yaml") and info})
OPTIONS = [Path(file) for file in FILES if file.endswith(".yaml")]
SCRIPT = "\n".join(text for language, info, text in BLOCKS if (language, info) == ("python", ""))
TRAIN = "$ python train.py "


def lines_of(kind: str) -> list[str]:
    """The lines of all console blocks of a kind."""
    return [line for language, info, text in BLOCKS if (language, info) == ("console", kind) for line in text.splitlines()]


COMMANDS = [line.removeprefix(TRAIN) for line in lines_of("") if line.startswith(TRAIN)]
REFUSED = [line.removeprefix(TRAIN) for line in lines_of("refused")]
REFUSED = list(zip(REFUSED[::2], REFUSED[1::2], strict=True))  # (command, what it says)


def small(words: list[str]) -> list[str]:
    """Overrides that make the run of a command short, whatever sizes the command gives."""
    if "data=stripes" in words:
        return ["data.n_train=40", "data.n_test=40", "optimizer.epochs=2"]
    return ["data.n_train=20", "data.n_test=50", "data.dim=100", "optimizer.steps=20"]


@pytest.fixture(scope="session")
def own(tmp_path_factory):
    """A folder with the files of the page; the blocks of one file follow each other."""
    folder = tmp_path_factory.mktemp("own")
    for _, info, text in BLOCKS:
        if info in FILES:
            (folder / info).parent.mkdir(parents=True, exist_ok=True)
            with (folder / info).open("a") as file:
                file.write(text + ("\n\n" if info.endswith(".py") else ""))
    return folder


# Imports take ten times as long as these runs. One process imports everything, and forks another for each script it is sent.
SERVER = """
import json, os, runpy, signal, sys, traceback
import lnt, lnt.cli, lnt.sweeps.job
from hydra.core.plugins import Plugins

def status(script):
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as stop:
        if not isinstance(stop.code, str):
            return stop.code or 0
        print(stop.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0

Plugins.instance()
small = {"data": lnt.SignalNoise(n_train=2, n_test=2), "optimizer": lnt.GradientDescent(steps=1), "progress": False}
lnt.simulate(**small, over={"engine": ["span", "autograd"]})
for line in sys.stdin:
    if (child := os.fork()) == 0:
        sys.argv, folder, output = json.loads(line)
        os.chdir(folder)
        os.dup2(os.open(output, os.O_CREAT | os.O_WRONLY), 1)
        os.dup2(1, 2)
        signal.alarm(120)
        ended = status(sys.argv[0])
        sys.stdout.flush()
        os._exit(ended)  # tearing down all that was imported takes seconds
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def environment(own: Path) -> dict[str, str]:
    """As `export PYTHONPATH=.` in the user's folder makes it; the package is found whether it is installed or not."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(own), str(ROOT)])}


@pytest.fixture(scope="session")
def run(own, tmp_path_factory):
    """run(script, *arguments) in an empty folder: exit status, what it said, the folder."""
    command = [sys.executable, "-P", "-c", SERVER]
    with subprocess.Popen(
        command, cwd=own, env=environment(own), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:

        def in_empty_folder(script, *arguments):
            folder, output = (tmp_path_factory.mktemp(name) for name in ("cwd", "output"))
            arguments = [str(own / word) if word == "my_conf" else word for word in arguments]
            print(json.dumps([[str(script), *arguments], str(folder), str(output / "said")]), file=server.stdin, flush=True)
            return int(server.stdout.readline()), (output / "said").read_text(), folder

        yield in_empty_folder


@pytest.fixture(scope="session")
def module(own):
    """The user's module, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(own))
        yield importlib.import_module("my_components")


@pytest.fixture(scope="session")
def compose(own, module, experiment):
    """compose(*overrides): an experiment from conf/ and the user's options."""
    return lambda *overrides, **arrays: experiment(f"hydra.searchpath=[file://{own / 'my_conf'}]", *overrides, **arrays)


def test_the_page_has_an_example_of_each_kind():
    assert {file.parts[1] for file in OPTIONS} == set(COMPONENTS)
    assert "$ export PYTHONPATH=." in lines_of("")
    assert {language for language, _, _ in BLOCKS} == {"python", "yaml", "console"}
    assert PAGE.count("```") == 2 * len(BLOCKS)
    used = " ".join(COMMANDS)
    for file in OPTIONS:
        assert re.search(rf"{file.parts[1]}={file.stem}\b", used), f"no command uses {file}"


@pytest.mark.parametrize("command", [c for c in COMMANDS if "--help" not in c])
@pytest.mark.slow
def test_a_command_of_the_page_trains(run, command):
    words, swept = shlex.split(command), "-m" in shlex.split(command)
    status, said, folder = run(ROOT / "train.py", *words, *small(words))
    assert status == 0, said
    runs, curves = (pd.read_parquet(next(folder.rglob(f"{name}.parquet"))) for name in ("runs", "curves"))
    assert swept == (folder / "multirun").is_dir()
    assert (runs["status"] == "completed").all()
    points = 1
    for key, _, value in (word.partition("=") for word in words if "=" in word):
        if key == "metrics":
            for name in value.strip("[]").split(","):
                column = name.rpartition(".")[2]
                assert np.isfinite(runs[column]).all()
                assert np.isfinite(curves[column]).all()
        else:
            values = yaml.safe_load(f"[{value}]")
            assert set(runs[key]) == set(values)
            points *= len(values)
    assert len(runs) == runs["run_id"].nunique() == points


def test_the_first_command_as_a_user_types_it(own, tmp_path):
    """In a process of its own, from the user's folder."""
    words = [*shlex.split(COMMANDS[0]), *small([]), f"hydra.run.dir={tmp_path}"]
    subprocess.run([sys.executable, str(ROOT / "train.py"), *words], cwd=own, env=environment(own), check=True)
    assert pd.read_parquet(tmp_path / "runs.parquet")["noise"].tolist() == ["label_swap"]


@pytest.mark.slow
def test_help_shows_an_option_of_ones_own(run):
    (command,) = [c for c in COMMANDS if "--help" in c]
    status, said, _ = run(ROOT / "train.py", *shlex.split(command))
    assert status == 0, said
    assert "Classes swap places" in said
    assert re.search(r"noise\.rate=0\.2 +P\(observed = K - 1 - k", said)


def test_python_of_the_page_runs(run, tmp_path):
    assert SCRIPT.count("lnt.simulate(") == 3
    (tmp_path / "script.py").write_text(SCRIPT)
    status, said, _ = run(tmp_path / "script.py")
    assert status == 0, said
    assert "label_swap" in said
    assert "smallest_loss" in said


@pytest.mark.parametrize(("command", "expected"), REFUSED, ids=[command for command, _ in REFUSED])
def test_what_is_refused_says_so_in_one_line_and_leaves_nothing(run, command, expected):
    status, said, folder = run(ROOT / "train.py", *shlex.split(command))
    assert (status, said.strip()) == (1, expected)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("file", OPTIONS, ids=str)
def test_yaml_of_the_page_agrees_with_its_class(own, module, file):
    values = yaml.safe_load((own / file).read_text())
    component = getattr(module, values.pop("_target_").removeprefix("my_components."))
    assert component.option == snake_case(component.__name__) == file.stem
    inherited = [entry for entry in values.pop("defaults", []) if isinstance(entry, str)]
    known = {field.name: field for field in fields(component)}
    for key, value in values.items():
        assert value == as_yaml(known[key].default), key
        assert comments(own / file)[key] == field_comments(component)[key] != ""
    for base in inherited:
        values |= yaml.safe_load((CONF / file.parts[1] / f"{base}.yaml").read_text())
    assert set(known) == set(values) - {"_target_"}


@pytest.mark.parametrize("file", OPTIONS, ids=str)
def test_a_run_from_python_has_the_same_id(module, compose, file):
    """So what one knows of a run from the command line holds for the one from Python."""
    group, option = file.parts[1], file.stem
    images = option in ("dark_images", "one_hidden", "stripes")
    one = compose(*["data=stripes"] * images, f"{group}={option}")
    components = {"data": module.Stripes()} if images else {}
    same = experiment_from(configuration({**components, group: type(getattr(one, group))()}, {"seed": 0}, {}))
    assert same.run_ids() == one.run_ids()


# What the examples compute.


@pytest.mark.parametrize("reduced", [True, False])
def test_heavy_tails_have_the_law_that_their_docstring_names(module, reduced):
    """|xi|^2 / d of a multivariate t distribution has the law F(d, freedom): in both coordinates, and for test samples."""
    dim, data = 30, module.HeavyTails(n_train=40, n_test=40, freedom=4)
    width = data.axes + data.n_train if reduced else dim
    drawn = [data.sample_training_set(seed, dim, width, reduced)[1] for seed in range(50)]
    tested = [data.sample_test_set(seed, width)[1][:, :dim] for seed in range(50)]
    for patches in (drawn, tested):
        assert kstest((np.concatenate(patches) ** 2).sum(1) / dim, f(dim, 4).cdf).pvalue > 1e-3


def test_dark_images_are_mislabelled_more_often(module):
    count, classes = 4000, Classes((0, 1, 2))
    pixels = np.random.default_rng(0).normal(size=(count, 16))
    labels = np.random.default_rng(1).integers(3, size=(1, count))
    noise = module.DarkImages(rate=0.3)
    samples = Samples(labels, classes, features=lambda run: pixels)
    np.testing.assert_allclose(noise.probabilities(samples).sum(-1), 1)
    wrong = (noise.observe(samples, np.random.default_rng(2).random((1, count))) != labels)[0]
    dark = pixels.mean(1) < np.median(pixels.mean(1))
    assert wrong.mean() == pytest.approx(0.3, abs=0.03)
    assert wrong[dark].mean() == pytest.approx(0.45, abs=0.04)
    assert wrong[~dark].mean() == pytest.approx(0.15, abs=0.04)


def test_trimmed_trains_on_the_small_losses(compose):
    batch = compose("strategy=trimmed", *small([]), "noise.rate=0.3", "noise.exact=true")
    curves = loop.train(batch)
    kept = curves.values[:, curves.metrics.index("kept_share"), 0]
    assert set(kept[curves.steps <= 10]) == {1}
    np.testing.assert_allclose(kept[curves.steps > 10], 0.7, rtol=1e-6)


def test_fitted_enough_returns_the_first_network_that_fits(compose):
    batch = compose("strategy=fitted_enough", *small([]), runs=2, strategy__share=np.array([0.7, 1.0]))
    curves = loop.train(batch)
    fitted = curves.values[:, curves.metrics.index("stopping_criterion")]
    for run, share in enumerate((0.7, 1.0)):
        enough = np.flatnonzero(fitted[:, run] >= share)
        assert curves.chosen[run] == (enough[0] if len(enough) else len(fitted) - 1)
    assert 0 < curves.chosen[0] < len(fitted) - 1, "here the first run does, before its end"


# Faults of one's own.


def test_a_fault_in_ones_own_code_ends_in_its_traceback(run, own):
    (own / "faulty.py").write_text("def metric(snapshot, truth):\n    return snapshot.nothing\n")
    status, said, folder = run(ROOT / "train.py", "metrics=[faulty.metric]", *small([]))
    assert status == 1
    (directory,) = folder.glob("outputs/*/*")
    for text in (said, (directory / "train.log").read_text()):
        assert "AttributeError: 'Snapshot' object has no attribute 'nothing'" in text
        assert "faulty.py" in text
    (row,) = pd.read_parquet(directory / "runs.parquet").to_dict("records")
    assert row["status"] == "failed"
    assert "no attribute 'nothing'" in row["error"]


@dataclass(frozen=True)
class Faulty(Symmetric):
    """Its check raises what no user input explains."""

    def check(self, classes):
        raise AttributeError("my own fault")


def test_a_fault_before_training_is_no_configerror(experiment):
    with pytest.raises(AttributeError, match="my own fault"):
        experiment("++noise._target_=test_extending.Faulty")


# Faults of the package: each of these should be said in one line.


class Bare(LabelNoise):
    """Not a dataclass."""

    def probabilities(self, samples):
        return np.eye(2)[samples.labels]


@dataclass(frozen=True)
class Listed(Symmetric):
    """A field of a type that settings cannot have."""

    rates: list | None = None


@dataclass(frozen=True)
class WithoutRate(Optimizer):
    """An optimizer that has no field lr."""

    steps: int = 20

    def total_steps(self, n):
        return self.steps

    def make(self, parameters, lr):
        return torch.optim.Adadelta(parameters)


@dataclass(frozen=True)
class Pixels(LabelNoise):
    """Declares what it looks at, and leaves flip_rate as it is."""

    rate: float = 0.2

    needs_images = True

    def probabilities(self, samples):
        bright = samples.features(0).mean(1) > 0
        return np.where(bright[:, None], np.eye(2)[samples.labels], 1 / 2)


@dataclass(frozen=True)
class TrainingOnly(Symmetric):
    """Test samples have no observed labels."""

    for_test = False


WITHOUT = ("noise=pair", "~noise.exact", "~noise.resample")


@pytest.mark.parametrize(
    "target", ["no_such_module.Noise", "test_extending.NoSuchClass", "test_extending.small", "test_extending.Bare"]
)
def test_a_class_that_cannot_be_used_is_refused_in_one_line(experiment, target):
    with pytest.raises(ConfigError, match=f"noise={target}: "):
        experiment(*WITHOUT, "~noise.rate", f"++noise._target_={target}")


def test_an_option_without_a_class_is_refused_in_one_line(experiment):
    with pytest.raises(ConfigError, match="_target_"):
        experiment("~noise._target_")


def test_a_field_of_another_type_is_refused_in_one_line():
    with pytest.raises(ConfigError, match="rates"):
        Listed(rates=[0.1])


def test_an_optimizer_without_a_step_size_is_refused(experiment):
    """It trains with eta = NaN, and every run diverges at the first step."""
    with pytest.raises(ConfigError, match="lr"):
        lnt.simulate(lnt.SignalNoise(n_train=20, n_test=50, dim=50), optimizer=WithoutRate(), progress=False)


def test_noise_on_pixels_without_a_rate_is_told_what_it_lacks():
    with pytest.raises(ConfigError, match="flip_rate"):
        lnt.simulate("digits", Pixels(), optimizer=lnt.StochasticGradientDescent(epochs=1), progress=False)


def test_noise_that_is_not_for_test_samples_leaves_them_alone_on_vectors(experiment):
    assert experiment("++noise._target_=test_extending.TrainingOnly", *small([])).sample().test_transition is None


def loss(snapshot, truth):
    """A metric with the name of another column."""
    return snapshot.losses.mean(1)


step = run_id = noise = seed = loss


@pytest.mark.parametrize("name", ["loss", "step", "run_id", "noise", "seed"])
def test_a_metric_does_not_take_the_name_of_another_column(name):
    with pytest.raises(ConfigError, match=f"there is a column {name} already"):
        own_metrics([f"test_extending.{name}"])


def test_a_fault_in_the_module_of_a_metric_keeps_its_traceback(tmp_path, monkeypatch):
    (tmp_path / "faulty_module.py").write_text("None.nothing\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'nothing'"):
        own_metrics(["faulty_module.metric"])
