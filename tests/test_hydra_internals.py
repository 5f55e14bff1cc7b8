"""Each assumption about Hydra's private parts, as lnt/sweeps/hydra_internals.py numbers them."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.override_parser import overrides_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Transformer
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from lnt import cli
from lnt.sweeps.hydra_internals import FrozenLoader, extend_grammar, frozen


def test_1_the_grammar_is_made_by_create_functions_at_each_use():
    known = overrides_parser.create_functions()
    assert {"linspace", "geomspace", "logspace", "choice", "range"} <= set(known.definitions)
    (override,) = OverridesParser.create().parse_overrides(["a=linspace(0,1,3)"])
    assert list(override.sweep_iterator(transformer=Transformer.identity)) == [0.0, 0.5, 1.0]
    extend_grammar((cli.linspace,))
    overrides_parser.create_functions()  # a function that is known already is no error


def test_2_launchers_use_nothing_of_the_loader_but_load_sweep_config():
    assert list(inspect.signature(ConfigLoaderImpl.load_sweep_config).parameters) == [
        "self",
        "master_config",
        "sweep_overrides",
    ]
    source = inspect.getsource(BasicLauncher)
    assert source.count("config_loader.") == source.count("config_loader.load_sweep_config(") == 1
    from hydra_plugins.hydra_submitit_launcher import submitit_launcher

    source = inspect.getsource(submitit_launcher)
    assert source.count("config_loader.") == source.count("config_loader.load_sweep_config(") == 1
    loader = FrozenLoader(ConfigSearchPathImpl())
    config = OmegaConf.create({"hydra": {"sweep": {"subdir": "there"}}, "seed": 1})
    assert loader.load_sweep_config(config, ["+job=3"]) == {**config, "job": 3}
    assert "job" not in config
    assert isinstance(frozen(loader), FrozenLoader)


def test_3_launchers_are_known_by_their_class_names():
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher

    assert BasicLauncher.__name__ == "BasicLauncher"
    assert SlurmLauncher.__name__ == "SlurmLauncher"


def test_4_the_submitit_launcher_reads_its_settings_when_it_launches(monkeypatch):
    import submitit
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher

    launcher = SlurmLauncher(submitit_folder="folder", array_parallelism=8, max_num_timeout=1)
    launcher.config = OmegaConf.create({"hydra": {"sweep": {"dir": "."}}})
    launcher.params["array_parallelism"] = 4
    seen = {}

    class Executor:
        def __init__(self, **more):
            pass

        def update_parameters(self, **settings):
            seen.update(settings)

        def map_array(self, *more):
            return []

    monkeypatch.setattr(submitit, "AutoExecutor", Executor)
    launcher.launch([["+job=0"]], 0)
    assert seen == {"slurm_array_parallelism": 4}


def test_6_what_a_job_has_raised_is_raised_again_without_a_word(capsys):
    job = JobReturn(overrides=["path=DIR"], status=JobStatus.FAILED)
    job.return_value = ValueError("no runs")
    with pytest.raises(ValueError, match="no runs"):
        _ = job.return_value
    assert not capsys.readouterr().err
    job.status, job.return_value = JobStatus.COMPLETED, 3.0
    assert job.return_value == 3.0


COUNT = """
import runpy, sys
from hydra._internal.config_loader_impl import ConfigLoaderImpl
whole = ConfigLoaderImpl.load_configuration
def load_configuration(loader, config_name, overrides, run_mode, **more):
    print("composed as", run_mode.name)
    return whole(loader, config_name, overrides, run_mode, **more)
ConfigLoaderImpl.load_configuration = load_configuration
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
MULTIRUN, RUN = "composed as MULTIRUN", "composed as RUN"


@pytest.mark.parametrize(
    ("command", "first", "rest"),
    [
        # RUN, below MULTIRUN: one for each end of the axes, which are compared.
        (("train.py", "experiment=phase_rate_dim", "dry_run=true"), MULTIRUN, [RUN, RUN]),
        (("train.py", "-m", "seed=0,1", "dry_run=true"), MULTIRUN, [RUN, RUN]),
        (("train.py", "dry_run=true"), MULTIRUN, [RUN]),  # to read the mode, and to run
        (("analyze.py", "path=nowhere"), RUN, []),
        (("analyze.py", "path=nowhere", "hydra.mode=MULTIRUN"), MULTIRUN, [RUN, RUN]),  # the mode that was typed holds
    ],
)
def test_7_what_hydra_runs_is_composed_once(command, first, rest):
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", COUNT, *command], cwd=root, capture_output=True, text=True)
    assert [line for line in done.stdout.splitlines() if line.startswith("composed")] == [first, *rest]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("experiment=phase_rate_dim", "hydra.sweeper.refine=a,b"), "Sweeping over Hydra's configuration is not supported"),
        (("experiment=phase_rate_dim", "data.dimm=1"), "Could not override 'data.dimm'"),
        (("seed=0,1",), "--multirun"),
    ],
)
def test_7_hydra_still_says_what_is_wrong(words, said):
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "train.py", *words], cwd=root, capture_output=True, text=True)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
