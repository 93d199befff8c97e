"""The regions of Vertex AI, and which of them have which accelerator."""

import difflib
from collections.abc import Iterable

from trainer.errors import InputError

# As google-cloud-aiplatform 1.165.1 lists them (2026-11), without "global", where no pipeline runs.
REGIONS = frozenset(
    {
        "africa-south1",
        *("asia-east1", "asia-east2", "asia-northeast1", "asia-northeast2", "asia-northeast3"),
        *("asia-south1", "asia-south2", "asia-southeast1", "asia-southeast2"),
        *("australia-southeast1", "australia-southeast2"),
        *("europe-central2", "europe-north1", "europe-north2", "europe-southwest1"),
        *("europe-west1", "europe-west2", "europe-west3", "europe-west4", "europe-west6"),
        *("europe-west8", "europe-west9", "europe-west12"),
        *("me-central1", "me-central2", "me-west1"),
        *("northamerica-northeast1", "northamerica-northeast2", "southamerica-east1", "southamerica-west1"),
        *("us-central1", "us-east1", "us-east4", "us-east5", "us-east7", "us-south1"),
        *("us-west1", "us-west2", "us-west3", "us-west4", "us-west8"),
    }
)

# Where Compute Engine, whose machines Vertex AI uses, offers the accelerator: its price list as
# github.com/skypilot-org/skypilot-catalog has it (catalogs/v8/gcp/vms.csv), read 2026-11-25. Vertex AI may
# have fewer (https://cloud.google.com/vertex-ai/docs/general/locations), so that a region which is missing
# here has none for certain. An accelerator which is missing here is taken to be everywhere.
_ACCELERATORS = {
    "NVIDIA_TESLA_P4": {
        *("asia-southeast1", "australia-southeast1", "europe-west4", "northamerica-northeast1"),
        *("us-central1", "us-east4", "us-west2"),
    },
    "NVIDIA_TESLA_P100": {
        *("asia-east1", "australia-southeast1", "europe-west1", "europe-west4"),
        *("us-central1", "us-east1", "us-west1"),
    },
    "NVIDIA_TESLA_T4": {
        *("asia-east1", "asia-east2", "asia-northeast1", "asia-northeast3", "asia-south1"),
        *("asia-southeast1", "asia-southeast2", "australia-southeast1"),
        *("europe-central2", "europe-west1", "europe-west2", "europe-west3", "europe-west4", "me-west1"),
        *("northamerica-northeast1", "southamerica-east1"),
        *("us-central1", "us-east1", "us-east4", "us-west1", "us-west2", "us-west3", "us-west4"),
    },
    "NVIDIA_TESLA_V100": {"asia-east1", "europe-west4", "us-central1", "us-east1", "us-west1"},
    "NVIDIA_L4": {
        *("asia-east1", "asia-northeast1", "asia-northeast3", "asia-south1", "asia-southeast1"),
        *("europe-west1", "europe-west2", "europe-west3", "europe-west4", "europe-west6", "me-central2"),
        *("northamerica-northeast1", "northamerica-northeast2"),
        *("us-central1", "us-east1", "us-east4", "us-west1", "us-west4"),
    },
    "NVIDIA_TESLA_A100": {
        *("asia-northeast1", "asia-northeast3", "asia-southeast1", "europe-west4", "me-west1"),
        *("us-central1", "us-east1", "us-west1", "us-west3", "us-west4"),
    },
    "NVIDIA_A100_80GB": {"asia-southeast1", "europe-west4", "us-central1", "us-east4", "us-east5"},
    "NVIDIA_H100_80GB": {
        *("asia-east1", "asia-northeast1", "asia-northeast3", "asia-south1", "asia-south2"),
        *("asia-southeast1", "australia-southeast1", "europe-north1", "europe-west1", "europe-west2"),
        *("europe-west3", "europe-west4", "europe-west8", "europe-west9", "northamerica-northeast2"),
        *("us-central1", "us-east4", "us-east5", "us-west1", "us-west4"),
    },
    "NVIDIA_H100_MEGA_80GB": {
        *("asia-northeast1", "asia-northeast3", "asia-south1", "asia-southeast1", "australia-southeast1"),
        *("europe-west1", "europe-west3", "europe-west4", "northamerica-northeast2"),
        *("us-central1", "us-east4", "us-east5", "us-west1", "us-west4"),
    },
    "NVIDIA_H200_141GB": {
        *("asia-south1", "asia-south2", "europe-west1", "europe-west4"),
        *("us-central1", "us-east4", "us-east5", "us-south1", "us-west1"),
    },
    "NVIDIA_B200": {
        *("asia-northeast1", "asia-southeast1", "europe-north1", "europe-west4"),
        *("us-central1", "us-east1", "us-east4", "us-south1", "us-west2", "us-west3"),
    },
}


def region_problems(region: str, accelerators: Iterable[str]) -> list[InputError]:
    """Return the problem of a region that is not known, or has not got some of the accelerators.

    Args:
        region: of Vertex AI.
        accelerators: names as Vertex AI has them.
    """
    if region not in REGIONS:
        near = difflib.get_close_matches(region, REGIONS, 3)
        remedy = f"did you mean {' or '.join(near)}?" if near else "give one such as us-central1"
        return [InputError("region", region, "is not known to Vertex AI", remedy)]
    return [
        InputError(
            "region", region, f"has no {name}", f"give one of {', '.join(sorted(_ACCELERATORS[name]))}"
        )
        for name in sorted(set(accelerators))
        if region not in _ACCELERATORS.get(name, REGIONS)
    ]
