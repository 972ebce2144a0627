"""What the tests share."""

from __future__ import annotations

import pytest

import lucet


@pytest.fixture
def region() -> lucet.Region:
    return lucet.Region(slots=8)
