"""The same texts, measured by us and by Twilio's own calculator, which npm has."""

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from notifyctl.text.sms_segments import SmsEncoding, measure
from tests.support.processes import Processes

PACKAGE = "sms-segments-calculator@1.3.0"
TEXTS = 4_000
SEED = 20_261_128
SCRIPT = """
const {SegmentedMessage} = require('sms-segments-calculator');
const texts = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const sizes = texts.map(text => { const m = new SegmentedMessage(text); return [m.encodingName, m.segmentsCount]; });
process.stdout.write(JSON.stringify(sizes));
"""
PLAIN = "The quick brown fox, Größe 5 £ à Δ @ 100 % \n"
EXTENDED = "€[]{}~^|\\"
WIDE = ["ж", "漢", "á", "“", "’", "…", "🔥", "😀"]
JOINED = [
    "e\u0301", "o\u0302\u0323", "🇩🇪", "🇫🇷", "👍🏽", "✌🏿", "👩‍👩‍👧‍👦", "👨🏻‍💻", "🏳️‍🌈", "❤️", "1️⃣", "🏃🏽‍♀️",
    "नि", "क्षि", "กำ", "ᄀ\u1161\u11a8", "각", "👁‍🗨", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
]  # fmt: skip


def texts() -> list[str]:
    """Of every alphabet, and mostly about as long as one part or a few."""
    dice = random.Random(SEED)
    alphabets = [list(PLAIN), list(PLAIN + EXTENDED), list(PLAIN) + WIDE, WIDE + JOINED, list(PLAIN) + JOINED]
    lengths = (1, 20, 66, 68, 71, 134, 150, 153, 160, 161, 200, 306, 310, 460)
    made = []
    for _ in range(TEXTS):
        alphabet, length = dice.choice(alphabets), dice.choice(lengths) + dice.randint(-3, 3)
        made.append("".join(dice.choices(alphabet, k=max(0, length))))
    return [*made, "", "\r\n", "a" * 152 + "\r\n" + "a" * 152, "ж" * 66 + "\r\n" + "ж" * 66]


@pytest.fixture
def calculator(processes: Processes, tmp_path: Path) -> Path:
    """The folder that it is installed in."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("needs npm")
    folder = tmp_path / "npm"
    install = [npm, "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", PACKAGE]
    try:
        done = processes.run(*install)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm could not fetch {PACKAGE} in a minute")
    if done.returncode:
        pytest.skip(f"npm could not fetch {PACKAGE}")
    return folder


def test_every_text_has_the_encoding_and_the_segments_that_twilios_own_calculator_gives_it(
    processes: Processes, calculator: Path
) -> None:
    measured = texts()
    ran = processes.run("node", "-e", SCRIPT, cwd=calculator, text_in=json.dumps(measured), timeout=120)
    assert ran.returncode == 0, ran.stderr
    theirs = [(SmsEncoding(encoding), count) for encoding, count in json.loads(ran.stdout)]
    sizes = [measure(text) for text in measured]
    # To Twilio's calculator a text of nothing is one segment; nobody sends one.
    ours = [(size.encoding, max(1, size.segments)) for size in sizes]
    differ = [(text, us, they) for text, us, they in zip(measured, ours, theirs, strict=True) if us != they]
    assert differ == []
