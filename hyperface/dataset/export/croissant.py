"""Croissant metadata of a published folder (MLCommons, format specification 1.0): what its files are, as JSON-LD.

`mlcroissant.Dataset("FOLDER/croissant.json").records("faces")` reads the images by it.
"""

from collections.abc import Mapping
from typing import Any

from hyperface.dataset.licences import Licence

SPECIFICATION = "http://mlcommons.org/croissant/1.0"
FACES, CLASSES = "faces", "classes"
FIELDS = {
    "image": ("sc:ImageObject", "The face: JPEG, as it was made."),
    "label": ("sc:Integer", "Class, from 0."),
    "identity": ("sc:Integer", "Number of the identity in the run that the image comes from."),
    "key": ("sc:Text", "Name of the image in that run: identity and number."),
    "seed": ("sc:Integer", "Of the draw: with the configuration on the card it gives the image again."),
    "cosine": ("sc:Float", "Of the image's embedding to the reference of its identity, by the guiding recogniser."),
}
OF_CLASSES = {
    "label": ("sc:Integer", "Class, from 0."),
    "identity": ("sc:Integer", "Number of the identity in the run."),
    "images": ("sc:Integer", "Images of the class."),
}
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The names of the specification, as it asks every file to spell them out."""


def metadata(
    described: Mapping[str, str], licence: Licence, classes_csv: Mapping[str, Any], data_files: str
) -> dict[str, Any]:
    """The content of `croissant.json`.

    Args:
        described: name, description, citeAs, version, datePublished, url and creator; empty ones are left out.
        classes_csv: contentSize and sha256 of that file.
        data_files: pattern of the Parquet files' names.
    """
    own = {key: value for key, value in described.items() if value and key != "creator"}
    creator = {"creator": {"@type": "sc:Organization", "name": described["creator"]}} if described["creator"] else {}
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": SPECIFICATION,
        **own,
        **creator,
        "license": f"{licence.id} ({licence.name})" if licence.name else licence.id,
        "keywords": ["face recognition", "synthetic"],
        "isLiveDataset": False,
        "distribution": [
            {
                "@type": "cr:FileSet",
                "@id": "parquet",
                "name": "parquet",
                "includes": data_files,
                "encodingFormat": "application/x-parquet",
            },
            {
                "@type": "cr:FileObject",
                "@id": "classes.csv",
                "name": "classes.csv",
                "contentUrl": "classes.csv",
                "encodingFormat": "text/csv",
                **classes_csv,
            },
        ],
        "recordSet": [
            _record_set(FACES, FIELDS, {"fileSet": {"@id": "parquet"}}),
            _record_set(CLASSES, OF_CLASSES, {"fileObject": {"@id": "classes.csv"}}),
        ],
    }


def _record_set(name: str, fields: Mapping[str, tuple[str, str]], source: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "key": {"@id": f"{name}/{'key' if 'key' in fields else 'label'}"},
        "field": [_field(name, column, kind, description, source) for column, (kind, description) in fields.items()],
    }


def _field(records: str, column: str, kind: str, description: str, source: Mapping[str, Any]) -> dict[str, Any]:
    inner = {"transform": {"jsonPath": "bytes"}} if kind == "sc:ImageObject" else {}
    return {
        "@type": "cr:Field",
        "@id": f"{records}/{column}",
        "name": column,
        "description": description,
        "dataType": kind,
        "source": {**source, "extract": {"column": column}, **inner},
    }
