#!/usr/bin/env bash
# Pushes the steps' images to a registry and writes their digests, for compile.py --images.
#   containers/push.sh REGISTRY        such as REGION-docker.pkg.dev/PROJECT/wals
#   PREFIX=wals                        prefix that containers/build.sh gave the images
#   OUTPUT=build/images.json           file for the digests
#   DOCKER=docker                      client of the container engine
# Each image gets two tags: the version and the git revision it was built from. The file also says whether an
# image is for CPUs or GPUs.
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t steps < <(containers/steps.sh)
prefix=${PREFIX:-wals}
output=${OUTPUT:-build/images.json}
docker=${DOCKER:-docker}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)

fail() {
  echo "push.sh: error: $1" >&2
  exit "$2"
}

registry=${1-}
registry=${registry%/}
[ -n "$registry" ] || fail "give a registry and repository, such as REGION-docker.pkg.dev/PROJECT/wals" 2

label() {
  "$docker" image inspect --format "{{index .Config.Labels \"$2\"}}" "$1" 2>/dev/null
}

images=() accelerators=()
for step in "${steps[@]}"; do
  local_image=$prefix/$step:$version
  revision=$(label "$local_image" org.opencontainers.image.revision) ||
    fail "image $local_image does not exist; build it with containers/build.sh" 2
  accelerator=$(label "$local_image" wals.accelerator)
  for tag in "$version" "$revision"; do
    "$docker" tag "$local_image" "$registry/$step:$tag"
    "$docker" push --quiet "$registry/$step:$tag" >/dev/null || fail "$registry/$step:$tag cannot be pushed" 1
  done
  # Compare whole names: another registry's may end in the same way.
  digest=$("$docker" image inspect --format '{{join .RepoDigests "\n"}}' "$local_image" |
    awk -v name="$registry/$step@" 'index($0, name) == 1 {digest = $0} END {print digest}')
  [ -n "$digest" ] || fail "the registry returned no digest for $registry/$step:$version" 1
  echo "$digest"
  images+=("    \"$step\": \"$digest\"")
  accelerators+=("    \"$step\": \"$accelerator\"")
done

lines() {
  printf '%s\n' "$@" | sed '$!s/$/,/'
}

# Written in one step, so that no reader sees half a file.
mkdir -p "$(dirname "$output")"
temporary=$(mktemp "$output.XXXXXX")
trap 'rm -f "$temporary"' EXIT
{
  printf '{\n  "schema": "wals.images",\n  "schema_version": 1,\n  "images": {\n'
  lines "${images[@]}"
  printf '  },\n  "accelerators": {\n'
  lines "${accelerators[@]}"
  printf '  }\n}\n'
} >"$temporary"
mv "$temporary" "$output"
echo "$output"
