"""Fixtures for tests that compile whole programs to run them once or twice."""

from tests.data.conftest import quick_compiles as quick_compiles
