"""The page that docs/web.md puts into one's own site listens to a microphone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from satexport.backends.web.server import serve_folder
from tests import ROOT
from tests.backends.web.test_page_listening import clips, hearing  # noqa: F401


def test_the_lines_of_the_documentation_hear_a_microphone(
        hearing: Any, web_int8: Path, tmp_path: Path) -> None:  # noqa: F811
    page = re.search(r"```html\n(.*?)```", (ROOT / "docs" / "web.md").read_text("utf-8"), re.DOTALL)
    assert page
    (tmp_path / "index.html").write_text(page[1], "utf-8")
    (tmp_path / "web-int8").symlink_to(web_int8, target_is_directory=True)
    with serve_folder(tmp_path) as address:
        context = hearing.new_context(permissions=["microphone"])
        tab = context.new_page()
        tab.goto(address)
        tab.wait_for_function("window.onclick")
        with tab.expect_console_message(lambda message: message.type == "log", timeout=60_000) as said:
            tab.mouse.click(5, 5)
        end, tags = (argument.json_value() for argument in said.value.args)
        context.close()
    assert end == 2
    assert len(tags) == 3
    assert 1 > tags[0]["score"] >= tags[1]["score"] > 0
