"""`lucet serve --config`: applications and filters that the file declares, in whatever order."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.kit.cgi import HEAD, printing
from tests.kit.handlers import ANSWER, PASS, T, handler

pytest.importorskip("httptools", reason="serving needs the extra lucet[serve]")

PATIENCE = 120
GATE = handler(
    f"""(call $log (i32.const 0) (i32.const 4096) (call $get_config (i32.const 4096) (i32.const 4096)))
    (if (result i64) (i64.eqz (call $get_header_values
        (i32.const 0) {T("x-key")} (i32.const 4096) (i32.const 4096)))
      (then (call $set_status_code (i32.const 401)) {ANSWER})
      (else {PASS}))"""
)
CONFIG = """
listen = ["127.0.0.1:0"]
data = "data"

[tenants.acme.apps.a-site]
module = "site.wat"
routes = ["*"]
filters = [{ application = "gate", configuration = "of the site" }]

[tenants.acme.apps.gate]
module = "gate.wat"
"""


def get(url: str, headers: dict[str, str]) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=PATIENCE) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_an_application_may_be_declared_before_its_filter(tmp_path: Path) -> None:
    (tmp_path / "site.wat").write_text(printing(HEAD + b"inside"))
    (tmp_path / "gate.wat").write_text(GATE)
    (tmp_path / "config.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "lucet", "serve", "--config", str(tmp_path / "config.toml")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"lucet serve: (http://127\.0\.0\.1:\d+/)\n", line)
        assert found, line + process.communicate(timeout=PATIENCE)[1]
        assert get(found[1], {}) == (401, b"")
        assert get(found[1], {"X-Key": "1"}) == (200, b"inside")
    finally:
        process.terminate()
        log = process.communicate(timeout=PATIENCE)[1]
    assert "gate: of the site" in log
