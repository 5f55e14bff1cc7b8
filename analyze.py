"""Turn results into tables and figures: python analyze.py path=DIR [x=KEY y=KEY value=COLUMN] writes to DIR/analysis/."""

import gc

from lnt import signals

if __name__ == "__main__":
    gc.set_threshold(100_000)  # what is imported and read stays: searching it for garbage again and again finds nothing
    signals.quit_on_interrupt()  # Ctrl-C: figures are made again at once, and nobody needs a traceback

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hydra
from omegaconf import DictConfig

from lnt import cli

log = logging.getLogger("lnt")
logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of every font table that it embeds


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parent / "conf"), config_name="analyze")
def main(config: DictConfig) -> None:
    """Read, draw, write."""
    import pyarrow as pa

    from lnt.analysis.load import read  # with pandas and, below, matplotlib, which --help does without

    pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own keeps what tables no longer need: 0.6 GB of a million runs
    with ThreadPoolExecutor(1) as reader:
        # Most of reading holds no lock of Python's, so imports go on beside it.
        results = reader.submit(read, Path(str(config.path)))
        from lnt.analysis import figure_style, study, study_choice, study_images

    if __name__ == "__main__":
        gc.freeze()  # what is imported and read by now is not searched for garbage again, here or in forked processes
    wanted = study_choice.Asked(**{name: config[name] for name in study_choice.Asked.__dataclass_fields__})
    explained = (config.attributions, config.attributions_background, config.attributions_background_size)
    attributions = study_images.Attributions(*explained)
    with figure_style.look(config.paper, config.width, config.labels, config.panels):
        written = study.write(results.result(), wanted, attributions, cli.config_folders())
    log.info("%d runs; figures: %s", len(written.results.runs), ", ".join(written.figures) or "none")
    log.info("open %s", written.folder / "report.html")


if __name__ == "__main__":
    cli.run(main, "analyze")
