"""What a PromQL expression names: enough of the language for the expressions in deploy/."""
import re

WORDS = {"by", "on", "and", "or", "unless", "without", "ignoring", "group_left", "group_right", "bool", "offset", "inf", "nan"}
IDENTIFIER = r"[a-zA-Z_:][a-zA-Z0-9_:]*"


class Expression:
    """`metrics`: names. `labels`: what it groups and joins by. `matchers`: (metric, label, operator, value)."""

    def __init__(self, text):
        self.text = text
        self.metrics, self.labels, self.matchers = set(), set(), []
        rest = re.sub(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)", self._group, text)
        rest = re.sub(rf"({IDENTIFIER})\s*{{([^}}]*)}}", self._selector, rest)
        rest = re.sub(r"\[[^]]*\]", " ", rest)
        for match in re.finditer(rf"(?<![\w.]){IDENTIFIER}", rest):
            if match[0].lower() not in WORDS and not rest[match.end() :].lstrip().startswith("("):
                self.metrics.add(match[0])

    def _group(self, match):
        self.labels |= {label.strip() for label in match[1].split(",") if label.strip()}
        return " "

    def _selector(self, match):
        for label, operator, value in re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', match[2]):
            self.matchers.append((match[1], label, operator, value))
        return match[1] + " "


def queryable(expression):
    """With what Grafana fills in."""
    return expression.replace("$__rate_interval", "1m").replace("$worker", ".*")
