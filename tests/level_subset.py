"""A compact part of the case table, forward and backward, at the level that FASTATTN_ISA forces: a script."""

import sys

from cases import CASES, SPARSE
from checks import check_forward, check_gradients

import fastattn

EVERY = 3


def main():
    wanted = sys.argv[1]
    level = fastattn.show_config(as_dict=True)["level"]
    assert level == wanted, f"level {level}, expected {wanted}"
    chosen = {case.name: case for case in CASES[::EVERY]}
    chosen.update({case.name: case for case in CASES if "everything" in case.name or "spread" in case.name})
    chosen.update({case.name: case for case in SPARSE[:: 2 * EVERY]})
    failures = []
    for case in chosen.values():
        for check in (check_forward, check_gradients):
            try:
                check(case)
            except AssertionError as error:
                failures.append(f"{case.name} {check.__name__}: {error}")
    print("\n".join(failures) or f"{len(chosen)} cases")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
