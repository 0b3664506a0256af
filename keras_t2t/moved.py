"""Where the modules of 0.1.0 are now, for the error that importing an old name gives."""

import sys

MOVED = {
    "cli": "commands.main",
    "data.class_names": "class_names",
    "data.image_files": "image_files",
    "data.preprocessing": "preprocessing and preprocessing_layer",
    "evaluate": "inference.evaluate",
    "exporting.Predictor": "Predictor",
    "exporting.arrangement": "rewrite.export",
    "exporting.metadata": "inference.metadata",
    "exporting.predictor": "inference.predictor",
    "exporting.rebuilding": "rewrite.graph and rewrite.export",
    "exporting.runners": "inference.runners",
    "inspection.mac_rules": "inspection.matrix_products",
    "inspection.pyramid": "models.pyramid",
    "inspection.report_page": "inspection.report",
    "layers.dropout": "rewrite.formulas",
    "layers.folded": "rewrite.formulas",
    "layers.validation": "validation",
    "models.arrangement": "models.arranged_model and rewrite.fusing",
    "predict": "inference.predict and image_files",
    "start": "commands.console",
    "training.command": "commands.train",
    "weights.convert": "zoo",
    "weights.unfilled": "weights.building",
}


class _Finder:
    """Is asked last, for modules that do not exist."""

    def find_spec(self, fullname, path=None, target=None):
        package, _, name = fullname.partition(".")
        if package == __package__ and name in MOVED:
            successors = MOVED[name].replace(" and ", f" and {package}.")
            raise ImportError(f"{fullname} of keras_t2t 0.1.0 is now {package}.{successors}")


def install() -> None:
    """Makes `import keras_t2t.cli` and the like fail with the new name."""
    sys.meta_path.append(_Finder())
