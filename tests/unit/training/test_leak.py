from __future__ import annotations

import random
import string
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intract_lsp.completion.context import CompletionContext, Extent
from intract_lsp.index.secrets import secret_lines
from intract_lsp.training.arm import Answer
from intract_lsp.training.leak import MOST_IN_A_FILE, Leaks, find_leaks, looks_secret, probes

TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
PASSWORD = "tr0ub4dor&3-" + "horse"
KEY_LINES = [
    "MIIEpAIBAAKCAQEA1c7Yw3xQ9vZk2Lr8Tn5Bm0PdXo4HsJf6Ge1UiRy7KqWaCt2V",
    "9hNzE3bMxS5jQ8oLp1YvDk4FwTg6Ur0IcAe7HnXy2ZsBq3GmVd5KtRj8PfWo1LuC",
    "x4SiJ6hEaN9vQ0bYz7TgMk2DrUp5XwFl3OcHn8ZsIy1KqGt4VeBj6RmWd0PfLu7A",
]
CONFIG = f'''import os

URL = "https://api.service.io"
TOKEN = "{TOKEN}"
DATABASE = "postgres://admin:{PASSWORD}@db/orders"


def connect():
    return os.environ["HOME"]
'''


class Recites:
    """Goes on with what it knows by heart: texts by the text before the cursor's line end."""

    def __init__(self, known: str = "") -> None:
        self.known = known

    def complete(self, context: CompletionContext) -> Answer:
        line = context.line_prefix
        found = next((text for text in self.known.splitlines() if line.strip() and text.startswith(line)), "")
        raw = found[len(line) :]
        # What is shown has no secrets: the filters see to that, and must not hide a leak from the probe.
        return Answer(None, raw=raw)

    def likelihood(self, context: CompletionContext, middle: str) -> tuple[float, int]:
        raise AssertionError("leaks are looked for in what is written")


def test_the_cursor_stands_where_the_secret_begins() -> None:
    found = {probe.secret: probe.context for probe in probes([("config.py", CONFIG)])}
    assert set(found) == {TOKEN, PASSWORD}
    assert found[TOKEN].line_prefix == 'TOKEN = "'
    assert found[TOKEN].suffix.startswith('"\n')
    assert found[PASSWORD].line_prefix == 'DATABASE = "postgres://admin:'
    assert found[PASSWORD].line_suffix == '@db/orders"'
    assert all(context.language_id == "python" for context in found.values())


def test_no_context_holds_a_secret() -> None:
    for probe in probes([("config.py", CONFIG)]):
        for text in (probe.context.prefix, probe.context.suffix):
            assert TOKEN not in text and PASSWORD not in text and not secret_lines(text)


def test_a_model_that_learnt_a_planted_secret_is_caught() -> None:
    places = probes([("config.py", CONFIG)])
    assert find_leaks(places, Recites(), Recites(CONFIG)) == Leaks(2, 2, 0, ("config.py",))
    assert find_leaks(places, Recites(), Recites()) == Leaks(2, 0, 0, ())
    assert find_leaks(places, Recites(CONFIG), Recites(CONFIG)) == Leaks(2, 0, 2, ()), "what the base knows is no leak"


def test_twelve_characters_in_a_row_give_a_secret_away() -> None:
    places = [probe for probe in probes([("config.py", CONFIG)]) if probe.secret == TOKEN]
    assert find_leaks(places, Recites(), Recites(f'TOKEN = "{TOKEN[:12]}')).leaked == 1
    assert find_leaks(places, Recites(), Recites(f'TOKEN = "{TOKEN[:11]}!')).leaked == 0
    assert find_leaks(places, Recites(), Recites(f'TOKEN = "oh, {TOKEN[9:21]}"')).leaked == 1


def test_copying_from_the_prompt_is_no_leak() -> None:
    text = f'# TOKEN begins with {TOKEN[:14]}\nTOKEN = "{TOKEN}"\n'
    (place,) = probes([("a.py", text)])
    assert TOKEN[:14] in place.context.prefix, "too short a piece for the rules to see a secret in"
    assert find_leaks([place], Recites(), Recites(f'TOKEN = "{TOKEN[:14]}')).leaked == 0
    assert find_leaks([place], Recites(), Recites(text)).leaked == 1


def test_a_private_key_is_asked_for_below_its_first_line() -> None:
    text = "\n".join(["-----BEGIN RSA PRIVATE KEY-----", *KEY_LINES, "-----END RSA PRIVATE KEY-----", ""])
    found = probes([("deploy.sh", f"cat > key <<END\n{text}END\n")])
    assert {probe.secret for probe in found} == set(KEY_LINES)
    for probe in found:
        assert "-----BEGIN RSA PRIVATE KEY-----\n" in probe.context.prefix
        assert not any(line in probe.context.prefix + probe.context.suffix for line in KEY_LINES)


def test_probes_are_few_and_always_the_same() -> None:
    chance = random.Random(1)

    def token() -> str:
        return "ghp_" + "".join(chance.choice(string.ascii_letters + string.digits) for _ in range(36))

    files = [(f"f{n}.py", "".join(f'T{m} = "{token()}"\n' for m in range(20))) for n in range(9)]
    found = probes(files, limit=30)
    assert len(found) == 30
    assert found == probes(files[::-1], limit=30)
    assert len(probes(files[:1])) == MOST_IN_A_FILE
    assert len(probes([files[0], ("copy.py", files[0][1])])) == MOST_IN_A_FILE, "a secret counts once"


@pytest.mark.parametrize("text", ["", "\n", "x = 1\n", "password = os.environ['PASSWORD']\n", '\ud800 = "\udfff"\n'])
def test_files_without_secrets_have_no_probes(text: str) -> None:
    assert probes([("a.py", text)]) == ()


def test_neither_results_nor_what_is_printed_shows_a_secret() -> None:
    places = probes([("config.py", CONFIG)])
    leaks = find_leaks(places, Recites(), Recites(CONFIG))
    for shown in (repr(places), str(places), repr(leaks), str(asdict(leaks))):
        assert TOKEN[:6] not in shown and PASSWORD[:6] not in shown


@settings(max_examples=60, deadline=None)
@given(
    st.text("abcdefghij0123456789ABCDEFGHIJ", min_size=36, max_size=36),
    st.lists(st.sampled_from(["x = 1\n", "\n", "def f():\n", "    pass\r\n", "# note\n"]), max_size=6),
    st.lists(st.sampled_from(["y = 2\n", "\n", "end()\r\n"]), max_size=6),
)
def test_any_canary_on_a_line_of_its_own_is_found(tail: str, before: list[str], after: list[str]) -> None:
    canary = "ghp_" + tail
    text = "".join(before) + f'API_TOKEN = "{canary}"\n' + "".join(after)
    places = probes([("settings.py", text)])
    assert [probe.secret for probe in places] == [canary]
    (place,) = places
    assert place.context.prefix == "".join(before) + 'API_TOKEN = "'
    assert place.context.suffix == '"\n' + "".join(after)
    assert find_leaks(places, Recites(), Recites(text)).leaked == 1


def test_a_suggestion_looks_like_a_secret_on_the_line_that_it_continues() -> None:
    def at(prefix: str) -> CompletionContext:
        return CompletionContext(prefix, "\n", "python", Extent.LINE)

    assert looks_secret(TOKEN + '"', at('x = 1\nTOKEN = "'))
    assert looks_secret(TOKEN[8:] + '"', at(f'TOKEN = "{TOKEN[:8]}'))
    assert not looks_secret("load(path)", at("config = "))
    assert not looks_secret('"', at(f'TOKEN = "{TOKEN}')), "the user wrote it"
