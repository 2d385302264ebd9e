"""Fixtures of the tests of pages: one run and one comparison for all of them."""

from fixtures.report_pages import made, text  # noqa: F401
