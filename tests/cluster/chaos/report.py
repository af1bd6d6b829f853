"""Results as a table for the terminal, as JSON, and as rows of a Markdown table that runs keep up to date."""
import json

BEGIN, END = "<!-- chaos:begin -->", "<!-- chaos:end -->"


def verdict(scenario, figures):
    if not all(bound.holds(figures[name]) for name, bound in scenario.valid.items()):
        return "INVALID"
    return "pass" if all(bound.holds(figures[name]) for name, bound in scenario.checks.items()) else "FAIL"


def _number(value):
    return f"{value:.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"


def _figure(name, bound, figures):
    mark = "" if bound.holds(figures[name]) else " !"
    return f"{name} {_number(figures[name])} ({bound}){mark}"


def figures_text(scenario, figures):
    return ", ".join(_figure(name, bound, figures) for name, bound in {**scenario.valid, **scenario.checks}.items())


def print_result(scenario, figures, measured):
    print(f"{verdict(scenario, figures):8} {scenario.name:24} {measured.seconds:6.1f} s  {figures_text(scenario, figures)}", flush=True)
    if measured.first_failure:
        print(f"{'':33} failed: {measured.first_failure}", flush=True)


def print_broken(scenario, error):
    print(f"{'BROKEN':8} {scenario.name:24} {error}", flush=True)


def as_json(scenario, figures, measured):
    return json.dumps({
        "scenario": scenario.name, "row": scenario.row, "seed": scenario.seed, "result": verdict(scenario, figures),
        "seconds": round(measured.seconds, 2), "failures": measured.first_failure, "figures": {k: round(v, 6) for k, v in sorted(figures.items())},
    })  # fmt: skip


def _cell(text):
    return text.replace("|", "\\|")


def update_table(path, results, date):
    """Replaces the rows of the scenarios that ran and keeps the others. `results`: (scenario, figures, measured) each."""
    text = open(path, encoding="utf-8").read()
    before, rest = text.split(BEGIN)
    old, after = rest.split(END)
    rows = {}
    for line in old.splitlines():
        if line.startswith("| `"):
            rows[line.split("`")[1]] = line
    for scenario, figures, measured in results:
        what = f"{_cell(scenario.title)}{' Failed: ' + _cell(measured.first_failure) + '.' if measured.first_failure else ''}"
        rows[scenario.name] = (
            f"| `{scenario.name}` | {scenario.row} | {what} | {_cell(figures_text(scenario, figures))} | {verdict(scenario, figures)} | {date} |"
        )
    header = ["| scenario | row | what | figures (bounds; ! marks a miss) | result | date |", "|---|---|---|---|---|---|"]
    table = "\n".join(["", *header, *(rows[name] for name in sorted(rows)), ""])
    with open(path, "w", encoding="utf-8") as file:
        file.write(before + BEGIN + table + END + after)
