"""The kit's version, as ledgers and reports record it."""

VERSION = "0.1.0"
