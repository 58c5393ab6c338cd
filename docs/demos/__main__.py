"""``python -m demos``."""

from demos import main

if __name__ == "__main__":
    main()
