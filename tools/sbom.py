"""The package's bill of materials in CycloneDX's JSON, made of pyproject.toml and meson.build's version.

Nothing of others' is inside the package; what it can use, and what builds it, stands there with its range of versions.
"""

from __future__ import annotations

import argparse
import json
import re
import tomllib
from pathlib import Path
from typing import Any

SPECIFICATION = "1.6"
FOR_DEVELOPERS = frozenset({"dev", "docs", "guests", "package"})
"""Extras for who works on Lucet; code of the package imports what the others bring."""


def requirement(text: str) -> tuple[str, str]:
    """Name and range of versions of a requirement without marker: "meson>=1.5,<2" -> ("meson", ">=1.5,<2")."""
    match = re.fullmatch(r"([A-Za-z0-9._-]+)((?:[<>=!~]=?[^;,\[\]]+)(?:,[^;,\[\]]+)*)", text.replace(" ", ""))
    if match is None:
        raise ValueError(f"cannot read the requirement {text!r}")
    return match[1].lower(), match[2]


def component(text: str, scope: str, role: str) -> dict[str, Any]:
    """One that is needed besides the package; scope is CycloneDX's, where "excluded" is what only builds it."""
    name, versions = requirement(text)
    return {
        "type": "library",
        "bom-ref": f"{role}:{name}",
        "name": name,
        "purl": f"pkg:pypi/{name}",
        "scope": scope,
        "properties": [{"name": "lucet:role", "value": role}, {"name": "lucet:versions", "value": versions}],
    }


def bill(project: dict[str, Any], version: str) -> dict[str, Any]:
    """The bill for the contents of a pyproject.toml."""
    about = project["project"]
    extras = about["optional-dependencies"]
    components = [component(one, "required", "runtime") for one in about["dependencies"]]
    for name in sorted(extras.keys() - FOR_DEVELOPERS):
        components += [component(one, "optional", f"extra {name}") for one in extras[name]]
    components += [component(one, "excluded", "build") for one in project["build-system"]["requires"]]
    itself = f"pkg:pypi/{about['name']}@{version}"
    used = [one["bom-ref"] for one in components if one["scope"] != "excluded"]
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPECIFICATION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": itself,
                "name": about["name"],
                "version": version,
                "description": about["description"],
                "licenses": [{"license": {"id": about["license"]}}],
                "purl": itself,
            }
        },
        "components": components,
        "dependencies": [{"ref": itself, "dependsOn": used}],
        # Complete: no file of the package comes from anywhere else.
        "compositions": [{"aggregate": "complete", "assemblies": [itself]}],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pyproject", type=Path)
    parser.add_argument("version")
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    content = bill(tomllib.loads(arguments.pyproject.read_text(encoding="utf-8")), arguments.version)
    arguments.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
