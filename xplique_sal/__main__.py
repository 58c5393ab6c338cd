"""``python -m xplique_sal``: the command line."""

from xplique_sal.cli import main

if __name__ == "__main__":
    main()
