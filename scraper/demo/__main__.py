"""
`python -m scraper.demo`: the demo board by itself, the same as `python -m scraper demo`.

The imports are inside the condition because every process that draws imports this file again.
"""

if __name__ == "__main__":
    import sys

    from scraper.demo.command import main

    sys.exit(main())
