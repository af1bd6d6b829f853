#!/usr/bin/env python3
"""Writes families.json, builtin.json and expressions.json: what jinja2, set up as Hugging Face transformers sets it up, makes of the
templates in families/ and of the expressions below. Needs jinja2 from PyPI (3.1.6 made the checked-in files)."""

import datetime
import json
import pathlib
import re

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).parent
CLOCK = datetime.datetime(2024, 2, 9, 13, 5, 7)


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_pass"), [], [], body).set_lineno(line)

    def _pass(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = CLOCK.strftime
    return env


def render(source, variables):
    """(text, None), or (None, message) where jinja2 refuses."""
    try:
        return environment().from_string(source).render(**variables), None
    except Exception as error:  # jinja2 lets Python's own errors through
        return None, str(error)


TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather \u2014 \"now\" <b>&</b>\nin a city's area",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "名前"},
                "days": {"type": "array", "items": {"type": "integer"}},
                "scale": {"type": "number", "enum": [1, 2.5, 1e-7, True, None]},
            },
            "required": ["city"],
        },
    },
}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"id": "abc123456", "type": "function",
                    "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": [1, 2]}}}],
}
RESULT = {"role": "tool", "content": "12 °C\n", "tool_call_id": "abc123456", "name": "get_weather"}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


SYSTEM = {"role": "system", "content": "You are terse.\n"}
CONVERSATIONS = {
    "one turn": [user("Hello!")],
    "system": [SYSTEM, user("Hello!")],
    "multi-turn": [user(" Hi "), assistant(" Hello\n"), user("How are you?\n\n"), assistant("Fine."), user("Good")],
    "system, multi-turn": [SYSTEM, user("Hi"), assistant("<think>\nhm\n</think>\n\nHello"), user("And now?")],
    "empty content": [{"role": "system", "content": ""}, user(""), assistant(""), user("")],
    "unicode": [user("Grüße, 世界! 👩‍👩‍👧 \u202e\x00"), assistant("naïve ½ ẞ"), user("{{ not a template }} {% if %}")],
    "ends with the assistant": [user("Say"), assistant("done")],
    "no messages of the user": [SYSTEM],
    "two users in a row": [user("a"), user("b")],
    "tool call": [user("Weather?"), CALL, RESULT, assistant("Cold."), user("Thanks")],
    "two tool results": [user("Weather?"), CALL, RESULT, RESULT],
    "reasoning": [user("2+2"), assistant("4", reasoning_content="two and two"), user("3+3"), assistant("6", reasoning_content="x\n")],
    "image part": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " what? "}]}],
    "unknown role": [{"role": "bard", "content": "La"}, user("x")],
}
VARIABLES = {
    "": {},
    "no prompt": {"add_generation_prompt": False},
    "tools": {"tools": [TOOL, {**TOOL, "return": "x"}]},
    "options": {"enable_thinking": False, "thinking": True, "tools_in_user_message": False, "tools": [TOOL],
                "documents": [{"id": 1, "title": "T", "text_body": "x\ny"}, {"title": "ü"}], "builtin_tools": ["code_interpreter", "get_weather"]},
}
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


def families():
    cases = []
    for path in sorted((HERE / "families").glob("*.jinja")):
        source = path.read_bytes().decode()
        for name, messages in CONVERSATIONS.items():
            for option, variables in VARIABLES.items():
                if option and name not in ("system", "multi-turn", "tool call", "reasoning"):
                    continue
                all_variables = {"add_generation_prompt": True, "tools": None, "documents": None, **SPECIAL, **variables}
                text, error = render(source, {"messages": messages, **all_variables})
                cases.append({"family": path.stem, "name": f"{name}, {option}" if option else name, "conversation": name,
                              "option": option, "text": text, **({"error": error} if error else {})})
    return {"conversations": CONVERSATIONS, "options": VARIABLES, **SPECIAL, "cases": cases}


def builtin():
    """The templates in worker/text/builtin_templates.cc."""
    code = (HERE.parents[2] / "worker/text/builtin_templates.cc").read_text()
    constants = dict(re.findall(r'char (k\w+)\[\] =\s*R"~\((.*?)\)~"', code, re.S))
    sources = {name: constants["kDefaults"] + sets + constants["kBody"]
               for name, sets in re.findall(r'\{"([\w-]+)",\s*R"~\((.*?)\)~"', code, re.S)}
    sources["chatglm2"] = constants["kChatGlm2"]
    names = ["one turn", "system", "multi-turn", "system, multi-turn", "empty content", "unicode", "ends with the assistant",
             "no messages of the user", "unknown role"]
    cases = []
    for name, source in sorted(sources.items()):
        for conversation in names:
            for prompt in (True, False):
                text, error = render(source, {"messages": CONVERSATIONS[conversation], "add_generation_prompt": prompt, **SPECIAL})
                cases.append({"name": name, "conversation": conversation, "prompt": prompt, "text": text,
                              **({"error": error} if error else {})})
    return {"conversations": {name: CONVERSATIONS[name] for name in names}, **SPECIAL, "cases": cases}


CONTEXT = {
    "s": "Hello World", "u": "Grüße ñ 世界", "e": "", "w": " \t x y \n", "n": 7, "z": 0, "f": 2.5, "t": True, "no": None,
    "l": [3, 1, 2], "el": [], "words": ["b", "A", "c", "a"], "d": {"b": 1, "a": "x", "items": "key"}, "ed": {},
    "deep": {"a": {"b": [{"c": "found"}]}},
    "m": [{"role": "user", "content": "hi", "n": 2}, {"role": "assistant", "content": "yo", "n": 1}, {"role": "user", "content": "bye", "n": 3, "x": None}],
}

EXPRESSIONS = """
1 + 2 * 3 - 4
(1 + 2) * 3
7 // 2, -7 // 2, 7 % 3, -7 % 3, 7 % -3, 7.5 // 2, -7.5 % 2
7 / 2, 6 / 2
2 ** 10, 2 ** -1, 2 ** 3 ** 2, -2 ** 2
1 / 0
1 // 0
1_000 + 1
1.5, 1e3, 1.0, 1e16, 1e15, 1.5e-5, 0.0001, 123456789.125, 1e100
0.1 + 0.2, 1/3, 100.0, -0.0
true, false, none, True, False, None
true + 1, true * 3, -true
'a' 'b' "c"
'a\\nb\\t\\x41\\u00e9\\'q\\\\' ~ "\\""
"a\\qb"
'it' 's'
['it\\'s', "q\\"", 'both\\'"', 'tab\\t', 'é世\\u200b\\x00', '\\x7f']
[1, 'a', 2.0, none, true, [1], (1,), (), {}, {'k': 1}]
(1, 2), (1,), ()
{'a': 1, 2: 'b', none: [1]}
{'a': 1, 'a': 2}
{1: 'a', 1.0: 'b', true: 'c'}
{[1]: 2}
'a' ~ 1 ~ none ~ 2.0 ~ true ~ missing ~ [1]
'a' + 'b'
'a' + 1
1 + 'a'
none + 'a'
missing + 'a'
'a' + missing
'ab' * 3, 3 * 'ab', 'a' * -1, [1] * 2
[1] + [2], (1,) + (2,)
[1] + (2,)
s - 1
-s
+n, -n, - -n
1 == 1.0, 1 == true, '1' == 1, none == false, [1] == [1.0], [1] == (1,), {'a': 1} == {'a': 1}
missing == missing, missing == none, missing != 1
1 < 2 < 3, 1 < 3 < 2, 3 > 2 >= 2, 1 != 2
'a' < 'b', 'a' < 'B', [1, 2] < [1, 3], (1,) < (1, 0)
1 < 'a'
missing < 1
none < 1
1 in l, 9 in l, 9 not in l, 'ell' in s, 'b' in d, 1 in d, 'x' in missing
1 in 'abc'
1 in 5
missing in s
missing in l
not true, not 0, not 'x', not missing, not el
not n == 7
t and n, z and n, z or n, e or no or 'last', missing or 'd'
'yes' if n > 5 else 'no'
'yes' if n > 50
'a' if z else 'b' if e else 'c'
('x' if missing) is defined
n if n is odd else -n
missing
missing.attr
missing['x']
missing()
missing[1:]
d.missing
d.missing.more
d.a, d['a'], d.b, d['items']
d.items is callable
d.nokey is defined, d['b'] is defined
deep.a.b[0].c, deep['a']['b'][0]['c'], deep.a.b.0.c
deep.x.y
l[0], l[-1], l[5] is defined, l['x'] is defined
l[5].x
l.0, m.1.role
s[0], s[-1], u[2], u[-2:], s[99] is defined
s[1:4], s[:3], s[-3:], s[::-1], s[::2], s[5:2], s[100:], s[-100:2]
l[1:], l[:-1], l[::-1], l[::2], (1,2,3)[1:]
m[1:][0].role
l[::0]
l['a':]
no.x is defined, n.x is defined
no.x.y
s.upper(), s.lower(), s.title(), s.capitalize()
u.upper(), u.lower(), u.title(), 'straße'.upper(), 'ǆ'.title(), 'ß'.capitalize(), "they're".title()
w.strip() ~ '|', w.lstrip() ~ '|', w.rstrip() ~ '|'
'xxaxx'.strip('x'), 'abcba'.lstrip('ab'), 'abcba'.rstrip('ab'), 'éaé'.strip('é')
'a b  c '.split(), 'a,b,c'.split(','), 'a,b,c'.split(',', 1), 'abc'.split('x'), ''.split(), ''.split(',')
'a b c'.split(none, 1), ' a  b '.split(maxsplit=1), 'a,b,c'.rsplit(',', 1), ' a b c '.rsplit(none, 1)
'a'.split('')
'a\\nb\\r\\nc\\n'.splitlines(), 'a\\nb'.splitlines(true)
s.startswith('He'), s.endswith('x'), s.startswith(('x', 'H'))
s.startswith(1)
s.replace('l', 'L'), s.replace('l', 'L', 1), 'aaa'.replace('', '-'), 'aaa'.replace('', '-', 2)
', '.join(['a', 'b'])
', '.join([1])
s.find('o'), s.find('zz'), s.rfind('o'), u.find('世'), s.count('l'), 'aaa'.count('aa')
'12'.isdigit(), 'a1'.isdigit(), ''.isdigit(), ' '.isspace()
'prefix-x'.removeprefix('prefix-'), 'x.txt'.removesuffix('.txt')
d.get('a'), d.get('q'), d.get('q', 5), d.get('q', default=none) if false
d.keys() | list, d.values() | list, d.items() | list, ed.items() | list
l.index(1), l.count(3)
l.index(99)
l.append(4)
d.update({'x': 1})
s.nomethod()
s.nomethod is defined
n is odd, n is even, n is divisibleby 7, n is divisibleby(2)
n is number, f is number, t is number, s is number, no is number
n is integer, f is integer, t is integer, f is float, n is float
t is boolean, n is boolean, t is true, t is false, n is true, z is false
s is string, n is string, l is string
s is sequence, l is sequence, d is sequence, n is sequence, missing is sequence, range(3) is sequence, (1,) is sequence
s is iterable, l is iterable, d is iterable, n is iterable, missing is iterable, none is iterable
d is mapping, l is mapping, s is mapping
no is none, n is none, missing is none
s is defined, missing is defined, missing is undefined, s is not defined
n is eq 7, n is equalto(7), n is ne 7, n is lt 8, n is le 7, n is gt 8, n is ge 7, n is sameas 7
n is in [7], n is not in [7]
'abc' is lower, 'ABC' is upper, 'aBc' is lower, '1' is lower
s is callable, range is callable
s is odd
n is divisibleby
s | upper, s | lower, s | capitalize, 'hello wOrld-foo (bar) [x' | title
w | trim ~ '|', 'xxaxx' | trim('x'), 5 | trim
s | length, u | length, l | length, d | length, missing | length, s | count
n | length
l | first, l | last, s | first, s | last, el | first is defined, d | first
el | first
l | join, l | join('-'), m | join(', ', attribute='role'), 'abc' | join('.'), missing | join, [none, 1.5] | join(' ')
s | replace('l', 'L'), s | replace('l', 'L', 1), 112 | replace(1, 2)
missing | default('x'), missing | d('x'), e | default('x'), e | default('x', true), no | default('x'), no | d('x', boolean=true), missing | default ~ '|'
'abc' | list, d | list, missing | list, range(3) | list
d | items | list, missing | items | list
l | items | list
m | map(attribute='role') | list, m | map(attribute='x', default='D') | list, words | map('upper') | list, [[1, 2]] | map('first') | list
m | map(attribute='content') | map('replace', 'y', 'Y') | join('|')
[deep] | map(attribute='a.b.0.c') | list
m | selectattr('role', 'equalto', 'user') | map(attribute='content') | list
m | selectattr('x', 'defined') | list | length, m | selectattr('n') | list | length, m | rejectattr('role', 'eq', 'user') | map(attribute='n') | first
l | select('odd') | list, l | reject('odd') | list, [0, 1, '', 'a'] | select | list, l | select('>', 1) | list, l | select('in', [1, 2]) | list
l | select('nonsense') | list
m | map('nonsense') | list
l | sort, l | sort(reverse=true), words | sort, words | sort(case_sensitive=true), m | sort(attribute='n') | map(attribute='n') | list
[1, 'a'] | sort
words | unique | list, words | unique(case_sensitive=true) | list, [1, 1.0, true, 2] | unique | list
l | reverse | list, s | reverse, u | reverse
5 | reverse
n | string ~ 'x', f | string, no | string, l | string
'12' | int, ' 12 ' | int, '12.7' | int, 'x' | int, 'x' | int(5), 3.9 | int, -3.9 | int, no | int, true | int
missing | int
'1.5' | float, 'x' | float, 3 | float, 'x' | float(1.5), '1e3' | float
-5 | abs, 5 | abs, -2.5 | abs, (-5) | abs
'x' | abs
2.5 | round, 3.5 | round, 2.567 | round(2), 2.675 | round(2), 5 | round, 2.1 | round(method='ceil'), 2.9 | round(0, 'floor'), 1.005 | round(2)
'<b>' | safe | length, '<b>&"' | string
'a\\nb\\n\\nc' | indent, 'a\\nb' | indent(2), 'a\\nb' | indent(2, true), 'a\\n\\nb' | indent(2, blank=true), 'a\\nb' | indent('--'), 'a\\n' | indent
d | dictsort, {'b': 1, 'A': 2} | dictsort, {'b': 1, 'A': 2} | dictsort(true), {'b': 1, 'A': 2} | dictsort(by='value'), {'b': 1, 'A': 2} | dictsort(reverse=true)
l | sum, m | sum(attribute='n'), [] | sum, l | sum(start=10), [1.5, 2] | sum
['a'] | sum
l | min, l | max, words | min, words | max, m | max(attribute='n') | tojson
el | max is defined
d | tojson, l | tojson, s | tojson, no | tojson, t | tojson, f | tojson, u | tojson, '<>&\\'"\\\\/\\x01\\x7f\\n' | tojson
m | tojson(indent=2)
[[], {}, [1, []], {'a': {}}] | tojson(indent=4)
u | tojson(ensure_ascii=true), '😀\\x7f' | tojson(true)
d | tojson(sort_keys=true), d | tojson(separators=(',', ':')), d | tojson(indent=1, separators=(', ', '= '))
{1: 'a', none: 2, true: 3, 1.5: 4} | tojson
(1, 2) | tojson, [1.0, 1e20, 1e-7, 3.0e15] | tojson
missing | tojson
range(3) | tojson if false else [1] | tojson
range(5) | list, range(2, 5) | list, range(5, 0, -2) | list, range(0) | list
range(1000000) | list
range('a')
dict(a=1, b='x'), dict({'a': 1}, b=2), dict([('k', 'v')])
namespace(a=1).a, namespace({'b': 2}).b, namespace().x is defined
strftime_now('%d %b %Y'), strftime_now('%Y-%m-%d %H:%M:%S'), strftime_now('%B %-d, %A %j %%')
raise_exception('own words')
-1 | abs, -n | abs, 2 * 3 | string
1 if true else 2 | string
n is defined and s is string or false
not n is defined
[x for x in l]
l | join(',') | upper | length
1 if
(1, 2
l[
{'a': }
'unclosed
a.b.
x | nofilter
x is notest
"a" "b" ~ 'c'
s[n], s[l[0]], d[s] is defined
m[0]['role'] == 'user' and m[-1].content
(m | last).content, (m | first)['role']
(l | sort)[0], (l | list)[-1]
'a' in ['a'] and 'b' not in 'xyz'
'' is string, 0 is defined, [] is iterable
'x' ~ ('y' if false) ~ 'z'
[missing], [missing] | length
missing | upper ~ '|', missing | trim ~ '|', missing | string ~ '|'
missing | first is defined
'\u00a0x\u3000' | trim ~ '|', '\u00a0x'.strip() ~ '|'
'abc'[1], 'abc'[1:][0], 'abc'.upper()[0]
l == [3, 1, 2], l != [3], m[0] == m[0], m[0] in m
{'a': [1, {'b': 2}]}.a[1].b
""".strip("\n").split("\n")

STATEMENTS = [
    "a\n{% if true %}\nb\n{% endif %}\nc\n",
    "  {% if true %}  \n  b\n  {% endif %}\n",
    "a {%- if true -%} b {%- endif -%} c",
    "a\n  {%+ if true %}\nb\n  {%+ endif %}",
    "{% if true +%}\nb{% endif +%}\n\nc",
    "a  {{- 1 -}}  b\n {{ 2 }}\n c",
    "x {#- gone -#} y {# gone #}\nz\n  {# gone #}\nlast {#+ kept +#}\n!",
    "{#\n{{ never }}\n#}\n\n",
    "\n\n",
    "a\r\nb\rc\r\n",
    "{% raw %}\n{{ x }} {% if %} {# #}{% endraw %}\nz",
    "a {%- raw -%} {{ x }} {%- endraw -%} b",
    "  {% raw %}x{% endraw %}",
    "{{ '{{' }}{{ '%}' }}{{ {'a': {'b': 1}}['a'] }}",
    "{{'a'}}{{'b'}}\n{{'c'}}\n\n{{'d'}}",
    "{ {{ 1 }} } {x} {{ '}}' }}",
    "{% for i in l %}{{ i }}{% if not loop.last %},{% endif %}{% endfor %}",
    "{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}",
    "{% for i in l %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }} {{ loop.previtem is defined }}{% endfor %}",
    "{% for i in range(5) %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for i in el %}x{% else %}none{% endfor %}{% for i in l %}{% else %}no{% endfor %}",
    "{% for i in missing %}x{% else %}undefined{% endfor %}",
    "{% for i in 5 %}{% endfor %}",
    "{% for i in none %}{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for k in d %}{{ k }}{% endfor %}{% for c in u %}{{ c }}.{% endfor %}",
    "{% for k, v in d | items %}{{ k }}={{ v }};{% endfor %}{% for k, v in d|dictsort %}{{ k }}{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3)), (4, (5, 6))] %}{{ a }}{{ b }}{{ c }} {% endfor %}",
    "{% for a, b in [(1, 2, 3)] %}{% endfor %}",
    "{% for i in l if i > 1 %}{{ i }}{{ loop.length }}{% else %}no{% endfor %}",
    "{% for i in l if i > 10 %}{{ i }}{% else %}no{% endfor %}",
    "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in l %}{% for j in l %}{% if j == 1 %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{% endfor %}",
    "{% for i in l %}{% for j in 'ab' %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}",
    "{% for i in l %}{% set outer = loop %}{% for j in 'ab' %}{{ outer.index }}{% endfor %}{% endfor %}",
    "{% set x = 0 %}{% for i in l %}{{ x }}{% set x = i %}{{ x }}{% endfor %}{{ x }}",
    "{% if true %}{% set x = 1 %}{% endif %}{{ x }}",
    "{% set ns = namespace(x=0, seen=[]) %}{% for i in l %}{% set ns.x = ns.x + i %}{% set ns.seen = ns.seen + [i] %}{% endfor %}{{ ns.x }}{{ ns.seen }}",
    "{% set ns = namespace() %}{% set ns.a, b = 1, 2 %}{{ ns.a }}{{ b }}",
    "{% set d.x = 1 %}",
    "{% set missing.x = 1 %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c = 1, 2 %}{{ c }}{% set (p, q) = 'xy' %}{{ p }}{{ q }}",
    "{% set x %}a{{ n }}\n{% endset %}[{{ x }}]{{ x | length }}",
    "{% set x %}{% set y = 1 %}{% endset %}{{ y is defined }}",
    "{% macro m(a, b='B', c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}|{{ m(1, 2) }}|{{ m(b=3, a=4) }}|{{ m() }}",
    "{% macro m(a) %}{{ a is defined }}{% endmacro %}{{ m() }}{{ m(none) }}",
    "{% macro m() %}{{ x }}{% endmacro %}{% set x = 1 %}{{ m() }}{% set x = 2 %}{{ m() }}",
    "{% macro f(k) %}{% if k > 1 %}{{ k * f(k - 1) | int }}{% else %}1{% endif %}{% endmacro %}{{ f(5) }}",
    "{% macro m() %}x{% endmacro %}{{ m() ~ 'y' }}{{ m() | upper }}{{ (m() | length) + 1 }}{{ m is callable }}",
    "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{% endmacro %}{{ m(q=2) }}",
    "{% macro m(a) %}<{{ caller() }}{{ a }}>{% endmacro %}{% call m(1) %}in{{ n }}{% endcall %}",
    "{% macro m() %}{{ caller('p') }}{% endmacro %}{% call(x) m() %}got {{ x }}{% endcall %}",
    "{% macro a() %}A{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}",
    "{%- macro m(x) -%}\n  {{ x }}\n{%- endmacro -%}\n [{{ m('v') }}] ",
    "{% for i in l %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}",
    "{% if z %}a{% elif e %}b{% elif n %}c{% else %}d{% endif %}",
    "{% if missing %}a{% else %}b{% endif %}{% if missing is defined and missing.x %}c{% endif %}",
    "{% generation %}a{% set q = 1 %}{% endgeneration %}{{ q is defined }}{% for i in l %}{% generation %}{{ i }}{{ loop.index }}{% endgeneration %}{% endfor %}",
    "{% set content = m[0].content %}{% set content = content ~ '!' %}{{ content }}",
    "{% if m | selectattr('role', 'equalto', 'nobody') %}a generator is true{% endif %}",
    "{% if m | selectattr('role', 'equalto', 'nobody') | list %}x{% else %}a list is not{% endif %}",
    "{{ m | selectattr('role', 'equalto', 'user') | length }}",
    "{% set loop_messages = m[1:] %}{% for message in loop_messages %}{{ message['role'] }}{{ loop.index0 % 2 == 0 }}{% endfor %}",
    "{{ raise_exception('Only user and assistant roles are supported!') }}",
    "{% if n > 5 %}{{ raise_exception('n is ' ~ n) }}{% endif %}",
    "{% for i in l -%}\n {{ i }}\n{%- endfor %}\n",
    "{% for i in l %}\n{{ i }}\n{% endfor %}\nend",
    "   {{ 1 }}\n   {% if true %}x{% endif %}\n",
    "{% if true %}",
    "{% endif %}",
    "{% for i in l %}{% endif %}",
    "{% nonsense %}",
    "{{ 1",
    "{% if 1",
    "{# never closed",
    "{% raw %}x",
    "{{ }}",
    "{% set %}",
    "{% set 1 = 2 %}",
    "{% for in l %}{% endfor %}",
    "{% break %}",
    "{% macro %}{% endmacro %}",
    "{{ 'a' if true else }}",
    "{{ a b }}",
    "{{ ) }}",
    "{% if true %}a{% else %}b{% else %}c{% endif %}",
    "{{ $ }}",
    "{% set ns = namespace() %}{{ ns.a.b }}",
    "{{- 'only' -}}",
    "{%- set x = 1 -%}\n\n{{ x }}\n\n",
    "tail newline kept?\n\n",
    "{% for x in [1,2,3] %}{{ x }}{{ ', ' if not loop.last }}{% endfor %}",
    "{% set s = '' %}{% for c in 'abc' %}{% set s = s + c %}{% endfor %}[{{ s }}]",
    "{{ messages is defined }}",
    "{% for m in m %}{{ m.role }}{% endfor %}",
    "{% for x in l %}{% if loop.index is divisibleby 2 %}{{ x }}{% endif %}{% endfor %}",
    "{% set x = {'a': 1,\n 'b': [1,\n 2]} %}{{ x.b[1] }}",
    "\ufeffx",
]


def expressions():
    sources = ["{{ " + expression + " }}" for expression in EXPRESSIONS] + STATEMENTS
    cases = []
    for source in sources:
        text, error = render(source, CONTEXT)
        cases.append({"template": source, "text": text, **({"error": error} if error else {})})
    return {"context": CONTEXT, "cases": cases}


def write(name, data):
    (HERE / name).write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n")


write("families.json", families())
write("builtin.json", builtin())
write("expressions.json", expressions())
