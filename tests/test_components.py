"""Components check themselves, say what they can do, and agree with conf/*.yaml."""

import inspect
import re
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

import numpy as np
import pytest
import yaml

import lnt
from lnt.column_names import COMPONENTS
from lnt.errors import ConfigError
from lnt.help import comments
from lnt.noise.observed_labels import LabelNoise
from lnt.options import CONF, read_option
from lnt.settings import Component, Unless, build_component, class_of, snake_case
from lnt.training.experiment import Settings
from lnt.training.optimizers import Optimizer, StochasticGradientDescent
from lnt.two_layer.data import Mixture

OPTIONS = sorted(file for group in (*COMPONENTS, "tracker") for file in (CONF / group).glob("*.yaml"))
FIELD = re.compile(r"^    (\w+): .*?#\s*(.*)$")


def field_comments(component: type) -> dict[str, str]:
    """name -> comment of each field, from the source of the class and of those that it rests on."""
    found: dict[str, str] = {}
    for cls in reversed(component.__mro__[:-1]):
        found |= {m[1]: m[2] for line in inspect.getsource(cls).splitlines() if (m := FIELD.match(line))}
    return {field.name: found.get(field.name, "") for field in fields(component)}


def as_yaml(value):
    """A default as conf/ writes it."""
    if isinstance(value, Unless):
        inner = as_yaml(value.value)
        for other in reversed(value.others):
            inner = f"${{unless:${{.{other}}},{inner}}}"
        return inner
    return "???" if value is MISSING else list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("file", OPTIONS, ids=lambda file: f"{file.parent.name}={file.stem}")
def test_conf_agrees_with_the_dataclass(file):
    """The same keys, the same defaults (but those that tell one option from another), the same comments."""
    values = {key: value for key, value in yaml.safe_load(file.read_text()).items() if key != "defaults"}
    component = class_of({"_target_": values.pop("_target_")})
    assert set(values) == {field.name for field in fields(component)}
    told_apart = {"depth"}  # VGG-11 and VGG-16 are one class
    for field in fields(component):
        if field.name not in told_apart:
            assert values[field.name] == as_yaml(field.default), field.name
    assert comments(file) == field_comments(component)
    assert all(comments(file).values()), "every key says what it means"


def test_top_level_settings_agree_with_the_dataclass():
    values, meanings = yaml.safe_load((CONF / "config.yaml").read_text()), comments(CONF / "config.yaml")
    for field in fields(Settings):
        assert values[field.name] == as_yaml(field.default), field.name
        assert meanings[field.name] == field_comments(Settings)[field.name]


@pytest.mark.parametrize("file", OPTIONS, ids=lambda file: f"{file.parent.name}={file.stem}")
def test_a_class_knows_the_name_of_its_option(file):
    """So that a component from Python has the run_id of the same one from the command line."""
    values = read_option(file.parent.name, file.stem)
    needed = {"matrix": [[1.0, 0.0], [0.0, 1.0]], "human": "labels.npy", "arrays": "mine.npz"}
    numbers = {key: needed[file.stem] if value == "???" else value for key, value in values.items()}
    assert build_component(file.parent.name, numbers, Component).option == file.stem


def test_names_in_snake_case():
    assert [snake_case(name) for name in ("TwoLayerCNN", "SmallCNN", "Cifar100", "CoTeaching")] == [
        *("two_layer_cnn", "small_cnn", "cifar100", "co_teaching")
    ]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: lnt.Symmetric(rate=2), r"rate=2.0: must lie in \[0, 1 - 1/K\)"),
        (lambda: lnt.Symmetric(rate="high"), "rate=high: must be a number"),
        (lambda: lnt.Symmetric(rate=np.array([0.1, 1.5])), "rate=1.5: must lie in"),
        (lambda: lnt.SignalNoise(dim=0), "dim=0: must be at least 1"),
        (lambda: lnt.SignalNoise(snr=1, signal_norm=2), "snr, signal_norm=1.0, 2.0: exactly one of the two"),
        (lambda: lnt.SignalNoise(snr=None), "snr, signal_norm=None, None: exactly one of the two"),
        (lambda: lnt.Matrix([[0.9, 0.2], [0, 1]]), "row 0 sums to 1.1"),
        (lambda: lnt.Vgg(depth=13), "depth=13: must be 11 or 16"),
        (lambda: lnt.GradientDescent(momentum=1), r"momentum=1.0: must lie in \[0, 1\)"),
        (lambda: lnt.SmallLoss(step=3, epoch=2), "exactly one of the three must be given"),
        (lambda: lnt.Digits(classes=(1, 1)), "classes=.*: must differ"),
    ],
)
def test_a_component_fails_on_its_own(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


def test_a_default_steps_back_where_another_setting_says_the_same():
    assert (lnt.SignalNoise().snr, lnt.SignalNoise().signal_norm) == (0.25, None)
    assert (lnt.SignalNoise(signal_norm=3).snr, lnt.SignalNoise(signal_norm=3).signal_norm) == (None, 3.0)
    assert (lnt.SmallLoss().t1, lnt.SmallLoss(epoch=4).t1, lnt.SmallLoss(step=9).t1) == (0.2, None, None)
    assert lnt.Asymmetric(source_rate=0.2).rate_positive is None
    assert lnt.GradientDescent(t1_steps=40).lr is None


@dataclass(frozen=True)
class Clipped(StochasticGradientDescent):
    """A user's own update, which the exact reduction knows nothing of."""


def test_a_subclass_does_not_inherit_the_promise_to_stay_in_the_span(experiment):
    """It would be trained as plain SGD, without a word."""
    assert StochasticGradientDescent.stays_in_span
    assert not Clipped.stays_in_span
    one = experiment(f"++optimizer._target_={__name__}.Clipped", "optimizer=sgd", "optimizer.epochs=1", "data.dim=40")
    assert one.settings.engine == "autograd"
    with pytest.raises(ConfigError, match="engine=span: Clipped's steps leave the span of the data"):
        experiment(f"++optimizer._target_={__name__}.Clipped", "optimizer=sgd", "engine=span")


@dataclass(frozen=True)
class Unfinished(Optimizer):
    """Lacks both methods."""


@dataclass(frozen=True)
class Pixels(LabelNoise):
    """Looks at pixels, and does not say so."""

    rate: float = 0.1

    def probabilities(self, samples):
        return samples.features(0)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["++optimizer._target_=test_components.Unfinished"], r"optimizer=test_components.Unfinished: lacks make, total_steps"),
        (
            ["++noise._target_=test_components.Clipped"],
            r"noise=test_components.Clipped: must be .* a subclass of .*LabelNoise",
        ),
        (
            ["noise=pair", "~noise.exact", "~noise.resample", "++noise._target_=test_components.Pixels"],
            "asks for the pixels of samples; it must declare needs_images = True",
        ),
    ],
)
def test_missing_and_wrong_abilities_are_refused_in_one_line(experiment, overrides, said):
    with pytest.raises(ConfigError, match=said):
        experiment(*overrides)


def test_options_are_names_not_paths(tmp_path):
    (tmp_path / "evil.yaml").write_text("_target_: os.system")
    for name in ("../../../evil", str(tmp_path / "evil"), "evil", ""):
        with pytest.raises(ConfigError, match="is no option of conf/noise"):
            read_option("noise", name)
    assert Path(CONF).is_dir()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model.leak=0.1",), "model.leak=0.1: is that of activation=leaky_relu"),
        (("model.second_layer_rate=2",), "is for second_layer=trained"),
        (("model.activation=gelu", "model.power=2"), "model.power=2.0: is that of activation=relu"),
        (("model.activation=sine",), "model.activation=sine: must be one of relu"),
        (("data=mixture", "data.n_gamma=500"), "data.n_gamma=500.0: must lie between 0 and n_train"),
        (
            ("data=mixture", "data.n_gamma=null", "data.noise_std=null", "data.snr=null"),  # from=DIR of a run with n_gamma
            "data.noise_std=None: must be given where n_gamma is not, and so must snr or signal_norm",
        ),
        (("data=mixture", "data.n_gamma=5", "data.noise_std=1"), "data.noise_std=1.0: follows from n_gamma"),
        (("data=mixture", "optimizer.t1_steps=40"), "give lr"),
        (("optimizer.until=fitted", "strategy=small_loss"), "strategy=small_loss: is for optimizer.until=end"),
        (("optimizer.until=fitting",), "must be one of end, fitted"),
        (("data=digits", "optimizer=gd", "optimizer.until=fitted"), "is for signal-noise data"),
    ],
)
def test_settings_that_do_not_combine_are_refused(experiment, overrides, message):
    with pytest.raises(ConfigError) as error:
        experiment(*overrides)
    assert message in str(error.value)


@pytest.mark.slow
def test_what_follows_from_other_settings_can_be_swept_from_python():
    data = Mixture(dim_over_n=1, n_gamma=2, n_train=20, n_test=10)
    results = lnt.simulate(
        data=data, optimizer=lnt.GradientDescent(lr=0.1, steps=5), over={"data.dim_over_n": [1, 2]}, progress=False
    )
    assert results.runs["data.dim"].tolist() == [20, 40]
    np.testing.assert_allclose(results.runs["data.noise_std"] ** 2 * results.runs["data.dim"], 0.9)
