"""Writes the chart's CustomResourceDefinition, from the model itself."""

import sys
from pathlib import Path

import yaml

from thruway_operator.api.crd import crd

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "charts" / "thruway" / "files" / "crds" / "passthroughroutes.yaml"

_HEAD = """\
# PassthroughRoute, thruway.dev/v1alpha1. Generated from the model by `make generate`.
"""


class _Dumper(yaml.SafeDumper):
    """Writes repeated values in full, without anchors."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def main(arguments: list[str]) -> int:
    """Write the file; with --check, only report whether it is outdated."""
    text = _HEAD + yaml.dump(crd(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    if "--check" in arguments:
        if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text:
            return 0
        sys.stdout.write(f"{TARGET.relative_to(ROOT)} does not match the model\n")
        return 1
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
