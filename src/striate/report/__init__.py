"""The one-page report of a run: one HTML file that opens offline."""
