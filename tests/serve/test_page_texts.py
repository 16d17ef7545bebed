"""What the page says: the same in both languages, all in one file, and nothing from elsewhere."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

WEB = Path(__file__).parents[2] / "mirip" / "serve" / "web"
HANGUL = re.compile(r"[\uac00-\ud7a3]")
PARTICLE = re.compile(r"\{\w+\}(은|는|이|가|을|를|와|과|로|으로|이다|입니다)(?![\uac00-\ud7a3])")


@pytest.fixture(scope="module")
def strings() -> dict[str, dict[str, str | dict[str, str]]]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node.js, which reads the page's texts")
    code = f"import({json.dumps((WEB / 'strings.js').as_uri())}).then(m => console.log(JSON.stringify(m.STRINGS)))"
    found: dict[str, dict[str, str | dict[str, str]]] = json.loads(subprocess.check_output([node, "-e", code]))
    return found


def forms(text: str | dict[str, str]) -> list[str]:
    return [text] if isinstance(text, str) else list(text.values())


def scripts() -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(WEB.glob("*.js"))}


def test_both_languages_say_the_same_things(strings) -> None:
    english, korean = (set(strings[language]) for language in ("en", "ko"))
    assert {key for key in english ^ korean if not key.startswith("place_")} == set()  # English has four ordinals
    for key in english & korean:
        values = [set(re.findall(r"\{(\w+)\}", " ".join(forms(strings[language][key])))) for language in ("en", "ko")]
        assert values[1] <= values[0] | {"n"}, key


def test_no_particle_follows_a_value(strings) -> None:
    assert [key for key, text in strings["ko"].items() if any(map(PARTICLE.search, forms(text)))] == []


def test_each_text_is_used_and_each_that_is_used_exists(strings) -> None:
    code = (
        "\n".join(text for name, text in scripts().items() if name != "strings.js") + (WEB / "index.html").read_text()
    )
    named = set(re.findall(r"\bt\(\s*(?:[^()\"]*\?\s*)?\"(\w+)\"", code)) | set(
        re.findall(r'data-(?:text|label)="(\w+)"', code)
    )
    assert named <= set(strings["en"])
    prefixes = ("place_", "flag_", "problem_", "advice_")
    assert [key for key in strings["en"] if not key.startswith(prefixes) and f'"{key}"' not in code] == []


def test_all_texts_stand_in_one_file() -> None:
    for name, text in scripts().items():
        assert name == "strings.js" or not HANGUL.search(text), name


def test_nothing_is_asked_of_anybody_else() -> None:
    for path in WEB.iterdir():
        addresses = set(re.findall(r"https?://[^\s\"'`)]+", path.read_text()))
        assert addresses <= {"http://www.w3.org/2000/svg"}, path.name


def test_no_text_is_set_in_italics() -> None:
    for path in WEB.glob("*.css"):
        assert "italic" not in path.read_text(), path.name
