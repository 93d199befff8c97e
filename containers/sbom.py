"""Print the packages of an image as SPDX 2.3 in JSON; ``containers/sbom.sh`` runs this inside the image.

Uses only the standard library and no network. Python packages are those that ``importlib.metadata`` finds,
and system packages those of dpkg.
"""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import distributions
from platform import freedesktop_os_release


def main() -> None:
    """Read the image's name and id from the arguments, and print the document."""
    image, digest = sys.argv[1:]
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
        for name, version, purl in [*python_packages(), *debian_packages()]
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
    installed = {(distribution.name, distribution.version) for distribution in distributions()}
    return [
        (name, version, f"pkg:pypi/{re.sub('[-_.]+', '-', name).lower()}@{version}")
        for name, version in sorted(installed)
    ]


def debian_packages() -> list[tuple[str, str, str]]:
    """Return name, version and package URL of each Debian package."""
    command = ["dpkg-query", "--show", "--showformat", "${Package} ${Version} ${Architecture}\n"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    system = freedesktop_os_release()
    # Which fixes a version has depends on the release.
    release = f"{system['ID']}-{system['VERSION_ID']}"
    return [
        (name, version, f"pkg:deb/{system['ID']}/{name}@{version}?arch={architecture}&distro={release}")
        for name, version, architecture in map(str.split, lines)
    ]


if __name__ == "__main__":
    main()
