"""Directives that write parts of pages from the code, so that they cannot fall behind it.

==============================  ===================================================
``.. data-sets::``              what is known of each data set
``.. command-options:: fit``    help, arguments and options of a subcommand
``.. measured:: results.rst``   a table that ``generate_tables.py`` wrote
==============================  ===================================================
"""

import inspect
from pathlib import Path

import typer.main
from sphinx.util.docutils import SphinxDirective

from segalgos import cli, datasets


class DataSets(SphinxDirective):
    """What `segalgos.datasets.available` knows, as a list."""

    def run(self):
        lines = []
        for info in datasets.available():
            lines += [
                f"``{info.name}``",
                f"   {info.summary}",
                "",
                f"   :task: {info.task}",
                f"   :splits: {', '.join(info.splits)}",
                f"   :images: {info.size}",
                f"   :licence: {info.licence}",
                f"   :comes from: {info.source}",
                f"   :cite: \\ {info.citation}",  # or "P. Arbelaez" begins a list
                "",
            ]
        return self.parse_text_to_nodes("\n".join(lines))


class CommandOptions(SphinxDirective):
    """Help, arguments and options of a subcommand such as ``fit`` or ``data list``."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self):
        command = typer.main.get_command(cli.app)
        for name in self.arguments[0].split():
            command = command.commands[name]
        # Help is Markdown, where single backticks mark code.
        lines = [inspect.cleandoc(command.help).replace("`", "``"), ""]
        for param in command.params:
            if param.name == "help":
                continue
            is_option = param.param_type_name == "option"
            names = ", ".join(f"``{n}``" for n in [*param.opts, *param.secondary_opts])
            if not is_option:
                names = f"``{param.name.upper()}``"
            text = (getattr(param, "help", None) or "").replace("`", "``")
            if param.required:
                text += " Required."
            elif is_option and param.default not in (None, False, [], ()):
                default = str(param.default)
                text += f" Default: ``{'--' + param.name if default == 'True' else default}``."
            lines += [names, f"   {text}", ""]
        return self.parse_text_to_nodes("\n".join(lines))


class Measured(SphinxDirective):
    """A file of ``_generated``, with its headings."""

    required_arguments = 1

    def run(self):
        path = Path(self.env.srcdir, "_generated", self.arguments[0])
        self.env.note_dependency(path)
        text = path.read_text(encoding="utf-8").strip() if path.exists() else ""
        text = text or "Nothing has been measured for this version yet."
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def setup(app):
    """Register the directives."""
    app.add_directive("measured", Measured)
    app.add_directive("data-sets", DataSets)
    app.add_directive("command-options", CommandOptions)
    return {"parallel_read_safe": True}
