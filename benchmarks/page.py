"""How long a reader of report.html waits after a click: python -m benchmarks.page [DIR].

DIR is an analysed directory of results. Without one, 4900 cells with curves are trained and analysed (half a minute). Needs
Chromium. A wait lasts until the first frame after the event is drawn, which is when the second one begins. Absolute times are
those of this machine. What the page of DIR lacks, a menu of time say, is left out.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks import table

ROOT = Path(__file__).parents[1]
SIDE = 70  # cells along each axis
SMALL = ("data.n_train=20", "data.n_test=50", "data.dim=400", "optimizer.steps=200")
TIMED = """() => { window.timed = (act) => new Promise((done) => {
    const began = performance.now(), end = () => done(performance.now() - began);
    act();
    requestAnimationFrame(() => requestAnimationFrame(end));
}); }"""
ACTIONS = {  # what a reader does, each time with another `number`
    "click on a row of the table": ("#cells tbody tr", "all[number % all.length].click()"),
    "sort the table": ("#cells thead button", "all[number % all.length].click()"),
    "slider of the level": (
        "input[name=slider]",
        "one.value = Number(one.min) + (0.3 + 0.05 * number) * (one.max - one.min); one.dispatchEvent(new Event('input'))",
    ),
    "menu of values": (
        "select[name=value]",
        "one.selectedIndex = (number + 1) % one.length; one.dispatchEvent(new Event('change'))",
    ),
    "menu of time": (
        "select[name=clock]",
        "one.selectedIndex = (number + 1) % one.length; one.dispatchEvent(new Event('change'))",
    ),
    "slider of time": ("input[name=time]", "one.value = 3 + number; one.dispatchEvent(new Event('input'))"),
}
REPEATS = 7


def analysed(folder: Path) -> Path:
    """A sweep of SIDE x SIDE cells with the curves of each, analysed."""
    snr = ",".join(f"{0.02 * 1.06**i:.4g}" for i in range(SIDE))
    rates = ",".join(f"{0.006 * i:.4g}" for i in range(SIDE))
    sweep = folder / "sweep"
    for command in (
        ("train.py", "-m", *SMALL, f"data.snr={snr}", f"noise.rate={rates}", f"hydra.sweep.dir={sweep}"),
        ("analyze.py", f"path={sweep}", "formats=[]", "value=test_error"),
    ):
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return sweep


def report(directory: Path) -> str:
    """A table in Markdown: milliseconds for each action, the first time and the median of REPEATS times."""
    from playwright.sync_api import sync_playwright

    if (chromium := shutil.which("chromium")) is None:
        sys.exit("no chromium is found: apt-get install chromium")
    page_file = directory.resolve() / "analysis" / "report.html"
    rows = []
    with sync_playwright() as play:
        # Containers, in which benchmarks may run as root, have no sandbox.
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(page_file.as_uri())
        page.wait_for_selector("#cells tbody tr")
        page.evaluate(TIMED)
        for name, (selector, act) in ACTIONS.items():
            if page.query_selector(selector) is None:
                continue
            begin = f"const all = document.querySelectorAll('{selector}'), one = all[0]; "
            waits = [
                page.evaluate(f"() => timed(() => {{ const number = {number}; {begin}{act}; }})") for number in range(REPEATS)
            ]
            rows.append((name, f"{waits[0]:.0f}", f"{median(waits):.0f}"))
        browser.close()
    return f"report.html: {page_file.stat().st_size / 1e6:.1f} MB\n\n" + table(("action", "first, ms", "median, ms"), rows)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        print(report(Path(sys.argv[1]) if len(sys.argv) > 1 else analysed(Path(place))))
