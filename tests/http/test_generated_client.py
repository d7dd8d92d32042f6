"""A typed client is generated from docs/openapi.json, checked, and sends what docs/http.md types."""

import json
import re
import sys
from pathlib import Path

import pytest
from fastapi import FastAPI
from openapi_python_client import generate
from openapi_python_client.config import Config, ConfigFile, MetaType

from tests.support.api import Api
from tests.support.clients import a_client
from tests.support.messages import message
from tests.support.processes import Processes

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs/openapi.json"
EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
MISUSED = """
from notifyctl_client.models import SendToClient
SendToClient(template_key="WELCOME_EMAIL", recipient="anna@acme.example")
SendToClient(template_key="WELCOME_EMAIL", client_id=1)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the generated package, the example on the page, and mistakes."""
    folder = tmp_path_factory.mktemp("client")
    settings = ConfigFile(package_name_override="notifyctl_client", post_hooks=[])
    package = folder / "notifyctl_client"
    config = Config.from_sources(settings, MetaType.NONE, DOCUMENT, "utf-8", overwrite=False, output_path=package)
    assert list(generate(config=config)) == []  # what it could not make sense of
    example = EXAMPLE.search((ROOT / "docs/http.md").read_text(encoding="utf-8"))
    assert example is not None
    (folder / "example.py").write_text(example[1], encoding="utf-8")
    (folder / "misused.py").write_text(MISUSED, encoding="utf-8")
    return folder


def test_the_generated_client_is_typed_and_finds_mistakes(processes: Processes, folder: Path) -> None:
    mypy = (sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context")
    checked = processes.run(*mypy, "example.py", "misused.py", "notifyctl_client", cwd=folder, timeout=170)
    faults = [re.sub(r": error: .* \[(.+)\]$", r" \1", line) for line in checked.stdout.splitlines()]
    assert faults == ["misused.py:3 call-arg", "misused.py:3 arg-type", "misused.py:4 arg-type"]


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_the_generated_client_sends(api: Api, sender: str, processes: Processes, folder: Path) -> None:
    a_client(api.runtime)
    script = (
        "import sys; from example import *; client = AuthenticatedClient(base_url=sys.argv[1], token=sys.argv[2]);"
        "print(welcome(client, 'acme').id, welcome(client, 'nobody').detail)"
    )
    ran = processes.run(sys.executable, "-c", script, api.url, sender, cwd=folder, fresh=True)
    message_id, _, detail = ran.stdout.strip().partition(" ")
    assert message(api.runtime, message_id).template_key == "WELCOME_EMAIL"
    assert detail == "there is no client nobody"


def test_the_document_names_each_operation_and_each_shape_once(app: FastAPI) -> None:
    document = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    assert document == app.openapi()
    operations = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert {"sendNotification", "getNotification", "listMessages", "sendCode", "verifyCode"} <= set(operations)
    assert len(set(operations)) == len(operations)
    assert [name for name in operations if not re.fullmatch("[a-z]+([A-Z][a-z]+)*", name)] == []
    shapes = document["components"]["schemas"]
    assert {name: shape["title"] for name, shape in shapes.items() if shape.get("title", name) != name} == {}
    assert [name for name in shapes if "__" in name] == []
