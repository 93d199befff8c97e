#!/usr/bin/env bash
# Builds the steps' images as PREFIX/STEP:VERSION.
#   containers/build.sh [STEP...]      default: every step
#   PREFIX=wals                        registry and repository
#   ACCELERATOR=cpu                    gpu puts CUDA libraries into GPU_IMAGES (linux/amd64 only)
#   GPU_IMAGES="train tune"            images of the steps that have a GPU
#   RUN_AS=10001:10001                 user and group, by number; 0:0 for a platform that requires root
#   BASE_IMAGE=...                     default: the one in containers/base-image
#   APT_MIRROR=http://deb.debian.org   mirror of Debian's packages
#   PIP_INDEX_URL=https://...          mirror of PyPI
#   HTTP_PROXY, HTTPS_PROXY, NO_PROXY  proxy of the build; not kept in the image
#   REVISION=...                       git revision; default: from git (which a source archive lacks)
#   SOURCE=...                         address of the sources; default: from git
#   DOCKER=docker                      client of the container engine
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t steps < <(containers/steps.sh)
prefix=${PREFIX:-wals}
accelerator=${ACCELERATOR:-cpu}
# Only these have a GPU unless settings give one to others, whose images would start more slowly for nothing.
read -ra gpu_images <<<"${GPU_IMAGES:-train tune}"
base=${BASE_IMAGE:-$(<containers/base-image)}
docker=${DOCKER:-docker}
run_as=${RUN_AS:-10001:10001}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
revision=${REVISION:-$(git describe --always --abbrev=40 --dirty --exclude '*')}
# Without the credentials that the address may contain.
source=${SOURCE-$(git config --get remote.origin.url | sed 's#//[^/@]*@#//#' || true)}

with_gpu_lock() {
  local locks=(requirements/*-gpu.lock.txt)
  locks=("${locks[@]#requirements/}")
  echo "${locks[*]%-gpu.lock.txt}"
}

fail() {
  echo "build.sh: error: $1" >&2
  exit 2
}

case $accelerator in
  cpu | gpu) ;;
  *) fail "ACCELERATOR '$accelerator' is not supported; set cpu or gpu" ;;
esac
for image in "${gpu_images[@]}"; do
  [ -f "requirements/$image-gpu.lock.txt" ] ||
    fail "GPU_IMAGES names '$image', which has no GPU; choose from $(with_gpu_lock)"
done
[[ $run_as =~ ^[0-9]+:[0-9]+$ ]] || fail "RUN_AS '$run_as' is not UID:GID; set numbers such as 0:0"
for step in "$@"; do
  [[ " ${steps[*]} " == *" $step "* ]] || fail "'$step' is not a step; choose from ${steps[*]}"
done
[ $# -gt 0 ] && steps=("$@")

# Docker builds with the plug-in buildx since version 23; older versions have BuildKit in them.
client=$("$docker" --version 2>/dev/null) ||
  fail "DOCKER '$docker' cannot be run; install Docker 20.10 or later, or set DOCKER to its client"
major=$(sed -n 's/^Docker version \([0-9]*\)\..*/\1/p' <<<"$client")
if [ "${major:-0}" -ge 23 ] && ! "$docker" buildx version >/dev/null 2>&1; then
  fail "Docker $major builds images with the plug-in buildx, which is not installed; \
install the package docker-buildx-plugin of Docker, or docker-buildx of Debian and Ubuntu"
fi

optional=()
for name in APT_MIRROR PIP_INDEX_URL HTTP_PROXY HTTPS_PROXY NO_PROXY; do
  # Without a value, Docker takes the variable's.
  [ -z "${!name-}" ] || optional+=(--build-arg "$name")
done

for step in "${steps[@]}"; do
  target=step lock=$step image_accelerator=cpu
  [ "$step" != train ] || target=train
  if [ "$accelerator" = gpu ] && [[ " ${gpu_images[*]} " == *" $step "* ]]; then
    lock=$step-gpu image_accelerator=gpu
  fi
  DOCKER_BUILDKIT=1 "$docker" build . \
    --file containers/Dockerfile --target "$target" \
    --build-arg BASE_IMAGE="$base" --build-arg LOCK="$lock" --build-arg STEP="$step" \
    --build-arg VERSION="$version" --build-arg REVISION="$revision" \
    --build-arg ACCELERATOR="$image_accelerator" --build-arg SOURCE="$source" --build-arg RUN_AS="$run_as" \
    "${optional[@]}" \
    --tag "$prefix/$step:$version" --quiet >/dev/null
  "$docker" image inspect --format '{{index .RepoTags 0}}  {{.Size}}' "$prefix/$step:$version" |
    awk '{printf "%s  %.0f MB\n", $1, $2 / 1e6}'
done
