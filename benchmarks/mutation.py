"""Print, file by file, the share of mutants that the tests notice, from what `mutmut run` has left in mutants/."""

import json
from collections import Counter
from pathlib import Path

from mutmut.stats import status_by_exit_code

GOAL = 0.9


def main() -> None:
    for file in sorted(Path("mutants").rglob("*.py.meta")):
        codes = json.loads(file.read_text())["exit_code_by_key"].values()
        states = Counter(status_by_exit_code[code] for code in codes)
        # A mutant that hangs is noticed too; all others that are not killed are not.
        noticed, total = states["killed"] + states["timeout"], states.total()
        if total:
            name = file.relative_to("mutants").with_suffix("")
            below = "" if noticed >= GOAL * total else f"  below {GOAL:.0%}"
            others = ", ".join(f"{count} {state}" for state, count in states.most_common() if state != "killed")
            print(f"{name}: {noticed / total:.1%} of {total} mutants noticed ({others or 'all killed'}){below}")


if __name__ == "__main__":
    main()
