"""A finished run in the forms that trainers read: ImageFolder, RecordIO, LMDB, a Hugging Face dataset folder."""

from hyperface.dataset.export.stage import FORMATS, Kind, export_run

__all__ = ["FORMATS", "Kind", "export_run"]
