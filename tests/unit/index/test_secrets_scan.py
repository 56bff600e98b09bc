"""What counts as a secret in a text. Every token here is made up on the spot, so that none stands in the repository."""

from __future__ import annotations

import base64
import json
import random
import string
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intract_lsp.index.secrets import has_secret, secret_among, secret_lines

ALPHANUMERIC = string.ascii_letters + string.digits
BASE64 = ALPHANUMERIC + "+/"
HEX = "0123456789abcdef"
BEGIN = "-----BEGIN {}PRIVATE" + " KEY-----"
END = "-----END {}PRIVATE" + " KEY-----"

Maker = Callable[[int, str], str]


def jwt(make: Maker) -> str:
    parts = ({"alg": "HS256"}, {"sub": make(8, ALPHANUMERIC), "n": 7})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join((*encoded, make(43, ALPHANUMERIC)))


SECRETS: dict[str, Callable[[Maker], str]] = {
    "aws id": lambda make: f'KEY_ID = "AKIA{make(16, string.ascii_uppercase + "234567")}"',
    "aws secret": lambda make: f"AWS_SECRET_ACCESS_KEY={make(40, BASE64)}",
    "github": lambda make: f"# ghp_{make(36, ALPHANUMERIC)}",
    "github, fine grained": lambda make: f'"github_pat_{make(22, ALPHANUMERIC)}_{make(59, ALPHANUMERIC)}"',
    "slack": lambda make: f"xoxb-{make(11, '123456789')}-{make(11, '123456789')}-{make(24, ALPHANUMERIC)}",
    "stripe": lambda make: f'api_key = "sk_live_{make(24, ALPHANUMERIC)}"',
    "openai": lambda make: f'OpenAI("sk-proj-a1{make(46, ALPHANUMERIC)}")',
    "google": lambda make: f'const k = "AIza{make(35, ALPHANUMERIC)}";',
    "hugging face": lambda make: f'login("hf_{make(34, ALPHANUMERIC)}")',
    "json web token": jwt,
    "database url": lambda make: f'URL = "postgres://admin:{make(10, ALPHANUMERIC)}@db:5432/x"',
    "url without user": lambda make: f"redis://:{make(12, ALPHANUMERIC)}@cache:6379/0",
    "password": lambda make: f'password = "{make(9, string.ascii_lowercase)}{make(1, string.digits)}!"',
    "password, a word and a digit": lambda make: 'password = "' + "hunter" + '2"',
    "password of letters": lambda make: f'db_password = "{make(14, "bcdefghijklmnoqrtuvz")}"',
    "password in yaml": lambda make: f"  password: {make(9, ALPHANUMERIC)}4!x",
    "password in the environment": lambda make: f"export DB_PASSWORD={make(9, ALPHANUMERIC)}4!x",
    "password in a connection string": lambda make: f'"Server=db;Password={make(9, ALPHANUMERIC)}4!x;"',
    "password on a command line": lambda make: f"mysql --password={make(9, ALPHANUMERIC)}4!x db",
    "password in php": lambda make: f"'password' => '{make(9, ALPHANUMERIC)}4!x',",
    "hexadecimal key": lambda make: f'SECRET_KEY = "{make(64, HEX)}"',
    "go": lambda make: f'apiKey := "a1{make(30, ALPHANUMERIC)}"',
    "typescript": lambda make: f'const token: string = "a1{make(30, ALPHANUMERIC)}"',
    "rust": lambda make: f'const TOKEN: &str = "a1{make(38, ALPHANUMERIC)}";',
    "default of a variable": lambda make: f'os.environ.get("API_TOKEN", "a1{make(30, ALPHANUMERIC)}")',
    "bearer": lambda make: f'{{"Authorization": "Bearer a1{make(40, ALPHANUMERIC)}"}}',
    "random, under any name": lambda make: f'x = "a1B2c3D4{make(36, ALPHANUMERIC)}"',
    "body of a key": lambda make: f'    "a1B2c3D4{make(56, BASE64)}\\n"',
    "begin of a key": lambda make: BEGIN.format("EC "),
}


@pytest.mark.parametrize("kind", SECRETS)
def test_secrets_are_found(kind: str) -> None:
    generator = random.Random(kind)
    missed = []
    for _ in range(50):
        line = SECRETS[kind](lambda size, of: "".join(generator.choice(of) for _ in range(size)))
        if secret_lines(f"import os\r\n\r\n{line}\r\nx = 1\r\n") != {2}:
            missed.append(line)
    # A random string has the shape of a word, or too few digits, once in a while.
    assert len(missed) <= 1 + 4 * (kind == "random, under any name")


@pytest.mark.parametrize(
    "line",
    [
        *('password = "password"', 'password = ""', 'password = "<your password>"', 'password = "${DB_PASSWORD}"'),
        *('password = "changeme"', "password: str", "password = get_password()", 'token = "end_of_file"'),
        *("API_KEY = os.environ['API_KEY']", 'secret_name = "projects/1/secrets/name"', 'help="The API token to use."'),
        *(
            'url = "http://user:password@example.com"',
            'url = f"https://{user}:{password}@{host}"',
            "git@github.com:a/b",
        ),
        *('digest = "d41d8cd98f00b204e9800998ecf8427e"', 'id = "123e4567-e89b-12d3-a456-426614174000"'),
        *("tokenizer.encode(text, add_special_tokens=False)", 'TOKENS = {"key": "value_of_the_key"}'),
        *("class HTTP2ConnectionPoolManagerFactory2:", 'model = "sentence-transformers/all-MiniLM-L6-v2"'),
        *(
            'log.info("wrong password for %s", user)',
            "if password == other.password:",
            'field = "password_confirmation"',
        ),
    ],
)
def test_ordinary_lines_are_none(line: str) -> None:
    assert not has_secret(line)


def test_a_private_key_is_marked_to_its_end() -> None:
    generator = random.Random(5)
    body = ["".join(generator.choice(BASE64) for _ in range(64)) for _ in range(24)] + ["c2hvcnQ="]
    lines = ["a = 1", BEGIN.format("RSA "), "Proc-Type: 4,ENCRYPTED", "", *body, END.format("RSA "), "b = 2"]
    assert secret_lines("\n".join(lines)) == set(range(1, len(lines) - 1))
    assert secret_lines("\n".join(lines[10:20])) == set(range(10)), "a piece of a key is one too"


@pytest.mark.parametrize("kind", sorted(SECRETS))
def test_lines_amid_others_hold_a_secret_where_the_whole_text_has_one(kind: str) -> None:
    generator = random.Random(7)

    def make(length: int, alphabet: str) -> str:
        return "".join(generator.choice(alphabet) for _ in range(length))

    body = [make(64, string.ascii_letters[:30]) for _ in range(9)]
    key = [BEGIN.format("EC "), *body, "shortlast=", END.format("EC ")]
    lines = ["a = 1", *key, "b = 2", SECRETS[kind](make), "c = 3"]
    marked = secret_lines("\n".join(lines))
    assert marked >= set(range(1, len(key) + 1))
    for first in range(len(lines)):
        for end in range(first + 1, len(lines) + 1):
            assert secret_among(lines, first, end) == (not marked.isdisjoint(range(first, end))), (first, end)


def test_a_mere_mention_of_a_private_key_does_not_swallow_the_code_below() -> None:
    text = f'if "{BEGIN.format("")}" in text:\n    return True\nreturn False\n'
    assert secret_lines(text) == {0}


@given(st.text(alphabet=st.sampled_from("aA1_=:'\" /-.@\n\r\\{"), max_size=300))
def test_lines_exist_and_agree_with_the_whole(text: str) -> None:
    found = secret_lines(text)
    assert has_secret(text) == bool(found)
    assert all(0 <= number < text.count("\n") + text.count("\r") + 1 for number in found)


@pytest.mark.parametrize(
    "unit", ["a1", "password", "://a:", "'", "eyJ", "token = ", "a1B2/", "AKC", "//x/:_authToken="]
)
def test_one_enormous_line_takes_no_longer_than_its_share(unit: str) -> None:
    text = unit * (200_000 // len(unit))
    start = time.process_time()
    secret_lines(text)
    assert time.process_time() - start < 3


def test_the_standard_library_is_left_alone_and_scanned_fast() -> None:
    folder = Path(sysconfig.get_paths()["stdlib"])
    texts = [path.read_text("utf-8", "replace") for path in sorted(folder.glob("*.py"))]
    lines = sum(text.count("\n") for text in texts)
    start = time.process_time()
    found = [secret_lines(text) for text in texts]
    seconds = time.process_time() - start
    chunks = sum(text.count("\n") // 40 + 1 for text in texts)
    assert lines > 50_000
    assert sum(len({number // 40 for number in numbers}) for numbers in found) < chunks / 200
    # Measured: 1.3 s for 100,000 lines.
    assert seconds / lines * 100_000 < 10


def test_nothing_asks_the_network_or_reads_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a scanner of lines needs neither")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("detect_secrets.plugins.base.get_settings", refuse)
    assert has_secret("x = 'AKIA" + "ABCDEFGH234567QR" + "'")
