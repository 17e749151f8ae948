"""A function that cannot even be imported."""

raise RuntimeError("cannot start")
