"""Print what an image holds as SPDX 2.3 in JSON; ``containers/sbom.sh`` runs this in the image itself.

With the standard library only, and nothing from the network: Python's packages are those that
``importlib.metadata`` finds, and the system's those of dpkg.
"""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import distributions


def main() -> None:
    """Take the image's name and id, and print the document."""
    image, digest = sys.argv[1:]
    found = [*python_packages(), *debian_packages()]
    packages = [
        {
            "SPDXID": f"SPDXRef-{re.sub('[^a-zA-Z0-9.-]', '-', purl.removeprefix('pkg:'))}",
            "name": name,
            "versionInfo": version,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": False,
            "externalRefs": [
                {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}
            ],
        }
        for name, version, purl in found
    ]
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": image,
        "documentNamespace": f"https://spdx.org/spdxdocs/{digest.replace(':', '-')}",
        "creationInfo": {
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": ["Tool: wals-containers-sbom"],
        },
        "packages": packages,
        "relationships": [
            {
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": package["SPDXID"],
            }
            for package in packages
        ],
    }
    json.dump(document, sys.stdout, indent=1)


def python_packages() -> list[tuple[str, str, str]]:
    """Return name, version and package URL of each Python package."""
    found = {(distribution.name, distribution.version) for distribution in distributions()}
    return [
        (name, version, f"pkg:pypi/{re.sub('[-_.]+', '-', name).lower()}@{version}")
        for name, version in sorted(found)
    ]


def debian_packages() -> list[tuple[str, str, str]]:
    """Return name, version and package URL of each Debian package."""
    asked = ["dpkg-query", "--show", "--showformat", "${Package} ${Version} ${Architecture}\n"]
    lines = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    return [
        (name, version, f"pkg:deb/debian/{name}@{version}?arch={architecture}")
        for name, version, architecture in map(str.split, lines)
    ]


if __name__ == "__main__":
    main()
