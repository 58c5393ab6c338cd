"""The command line ``xplique-sal``: maps, comparisons and reports without writing code."""

from xplique_sal._parameters import optional

__all__ = ["main"]


def main() -> None:
    """Run the command line with the arguments of this process, and end the process.

    The exit code is 0 if all went well, 1 if some inputs could not be explained, 2 if nothing was
    done because something asked for does not exist or does not fit, and 130 or 143 if it was
    stopped.
    """
    optional("typer", "The command line needs", "cli")
    from xplique_sal.cli.app import run

    run()
