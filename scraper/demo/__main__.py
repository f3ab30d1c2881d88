"""
`python -m scraper.demo`: the demo board alone; `python -m scraper demo` is the same.

This file imports nothing by itself, because every process that draws imports it again.
"""

if __name__ == "__main__":
    import sys

    from scraper.demo.server.application import main

    sys.exit(main())
