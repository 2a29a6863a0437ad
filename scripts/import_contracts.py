"""A contract for import-linter: packages are entered by their faces."""

from __future__ import annotations

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, output
from importlinter.domain import fields


class PackageFaces(Contract):
    """What a package offers stands in the `__init__` of it or of one of its rooms.

    Within `root` an import from another package names a package, never a module inside of one:
    where a thing is defined is nobody else's business.
    """

    root = fields.StringField()

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002
        past = [
            (importer, imported)
            for importer in sorted(graph.find_descendants(str(self.root)))
            for imported in sorted(graph.find_modules_directly_imported_by(importer))
            if self._goes_past(graph, importer, imported)
        ]
        return ContractCheck(kept=not past, metadata={"past": past})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for importer, imported in check.metadata["past"]:
            face = imported.rpartition(".")[0]
            output.print_error(f"{importer} imports {imported}: take it from {face}")

    def _goes_past(self, graph: ImportGraph, importer: str, imported: str) -> bool:
        root = str(self.root)
        inside = imported.startswith(f"{root}.") and imported.count(".") > 1
        same_package = importer.split(".")[:2] == imported.split(".")[:2]
        return inside and not same_package and not graph.find_children(imported)
