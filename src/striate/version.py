"""The version of this package, where any module can read it without loading the rest."""

VERSION = "0.1.0"
