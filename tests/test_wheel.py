"""The wheel in an empty environment: its commands, a sweep, its analysis, a user's own configuration, from anywhere."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TINY = ("data.n_train=8", "data.n_test=10", "data.dim=50", "optimizer.steps=10", "model.width=2")

pytestmark = pytest.mark.wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of the commands that the wheel brings."""
    folder = tmp_path_factory.mktemp("wheel")
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "build", "--wheel", "--out-dir", folder, ROOT], check=True)
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    (wheel,) = folder.glob("*.whl")
    python = folder / "env" / "bin" / "python"
    pins = ROOT / "constraints.txt"
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "--constraint", pins, wheel], check=True)
    return python.parent


def test_a_sweep_from_another_directory(installed, tmp_path):
    def call(name, *arguments):
        done = subprocess.run([installed / name, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "noise.rate=0.35" in call("lnt-train", "--help")
    said = call("lnt-train", "-m", *TINY, "noise=none,symmetric", "seed=range(2)", "hydra.sweep.dir=sweep")
    assert "4 runs: 4 completed" in said
    assert "next: lnt-analyze path=sweep" in said
    assert "4 runs: 4 completed" in call("lnt-status", "sweep")
    call("lnt-analyze", "path=sweep")
    assert (tmp_path / "sweep" / "analysis" / "report.html").is_file()
    code = "import lnt; print(len(lnt.simulate(over={'seed': range(2)}, recordings=1, progress=False).runs))"
    assert call("python", "-c", code).strip() == "2"


def test_a_users_own_configuration_works_to_the_end(installed, tmp_path):
    """--config-dir brings an option of its own, in training and in the attributions of the analysis."""
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "tiny.yaml").write_text("defaults: [small_cnn]\nwidth: 2\n")
    digits = ("data=digits", "data.classes=[3,8]", "data.n_train=60", "optimizer.epochs=60", "noise.rate=0.2")
    for command in (
        ["lnt-train", "--config-dir", "mine", *digits, "optimizer.momentum=0.9", "model=tiny", "hydra.run.dir=run"],
        ["lnt-analyze", "--config-dir", "mine", "path=run", "attributions=2"],
    ):
        done = subprocess.run([installed / command[0], *command[1:]], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "run" / "analysis" / "attributions.png").is_file(), done.stdout
