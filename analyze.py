"""Turn results into tables and figures: python analyze.py path=DIR [x=KEY y=KEY value=COLUMN] writes to DIR/analysis/."""

import logging
from pathlib import Path

import hydra
from omegaconf import DictConfig

from lnt import draw
from lnt.config import run_entry

log = logging.getLogger("lnt")
logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of every font table that it embeds


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parent / "conf"), config_name="analyze")
def main(config: DictConfig) -> None:
    """Read, draw, write."""
    written = draw.write(Path(str(config.path)), config.x, config.y, config.value, config.level, config.attributions)
    log.info("%d runs; figures: %s", len(written.results.runs), ", ".join(written.figures) or "none")
    log.info("open %s", written.folder / "report.html")


if __name__ == "__main__":
    run_entry(main)
