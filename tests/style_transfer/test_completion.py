"""Completion of shells and the manual page know every command and every option."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from style_helpers import Program

from apps.style_transfer.cli import COMMANDS, build_parser

ROOT = Path(__file__).parents[2]


def commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Return every command below a parser, with its words."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield name, command
                for words, below in commands(command):
                    yield f"{name} {words}", below


def options(parser: argparse.ArgumentParser) -> set[str]:
    return {word for action in parser._actions for word in action.option_strings}


ALL = dict(commands(build_parser()))
OPTIONS = set().union(*map(options, ALL.values()))


def complete(script: str, *words: str) -> set[str]:
    """Return what bash offers for the last of the words."""
    code = f'{script}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()\n'
    code += '_shtab_unroll_style unroll-style "${@: -1}" "${@: -2:1}"; printf "%s\\n" "${COMPREPLY[@]}"'
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run([bash, "-c", code, "bash", *words], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_bash_completes_commands_options_and_choices(program: Program) -> None:
    assert set(COMMANDS) | {"style save"} <= set(ALL)
    status, script, err = program("completion", "bash")
    assert (status, err) == (0, "")
    assert set(COMMANDS) <= complete(script, "unroll-style", "")
    assert complete(script, "unroll-style", "sty") == {"stylize", "style"}
    for words, parser in ALL.items():
        offered = complete(script, "unroll-style", *words.split(), "-")
        assert {word for word in options(parser) if word.startswith("-")} <= offered, words
    assert complete(script, "unroll-style", "stylize", "--projector", "tik") == {"tikhonov", "tikhonov-coarse"}


def test_bash_completes_files(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, script, _ = program("completion", "bash")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").touch()
    for option in ("--content", "--output", "--style"):
        assert complete(script, "unroll-style", "stylize", option, "pho") == {"photo.jpg"}, option


@pytest.mark.parametrize("shell", ["zsh", "fish", "tcsh"])
def test_every_shell_knows_the_commands(program: Program, shell: str) -> None:
    status, script, _ = program("completion", shell)
    assert status == 0
    assert [name for name in COMMANDS if name not in script] == []
    if shell != "tcsh":  # of which shtab makes words after words, and no more
        assert [word for word in OPTIONS if word.lstrip("-") not in script] == []


def test_other_shells_are_refused(program: Program) -> None:
    status, out, err = program("completion", "cmd")
    assert (status, out) == (2, "")
    assert "bash" in err


def test_the_manual_page_knows_every_command_and_option(tmp_path: Path) -> None:
    page = tmp_path / "unroll-style.1"
    recipe = (ROOT / "Makefile").read_text().split("\nman:")[1].split("\n\n")[0].replace("\\\n", " ")
    (line,) = [line for line in recipe.splitlines() if "argparse-manpage" in line]
    words = line.replace("$(BIN)/argparse-manpage", "").replace("out/unroll-style.1", str(page)).split()
    maker = Path(sys.executable).with_name("argparse-manpage")
    subprocess.run([maker, *words], cwd=ROOT, check=True, timeout=300)
    text = page.read_text().replace("\\-", "-").replace("\\", "")
    for words_, parser in ALL.items():
        assert f"unroll-style {words_}" in text
        assert {word for word in options(parser) if word not in text} <= {"-h", "--help"}, words_
