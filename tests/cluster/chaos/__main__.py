"""Runs scenario files against real gateways and workers with the simulated engine, on loopback, and prints one table.

usage: python tests/cluster/chaos [--bin-dir DIR] [--no-times] [--json FILE] [--docs FILE [--recorded FILE]] SCENARIO…
A scenario is a file, or the name of one in scenarios/; `quick` and `all` name several. Exits 1 unless all passed.
"""
import argparse
import asyncio
import datetime
import glob
import json
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import report  # noqa: E402
import runner  # noqa: E402
import scenario as scenarios  # noqa: E402

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "scenarios")


def find(names):
    every = sorted(glob.glob(os.path.join(FOLDER, "*.toml")))
    found = []
    for name in names:
        if name == "all":
            found += map(scenarios.read, every)
        elif name == "quick":
            found += [scenario for scenario in map(scenarios.read, every) if not scenario.slow]
        else:
            found.append(scenarios.read(name if os.path.exists(name) else os.path.join(FOLDER, name + ".toml")))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="*")
    parser.add_argument("--bin-dir", default="build/cpu-release/bin", help="where berth-gateway and berth-worker are")
    parser.add_argument("--json", help="append one line per scenario")
    parser.add_argument("--no-times", action="store_true", help="bounds of times are shown and do not count")
    parser.add_argument("--docs", help="a file with a table whose rows are brought up to date")
    parser.add_argument("--recorded", action="append", default=[], help="lines of an earlier --json, for --docs")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the programs end too
    try:
        wanted = find(arguments.scenario)
    except scenarios.BadScenario as error:
        sys.exit(f"chaos: {error}")
    records, bad = [json.loads(line) for path in arguments.recorded for line in open(path)], 0
    for scenario in wanted:
        try:
            figures, measured = asyncio.run(runner.run(scenario, arguments.bin_dir))
        except Exception as error:  # a cluster that does not start must not hide the other scenarios
            report.print_broken(scenario, repr(error))
            bad += 1
            continue
        report.print_result(scenario, figures, measured, not arguments.no_times)
        bad += report.verdict(scenario, figures, not arguments.no_times) != "pass"
        records.append(report.as_record(scenario, figures, measured, datetime.date.today().isoformat()))
        if arguments.json:
            with open(arguments.json, "a") as file:
                file.write(json.dumps(records[-1]) + "\n")
    if arguments.docs:
        report.update_table(arguments.docs, records, {scenario.name: scenario for scenario in find(["all"])})
    print(f"{len(wanted) - bad} passed, {bad} did not")
    return 1 if bad else 0


sys.exit(main())
