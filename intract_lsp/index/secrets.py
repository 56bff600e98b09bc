"""Lines of a text that look as if they hold a secret: such lines, and chunks with one, are never used.

Tokens of known makers are found by the patterns of detect-secrets, called one by one: its scanner has settings that
are global, opens files and can ask makers over the network whether a token is valid. Passwords in assignments, key
bodies and random strings are found by rules of our own, since its rules for them fire on ordinary code.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

from detect_secrets.plugins.artifactory import ArtifactoryDetector
from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
from detect_secrets.plugins.cloudant import CloudantDetector
from detect_secrets.plugins.discord import DiscordBotTokenDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
from detect_secrets.plugins.ibm_cloud_iam import IbmCloudIamDetector
from detect_secrets.plugins.ibm_cos_hmac import IbmCosHmacDetector
from detect_secrets.plugins.jwt import JwtTokenDetector
from detect_secrets.plugins.mailchimp import MailchimpDetector
from detect_secrets.plugins.npm import NpmDetector
from detect_secrets.plugins.openai import OpenAIDetector
from detect_secrets.plugins.private_key import PrivateKeyDetector
from detect_secrets.plugins.pypi_token import PypiTokenDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.softlayer import SoftlayerDetector
from detect_secrets.plugins.square_oauth import SquareOAuthDetector
from detect_secrets.plugins.stripe import StripeDetector
from detect_secrets.plugins.telegram_token import TelegramBotTokenDetector
from detect_secrets.plugins.twilio import TwilioKeyDetector

from intract_lsp.text import split_lines

RULES_VERSION = 1
"""Changes with the rules: an index built by others is built anew, without what these find."""

_EXACT = (
    AzureStorageKeyDetector(),
    DiscordBotTokenDetector(),
    GitHubTokenDetector(),
    GitLabTokenDetector(),
    JwtTokenDetector(),
    NpmDetector(),
    OpenAIDetector(),
    PrivateKeyDetector(),
    PypiTokenDetector(),
    SendGridDetector(),
    SlackDetector(),
    SquareOAuthDetector(),
    StripeDetector(),
    TelegramBotTokenDetector(),
)
"""What these find is a secret."""

_LOOSE = (
    ArtifactoryDetector(),
    AWSKeyDetector(),
    CloudantDetector(),
    IbmCloudIamDetector(),
    IbmCosHmacDetector(),
    MailchimpDetector(),
    SoftlayerDetector(),
    TwilioKeyDetector(),
)
"""What these find is a secret if it looks random too."""

_SHAPES = re.compile(
    r"""(?<![A-Za-z0-9])(?:
      (?:A3T[A-Z0-9]|ABIA|ACCA|AKIA|ASIA)[A-Z2-7]{16}(?![A-Za-z0-9])
    | github_pat_[A-Za-z0-9_]{20,}
    | sk-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{20,}
    | [sr]k_(?:live|test)_[A-Za-z0-9]{16,}
    | AIza[A-Za-z0-9_-]{30,}
    | GOCSPX-[A-Za-z0-9_-]{20,}
    | ya29\.[A-Za-z0-9_-]{30,}
    | hf_[A-Za-z0-9]{30,}
    | npm_[A-Za-z0-9]{36}
    | dop_v1_[a-f0-9]{60,}
    | shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}
    | xapp-[0-9]-[A-Za-z0-9-]{20,}
    | AGE-SECRET-KEY-1[A-Z0-9]{50,}
    )""",
    re.VERBOSE,
)
"""Tokens that detect-secrets 1.5 has no pattern for, or an older one."""

_BEARER = re.compile(r"\b(?:bearer|basic)[\s\"':]{1,4}([A-Za-z0-9+/_.=-]{20,})", re.IGNORECASE)

_PASSWORD = r"passw(?:or)?d|passphrase|pwd|db_?pass"
_KEY = r"secret|token(?!iz)|credential|(?:api|access|auth|account|private|signing|encryption)_?key"
_QUOTED = re.compile(
    rf"""(?:(?P<password>{_PASSWORD})|{_KEY})\w{{0,20}}["'\]]{{0,2}}
    \s{{0,4}}(?::\s{{0,4}}[\w.\[\]&']{{1,30}}\s{{0,4}})?(?:[=!]={{1,2}}|:=|=>?|:|,)\s{{0,4}}
    [A-Za-z]{{0,2}}(?P<quote>["'`])(?P<value>[^\s"'`]{{6,200}})(?P=quote)""",
    re.IGNORECASE | re.VERBOSE,
)
_BARE = re.compile(
    rf"""^\s{{0,40}}(?:(?:export|set|env|-)\s{{1,4}})?["']?[\w.-]{{0,40}}?
    (?:(?P<password>{_PASSWORD})|{_KEY})[\w.-]{{0,20}}["']?(?:=|\s{{0,4}}:\s{{1,4}}|\s=\s)
    (?P<value>[^\s"'`()\[\]{{}}<>,;]{{6,200}})\s*(?:\#.*)?$""",
    re.IGNORECASE | re.VERBOSE,
)
"""An assignment as files of settings have them."""

_INLINE = re.compile(
    rf"""(?:--|[;"'?&\s])\w{{0,20}}(?P<password>{_PASSWORD})=(?P<value>[^\s"'`;&<>(){{}}\[\],]{{6,200}})(?=[;"'&\s]|$)""",
    re.IGNORECASE,
)
"""An assignment inside a connection string, a query or a command line."""

_URL = re.compile(r"""://[^\s/@:"'`]{0,100}:(?P<value>[^\s@/"'`<>]{3,200})@""")

_RANDOM = re.compile(r"""(?P<quote>["'`])(?P<value>[A-Za-z0-9+/_=-]{28,120})(?P=quote)""")
_KEY_BODY = re.compile(r"""^[\s"'`#/*+-]{0,20}(?P<value>[A-Za-z0-9+/]{56,}={0,2})(?:\\n|\\r)*["'`]?[\s+,;)\\]*$""")
"""A line of base64 and nothing else: what the lines of a private key are, with or without quotes around them."""

_KEY_BEGINS = re.compile(r"BEGIN [A-Z0-9 ]*PRIVATE KEY|PuTTY-User-Key-File")
_KEY_ENDS = re.compile(r"END [A-Z0-9 ]*PRIVATE KEY|Private-MAC")
_KEY_PART = re.compile(r"[A-Za-z0-9+/=]{16,}|^\s*[\"']?[A-Za-z-]{1,30}: |^\W*(?:[A-Za-z0-9+/]{1,15}={0,2}\W*)?$")
_LONGEST_KEY = 200
"""Lines."""

_SUSPECT = re.compile(
    rf"""(?<![A-Za-z0-9+/_-])(?=[A-Za-z+/_-]{{0,80}}[0-9])[A-Za-z0-9+/_-]{{16,}}
    | ://[^\s/@:]{{0,100}}:[^\s@/]
    | PRIVATE\ KEY | PuTTY-User
    | A3T|ABIA|ACCA|AKIA|ASIA|AKC|gh[pousr]_|gl[a-z]{{2,5}}-|AIza|GOCSPX|hf_|npm_|sk-|k_live|xox|hooks\.slack
    | (?i:{_PASSWORD}|{_KEY}|bearer|basic\ )""",
    re.VERBOSE,
)
"""What any line has that the rules here fire on: so few have it that the rules may be slow."""

_PLACEHOLDER = re.compile(
    r"""<.*> | \[.*\] | \{.*\} | \(.*\) | %.*% | [$@:]\{?[\w.]+\}? | %[sdr] | (.)\1* | [\W_]+
    | .*(?:\{\w*\}|\$[({]|%\(\w|\.\.\.|…).*
    | .*(?:example|sample|dummy|placeholder|change_?me|your[_-]|redacted|fixme|todo|not[_-]?a[_-]?secret|xxxx|0000).*
    | (?:my|the|an?|test|user|some|new|old|bad|wrong|fake|super|top)?[_-]?
      (?:passw(?:or)?d|pass|secret|token|pw|pwd|key|api_?key)[_-]?[0-9]{0,3}""",
    re.IGNORECASE | re.VERBOSE,
)
_WORDS = re.compile(
    r"""[A-Z]?[a-z]+(?:[A-Z][a-z]{2,})* | [a-z][a-z0-9]*(?:[_.:/-][a-z0-9]*)+
    | [A-Z]+(?:[_.:/-][A-Z0-9]*)* | [\d.,:-]+""",
    re.VERBOSE,
)
"""Words, names of settings, dotted names, paths, dates."""

_LONG_WORD = re.compile(r"(?!.*passw)[a-z]{12,}")
"""What is a password where one is expected: longer than the words that code has there."""

_PIECE, _OVERLAP = 2000, 300
"""Characters of a line that rules see at once, so that a line of a megabyte takes no longer than its share."""


def secret_lines(text: str) -> frozenset[int]:
    """Return the numbers of the lines, from 0, that seem to hold a secret or a part of one.

    Lines end as everywhere here (``\\n``, ``\\r\\n``, ``\\r``).
    """
    if _SUSPECT.search(text) is None:
        return frozenset()
    return frozenset(_secret_lines(text))


def has_secret(text: str) -> bool:
    """Return whether any line of a text seems to hold a secret."""
    return _SUSPECT.search(text) is not None and next(_secret_lines(text), None) is not None


def secret_among(lines: Sequence[str], first: int, end: int) -> bool:
    """Return whether ``lines[first:end]`` seem to hold a secret, or a part of a key that begins above them."""
    for number in range(max(0, first - _LONGEST_KEY), first):
        if _KEY_BEGINS.search(lines[number]) and _key_end(lines, number) > first:
            return True
    return has_secret("\n".join(lines[first:end]))


def _secret_lines(text: str) -> Iterator[int]:
    lines = split_lines(text)
    starts = list(accumulate((len(line) for line in lines), initial=0))
    done = -1
    for match in _SUSPECT.finditer(text):
        number = bisect_right(starts, match.start()) - 1
        if number <= done:
            continue
        done = number
        line = lines[number].rstrip("\r\n")
        if _KEY_BEGINS.search(line):
            yield from range(number, _key_end(lines, number))
        elif any(_is_secret(piece) for piece in _pieces(line)):
            yield number


def _key_end(lines: Sequence[str], first: int) -> int:
    """Return the line behind a private key that begins in a line."""
    for number in range(first + 1, min(len(lines), first + _LONGEST_KEY)):
        if _KEY_ENDS.search(lines[number]):
            return number + 1
        if not _KEY_PART.search(lines[number]):
            return number
    return min(len(lines), first + _LONGEST_KEY)


def _pieces(line: str) -> Iterator[str]:
    for start in range(0, max(len(line) - _OVERLAP, 1), _PIECE - _OVERLAP):
        yield line[start : start + _PIECE]


def _is_secret(line: str) -> bool:
    return (
        _SHAPES.search(line) is not None
        or any(next(iter(detector.analyze_string(line)), None) is not None for detector in _EXACT)
        or any(_is_random(value) for detector in _LOOSE for value in detector.analyze_string(line))
        or any(not _is_placeholder(match["value"]) for match in _URL.finditer(line))
        or any(_is_random(match.group(1)) for match in _BEARER.finditer(line))
        or any(_is_assigned(match) for rule in (_QUOTED, _INLINE) for match in rule.finditer(line))
        or ((bare := _BARE.search(line)) is not None and _is_assigned(bare))
        or any(_is_very_random(match["value"]) for match in _RANDOM.finditer(line))
        or ((body := _KEY_BODY.search(line)) is not None and _is_very_random(body["value"]))
    )


def _is_assigned(match: re.Match[str]) -> bool:
    """Return whether what is assigned to a name that means a secret is one."""
    value = match["value"]
    if _is_placeholder(value):
        return False
    if match.groupdict().get("password") is None:
        return _is_random(value)
    return _WORDS.fullmatch(value) is None or _LONG_WORD.fullmatch(value) is not None


def _is_placeholder(value: str) -> bool:
    return _PLACEHOLDER.fullmatch(value) is not None


def _is_random(value: str) -> bool:
    """Return whether a value has letters, digits and the entropy of a token; words and names have not."""
    if len(value) < 12 or _is_placeholder(value) or _WORDS.fullmatch(value):
        return False
    return any(c.isdigit() for c in value) and any(c.isalpha() for c in value) and _entropy(value) >= 3.2


def _is_very_random(value: str) -> bool:
    """Return whether a value is random enough to be a secret under any name: base64, and hardly words."""
    kinds = (str.isdigit, str.islower, str.isupper)
    if not all(any(kind(c) for c in value) for kind in kinds):
        return False
    changes = sum(a.isdigit() != b.isdigit() for a, b in pairwise(value))
    return changes >= 4 and _entropy(value) >= 4.3


def _entropy(value: str) -> float:
    """Return Shannon's entropy in bits a character."""
    return -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())
