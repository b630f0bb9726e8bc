"""The one entry for development: python3 dev.py quickstart | serve | test | check | bench | locales.

Standard library only; it runs before anything is installed. This file parses on Python 3.6, so that
an old Python gets a sentence and not a syntax error; the work is in devtools/.
"""

import sys

OLDEST = (3, 10)


def main():
    found = sys.version_info[:2]
    if found < OLDEST:
        sys.stderr.write(
            f"dev.py needs Python {OLDEST[0]}.{OLDEST[1]} or newer, this one is {found[0]}.{found[1]}. "
            "Install a newer Python and start dev.py with it, for example: python3.11 dev.py quickstart\n"
        )
        return 2
    from devtools.cli import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
