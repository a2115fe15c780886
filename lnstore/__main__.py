"""`python -m lnstore`."""

from lnstore.cli import main

if __name__ == "__main__":
    main()
