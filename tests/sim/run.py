"""scripts/sim: simulate many seeds over processes of this machine, or replay one with its trace."""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.sim.world import run

PROCESSES = 2


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds to run (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="run this seed alone")
    parser.add_argument("--trace", action="store_true", help="print what happened, step by step")
    parser.add_argument("--failures", type=int, default=5, help="stop after that many (default: %(default)s)")
    chosen = parser.parse_args()
    assert os.environ.get("PYTHONHASHSEED"), "start it as scripts/sim: a replay needs the same order of sets"
    if chosen.seed is not None:
        return replay(chosen.seed, trace=chosen.trace)
    return campaign(range(chosen.first, chosen.first + chosen.seeds), chosen.failures)


def replay(seed: int, *, trace: bool) -> int:
    try:
        report = run(seed, trace=trace)
    except Exception:
        traceback.print_exc()
        return 1
    print("\n".join(report.trace))
    print(f"seed {seed}: {report.requests} requests in {report.hours:.0f} h; {_table(report.outcomes)}")
    return 0


def campaign(seeds: range, failures_max: int) -> int:
    began = time.perf_counter()
    outcomes: Counter[str] = Counter()
    requests = hours = 0.0
    failed: list[int] = []
    with ProcessPoolExecutor(PROCESSES) as pool:
        for seed, result in zip(seeds, pool.map(_attempt, seeds, chunksize=4), strict=True):
            if isinstance(result, str):
                failed.append(seed)
                print(f"seed {seed} FAILED; replay it with: scripts/sim --seed {seed} --trace\n{result}", flush=True)
                if len(failed) == failures_max:
                    pool.shutdown(cancel_futures=True)
                    break
            else:
                outcomes.update(result[0])
                requests += result[1]
                hours += result[2]
    print(f"{len(seeds)} seeds, {len(failed)} failed, {time.perf_counter() - began:.0f} s")
    print(f"{requests:.0f} requests in {hours / 24 / 365:.1f} virtual years")
    print(_table(outcomes))
    return 1 if failed else 0


def _attempt(seed: int) -> tuple[Counter[str], int, float] | str:
    try:
        report = run(seed)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"    {type(error).__name__}: {error}\n    at {last.filename}:{last.lineno}"
    return report.outcomes, report.requests, report.hours


def _table(outcomes: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(outcomes.items()))


if __name__ == "__main__":
    sys.exit(main())
