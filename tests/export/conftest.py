"""Where the tests of ONNX exports share what they exported."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("onnx")
