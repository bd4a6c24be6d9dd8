"""Assertions in the shared module say what differs."""

import pytest

pytest.register_assert_rewrite("tiny_run")
