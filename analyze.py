"""Turn results into tables and figures: python analyze.py path=DIR writes to DIR/analysis/."""

import logging
import os
import sys
from pathlib import Path

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from lnt import plots
from lnt.analysis import Results, conditions, load
from lnt.config import ConfigError, explain

log = logging.getLogger("lnt")
logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of every font table that it embeds
MOST_COLUMNS = 4


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parent / "conf"), config_name="analyze")
def main(config: DictConfig) -> None:
    """Read, draw, write."""
    path = Path(config.path)
    results = load(path)
    folder = path / "analysis"
    folder.mkdir(exist_ok=True)
    draw_stages(results, folder)


def draw_stages(results: Results, folder: Path) -> None:
    """The two-stage figure, one column for each condition."""
    groups = conditions(results.runs)
    if len(groups) > MOST_COLUMNS:
        log.warning("%d conditions are too many for the stages figure (at most %d)", len(groups), MOST_COLUMNS)
        return
    curves = results.curves
    figure = plots.stages({title: (runs, curves[curves["run_id"].isin(runs["run_id"])]) for title, runs in groups.items()})
    plots.save(figure, folder / "stages")
    log.info("%d runs in %d conditions; figure in %s", len(results.runs), len(groups), folder / "stages.png")


if __name__ == "__main__":
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors reach this line instead of being printed by Hydra
    try:
        main()
    except (ConfigError, HydraException, OmegaConfBaseException) as error:
        sys.exit(f"error: {explain(error)}")
