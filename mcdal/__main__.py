"""`python -m mcdal` is the command `mcdal`."""

from mcdal.cli import main

if __name__ == "__main__":
    main()
