"""What every command is made of: modules that load lazily or not, help in two lengths, and ``--json``."""

import contextlib
import difflib
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.abc import MetaPathFinder
from typing import Any, TypeVar

import rich_click as click
from click.shell_completion import CompletionItem

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

Command = TypeVar("Command", bound=Callable[..., object])

_SHOWN_ALL = "pipeline.commands.base.shown_all"


class RareOption(click.RichOption):
    """An option that ``--help-all`` shows and ``--help`` does not; completion knows it all the same."""


class WalsCommand(click.RichCommand):
    """A command whose ``--help`` shows its common options, and ``--help-all`` all of them."""

    def __init__(self, *arguments: Any, passed_on: Sequence[click.Option] = (), **keywords: Any) -> None:
        """Declare the command.

        Args:
            arguments: see ``click.Command``.
            passed_on: options that the command passes on to another program without reading them.
            keywords: see ``click.Command``.
        """
        super().__init__(*arguments, **keywords)
        self._passed_on = passed_on
        options = [option for option in (*passed_on, *self.params) if isinstance(option, click.Option)]
        if any(isinstance(option, RareOption) for option in options):
            self.params.append(_help_all(f"Show all {len(options)} options, and exit."))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """See ``click.Command``."""
        with self._with_passed_on():
            rare = [option for option in self.params if isinstance(option, RareOption)]
            with _hidden([] if ctx.meta.get(_SHOWN_ALL) else rare):
                super().format_options(ctx, formatter)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """See ``click.Command``."""
        with self._with_passed_on():
            return super().shell_complete(ctx, incomplete)

    @contextlib.contextmanager
    def _with_passed_on(self) -> Iterator[None]:
        """Have the options that are passed on in the block only, because they are not to be parsed."""
        own = self.params
        self.params = [*self._passed_on, *own]
        try:
            yield
        finally:
            self.params = own


class WalsGroup(click.RichGroup):
    """A group of such commands."""

    command_class = WalsCommand


wals_command = partial(click.command, cls=WalsCommand, context_settings=CONTEXT)
"""``click.command`` for the commands of ``wals``."""


def _help_all(text: str) -> click.Option:
    def show(context: click.Context, _: click.Parameter, given: bool) -> None:
        if given and not context.resilient_parsing:
            context.meta[_SHOWN_ALL] = True
            print(context.get_help())
            context.exit()

    return click.RichOption(
        ["--help-all"], is_flag=True, expose_value=False, is_eager=True, help=text, callback=show
    )


@contextlib.contextmanager
def _hidden(options: Sequence[click.Option]) -> Iterator[None]:
    """Hide options in the block only, because completion leaves out hidden ones."""
    for option in options:
        option.hidden = True
    try:
        yield
    finally:
        for option in options:
            option.hidden = False


class LazyGroup(click.RichGroup):
    """A group that imports a command's module only when that command is called.

    Importing kfp or a platform's client takes up to a second, which only the commands that use it should
    spend. Help and completion list the commands by the given texts.
    """

    def __init__(self, *arguments: Any, lazy: Mapping[str, tuple[str, str]], **keywords: Any) -> None:
        """Declare the commands.

        Args:
            arguments: see ``click.Group``.
            lazy: module, which has the command as ``command``, and help text, by name.
            keywords: see ``click.Group``.
        """
        super().__init__(*arguments, **keywords)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """See ``click.Group``."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return a command to list, without its options."""
        if cmd_name not in self._lazy:
            return None
        return click.RichCommand(name=cmd_name, help=self._lazy[cmd_name][1])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command to call; the error of an unknown one has the most similar."""
        try:
            name, listed, rest = super().resolve_command(ctx, args)
        except click.UsageError as error:
            for similar in difflib.get_close_matches(args[0], self._lazy, 1):
                message = f"{error.message.removesuffix('.')}; did you mean {similar!r}?"
                raise click.UsageError(message, ctx) from error
            raise
        return name, self.loaded(str(name)) if listed else None, rest

    def loaded(self, name: str) -> click.Command:
        """Import a command's module and return the command."""
        command = importlib.import_module(self._lazy[name][0]).command
        assert isinstance(command, click.Command)  # noqa: S101 - narrows the type for the checker
        return command


class _Missing(MetaPathFinder):
    """Finds no module of some names."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def find_spec(self, name: str, path: object, target: object = None) -> None:  # noqa: ARG002
        """See ``importlib.abc.MetaPathFinder``."""
        if name in self._names:
            raise ModuleNotFoundError(f"the command does without {name}", name=name)


@contextlib.contextmanager
def without(*modules: str) -> Iterator[None]:
    """Have imports of modules fail in the block, as where they are not installed.

    For what a library imports only to work with it, takes long to import, and is of no use to a command.
    """
    finder = _Missing(modules)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
