"""What the rows of the table of adapters share: `Row` and the host."""

from _rows import Row, host

__all__ = ["Row", "host"]
