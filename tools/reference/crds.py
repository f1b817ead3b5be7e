"""CustomResourceDefinitions as YAML."""

from typing import Any

import yaml

from quantbench.api.schema import Kind, custom_resource_definition

HEADER = "# Generated from operator/quantbench/api by `make generate`: do not edit.\n"


class _Dumper(yaml.SafeDumper):
    """Without anchors, which kubectl reads and people do not."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def text(kind: Kind) -> str:
    """The CRD of a kind, in the order of the models' fields."""
    crd = custom_resource_definition(kind)
    return HEADER + yaml.dump(crd, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
