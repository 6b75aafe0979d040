#!/bin/bash
# edn_format 0.8.0 (PyPI): keys and elements that EDN holds apart become one, and the data of the other is lost.
#
# In EDN a character is not a string, a number no boolean, and 1 not 1.0, so all of these are whole maps and sets. The
# library reads them into a dict or a frozenset of Python, where `True == 1 == 1.0`, and its class for characters is a
# subclass of str, so that \a equals "a". The first key stays with the last value: neither of the two entries that were
# written. No error, no warning; a vector keeps both.
#
# Output seen, text | dumps(loads(text)):
#   [\a "a" 1 true 1.0]          | [\a "a" 1 true 1.0]
#   {\a :char, "a" :string}      | {\a :string}
#   {1 :number, true :boolean}   | {1 :boolean}
#   {false :boolean, 0 :number}  | {false :number}
#   {1 :integer, 1.0 :float}     | {1 :float}
#   #{\a "a"}                    | #{\a}
#   #{1 true}                    | #{1}
#
# Needs: bash, python3 with venv. Exits 1 when the behaviour has changed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check edn_format==0.8.0 ply==3.11 pyRFC3339==2.1.1 pytz==2026.6

cat >main.py <<'PYTHON'
import sys

from edn_format import dumps, loads

cases = {
    r'[\a "a" 1 true 1.0]': r'[\a "a" 1 true 1.0]',
    r'{\a :char, "a" :string}': r"{\a :string}",
    "{1 :number, true :boolean}": "{1 :boolean}",
    "{false :boolean, 0 :number}": "{false :number}",
    "{1 :integer, 1.0 :float}": "{1 :float}",
    r'#{\a "a"}': r"#{\a}",
    "#{1 true}": "#{1}",
}
changed = 0
for text, expected in cases.items():
    written = dumps(loads(text))
    print(f"{text:28} | {written}")
    changed += written != expected
sys.exit(bool(changed))
PYTHON
venv/bin/python main.py
