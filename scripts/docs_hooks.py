"""What MkDocs adds to docs/: the command line from its options, the changelog, the pictures."""

import argparse
import functools
import re
from pathlib import Path, PurePosixPath

from mkdocs.structure.files import File

from keras_t2t.commands import main, options

ROOT = Path(__file__).resolve().parents[1]
PICTURES = "examples/images"


def on_files(files, config):
    """Adds the pages and pictures that do not lie in docs/."""
    files.append(File.generated(config, "command_line.md", content=command_line()))
    files.append(File.generated(config, "changelog.md", abs_src_path=str(ROOT / "CHANGELOG.md")))
    for path in (ROOT / PICTURES).iterdir():
        files.append(File.generated(config, f"images/{path.name}", abs_src_path=str(path)))


def on_page_markdown(markdown, page, config, files):
    """Pictures are linked so that they show on GitHub too, where they lie outside of docs/."""
    up = "../" * (len(PurePosixPath(page.file.src_uri).parts) - 1)
    return markdown.replace(f"]({up}../{PICTURES}/", f"]({up}images/")


def command_line():
    """The page of `keras-t2t`, in Markdown."""
    parts = [
        "# Command line",
        "`keras-t2t COMMAND --help` prints the same. `0` is the exit code of success, `1` of work "
        "that was left out in part, `2` of a usage error, `130` of Ctrl-C.",
    ]
    for name in main.COMMANDS:
        parser = _parser_of(name)
        usage = parser.format_usage().removeprefix("usage: ").replace("[-h] ", "").strip()
        usage = re.sub(r"\n +", "\n    ", usage)
        parts += [f"## keras-t2t {name}", parser.description, f"```text\n{usage}\n```"]
        for group in parser._action_groups:
            actions = [a for a in group._group_actions if a.dest != "help"]
            if actions:
                rows = "\n".join(f"| {_name(a)} | {_cell(_help(parser, a))} |" for a in actions)
                title = group.title.removeprefix("positional ")
                parts.append(f"| {title} | |\n| --- | --- |\n{rows}")
    return "\n\n".join(parts) + "\n"


class _Complete(Exception):
    """A parser has all its options."""


class _Recording(options.Parser):
    def parse_args(self, *args, **kwargs):
        raise _Complete


def _parser_of(name):
    command = main._module(name)
    parser = _Recording(prog=f"keras-t2t {name}", description=main._summary(command))
    parser.formatter_class = functools.partial(argparse.HelpFormatter, width=78)
    try:
        if hasattr(command, "parse"):
            command.parse(parser, [])
        else:
            options.parse(parser, command.run, [])
    except _Complete:
        return parser
    raise AssertionError(f"{name} parses nothing")


def _name(action):
    metavar = action.metavar or action.dest
    if not action.option_strings:
        return f"`{metavar}`"
    takes_value = not isinstance(action, argparse._StoreTrueAction)
    return f"`{action.option_strings[0]}{f' {metavar}' * takes_value}`".replace("|", "\\|")


def _help(parser, action):
    return parser._get_formatter()._expand_help(action)


def _cell(text):
    """The text with what Markdown would take for markup escaped."""
    return re.sub(r"([\\`*_<>|\[\]{}])", r"\\\1", text)
