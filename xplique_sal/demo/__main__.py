"""``python -m xplique_sal.demo``."""

from xplique_sal.demo import main

if __name__ == "__main__":
    main()
