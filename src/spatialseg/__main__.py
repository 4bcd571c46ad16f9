"""Run the command line: `python -m spatialseg`."""

from spatialseg.cli import main

if __name__ == "__main__":
    main()
