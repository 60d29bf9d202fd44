"""Entry point of ``python -m omninode``: the same command line as the ``omninode`` script."""

if __name__ == "__main__":
    from omninode.node.cli.main import main

    raise SystemExit(main())
