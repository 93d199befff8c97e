#!/usr/bin/env bash
# Pushes the steps' images to a registry and writes their digests, for compile.py --images.
#   containers/push.sh REGISTRY        such as europe-docker.pkg.dev/PROJECT/wals
#   PREFIX=wals                        what containers/build.sh named the images with
#   OUTPUT=build/images.json           where the digests go
#   DOCKER=docker                      the client
# An image gets two tags: the version and the git revision it was built from. What it computes with, CPU or
# GPU, is written beside its digest.
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t steps < <(printf '%s\n' components/*/component.py | cut -d / -f 2)
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
[ -n "$registry" ] || fail "give a registry and repository, such as europe-docker.pkg.dev/PROJECT/wals" 2

label() {
  "$docker" image inspect --format "{{index .Config.Labels \"$2\"}}" "$1" 2>/dev/null
}

images=() accelerators=()
for step in "${steps[@]}"; do
  local_image=$prefix/$step:$version
  revision=$(label "$local_image" org.opencontainers.image.revision) ||
    fail "there is no image $local_image; build it with containers/build.sh" 2
  accelerator=$(label "$local_image" wals.accelerator)
  for tag in "$version" "$revision"; do
    "$docker" tag "$local_image" "$registry/$step:$tag"
    "$docker" push --quiet "$registry/$step:$tag" >/dev/null || fail "$registry/$step:$tag was not taken" 1
  done
  # The whole name, for another registry's may end like this one's.
  digest=$("$docker" image inspect --format '{{join .RepoDigests "\n"}}' "$local_image" |
    awk -v name="$registry/$step@" 'index($0, name) == 1 {found = $0} END {print found}')
  [ -n "$digest" ] || fail "the registry gave no digest for $registry/$step:$version" 1
  echo "$digest"
  images+=("    \"$step\": \"$digest\"")
  accelerators+=("    \"$step\": \"$accelerator\"")
done

lines() {
  printf '%s\n' "$@" | sed '$!s/$/,/'
}

# In one step, so that nobody reads half a file.
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
