"""Results as a table for the terminal, as records, and as rows of a Markdown table that runs keep up to date."""
import collections

BEGIN, END = "<!-- chaos:begin -->", "<!-- chaos:end -->"


def is_time(name):
    return name.endswith(("_s", "_ms"))


def verdict(scenario, figures, times=True):
    """`times`: whether bounds of times count. A machine that is busy with something else cannot keep them."""
    if not all(bound.holds(figures[name]) for name, bound in scenario.valid.items()):
        return "INVALID"
    judged = {name: bound for name, bound in scenario.checks.items() if times or not is_time(name)}
    return "pass" if all(bound.holds(figures[name]) for name, bound in judged.items()) else "FAIL"


def _number(value):
    return f"{value:.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"


def _figure(name, bound, figures):
    mark = "" if bound.holds(figures[name]) else " !"
    return f"{name} {_number(figures[name])} ({bound}){mark}"


def figures_text(scenario, figures):
    return ", ".join(_figure(name, bound, figures) for name, bound in {**scenario.valid, **scenario.checks}.items())


def print_result(scenario, figures, measured, times):
    print(f"{verdict(scenario, figures, times):8} {scenario.name:24} {measured.seconds:6.1f} s  {figures_text(scenario, figures)}", flush=True)
    if measured.first_failure:
        print(f"{'':33} failed: {measured.first_failure}", flush=True)


def print_broken(scenario, error):
    print(f"{'BROKEN':8} {scenario.name:24} {error}", flush=True)


def as_record(scenario, figures, measured, date):
    """What a run came to, for --json and for the table."""
    return {
        "scenario": scenario.name, "date": date, "seed": scenario.seed, "result": verdict(scenario, figures),
        "seconds": round(measured.seconds, 2), "failures": measured.first_failure,
        "figures": {name: round(value, 6) for name, value in sorted(figures.items())},
    }  # fmt: skip


def _row(scenario, record):
    figures = collections.defaultdict(float, record["figures"])
    what = scenario.title + (f" Failed: {record['failures']}." if record["failures"] else "")
    cells = [f"`{scenario.name}`", scenario.row, what, figures_text(scenario, figures), verdict(scenario, figures), record["date"]]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def update_table(path, records, scenarios):
    """Writes the rows of `records`, the last of a scenario counts, and keeps the others. `scenarios`: by name."""
    with open(path, encoding="utf-8") as file:
        before, rest = file.read().split(BEGIN)
    old, after = rest.split(END)
    rows = {line.split("`")[1]: line for line in old.splitlines() if line.startswith("| `")}
    for record in records:
        if record["scenario"] in scenarios:
            rows[record["scenario"]] = _row(scenarios[record["scenario"]], record)
    header = ["| scenario | row | what | figures (bounds; ! marks a miss) | result | date |", "|---|---|---|---|---|---|"]
    table = "\n".join(["", *header, *(rows[name] for name in sorted(rows)), ""])
    with open(path, "w", encoding="utf-8") as file:
        file.write(before + BEGIN + table + END + after)
